//! The one place that reads the time of day.

use std::sync::atomic::{AtomicI64, Ordering};
use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::domain::Timestamp;

/// What the clock of this machine was ahead of the time since `BEGAN` at most, in
/// microseconds.
static AHEAD: AtomicI64 = AtomicI64::new(i64::MIN);
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The present time by the clock of this machine. Within a process it never goes
/// back: where the clock is set back, time goes on from where it was.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn now() -> Timestamp {
    let since = i64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(i64::MAX);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = i64::try_from(clock.as_micros()).unwrap_or(i64::MAX);
    let ahead = clock.saturating_sub(since);
    Timestamp::from_micros(
        since.saturating_add(AHEAD.fetch_max(ahead, Ordering::Relaxed).max(ahead)),
    )
}
