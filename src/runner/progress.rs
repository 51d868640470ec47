//! What a handler says of its progress, built up field by field.

use serde_json::{Map, Value as Json};

use super::bounds;
use crate::domain::ProgressReport;

/// How far a job has come. It replaces the last one as a whole: what is not said is
/// not known.
///
/// ```
/// use taskwatch::runner::Progress;
/// let progress = Progress::units(3, 10, "files").message("resizing cat.png");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    report: ProgressReport,
    details: Option<Map<String, Json>>,
}

impl Progress {
    /// Only what is being done now. 1,000 characters at most, the rest is cut.
    pub fn doing(message: impl Into<String>) -> Self {
        Self::default().message(message)
    }

    /// 0 to 100; what is outside becomes the nearest of them, NaN unknown.
    pub fn percent(percent: f64) -> Self {
        let report = ProgressReport { percent: Some(percent), ..ProgressReport::default() };
        Self { report, details: None }
    }

    /// So many of so many; the percentage follows. A total of 0 is unknown. The unit
    /// ("files", "bytes") has 128 characters at most.
    pub fn units(completed: u64, total: u64, unit: impl Into<String>) -> Self {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let report = ProgressReport {
            completed_units: number(completed),
            total_units: number(total),
            unit: unit.into(),
            ..ProgressReport::default()
        };
        Self { report, details: None }
    }

    /// With what is being done now.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.report.message = message.into();
        self
    }

    /// With anything else that watchers should see: 64 KiB and 16 levels at most,
    /// else it is left out and the log says so.
    #[must_use]
    pub fn details(mut self, details: Map<String, Json>) -> Self {
        self.details = Some(details);
        self
    }

    pub(super) fn into_report(self, task: &str) -> ProgressReport {
        let Self { mut report, details } = self;
        report.details = details.and_then(|details| {
            bounds::object(&details)
                .inspect_err(|why| tracing::warn!(task, "progress details {why}: left out"))
                .ok()
        });
        report
    }
}
