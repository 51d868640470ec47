//! One lease of a task, as it is remembered: who held it, when, and how it ended.

use super::{Failure, Name, State, Task, Timestamp};

/// How many ended leases of a task are remembered.
pub const ATTEMPTS_KEPT: i64 = 100;

/// One lease of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// [`Task::attempt`] at that time; the same again after a release.
    pub number: u32,
    /// Who held it.
    pub worker: Option<Name>,
    /// When it began.
    pub start_time: Timestamp,
    /// How it ended; none while it lives.
    pub end: Option<AttemptEnd>,
}

/// How a lease ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    /// When.
    pub time: Timestamp,
    /// SUCCEEDED, FAILED (also where a retry follows), CANCELLED, or QUEUED where the
    /// worker gave the task back.
    pub state: State,
    /// Of one that failed.
    pub error: Option<Failure>,
}

impl Attempt {
    /// The one that runs now.
    pub fn live(task: &Task) -> Option<Self> {
        task.lease().map(|_| Self {
            number: task.attempt,
            worker: task.worker.clone(),
            start_time: task.start_time.unwrap_or(task.create_time),
            end: None,
        })
    }

    /// The one that ended when one event made `after` of `before`.
    pub fn ended(before: &Task, after: &Task) -> Option<Self> {
        let live = Self::live(before).filter(|_| after.lease().is_none())?;
        let state = match after.state() {
            State::Succeeded => State::Succeeded,
            State::Failed => State::Failed,
            State::Cancelled => State::Cancelled,
            State::Queued | State::Running | State::Paused | State::Cancelling
                if after.attempt == before.attempt =>
            {
                State::Queued
            }
            State::Queued | State::Running | State::Paused | State::Cancelling => State::Failed,
        };
        let error = after.error.clone().filter(|_| state == State::Failed);
        Some(Self { end: Some(AttemptEnd { time: after.update_time, state, error }), ..live })
    }
}
