//! How fast a task goes, from the states that were seen of it: units a second over
//! the last few reports, by the server's own times.

use std::collections::VecDeque;

use super::text::time;
use crate::{domain::Timestamp, proto::Task};

/// Reports that the pace is taken from.
const REPORTS: usize = 20;

/// The pace of one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    attempt: i32,
    reports: VecDeque<(Timestamp, i64)>,
}

impl Pace {
    /// Takes note of a state.
    pub(super) fn see(&mut self, task: &Task) {
        let Some(progress) = &task.progress else { return };
        let Some(at) = time(progress.update_time.as_ref()) else { return };
        let units = progress.completed_units;
        let back = self.reports.back().is_some_and(|(_, last)| units < *last);
        // Another attempt may begin anywhere: its steps are not this one's.
        if task.attempt != self.attempt || back {
            self.attempt = task.attempt;
            self.reports.clear();
        }
        if self.reports.back().is_none_or(|(last, _)| *last < at) {
            self.reports.push_back((at, units));
        }
        while self.reports.len() > REPORTS {
            self.reports.pop_front();
        }
    }

    /// Units a second; none where it cannot be told yet.
    pub(super) fn units_per_second(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.reports.front()?, self.reports.back()?);
        let seconds = to.since(*from).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "to look at, not to reckon with")]
        let units = (last - first) as f64;
        (units > 0.0 && seconds > 0.0).then(|| units / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Progress;

    fn at(seconds: i64, units: i64, attempt: i32) -> Task {
        let update_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let progress = Progress { completed_units: units, update_time, ..Progress::default() };
        Task { attempt, progress: Some(progress), ..Task::default() }
    }

    #[test]
    fn the_pace_of_the_last_reports() {
        let mut pace = Pace::default();
        pace.see(&Task::default());
        pace.see(&at(10, 100, 1));
        assert_eq!(pace.units_per_second(), None);
        pace.see(&at(12, 110, 1));
        assert_eq!(pace.units_per_second(), Some(5.0));
        // A heartbeat says nothing new.
        pace.see(&at(12, 110, 1));
        assert_eq!(pace.units_per_second(), Some(5.0));
        pace.see(&at(14, 10, 2));
        assert_eq!(pace.units_per_second(), None);
        (0..50).for_each(|i| pace.see(&at(20 + i, 10 + i * 3, 2)));
        assert_eq!(pace.units_per_second(), Some(3.0));
    }
}
