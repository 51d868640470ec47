//! What a person would say of a program who only glanced at its output: how far it is,
//! and what stands last.

use super::{
    lines::{Lines, Piece},
    percent, text,
};
use crate::{domain::limits, runner::bounds};

/// Of what was read at once, only the end is looked at: what was before it has passed.
const LOOKED_AT: usize = 4 << 10;

/// The last percentage and the last line of any output.
#[derive(Debug)]
pub(crate) struct Glance {
    lines: Lines,
    seen: Seen,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// 0 to 100, once there was one.
    pub(crate) percent: Option<f64>,
    /// The last line that was not blank, as a terminal shows it.
    pub(crate) line: String,
}

impl Glance {
    pub(crate) fn new() -> Self {
        Self { lines: Lines::new(false), seen: Seen::default() }
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, read: &[u8]) -> &Seen {
        let seen = &mut self.seen;
        let end = &read[read.len().saturating_sub(LOOKED_AT)..];
        // Half a line is another line.
        let begun = end.iter().position(|b| matches!(b, b'\n' | b'\r'));
        let read = if end.len() < read.len() { &end[begun.unwrap_or_default()..] } else { end };
        self.lines.feed(read, |piece| match piece {
            Piece::Line(line) | Piece::Unfinished(line) | Piece::TooLong(line) => {
                // No text at all, as an archive.
                if line.contains(&0) {
                    return;
                }
                let raw = String::from_utf8_lossy(line);
                let shown = text::line(&raw);
                if !shown.is_empty() {
                    seen.line = bounds::end_of_text(&shown, limits::PROGRESS_MESSAGE_CHARS);
                }
                seen.percent = percent::last(&raw).or(seen.percent);
            }
        });
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_and_the_last_percentage() {
        let mut glance = Glance::new();
        assert_eq!(glance.feed(b"reading\n\n").line, "reading");
        assert_eq!(glance.feed(b"\r  1,024  12%  3MB/s\r\x1b[2K  2,048  45").percent, Some(12.0));
        let seen = glance.feed(b"%  3MB/s").clone();
        assert_eq!((seen.percent, &*seen.line), (Some(45.0), "2,048  45%  3MB/s"));
        assert_eq!(glance.feed(b"\ndone\n"), &Seen { percent: Some(45.0), line: "done".into() });
    }
}
