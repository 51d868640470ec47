//! A task as Taskwatch knows it. What a state needs stands inside that state: an
//! ended task has an end time, and only a running one can have a lease.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Failure, Lease, Name, Object, Progress, RetryPolicy, TaskId, Timestamp, Token, Value};

/// The kind whose tasks are run by their owners.
pub const EXTERNAL: &str = "external";
/// The queue of tasks that name none.
pub const DEFAULT_QUEUE: &str = "default";

/// Any text to any text.
pub type Labels = BTreeMap<String, String>;

/// One piece of long-running work, without its input, which only those who run
/// it and those who ask for it need.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id, for good.
    pub id: TaskId,
    /// What runs it, for good.
    pub kind: Name,
    /// Where it waits, for good; none means [`DEFAULT_QUEUE`].
    pub queue: Option<Name>,
    /// Where it is in its life.
    pub status: Status,
    /// Higher runs first; -100 to 100.
    pub priority: i32,
    /// What its creator sticks to it.
    pub labels: Arc<Labels>,
    /// Not run before this, as it was asked for.
    pub schedule_time: Option<Timestamp>,
    /// From when on it may be handed out: schedule and backoff in one.
    pub ready_time: Timestamp,
    /// Its own wishes for retries.
    pub retry_policy: RetryPolicy,
    /// How long one attempt may run; none means the kind's own limit.
    pub attempt_timeout: Option<Duration>,
    /// How long it is kept after the end; none means the server's default.
    pub retention: Option<Duration>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When its present or last lease began.
    pub start_time: Option<Timestamp>,
    /// When anything but its progress and checkpoint last changed.
    pub update_time: Timestamp,
    /// Grows with every change that a reader can see.
    pub revision: i64,
    /// The revision of the last change that was not its worker's report.
    pub settled_revision: i64,
    /// 1 from creation on, one more with every retry.
    pub attempt: u32,
    /// The attempt that `max_attempts` counts from: 1, or that of the last retry by
    /// hand.
    pub first_attempt: u32,
    /// Who holds or last held the lease.
    pub worker: Option<Name>,
    /// How far it has come; kept throughout.
    pub progress: Option<Progress>,
    /// What its worker last saved; kept throughout.
    pub checkpoint: Option<Object>,
    /// Why the last attempt failed, until the next one starts.
    pub error: Option<Failure>,
    /// The outcome that ended its last lease, for whoever says it again.
    pub last_outcome: Option<LastOutcome>,
}

/// The outcome that ended a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOutcome {
    /// The token of that lease.
    pub token: Token,
    /// What was said; see [`Outcome::digest`](super::Outcome::digest).
    pub digest: [u8; 16],
}

/// Where a task is in its life, with what belongs to being there.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Waits for its time, or for a worker.
    Queued,
    /// A worker holds its lease; an external task has none.
    Running(Option<Lease>),
    /// Held back. A worker may still hold its lease.
    Paused(Option<Lease>),
    /// Its worker, or its owner, has been told to stop.
    Cancelling(Option<Lease>),
    /// Done.
    Succeeded {
        /// When it was done.
        end_time: Timestamp,
        /// What the work gave.
        result: Value,
    },
    /// Given up; [`Task::error`] says why.
    Failed {
        /// When it was given up.
        end_time: Timestamp,
    },
    /// Stopped because somebody asked for it.
    Cancelled {
        /// When it was stopped.
        end_time: Timestamp,
    },
}

/// A [`Status`] by its name alone, numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// See [`Status::Queued`].
    Queued = 1,
    /// See [`Status::Running`].
    Running = 2,
    /// See [`Status::Paused`].
    Paused = 3,
    /// See [`Status::Cancelling`].
    Cancelling = 4,
    /// See [`Status::Succeeded`].
    Succeeded = 5,
    /// See [`Status::Failed`].
    Failed = 6,
    /// See [`Status::Cancelled`].
    Cancelled = 7,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Cancelling => "CANCELLING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Its number on the wire and in rows.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The state of this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more happens by itself.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl Status {
    /// Its name alone.
    pub const fn state(&self) -> State {
        match self {
            Self::Queued => State::Queued,
            Self::Running(_) => State::Running,
            Self::Paused(_) => State::Paused,
            Self::Cancelling(_) => State::Cancelling,
            Self::Succeeded { .. } => State::Succeeded,
            Self::Failed { .. } => State::Failed,
            Self::Cancelled { .. } => State::Cancelled,
        }
    }
}

impl Task {
    /// Its state.
    pub const fn state(&self) -> State {
        self.status.state()
    }

    /// The live lease, where there is one.
    pub const fn lease(&self) -> Option<&Lease> {
        match &self.status {
            Status::Running(lease) | Status::Paused(lease) | Status::Cancelling(lease) => {
                lease.as_ref()
            }
            Status::Queued
            | Status::Succeeded { .. }
            | Status::Failed { .. }
            | Status::Cancelled { .. } => None,
        }
    }

    /// When it ended.
    pub const fn end_time(&self) -> Option<Timestamp> {
        match &self.status {
            Status::Succeeded { end_time, .. }
            | Status::Failed { end_time }
            | Status::Cancelled { end_time } => Some(*end_time),
            Status::Queued | Status::Running(_) | Status::Paused(_) | Status::Cancelling(_) => None,
        }
    }

    /// What the work gave.
    pub const fn result(&self) -> Option<&Value> {
        match &self.status {
            Status::Succeeded { result, .. } => Some(result),
            Status::Queued
            | Status::Running(_)
            | Status::Paused(_)
            | Status::Cancelling(_)
            | Status::Failed { .. }
            | Status::Cancelled { .. } => None,
        }
    }

    /// Whether its owner runs it.
    pub fn is_external(&self) -> bool {
        self.kind.as_str() == EXTERNAL
    }

    /// Whether it waits for a worker, now or later.
    pub fn waits(&self) -> bool {
        self.state() == State::Queued && !self.is_external()
    }

    /// Whether a worker may have it at `now`. A clock may have gone back since its last
    /// change.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.waits() && self.ready_time <= now.max(self.update_time)
    }

    /// The queue that it waits in.
    pub fn queue_name(&self) -> &str {
        self.queue.as_ref().map_or(DEFAULT_QUEUE, Name::as_str)
    }
}
