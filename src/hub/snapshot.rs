//! A committed state that many are told of, and its wire form, made once.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::domain::{Object, Task, Timestamp};

/// A committed state of a task, shared by all who are told of it.
#[derive(Debug)]
pub struct Snapshot {
    /// The state.
    pub task: Arc<Task>,
    basic: OnceLock<Bytes>,
    full: OnceLock<Bytes>,
}

impl Snapshot {
    /// A state that nobody has encoded yet.
    pub fn new(task: impl Into<Arc<Task>>) -> Self {
        Self { task: task.into(), basic: OnceLock::new(), full: OnceLock::new() }
    }

    /// The wire form without the input, made by the first who asks.
    pub fn basic(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.basic.get_or_init(encode).clone()
    }

    /// The wire form with the input, made by the first who asks.
    pub fn full(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.full.get_or_init(encode).clone()
    }

    pub(super) fn version(&self) -> Version {
        Version { create_time: self.task.create_time, revision: self.task.revision }
    }
}

/// Tells the newer of two states of one id. Revisions alone would not: a task that
/// was deleted and created again begins with 1 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    create_time: Timestamp,
    revision: i64,
}

impl Version {
    /// Newer than any state of the task that was created then: of its deletion.
    pub(super) const fn gone(create_time: Timestamp) -> Self {
        Self { create_time, revision: i64::MAX }
    }

    pub(super) const fn created(self) -> Timestamp {
        self.create_time
    }

    /// Whether these are two tasks that had the same name.
    pub(super) fn is_of_another(self, other: Self) -> bool {
        self.create_time != other.create_time
    }
}

/// A task with its input.
#[derive(Clone, Debug)]
pub struct Full {
    /// The task.
    pub task: Arc<Snapshot>,
    /// Its input.
    pub input: Option<Object>,
}
