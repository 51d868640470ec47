//! The one place that reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// The present time by the clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
