//! One attempt in the hands of this runner: what was leased, what is wanted of it,
//! and what it has said. Shared by the handler's [`Job`](super::Job), the task that
//! supervises it and the loop that keeps its lease alive. It calls nobody.

use std::{sync::OnceLock, time::Duration};

use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::{
    board::{Assignment, means_lost},
    latest::Latest,
    outbox::Outbox,
};
use crate::{
    domain::{Error, Name, Object, ProgressReport, State, TaskId, TimeLimit, Timestamp, Token},
    tasks::Answer,
};

/// What is wanted of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Work on.
    Run,
    /// Wait until it changes. The lease stays; the attempt's timeout stands still.
    Pause,
    /// Stop: somebody cancelled the task.
    Cancel,
    /// Stop: the attempt has taken longer than its timeout.
    TimeOut,
    /// Stop and give the task back: the server stops. The attempt does not count.
    Release,
}

impl Wanted {
    /// Whether the job is to end now, for whatever reason. It stays so.
    pub const fn is_stop(self) -> bool {
        match self {
            Self::Run | Self::Pause => false,
            Self::Cancel | Self::TimeOut | Self::Release => true,
        }
    }
}

/// All that steers an attempt from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Control {
    /// RUNNING, PAUSED or CANCELLING, as the task last stood.
    asked: State,
    timed_out: bool,
    released: bool,
    /// Somebody else may run the task by now.
    pub(super) lost: bool,
    /// By this machine's clock: unless it is heard of by then, the lease is lost.
    pub(super) expires: Instant,
    /// When the attempt must be over; none while its clock stands.
    pub(super) limit: Option<Instant>,
    /// When work that was told to stop should have been killed.
    pub(super) stop_by: Option<Instant>,
    /// When work that was told to stop is waited for no longer.
    pub(super) abandon_at: Option<Instant>,
}

impl Control {
    pub(super) const fn wanted(&self) -> Wanted {
        if matches!(self.asked, State::Cancelling) {
            Wanted::Cancel
        } else if self.timed_out {
            Wanted::TimeOut
        } else if self.released {
            Wanted::Release
        } else if matches!(self.asked, State::Paused) {
            Wanted::Pause
        } else {
            Wanted::Run
        }
    }
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: TaskId,
    pub(super) kind: Name,
    pub(super) number: u32,
    pub(super) token: Token,
    pub(super) input: Given,
    pub(super) checkpoint: Option<Given>,
    /// What stood before this attempt.
    pub(super) kept_progress: Option<Box<ProgressReport>>,
    pub(super) outbox: Outbox,
    control: Latest<Control>,
    time: Reckoning,
}

/// An object as it came: as JSON it takes many times the room, and most read it once.
#[derive(Debug)]
pub(super) struct Given {
    encoded: Object,
    json: OnceLock<Map<String, Json>>,
}

impl Given {
    const fn new(encoded: Object) -> Self {
        Self { encoded, json: OnceLock::new() }
    }

    /// Read now, and not kept.
    pub(super) fn read(&self) -> Map<String, Json> {
        self.encoded.to_json()
    }

    /// Kept for as long as the attempt.
    pub(super) fn json(&self) -> &Map<String, Json> {
        self.json.get_or_init(|| self.read())
    }
}

/// Turns the store's times into this machine's, whatever the two clocks say: the
/// lease began, by the store's clock, when it was received by ours.
#[derive(Clone, Copy, Debug)]
struct Reckoning {
    began: Timestamp,
    received: Instant,
}

impl Reckoning {
    fn instant(self, time: Timestamp) -> Instant {
        let after = time.since(self.began);
        // Far enough for anybody, and no overflow.
        let after = after.min(Duration::from_secs(100 * 365 * 86_400));
        self.received + after
    }

    fn limit(self, limit: TimeLimit) -> Option<Instant> {
        match limit {
            TimeLimit::None | TimeLimit::Left(_) => None,
            TimeLimit::At(time) => Some(self.instant(time)),
        }
    }
}

impl Attempt {
    pub(super) fn new(assigned: Assignment) -> Self {
        let Assignment { id, kind, attempt, state, token, .. } = assigned;
        let time = Reckoning { began: assigned.start_time, received: Instant::now() };
        let control = Control {
            asked: state,
            timed_out: false,
            released: false,
            lost: false,
            expires: time.instant(assigned.expire_time),
            limit: time.limit(assigned.limit),
            stop_by: None,
            abandon_at: None,
        };
        Self {
            id,
            kind,
            number: attempt,
            token,
            input: Given::new(assigned.input),
            checkpoint: assigned.checkpoint.map(Given::new),
            kept_progress: assigned.kept_progress.map(Box::new),
            outbox: Outbox::new(),
            control: Latest::new(control),
            time,
        }
    }

    pub(super) fn control(&self) -> Control {
        self.control.get()
    }

    /// Waits until its control is such that it `holds`.
    pub(super) async fn until(&self, holds: impl Fn(&Control) -> bool) {
        self.control.until(holds).await;
    }

    /// Takes what the store answers to a report. Where the store is not there, the
    /// lease lives until it would end by itself.
    pub(super) fn hear(&self, answer: &Result<Answer, Error>) {
        match answer {
            Ok(Answer { wanted, expire_time, limit }) => self.control.change(|control| {
                control.expires = control.expires.max(self.time.instant(*expire_time));
                if !control.timed_out {
                    control.limit = self.time.limit(*limit);
                }
                // Answers may overtake one another; a cancel is never taken back.
                if control.asked != State::Cancelling {
                    control.asked = *wanted;
                }
            }),
            Err(error) if means_lost(error) => self.lose(),
            Err(error) => tracing::debug!(task = %self.id, %error, "a report was not taken"),
        }
    }

    /// The work must end at once, and nothing can be said of it any more.
    pub(super) fn lose(&self) {
        self.control.change(|control| control.lost = true);
    }

    /// The attempt has taken too long: `grace` is left for it to stop.
    pub(super) fn time_out(&self, grace: Duration) {
        let end = Instant::now() + grace;
        self.control.change(|control| {
            control.timed_out = true;
            control.limit = None;
            control.abandon_at = Some(control.abandon_at.map_or(end, |at| at.min(end)));
        });
    }

    /// The server stops.
    pub(super) fn release(&self, stop_by: Instant, abandon_at: Instant) {
        self.control.change(|control| {
            control.released = true;
            control.stop_by = Some(stop_by);
            control.abandon_at =
                Some(control.abandon_at.map_or(abandon_at, |at| at.min(abandon_at)));
        });
    }
}
