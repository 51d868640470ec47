//! The only writer. Every change of a task is a command that comes through here.

use std::{collections::HashMap, time::Duration};

use crate::{
    domain::{
        Error, Finish, KindDefaults, Name, NewTask, Object, Patch, Report, State, Task, TaskId,
        TimeLimit, Timestamp, Token,
    },
    hub::{Full, Hub},
    store::{ListQuery, Page, Reader, Writer},
    watch::{Watch, WatchAll, WatchAllOptions, WatchOptions},
};

/// What the rules of this server are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a kind gives its tasks where it says nothing else.
    pub defaults: KindDefaults,
    /// What is configured of each kind. A kind that is `known` is accepted.
    pub kinds: HashMap<Name, KindSettings>,
    /// Live leases that a queue may have at most.
    pub queue_concurrency: HashMap<Name, u64>,
    /// Accept kinds that nobody has ever served.
    pub accept_unknown: bool,
    /// How long ended tasks are kept that name nothing else.
    pub retention: Duration,
}

/// The rules of one kind.
#[derive(Clone, Debug)]
pub struct KindSettings {
    /// What it gives its tasks.
    pub defaults: KindDefaults,
    /// Live leases that it may have at most.
    pub concurrency: Option<u64>,
    /// Served by this server itself: built in, a program, a handler.
    pub known: bool,
}

/// A task to create.
#[derive(Clone, Debug)]
pub struct Create {
    /// The task.
    pub new: NewTask,
    /// The request id and a canonical digest of the request.
    pub request: Option<(String, [u8; 32])>,
    /// Where in the request it stands, for messages: "" or `requests[3].`.
    pub path: String,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Who asks.
    pub worker: Name,
    /// Which kinds it serves.
    pub kinds: Vec<Name>,
    /// Of which queues; none means all.
    pub queues: Vec<Name>,
    /// At most so many tasks.
    pub max_tasks: usize,
    /// How long a lease lives without a report.
    pub duration: Duration,
    /// How long to wait where there is nothing to do.
    pub wait: Duration,
    /// See [`Lease::by_runner`](crate::domain::Lease::by_runner).
    pub by_runner: bool,
}

/// A task in a worker's hands.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task, RUNNING, with its live lease (token, expiry, time limit) inside.
    pub task: Task,
    /// Its input.
    pub input: Option<Object>,
}

/// What a worker learns when it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// RUNNING, PAUSED or CANCELLING.
    pub wanted: State,
    /// Until when the lease lives.
    pub expire_time: Timestamp,
    /// When the attempt must be over.
    pub limit: TimeLimit,
}

/// The way to tasks, for every mouth. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {}

impl Tasks {
    /// Starts the committer and its timers. On an embedded database the leases of
    /// the process before are ended first.
    pub async fn start(
        _writer: Writer,
        _reader: Reader,
        _hub: Hub,
        _settings: Settings,
    ) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Creates a task; durable when it returns.
    pub async fn create(&self, _create: Create) -> Result<Full, Error> {
        unimplemented!()
    }

    /// Creates all of them or none. In their order.
    pub async fn create_batch(&self, _creates: Vec<Create>) -> Result<Vec<Full>, Error> {
        unimplemented!()
    }

    /// Changes a task.
    pub async fn update(&self, _id: TaskId, _patch: Patch) -> Result<Full, Error> {
        unimplemented!()
    }

    /// Removes an ended task.
    pub async fn delete(&self, _id: TaskId, _allow_missing: bool) -> Result<(), Error> {
        unimplemented!()
    }

    /// Hands out tasks; waits for some where there are none. Empty when the wait is over,
    /// and when the server drains while it waits.
    pub async fn lease(&self, _request: LeaseRequest) -> Result<Vec<Leased>, Error> {
        unimplemented!()
    }

    /// Takes reports, each by itself, in their order.
    pub async fn report(&self, _reports: Vec<(TaskId, Report)>) -> Vec<Result<Answer, Error>> {
        unimplemented!()
    }

    /// Takes outcomes, each by itself, in their order.
    pub async fn finish(&self, _outcomes: Vec<(TaskId, Finish)>) -> Vec<Result<(), Error>> {
        unimplemented!()
    }

    /// Reads one task. Without its input where that is not asked for.
    pub async fn get(&self, _id: &TaskId, _with_input: bool) -> Result<Full, Error> {
        unimplemented!()
    }

    /// Reads a page of tasks.
    pub async fn list(&self, _query: &ListQuery) -> Result<Page, Error> {
        unimplemented!()
    }

    /// Watches one task.
    pub async fn watch(&self, _id: TaskId, _options: WatchOptions) -> Result<Watch, Error> {
        unimplemented!()
    }

    /// Watches a filter.
    pub async fn watch_all(&self, _options: WatchAllOptions) -> Result<WatchAll, Error> {
        unimplemented!()
    }

    /// Begins to drain: new leases and watches are UNAVAILABLE, waiting leases
    /// answer empty, open watches end with UNAVAILABLE. All else is served on.
    pub fn drain(&self) {
        unimplemented!()
    }

    /// Stops the committer when all that is queued is committed, and waits for it.
    pub async fn stop(&self) {
        unimplemented!()
    }

    /// A new random token.
    pub fn token() -> Token {
        Token(rand::random())
    }
}
