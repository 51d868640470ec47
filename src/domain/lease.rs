//! The right to run a task: held by one worker at a time, under a token of its
//! own.

use std::time::Duration;

use super::Timestamp;

/// Random and new with every lease. Whoever shows it holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; 16]);

/// A live lease. Who holds it is the task's `worker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Proves who holds it.
    pub token: Token,
    /// It ends then, or soon after, unless a report comes first.
    pub expire_time: Timestamp,
    /// How long a report keeps it alive.
    pub duration: Duration,
    /// When the attempt must be over.
    pub limit: TimeLimit,
    /// Held by a runner inside a server: it stops the work at the limit by itself,
    /// and its lease dies with its process.
    pub by_runner: bool,
}

/// How much longer an attempt may run. Time spent paused does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// As long as it takes.
    None,
    /// Running: until then.
    At(Timestamp),
    /// Paused: this much is left.
    Left(Duration),
}

impl TimeLimit {
    /// The clock of an attempt that starts now.
    pub fn starting(timeout: Option<Duration>, now: Timestamp) -> Self {
        timeout.map_or(Self::None, |timeout| Self::At(now.plus(timeout)))
    }

    /// Stops the clock.
    #[must_use]
    pub fn paused(self, now: Timestamp) -> Self {
        match self {
            Self::At(end) => Self::Left(end.since(now)),
            Self::None | Self::Left(_) => self,
        }
    }

    /// Lets it run on.
    #[must_use]
    pub fn resumed(self, now: Timestamp) -> Self {
        match self {
            Self::Left(left) => Self::At(now.plus(left)),
            Self::None | Self::At(_) => self,
        }
    }

    /// The same attempt under another timeout.
    #[must_use]
    pub fn changed(self, old: Option<Duration>, new: Option<Duration>, start: Timestamp) -> Self {
        match (self, old, new) {
            (_, _, None) => Self::None,
            (Self::None, _, Some(new)) | (_, None, Some(new)) => Self::At(start.plus(new)),
            (Self::At(end), Some(old), Some(new)) => Self::At(end.minus(old).plus(new)),
            (Self::Left(left), Some(old), Some(new)) => {
                Self::Left((left + new).saturating_sub(old))
            }
        }
    }

    /// Whether it is over.
    pub fn is_over(self, now: Timestamp) -> bool {
        matches!(self, Self::At(end) if end <= now)
    }
}
