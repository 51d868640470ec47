//! The time of PostgreSQL without asking it each time: what it was when it last told,
//! and what has passed since.

use std::time::Duration;

use tokio::time::Instant;

use super::Timestamp;

/// So long is it believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// An answer that takes longer is not.
const PROMPT: Duration = Duration::from_millis(100);

/// A clock that is behind that of the database by the time that an answer takes, and does
/// not go back but with that of the database.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    told: Option<(Timestamp, Instant)>,
    last: Option<Timestamp>,
}

impl DatabaseClock {
    /// The database, which was asked at `asked`, has told its time.
    pub(super) fn is(&mut self, time: Timestamp, asked: Instant) {
        self.told = (asked.elapsed() < PROMPT).then(|| (time, Instant::now()));
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
        let last = self.last.filter(|last| last.since(now) < BELIEVED);
        let now = last.map_or(now, |last| now.max(last));
        self.last = Some(now);
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_and_is_asked_for_again() {
        let mut clock = DatabaseClock::default();
        assert_eq!(clock.now(), None);
        clock.is(second(60), Instant::now());
        tokio::time::advance(BELIEVED / 2).await;
        assert_eq!(clock.now(), Some(second(60).plus(BELIEVED / 2)));
        tokio::time::advance(BELIEVED / 2).await;
        assert_eq!(clock.now(), None);
        let asked = Instant::now();
        tokio::time::advance(PROMPT).await;
        clock.is(second(61), asked);
        assert_eq!(clock.now(), None, "it may be long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_late_is_not_back_but_set_back_is() {
        let mut clock = DatabaseClock::default();
        clock.is(second(60), Instant::now());
        assert_eq!(clock.now(), Some(second(60)));
        clock.is(second(60).minus(PROMPT), Instant::now());
        assert_eq!(clock.now(), Some(second(60)));
        clock.is(second(50), Instant::now());
        assert_eq!(clock.now(), Some(second(50)));
    }
}
