//! What every transition may know and say.

use super::{Error, KindDefaults, Object, Task, Timestamp};

/// What a transition may know besides the task and the event.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present time.
    pub now: Timestamp,
    /// What the task's kind gives it.
    pub kind: &'a KindDefaults,
    /// Between 0 and 1: where in the backoff the next attempt falls.
    pub jitter: f64,
    /// The task's input; only an update that names it looks at it.
    pub input: Option<&'a Object>,
}

/// When a task may be handed out that could be at `time`.
pub(super) fn not_before_schedule(task: &Task, time: Timestamp) -> Timestamp {
    task.schedule_time.map_or(time, |scheduled| scheduled.max(time))
}

/// What the state of a task does not allow.
pub(super) fn precondition(task: &Task, reason: &'static str, description: String) -> Error {
    let subject = format!("tasks/{}", task.id);
    Error::FailedPrecondition { reason, description: format!("{subject} {description}"), subject }
}
