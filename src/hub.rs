//! The news: who watches what, and what they are told. Knows neither the store
//! nor the wire; a state that nobody watches costs nothing here.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::domain::{Object, Task, TaskId};
use std::sync::Arc;

/// A committed state of a task, shared by all who are told of it.
#[derive(Debug)]
pub struct Snapshot {
    /// The state.
    pub task: Task,
    basic: OnceLock<Bytes>,
    full: OnceLock<Bytes>,
}

impl Snapshot {
    /// A state that nobody has encoded yet.
    pub fn new(task: Task) -> Self {
        Self { task, basic: OnceLock::new(), full: OnceLock::new() }
    }

    /// The wire form without the input, made by the first who asks.
    pub fn basic(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.basic.get_or_init(encode).clone()
    }

    /// The wire form with the input, made by the first who asks.
    pub fn full(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.full.get_or_init(encode).clone()
    }
}

/// What a commit made of a task.
#[derive(Clone, Debug)]
pub enum News {
    /// Its newest state.
    State(Arc<Snapshot>),
    /// It was deleted.
    Deleted(TaskId),
}

/// A task with its input.
#[derive(Clone, Debug)]
pub struct Full {
    /// The task.
    pub task: Arc<Snapshot>,
    /// Its input.
    pub input: Option<Object>,
}

/// Who watches what. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hub {}

impl Hub {
    /// Tells everybody whom it concerns; called by the committer alone, after its
    /// commit and in its order. Never blocks.
    pub fn publish(&self, _news: &[News]) {
        unimplemented!()
    }

    /// Whether somebody watches this task (or a filter, which might match it), so
    /// that it is worth making a snapshot.
    pub fn wants(&self, _task: &Task) -> bool {
        unimplemented!()
    }

    /// The server drains: every open watch ends with UNAVAILABLE, new ones as well.
    pub fn close(&self) {
        unimplemented!()
    }
}
