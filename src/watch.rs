//! One watcher: registers with the hub, then reads the store, then waits. Gives
//! states, not messages; `rpc` makes frames of them.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{Error, Filter, Object, TaskId},
    hub::{Hub, Snapshot},
    store::Reader,
};

/// How a task is to be watched.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The newest revision that the watcher has seen.
    pub after_revision: i64,
    /// With the input.
    pub with_input: bool,
    /// No two states closer than this, the terminal one aside.
    pub min_interval: Duration,
    /// The present state again after this long without any; jittered by a tenth.
    pub heartbeat_interval: Option<Duration>,
}

/// A watch of one task.
#[derive(Debug)]
pub struct Watch {}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// NOT_FOUND; UNAVAILABLE while the server drains or the store is away.
    pub async fn begin(
        _hub: &Hub,
        _reader: &Reader,
        _id: TaskId,
        _options: WatchOptions,
    ) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Its input, where `with_input` was asked for. It never changes.
    pub fn input(&self) -> Option<&Object> {
        unimplemented!()
    }

    /// The next state to send. `None` after the terminal state: the stream ends
    /// with OK. Cancel-safe.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the server drains; NOT_FOUND when the task was deleted.
    pub async fn next(&mut self) -> Option<Result<Arc<Snapshot>, Error>> {
        unimplemented!()
    }
}

/// How a filter is to be watched.
#[derive(Clone, Debug, Default)]
pub struct WatchAllOptions {
    /// Which tasks.
    pub filter: Filter,
    /// With the inputs.
    pub with_input: bool,
    /// No two states of one task closer than this, the terminal one aside.
    pub min_interval: Duration,
    /// `synced` again after this long without anything; jittered by a tenth.
    pub heartbeat_interval: Option<Duration>,
}

/// A watch of all tasks that a filter matches.
#[derive(Debug)]
pub struct WatchAll {}

/// What a [`WatchAll`] tells.
#[derive(Clone, Debug)]
pub enum WatchAllEvent {
    /// A task's newest state, with its input where that was asked for.
    Task(Arc<Snapshot>, Option<Object>),
    /// Deleted, or no longer matched.
    Removed(TaskId),
    /// All that matched at the beginning has been sent.
    Synced,
}

impl WatchAll {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where more tasks match than can be watched at once;
    /// UNAVAILABLE while the server drains or the store is away.
    pub async fn begin(
        _hub: &Hub,
        _reader: &Reader,
        _options: WatchAllOptions,
    ) -> Result<Self, Error> {
        unimplemented!()
    }

    /// What comes next. Never `None`: it ends only with an error. Cancel-safe.
    pub async fn next(&mut self) -> Result<WatchAllEvent, Error> {
        unimplemented!()
    }
}
