//! What can happen to a task.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{
    Failure, Labels, Name, Object, ProgressReport, State, TaskId, Timestamp, Token, Value,
    retry::RetryPolicy,
};

/// A task that is to be created, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTask {
    /// Its id, chosen by the caller or by the server.
    pub id: TaskId,
    /// What runs it.
    pub kind: Name,
    /// What is handed to the handler.
    pub input: Option<Object>,
    /// Where it waits.
    pub queue: Option<Name>,
    /// Higher runs first.
    pub priority: i32,
    /// What the caller sticks to it.
    pub labels: Labels,
    /// Not run before this.
    pub schedule_time: Option<Timestamp>,
    /// Its wishes for retries.
    pub retry_policy: RetryPolicy,
    /// How long one attempt may run.
    pub attempt_timeout: Option<Duration>,
    /// How long it is kept after the end.
    pub retention: Option<Duration>,
}

/// Whatever can happen to a task that exists.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody changes it.
    Update(Box<Patch>),
    /// It is handed to a worker.
    Lease(Grant),
    /// Its worker tells how far it is.
    Report(Report),
    /// Its worker ends the attempt.
    Finish(Box<Finish>),
    /// Its lease has run out, or its runner died.
    Expire {
        /// The lease that was seen; another one is left alone.
        token: Token,
        /// Why it is to end.
        cause: Expiry,
    },
}

/// Why a lease ends without its worker's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing was heard of the worker until `expire_time`.
    Lease,
    /// The attempt took longer than it may.
    AttemptTimeout,
    /// The server that ran it died.
    Orphaned,
}

/// A lease for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who gets it.
    pub worker: Name,
    /// The token that it gets.
    pub token: Token,
    /// How long it lives without a report.
    pub duration: Duration,
    /// See [`Lease::by_runner`](super::Lease::by_runner).
    pub by_runner: bool,
}

/// A worker's word while it works.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Proves that it may.
    pub token: Token,
    /// Replaces the last progress; none keeps it.
    pub progress: Option<ProgressReport>,
    /// Replaces the last checkpoint; none keeps it.
    pub checkpoint: Option<Object>,
}

/// A worker's last word.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The last report, taken with the outcome.
    pub report: Report,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a result.
    Succeeded(Value),
    /// With an error.
    Failed {
        /// Which one.
        error: Failure,
        /// Whether another attempt makes no sense.
        permanent: bool,
    },
    /// The worker stopped because it was asked to.
    Cancelled,
    /// The worker gives the task back.
    Released,
}

impl Outcome {
    /// Tells outcomes apart that are said under the same token.
    pub fn digest(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Succeeded(value) => {
                field(b"succeeded");
                field(value.encoded());
            }
            Self::Failed { error: Failure { code, message, details }, permanent } => {
                field(b"failed");
                field(&[u8::from(*permanent)]);
                field(&code.number().to_be_bytes());
                field(message.as_bytes());
                for detail in details {
                    field(detail.type_url.as_bytes());
                    field(&detail.value);
                }
            }
            Self::Cancelled => field(b"cancelled"),
            Self::Released => field(b"released"),
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        digest
    }
}

/// A change that somebody asks for. `None` leaves a field as it is; the inner
/// `None` of a field that may be empty empties it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Patch {
    /// Nothing but its worker's reports may have changed since this revision.
    pub revision: Option<i64>,
    /// The caller named no fields (or all of them): what cannot be set in the
    /// task's state is passed over where it is equal.
    pub lenient: bool,
    /// The state to bring it to.
    pub state: Option<State>,
    /// See [`Task::priority`](super::Task::priority).
    pub priority: Option<i32>,
    /// All labels.
    pub labels: Option<Labels>,
    /// See [`Task::schedule_time`](super::Task::schedule_time).
    pub schedule_time: Option<Option<Timestamp>>,
    /// Each part of the policy.
    pub retry_policy: RetryPolicyPatch,
    /// See [`Task::attempt_timeout`](super::Task::attempt_timeout).
    pub attempt_timeout: Option<Option<Duration>>,
    /// See [`Task::retention`](super::Task::retention).
    pub retention: Option<Option<Duration>>,
    /// Of an external task.
    pub progress: ProgressPatch,
    /// Of an external task, with the state SUCCEEDED. The inner `None` empties it.
    pub result: Option<Option<Value>>,
    /// Of an external task, with the state FAILED. The inner `None` empties it.
    pub error: Option<Option<Failure>>,
    /// Cannot be changed: must be what it is.
    pub kind: Option<String>,
    /// Cannot be changed: must be what it is. Empty is "default".
    pub queue: Option<String>,
    /// Cannot be changed: must be what it is.
    pub input: Option<Option<Object>>,
}

/// A change of a [`RetryPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RetryPolicyPatch {
    /// See there.
    pub max_attempts: Option<Option<u32>>,
    /// See there.
    pub initial_backoff: Option<Option<Duration>>,
    /// See there.
    pub max_backoff: Option<Option<Duration>>,
    /// See there.
    pub backoff_multiplier: Option<Option<f64>>,
}

/// A change of a [`ProgressReport`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProgressPatch {
    /// See there.
    pub percent: Option<Option<f64>>,
    /// See there.
    pub message: Option<String>,
    /// See there.
    pub completed_units: Option<i64>,
    /// See there.
    pub total_units: Option<i64>,
    /// See there.
    pub unit: Option<String>,
    /// See there.
    pub details: Option<Option<Object>>,
}

impl RetryPolicyPatch {
    /// The policy with the change made.
    #[must_use]
    pub fn applied_to(self, policy: RetryPolicy) -> RetryPolicy {
        let Self { max_attempts, initial_backoff, max_backoff, backoff_multiplier } = self;
        RetryPolicy {
            max_attempts: max_attempts.unwrap_or(policy.max_attempts),
            initial_backoff: initial_backoff.unwrap_or(policy.initial_backoff),
            max_backoff: max_backoff.unwrap_or(policy.max_backoff),
            backoff_multiplier: backoff_multiplier.unwrap_or(policy.backoff_multiplier),
        }
    }
}

impl ProgressPatch {
    /// The report with the change made.
    #[must_use]
    pub fn applied_to(self, report: ProgressReport) -> ProgressReport {
        let Self { percent, message, completed_units, total_units, unit, details } = self;
        ProgressReport {
            percent: percent.unwrap_or(report.percent),
            message: message.unwrap_or(report.message),
            completed_units: completed_units.unwrap_or(report.completed_units),
            total_units: total_units.unwrap_or(report.total_units),
            unit: unit.unwrap_or(report.unit),
            details: details.unwrap_or(report.details),
        }
    }
}
