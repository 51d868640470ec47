//! What a handler holds while it runs a task: what to do, what is wanted of it,
//! and where to say how far it has come. It knows nothing of leases and stores.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::{
    HandlerError, Progress,
    attempt::{Attempt, Control, Given, Wanted},
    bounds,
    outbox::Parcel,
};
use crate::domain::{Code, Object, ProgressReport};

/// One attempt at a task. Cheap to clone; clones may go to other tasks and threads.
///
/// After the attempt has ended, or its lease was lost, nothing that is said through
/// it is heard any more.
#[derive(Clone, Debug)]
pub struct Job {
    attempt: Arc<Attempt>,
}

impl Job {
    pub(super) const fn new(attempt: Arc<Attempt>) -> Self {
        Self { attempt }
    }

    /// The task's id: what follows `tasks/` in its name.
    pub fn id(&self) -> &str {
        &self.attempt.id
    }

    /// The task's kind.
    pub fn kind(&self) -> &str {
        &self.attempt.kind
    }

    /// Which attempt this is; the first one is 1. The same again after a release.
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// What the task's creator handed in. Empty where that was nothing.
    pub fn input(&self) -> &Map<String, Json> {
        self.attempt.input.json()
    }

    /// The input as a type of your own.
    ///
    /// # Errors
    ///
    /// A permanent INVALID_ARGUMENT that says what does not fit.
    pub fn input_as<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        serde_json::from_value(Json::Object(self.read_input())).map_err(|error| {
            HandlerError::permanent(Code::INVALID_ARGUMENT, format!("input: {error}"))
        })
    }

    /// What an earlier attempt saved last.
    pub fn checkpoint(&self) -> Option<&Map<String, Json>> {
        self.attempt.checkpoint.as_ref().map(Given::json)
    }

    /// The input, for who needs it once: it is not kept.
    pub(super) fn read_input(&self) -> Map<String, Json> {
        self.attempt.input.read()
    }

    /// The checkpoint, likewise.
    pub(super) fn read_checkpoint(&self) -> Option<Map<String, Json>> {
        self.attempt.checkpoint.as_ref().map(Given::read)
    }

    /// Says how far it has come. Never blocks and never queues: while a report is on
    /// its way, newer ones take each other's place, and the last one goes with the
    /// outcome. What is outside the limits is cut.
    pub fn report(&self, progress: Progress) {
        self.say(progress.into_report(self.id()));
    }

    pub(super) fn say(&self, report: ProgressReport) {
        let progress = Some(bounds::progress(report));
        self.attempt.outbox.put(Parcel { progress, checkpoint: None });
    }

    /// Saves from where the next attempt can go on: a JSON object. Never blocks; it
    /// is durable with the next commit, with the outcome at the latest. To wait for
    /// that, [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// A permanent INTERNAL where it is no object, more than 64 KiB, nested more than
    /// 16 deep or has text with a NUL; the last one then stands.
    pub fn save_checkpoint(&self, checkpoint: &Json) -> Result<(), HandlerError> {
        let checked = match checkpoint {
            Json::Object(map) => bounds::object(map),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                Err("is no JSON object".into())
            }
        };
        match checked {
            Ok(checkpoint) => {
                self.save(checkpoint);
                Ok(())
            }
            Err(why) => {
                Err(HandlerError::permanent(Code::INTERNAL, format!("the checkpoint {why}")))
            }
        }
    }

    pub(super) fn save(&self, checkpoint: Object) {
        self.attempt.outbox.put(Parcel { progress: None, checkpoint: Some(checkpoint) });
    }

    /// Waits until all that was reported and saved before is durable.
    pub async fn flush(&self) {
        self.attempt.outbox.flushed().await;
    }

    /// What is wanted right now.
    pub fn wanted(&self) -> Wanted {
        self.attempt.control().wanted()
    }

    /// Waits until the job is to stop, for whatever reason: a cancel, its timeout, the
    /// server's end. Then end with [`HandlerError::cancelled`] soon; what became of
    /// the attempt follows from what was wanted. After a cancel the outcome of a
    /// handler that goes on is still taken; after a timeout, and when the server
    /// stops, its future is dropped once the grace is over.
    pub async fn cancelled(&self) {
        self.until(Wanted::is_stop).await;
    }

    /// Waits until the job is to pause. A handler that never looks just goes on: its
    /// task reads PAUSED meanwhile, and ends as it ends.
    pub async fn paused(&self) {
        self.until(|wanted| wanted == Wanted::Pause).await;
    }

    /// Waits while the job is to pause. Returns when it is to stop, too.
    pub async fn until_resumed(&self) {
        self.until(|wanted| wanted != Wanted::Pause).await;
    }

    /// To be asked between two steps of the work: waits while the job is to pause.
    ///
    /// # Errors
    ///
    /// [`HandlerError::cancelled`] when the job is to stop, to be passed on by `?`.
    pub async fn proceed(&self) -> Result<(), HandlerError> {
        self.until_resumed().await;
        if self.wanted().is_stop() { Err(HandlerError::cancelled()) } else { Ok(()) }
    }

    pub(super) async fn until(&self, holds: impl Fn(Wanted) -> bool) {
        self.attempt.until(|control| holds(control.wanted())).await;
    }

    pub(super) fn control(&self) -> Control {
        self.attempt.control()
    }

    /// Waits until it is no longer `seen`.
    pub(super) async fn control_changed(&self, seen: &Control) {
        self.attempt.until(|control| control != seen).await;
    }

    /// What stood before this attempt.
    pub(super) fn kept_progress(&self) -> ProgressReport {
        self.attempt.kept_progress.as_deref().cloned().unwrap_or_default()
    }
}
