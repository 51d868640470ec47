//! How far a task has come, and the estimate of when it will be there.

use std::time::Duration;

use super::{Object, Timestamp};

/// The latest progress of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What was reported.
    pub report: ProgressReport,
    /// When it was reported.
    pub update_time: Timestamp,
    /// The end, if the pace so far holds; none where nothing is known of it.
    pub estimated_end_time: Option<Timestamp>,
    /// Where this attempt's pace is measured from.
    pub pace: Option<Pace>,
}

/// What a worker, or the owner of an external task, says of its progress.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProgressReport {
    /// 0 to 100; none where it is not known.
    pub percent: Option<f64>,
    /// What is being done now, for a person to read.
    pub message: String,
    /// Units done.
    pub completed_units: i64,
    /// Units in all; 0 where that is not known.
    pub total_units: i64,
    /// What the units are.
    pub unit: String,
    /// Anything else.
    pub details: Option<Object>,
}

/// A point that the pace of an attempt is measured from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// When that was.
    pub time: Timestamp,
    /// How far it had come by then.
    pub percent: f64,
}

/// A pace that would need longer than this says nothing.
const FURTHEST_ESTIMATE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

impl ProgressReport {
    /// Percent follows from the units where their total is known.
    #[must_use]
    pub fn derived(mut self) -> Self {
        if self.total_units > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a percentage needs no more")]
            let percent = self.completed_units as f64 * 100.0 / self.total_units as f64;
            self.percent = Some(percent.clamp(0.0, 100.0));
        }
        self
    }
}

impl Progress {
    /// Takes a report: `last` is what stood before it, `began` when the attempt
    /// began to work (again).
    pub fn taken(
        report: ProgressReport,
        last: Option<&Self>,
        began: Timestamp,
        now: Timestamp,
    ) -> Self {
        let report = report.derived();
        let pace = Self::pace(&report, last, began, now);
        let estimated_end_time = match (pace, report.percent) {
            (Some(pace), Some(percent)) => estimate(pace, percent, now),
            _ => None,
        };
        Self { report, update_time: now, estimated_end_time, pace }
    }

    /// The pace of this attempt. Its first report starts from where the last
    /// attempt had come to; one that falls behind that began anew.
    fn pace(
        report: &ProgressReport,
        last: Option<&Self>,
        began: Timestamp,
        now: Timestamp,
    ) -> Option<Pace> {
        let percent = report.percent?;
        let start = last
            .and_then(|last| last.pace)
            .filter(|pace| pace.time >= began)
            .unwrap_or_else(|| Pace {
                time: began,
                percent: last.and_then(|last| last.report.percent).unwrap_or(0.0),
            });
        Some(if percent < start.percent { Pace { time: now, percent } } else { start })
    }

    /// The same without an estimate: nothing runs, or nothing is left to do.
    #[must_use]
    pub fn at_rest(mut self) -> Self {
        self.estimated_end_time = None;
        self.pace = None;
        self
    }
}

fn estimate(pace: Pace, percent: f64, now: Timestamp) -> Option<Timestamp> {
    let done = percent - pace.percent;
    let taken = now.since(pace.time);
    if done <= 0.0 || taken.is_zero() {
        return None;
    }
    let left = taken.as_secs_f64() * (100.0 - percent) / done;
    let left = Duration::try_from_secs_f64(left).ok()?;
    (left <= FURTHEST_ESTIMATE).then(|| now.plus(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn percent(percent: f64) -> ProgressReport {
        ProgressReport { percent: Some(percent), ..ProgressReport::default() }
    }

    #[test]
    fn the_pace_so_far_gives_the_end() {
        let first = Progress::taken(percent(20.0), None, at(100), at(110));
        assert_eq!(first.estimated_end_time, Some(at(150)));
        let second = Progress::taken(percent(60.0), Some(&first), at(100), at(120));
        assert_eq!(second.pace, Some(Pace { time: at(100), percent: 0.0 }));
        assert!(second.estimated_end_time > Some(at(133)));
    }

    #[test]
    fn the_next_attempt_is_measured_from_where_it_goes_on() {
        let kept = Progress::taken(percent(50.0), None, at(0), at(10)).at_rest();
        let next = Progress::taken(percent(60.0), Some(&kept), at(100), at(102));
        assert_eq!(next.estimated_end_time, Some(at(110)));
    }

    #[test]
    fn work_that_begins_anew_is_measured_anew() {
        let kept = Progress::taken(percent(50.0), None, at(0), at(10)).at_rest();
        let next = Progress::taken(percent(0.0), Some(&kept), at(100), at(101));
        assert_eq!(next.estimated_end_time, None);
        let then = Progress::taken(percent(10.0), Some(&next), at(100), at(102));
        assert_eq!(then.estimated_end_time, Some(at(111)));
    }

    #[test]
    fn units_give_the_percentage() {
        let report = ProgressReport { completed_units: 3, total_units: 4, ..Default::default() };
        assert_eq!(report.derived().percent, Some(75.0));
        let report = ProgressReport { completed_units: 9, total_units: 4, ..Default::default() };
        assert_eq!(report.derived().percent, Some(100.0));
        let report = ProgressReport { completed_units: 29, total_units: 50, ..Default::default() };
        assert_eq!(report.derived().percent, Some(58.0), "whole where it is");
    }
}
