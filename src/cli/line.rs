//! How far a task has come, on one line.

use std::time::Duration;

use super::clean::clean;
use crate::proto::Task;

/// Percentage, message and units: `30 % step 3 of 10 (3/10 steps)`.
pub(super) fn progress(task: &Task) -> String {
    with_pace(task, None, None)
}

/// The same with the pace and the time left, where they are known:
/// `30 % step 3 of 10 (3/10 steps, 2.0/s, 4 s left)`.
pub(super) fn with_pace(task: &Task, rate: Option<f64>, left: Option<Duration>) -> String {
    let percent = percent(task).map(|percent| format!("{percent:.0} %"));
    let words = [percent.unwrap_or_default(), detail(task, rate, left)];
    words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

/// All of it but the percentage, which a bar shows by itself.
pub(super) fn detail(task: &Task, rate: Option<f64>, left: Option<Duration>) -> String {
    let Some(progress) = &task.progress else { return String::new() };
    let mut notes = Vec::new();
    let unit = clean(&progress.unit);
    let bytes = is_bytes(&unit);
    let shown = |n: i64| if bytes { size(n) } else { n.to_string() };
    let unit = if bytes || unit.is_empty() { String::new() } else { format!(" {unit}") };
    match (progress.completed_units, progress.total_units) {
        (0, 0) => {}
        (done, 0) => notes.push(format!("{}{unit}", shown(done))),
        (done, total) => notes.push(format!("{}/{}{unit}", shown(done), shown(total))),
    }
    notes.extend(pace(task, rate, left));
    let message = clean(&progress.message);
    match (message.is_empty(), notes.is_empty()) {
        (_, true) => message,
        (true, false) => format!("({})", notes.join(", ")),
        (false, false) => format!("{message} ({})", notes.join(", ")),
    }
}

/// How fast it goes and how long it still takes, where that is known and it goes on.
pub(super) fn pace(task: &Task, rate: Option<f64>, left: Option<Duration>) -> Vec<String> {
    if task.end_time.is_some() {
        return Vec::new();
    }
    let bytes = task.progress.as_ref().is_some_and(|progress| is_bytes(&progress.unit));
    #[expect(clippy::cast_possible_truncation, reason = "bytes a second, to look at")]
    let rate =
        rate.map(
            |rate| if bytes { format!("{}/s", size(rate as i64)) } else { format!("{rate:.1}/s") },
        );
    rate.into_iter().chain(left.map(|left| format!("{} left", span(left)))).collect()
}

fn is_bytes(unit: &str) -> bool {
    matches!(unit, "bytes" | "byte" | "B")
}

/// 0 to 100, where it is known.
pub(super) fn percent(task: &Task) -> Option<f64> {
    task.progress.as_ref()?.percent.filter(|percent| percent.is_finite())
}

/// A span as people say it: two of its units at most.
pub(super) fn span(span: Duration) -> String {
    let s = span.as_secs() + u64::from(span.subsec_millis() >= 500);
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[expect(clippy::cast_precision_loss, reason = "to look at, not to reckon with")]
fn size(bytes: i64) -> String {
    match bytes {
        ..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Progress;

    fn task(progress: Progress) -> Task {
        Task { progress: Some(progress), ..Task::default() }
    }

    #[test]
    fn one_line() {
        let message = || "step 3 of 10".to_owned();
        let steps = task(Progress {
            percent: Some(30.0),
            message: message(),
            completed_units: 3,
            total_units: 10,
            unit: "steps".to_owned(),
            ..Progress::default()
        });
        assert_eq!(progress(&steps), "30 % step 3 of 10 (3/10 steps)");
        let left = Some(Duration::from_secs(90));
        assert_eq!(
            with_pace(&steps, Some(2.0), left),
            "30 % step 3 of 10 (3/10 steps, 2.0/s, 1 min 30 s left)"
        );
        assert_eq!(progress(&Task::default()), "");
        let bare = task(Progress { message: "a\u{1b}[31m\nb".into(), ..Progress::default() });
        assert_eq!(progress(&bare), "a\u{fffd}[31m\u{fffd}b");
        let copied = Progress {
            completed_units: 1_500,
            total_units: 2_000_000,
            unit: "bytes".into(),
            ..Progress::default()
        };
        assert_eq!(with_pace(&task(copied), Some(500.0), None), "(1.5 kB/2.0 MB, 500 B/s)");
    }

    #[test]
    fn spans() {
        let shown = |s| span(Duration::from_secs(s));
        assert_eq!([shown(0), shown(59), shown(61)], ["0 s", "59 s", "1 min 1 s"]);
        assert_eq!([shown(7_260), shown(90_000)], ["2 h 1 min", "1 d 1 h"]);
    }
}
