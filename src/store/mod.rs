//! The truth: tasks as rows. SQLite in one file, or PostgreSQL.
//!
//! One [`Writer`] changes rows, transaction by transaction, and only `tasks` has
//! it; any number of [`Reader`]s read. Rows stop here: what goes in and out is
//! `domain`. Nothing here knows the rules of a task's life.

mod filter;

use std::collections::{HashMap, HashSet};

use crate::domain::{
    Cursor, Error, Expiry, Filter, Name, Object, Order, Task, TaskId, Timestamp, Token,
};

/// A task as the store holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The store's own number of its row.
    pub row: i64,
    /// The task.
    pub task: Task,
    /// Its input, where it was asked for.
    pub input: Option<Object>,
}

/// What a statement failed of, by what can be done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk.
    #[error("the disk that holds the database is full")]
    Full(#[source] sea_orm::DbErr),
    /// The file or its folder cannot be written.
    #[error("the database is read-only")]
    ReadOnly(#[source] sea_orm::DbErr),
    /// The file is damaged.
    #[error("the database is damaged")]
    Corrupt(#[source] sea_orm::DbErr),
    /// Not reachable, or it did not answer in time.
    #[error("the database cannot be reached")]
    Unavailable(String),
    /// Lost a race (deadlock, serialization failure, an id that somebody else
    /// inserted in the meantime): load and apply again.
    #[error("another writer was faster")]
    Conflict,
    /// A row that makes no sense.
    #[error("the row of {id} makes no sense: {what}")]
    Nonsense {
        /// Which one.
        id: String,
        /// What about it.
        what: String,
    },
    /// Anything else: a fault of ours.
    #[error("unexpected database error")]
    Other(#[source] sea_orm::DbErr),
}

impl StoreError {
    /// What the caller is told: full is RESOURCE_EXHAUSTED, a fault of the database
    /// UNAVAILABLE with RetryInfo, nonsense and others INTERNAL.
    pub fn public(&self) -> Error {
        unimplemented!()
    }

    /// Whether it would hit every command alike (full, gone, read-only, damaged),
    /// so that applying them one by one is of no use.
    pub fn hits_all(&self) -> bool {
        unimplemented!()
    }
}

/// Opens the database and brings its schema up to date.
///
/// `url` is `sqlite://PATH` (created where it is missing; refused where another
/// process has it open) or `postgres://…`.
///
/// # Errors
///
/// With a message for the operator that names the file or server and the remedy.
pub async fn open(_url: &str) -> Result<(Writer, Reader), OpenError> {
    unimplemented!()
}

/// Why a database cannot be opened, for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// Reads, at any time, from any place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {}

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Which.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// Behind this one.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// Ends at about this many bytes.
    pub max_bytes: usize,
    /// With their inputs.
    pub with_input: bool,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its tasks.
    pub tasks: Vec<Stored>,
    /// Where the next one begins; none on the last page.
    pub next: Option<Cursor>,
}

/// A lease that seems to be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Of which task.
    pub id: TaskId,
    /// The lease.
    pub token: Token,
    /// Why.
    pub cause: Expiry,
}

impl Reader {
    /// One task.
    pub async fn task(
        &self,
        _id: &TaskId,
        _with_input: bool,
    ) -> Result<Option<Stored>, StoreError> {
        unimplemented!()
    }

    /// Those of `ids` that exist, in any order, without inputs.
    pub async fn tasks(&self, _ids: &[TaskId]) -> Result<Vec<Stored>, StoreError> {
        unimplemented!()
    }

    /// One page of a list.
    pub async fn list(&self, _query: &ListQuery) -> Result<Page, StoreError> {
        unimplemented!()
    }

    /// Leases whose `expire_time` has passed, and attempts of others than runners
    /// whose time limit has, at most `limit` of each.
    pub async fn overdue(&self, _now: Timestamp, _limit: u64) -> Result<Vec<Overdue>, StoreError> {
        unimplemented!()
    }

    /// Live leases of runners (all of them dead ones, when asked before any runner starts).
    pub async fn runner_leases(&self, _limit: u64) -> Result<Vec<Overdue>, StoreError> {
        unimplemented!()
    }

    /// The earliest time at which a timer has something to do: the end of a lease,
    /// the limit of an attempt, a `ready_time`. Retention is not counted.
    pub async fn next_deadline(&self) -> Result<Option<Timestamp>, StoreError> {
        unimplemented!()
    }

    /// Whether there is something for [`Transaction::purge`].
    pub async fn has_expired(
        &self,
        _now: Timestamp,
        _retention: std::time::Duration,
    ) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Kinds that remote workers have served at some time.
    pub async fn served_kinds(&self) -> Result<Vec<Name>, StoreError> {
        unimplemented!()
    }

    /// The present time by the clock that the store goes by.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        unimplemented!()
    }
}

/// The one that changes rows.
#[derive(Debug)]
pub struct Writer {}

/// What one batch of commands needs to know.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Tasks that are named (locked on PostgreSQL), and ids that are to be taken.
    pub ids: HashSet<TaskId>,
    /// Of these the inputs as well.
    pub inputs: HashSet<TaskId>,
    /// Request ids that are to be looked up.
    pub requests: HashSet<String>,
}

/// What was found, under one present time.
#[derive(Debug)]
pub struct Loaded {
    /// The present time.
    pub now: Timestamp,
    /// The tasks that exist; also those that a found request id names.
    pub tasks: HashMap<TaskId, Stored>,
    /// The request ids that are remembered.
    pub requests: HashMap<String, RememberedRequest>,
}

/// What a request id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedRequest {
    /// A digest of the request that it was first used with.
    pub digest: [u8; 32],
    /// The task that this one created; may be gone.
    pub task: TaskId,
}

/// What a batch of commands changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// New tasks with their inputs, and the request id that each was created under.
    pub created: Vec<Created>,
    /// Tasks that changed: before, and after. The store writes only what differs.
    pub changed: Vec<(Stored, Task)>,
    /// Rows that are to go, with the request ids that lead to them.
    pub deleted: Vec<Stored>,
    /// Kinds that a remote worker asked for.
    pub served: Vec<Name>,
}

/// A task that is to be inserted.
#[derive(Debug)]
pub struct Created {
    /// The task.
    pub task: Task,
    /// Its input.
    pub input: Option<Object>,
    /// The request that created it.
    pub request: Option<(String, [u8; 32])>,
}

/// What a worker may be given: a queue of a kind that has due tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The kind.
    pub kind: Name,
    /// The queue, `default` where the tasks name none.
    pub queue: Name,
}

/// Tasks that became due in one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Where.
    pub lane: Lane,
    /// How many.
    pub tasks: u64,
}

/// Live leases in one lane.
pub type LiveLeases = HashMap<Lane, u64>;

impl Writer {
    /// Begins a transaction that will write. Rolled back where it is dropped.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        unimplemented!()
    }
}

/// All or nothing.
#[derive(Debug)]
pub struct Transaction<'a> {
    #[allow(dead_code)]
    writer: &'a mut Writer,
}

impl Transaction<'_> {
    /// Loads (and on PostgreSQL locks, in one order) what is named, and the time.
    pub async fn load(&mut self, _wanted: &Wanted) -> Result<Loaded, StoreError> {
        unimplemented!()
    }

    /// Writes what changed, in few statements. A task is due at once where its
    /// `ready_time` is not after `now`. `Conflict` where a new row was there already.
    pub async fn write(&mut self, _changes: &Changes, _now: Timestamp) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// The lanes of these kinds (and of these queues; none means all) that have due
    /// tasks, by kind and queue.
    pub async fn lanes(
        &mut self,
        _kinds: &[Name],
        _queues: &[Name],
    ) -> Result<Vec<Lane>, StoreError> {
        unimplemented!()
    }

    /// How many live leases there are in each lane that has some.
    pub async fn live_leases(&mut self) -> Result<LiveLeases, StoreError> {
        unimplemented!()
    }

    /// The first `limit` due tasks of a lane, with their inputs: highest priority,
    /// then earliest `ready_time`, then oldest. Locked, those locked elsewhere skipped.
    pub async fn pick(&mut self, _lane: &Lane, _limit: u64) -> Result<Vec<Stored>, StoreError> {
        unimplemented!()
    }

    /// Makes up to `limit` tasks due whose `ready_time` has come.
    pub async fn make_due(&mut self, _now: Timestamp, _limit: u64) -> Result<Vec<Due>, StoreError> {
        unimplemented!()
    }

    /// Removes up to `limit` tasks whose retention is over (`retention` where they
    /// name none) and request ids that need not be remembered any longer. Gives the
    /// tasks that are gone, with their last state.
    pub async fn purge(
        &mut self,
        _now: Timestamp,
        _retention: std::time::Duration,
        _limit: u64,
    ) -> Result<Vec<Task>, StoreError> {
        unimplemented!()
    }

    /// Makes it last.
    pub async fn commit(self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Undoes it.
    pub async fn rollback(self) -> Result<(), StoreError> {
        unimplemented!()
    }
}
