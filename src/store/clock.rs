//! The time of PostgreSQL without asking it each time: what it was when it last told,
//! and what has passed since.

use std::time::{Duration, Instant};

use super::Timestamp;

/// So long is it believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// A clock that is behind that of the database by the time that an answer takes, and never
/// goes back.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    told: Option<(Timestamp, Instant)>,
    last: Option<Timestamp>,
}

impl DatabaseClock {
    /// The database has told its time just now.
    #[expect(clippy::disallowed_methods, reason = "how long ago, not the time of day")]
    pub(super) fn is(&mut self, time: Timestamp) {
        self.told = Some((time, Instant::now()));
    }

    /// Another database may answer from now on.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// None where it was told too long ago.
    pub(super) fn now(&mut self) -> Option<Timestamp> {
        let (time, at) = self.told?;
        let since = at.elapsed();
        let now = (since < BELIEVED).then(|| time.plus(since))?;
        let now = self.last.map_or(now, |last| now.max(last));
        self.last = Some(now);
        Some(now)
    }
}
