//! What a program says by what it prints: its progress, its checkpoint, its result,
//! and the end of its standard error. Whatever it prints, little is kept of it.

use regex::Regex;
use serde_json::{Map, Value as Json};

use super::{
    lines::{JSON_LINE_BYTES, Lines, Piece},
    percent, text,
};
use crate::{
    domain::{Object, ProgressReport, limits},
    runner::bounds,
};

/// Of standard error: four bytes for each character of a message, and some for what
/// a terminal would not show.
const TAIL_BYTES: usize = 8 * limits::ERROR_MESSAGE_CHARS;

#[derive(Debug)]
pub(super) struct Output {
    out: Lines,
    err: Lines,
    tail: Vec<u8>,
    said: Said,
}

/// What has been understood.
#[derive(Debug)]
struct Said {
    /// For the log.
    task: String,
    pattern: Option<Regex>,
    progress: ProgressReport,
    /// Since it was last asked for.
    changed: bool,
    checkpoint: Option<Object>,
    result: Option<Result<Json, String>>,
}

impl Output {
    /// `progress` is what stood before; the program changes what it names.
    pub(super) fn new(task: String, progress: ProgressReport, pattern: Option<Regex>) -> Self {
        Self {
            out: Lines::new(true),
            err: Lines::new(false),
            tail: Vec::new(),
            said: Said { task, pattern, progress, changed: false, checkpoint: None, result: None },
        }
    }

    /// Takes what was read from standard output.
    pub(super) fn stdout(&mut self, read: &[u8]) {
        let said = &mut self.said;
        self.out.feed(read, |piece| said.stdout(piece, read));
    }

    /// Takes what was read from standard error.
    pub(super) fn stderr(&mut self, read: &[u8]) {
        let said = &mut self.said;
        self.err.feed(read, |piece| said.text_piece(piece, read));
        let read = &read[read.len().saturating_sub(TAIL_BYTES)..];
        self.tail.extend_from_slice(read);
        if self.tail.len() > 2 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
    }

    /// Both streams have ended.
    pub(super) fn end(&mut self) {
        let said = &mut self.said;
        self.out.end(&mut |piece| said.stdout(piece, b""));
        self.err.end(&mut |piece| said.text_piece(piece, b""));
    }

    /// The progress, if it has changed since this was last asked.
    pub(super) fn progress(&mut self) -> Option<ProgressReport> {
        std::mem::take(&mut self.said.changed).then(|| self.said.progress.clone())
    }

    /// The checkpoint, if there is a new one since this was last asked.
    pub(super) fn checkpoint(&mut self) -> Option<Object> {
        self.said.checkpoint.take()
    }

    /// The last result; an error where that could not be read.
    pub(super) fn into_result(self) -> Result<Json, String> {
        self.said.result.unwrap_or(Ok(Json::Null))
    }

    /// The end of standard error, for a person to read.
    pub(super) fn tail(&self) -> String {
        text::lines(&String::from_utf8_lossy(&self.tail))
    }
}

impl Said {
    fn stdout(&mut self, piece: Piece<'_>, read: &[u8]) {
        match piece {
            Piece::Line(line) if line.trim_ascii_start().starts_with(b"{") => self.json(line),
            Piece::TooLong(beginning) => {
                if names_result(beginning) {
                    let most = JSON_LINE_BYTES;
                    self.result = Some(Err(format!("stands in a line longer than {most} bytes")));
                }
            }
            Piece::Line(_) | Piece::Unfinished(_) => self.text_piece(piece, read),
        }
    }

    fn json(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        match serde_json::from_str::<Map<String, Json>>(&text) {
            Ok(map) => {
                if !self.object(map) {
                    self.text(&text, true);
                }
            }
            Err(error) if names_result(line) => {
                self.result = Some(Err(format!("is not JSON that can be read: {error}")));
            }
            Err(_) => self.text(&text, true),
        }
    }

    /// Whether anything that is known was named.
    fn object(&mut self, map: Map<String, Json>) -> bool {
        let mut known = false;
        let units = |key| map.contains_key(key);
        if units("percent") && !units("completed_units") && !units("total_units") {
            (self.progress.completed_units, self.progress.total_units) = (0, 0);
        }
        for (key, value) in map {
            let taken = match key.as_str() {
                "percent" => percentage(&value).map(|percent| self.progress.percent = percent),
                "message" => words(&value, limits::PROGRESS_MESSAGE_CHARS)
                    .map(|message| self.progress.message = message),
                "unit" => {
                    words(&value, limits::PROGRESS_UNIT_CHARS).map(|unit| self.progress.unit = unit)
                }
                "completed_units" => count(&value).map(|n| self.progress.completed_units = n),
                "total_units" => count(&value).map(|n| self.progress.total_units = n),
                "details" => self.details(&value),
                "checkpoint" => {
                    known = true;
                    self.save(&value);
                    continue;
                }
                "result" => {
                    known = true;
                    self.result = Some(Ok(value));
                    continue;
                }
                _ => continue,
            };
            known = true;
            self.changed |= taken.is_some();
            if taken.is_none() {
                tracing::debug!(task = %self.task, key, "a program reported what is out of limits");
            }
        }
        known
    }

    fn details(&mut self, value: &Json) -> Option<()> {
        self.progress.details = match value {
            Json::Null => None,
            Json::Object(map) => Some(bounds::object(map).ok()?),
            Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => return None,
        };
        Some(())
    }

    fn save(&mut self, value: &Json) {
        let checked = match value {
            Json::Object(map) => bounds::object(map),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                Err("is no JSON object".into())
            }
        };
        match checked {
            Ok(checkpoint) => self.checkpoint = Some(checkpoint),
            Err(why) => {
                tracing::warn!(task = %self.task, "a program's checkpoint {why}: left out");
            }
        }
    }

    fn text_piece(&mut self, piece: Piece<'_>, read: &[u8]) {
        match piece {
            Piece::Line(line) => {
                if self.pattern.is_some() || line.contains(&b'%') {
                    self.text(&String::from_utf8_lossy(line), true);
                }
            }
            // Looked at again only where that can tell anything new.
            Piece::Unfinished(line) => {
                if read.contains(&b'%') {
                    self.text(&String::from_utf8_lossy(line), false);
                }
            }
            Piece::TooLong(_) => {}
        }
    }

    fn text(&mut self, raw: &str, whole: bool) {
        let found = match &self.pattern {
            // Half a number is another number.
            Some(_) if !whole => None,
            Some(pattern) => percent::last_by(pattern, raw),
            None => percent::last(raw),
        };
        if let Some(percent) = found {
            self.progress.percent = Some(percent);
            // Units that were named before would contradict it.
            (self.progress.completed_units, self.progress.total_units) = (0, 0);
            self.progress.message =
                bounds::end_of_text(&text::line(raw), limits::PROGRESS_MESSAGE_CHARS);
            self.changed = true;
        }
    }
}

/// Whether a line that cannot be read as JSON was meant to be one with a result.
fn names_result(line: &[u8]) -> bool {
    const RESULT: &[u8] = b"\"result\"";
    line.trim_ascii_start().starts_with(b"{") && line.windows(RESULT.len()).any(|at| at == RESULT)
}

/// The outer `None`: not to be taken. Rounding may miss the ends by a little.
#[expect(clippy::option_option, reason = "a null empties it")]
fn percentage(value: &Json) -> Option<Option<f64>> {
    if value.is_null() {
        return Some(None);
    }
    let percent = value.as_f64().filter(|percent| (-0.5..=100.5).contains(percent))?;
    Some(Some(percent.clamp(0.0, 100.0)))
}

fn words(value: &Json, most: usize) -> Option<String> {
    match value {
        Json::Null => Some(String::new()),
        Json::String(words) => Some(bounds::text(&text::line(words), most)),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn count(value: &Json) -> Option<i64> {
    if value.is_null() {
        return Some(0);
    }
    let whole = value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        #[expect(clippy::cast_possible_truncation, reason = "checked")]
        (number.fract() == 0.0 && number.abs() <= 1e15).then_some(number as i64)
    });
    whole.filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output::new("tasks/t".into(), ProgressReport::default(), None)
    }

    fn stdout(text: &str) -> Output {
        let mut output = output();
        output.stdout(text.as_bytes());
        output.end();
        output
    }

    #[test]
    fn a_line_changes_what_it_names() {
        let mut output = stdout(
            "{\"percent\": 30, \"message\": \" a\\u0000 \\u001b[1mb\"}\n\
             {\"unit\": \"files\", \"percent\": 100.0000001}\n\
             {\"completed_units\": 3, \"total_units\": 10.0, \"details\": {\"x\": 1}}\r\n",
        );
        let progress = output.progress().expect("progress");
        assert_eq!((progress.percent, progress.message.as_str()), (Some(100.0), "a b"));
        assert_eq!((progress.completed_units, progress.total_units), (3, 10));
        assert_eq!(progress.unit, "files");
        assert!(progress.details.is_some());
        assert_eq!(output.progress(), None);
    }

    #[test]
    fn what_is_out_of_limits_changes_nothing() {
        let mut output = stdout(
            "{\"percent\": 300}\n{\"percent\": \"3\"}\n{\"completed_units\": -1}\n\
             {\"total_units\": 1.5}\n{\"message\": 3}\n{\"details\": {\"a\": \"\\u0000\"}}\n\
             {\"checkpoint\": [1]}\n{\"checkpoint\": {\"a\": \"\\u0000\"}}\n",
        );
        assert_eq!(output.progress(), None);
        assert_eq!(output.checkpoint(), None);
    }

    #[test]
    fn checkpoint_and_result_are_the_last_ones() {
        let mut output = stdout(
            "{\"checkpoint\": {\"a\": 1}}\n{\"checkpoint\": {\"a\": 2}, \"result\": 1}\n\
             {\"checkpoint\": 3}\n{\"result\": [true]}",
        );
        let checkpoint = output.checkpoint().expect("a checkpoint").to_json();
        assert_eq!(Json::Object(checkpoint), serde_json::json!({"a": 2}));
        assert_eq!(output.progress(), None);
        assert_eq!(output.into_result(), Ok(serde_json::json!([true])));
    }

    #[test]
    fn a_result_that_cannot_be_read_is_no_success() {
        let deep = format!("{{ \"result\": {}1{}}}", "[".repeat(500), "]".repeat(500));
        for line in ["{\"result\": NaN}", "{\"result\": ", deep.as_str()] {
            assert!(stdout(line).into_result().is_err(), "{line}");
        }
        let long = format!("{{\"result\": \"{}\"}}", "x".repeat(JSON_LINE_BYTES));
        assert!(stdout(&long).into_result().is_err());
        assert_eq!(stdout("{broken").into_result(), Ok(Json::Null));
    }

    #[test]
    fn percentages_count_in_any_output() {
        let mut output = output();
        output.stderr(b" 10%\r 20%\r");
        assert_eq!(output.progress().and_then(|p| p.percent), Some(20.0));
        output.stdout(b"\x1b[32mdone 3");
        assert_eq!(output.progress(), None);
        output.stdout(b"0% of \xff it");
        let progress = output.progress().expect("progress");
        assert_eq!(progress.percent, Some(30.0));
        assert_eq!(progress.message, "done 30% of \u{fffd} it");
        output.stdout(b"\n{\"level\": \"info\", \"text\": \"40% done\"}\n");
        assert_eq!(output.progress().and_then(|p| p.percent), Some(40.0));
        output.stderr(b"{\"percent\": 77}\n");
        assert_eq!(output.progress(), None);
    }

    #[test]
    fn a_pattern_replaces_the_percentage() {
        let pattern = Regex::new(r"at=(\d+)").expect("a pattern");
        let mut output = Output::new(String::new(), ProgressReport::default(), Some(pattern));
        output.stderr(b"50%\nat=1");
        assert_eq!(output.progress(), None);
        output.stderr(b"2 x\r");
        let progress = output.progress().expect("progress");
        assert_eq!((progress.percent, progress.message.as_str()), (Some(12.0), "at=12 x"));
    }

    #[test]
    fn messages_and_the_tail_are_bounded() {
        let mut output = output();
        let long = "ä".repeat(50_000);
        output.stderr(format!("{long} 5%\n{long}\0end\n").as_bytes());
        let message = output.progress().expect("progress").message;
        assert_eq!(message.chars().count(), 1_000);
        assert!(message.ends_with("ä 5%"));
        assert!(output.tail.len() <= 2 * TAIL_BYTES);
        assert!(output.tail().ends_with("äend"));
    }
}
