//! The truth: tasks as rows. SQLite in one file, or PostgreSQL.
//!
//! One [`Writer`] changes rows, transaction by transaction, and only `tasks` has
//! it; any number of [`Reader`]s read. Rows stop here: what goes in and out is
//! `domain`. Nothing here knows the rules of a task's life.

mod attempts;
mod batches;
mod cells;
mod census;
mod clock;
mod connection;
mod dml;
mod error;
mod feed;
mod filter;
mod known;
mod list;
mod open;
mod parts;
mod payloads;
mod pick;
mod purge;
mod read;
mod reads;
mod rows;
mod schema;
mod script;
mod session;
mod state;
mod statements;
mod table;
mod transaction;
mod write;

use std::{collections::VecDeque, sync::Arc};

use hashbrown::{HashMap, HashSet};

pub use attempts::AttemptPage;
pub use census::{Census, Count};
pub use connection::OpenError;
pub use error::StoreError;
pub use feed::{Ear, Feed, Heard, Mark};
pub use open::open;
pub use purge::Purged;
use sea_orm::{DatabaseConnection, DatabaseTransaction};

use crate::domain::{
    Attempt, Cursor, Expiry, Filter, Name, Object, Order, Task, TaskId, Timestamp, Token,
};

/// A task as the store holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The store's own number of its row.
    pub row: i64,
    /// The task.
    pub task: Arc<Task>,
    /// Its input, where it was asked for.
    pub input: Option<Object>,
}

/// Reads, at any time, from any place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    db: DatabaseConnection,
    embedded: Option<Arc<open::Embedded>>,
    reads: Arc<reads::Reads>,
}

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

/// The one that changes rows.
#[derive(Debug)]
pub struct Writer {
    pool: DatabaseConnection,
    /// The one connection of that pool: see [`connection::hold`].
    db: DatabaseTransaction,
    /// On PostgreSQL: what others see of it.
    session: session::Session,
    place: connection::Place,
    /// On an embedded database: the number of the next row.
    next_row: i64,
    /// On PostgreSQL: numbers for the next rows, taken from the sequence.
    numbers: VecDeque<i64>,
    /// On PostgreSQL: a transaction began where the last one ended.
    chained: bool,
    /// On PostgreSQL: its time.
    clock: clock::DatabaseClock,
    /// The connection is in an unknown state.
    broken: bool,
    /// This process, among those that share the database.
    replica: i64,
    /// When the others were last told something.
    told: Timestamp,
    /// On an embedded database: tasks that are in memory, and whether most of those were
    /// there that were picked last.
    known: Option<Arc<known::Known>>,
    knows_due: bool,
    /// The lock is held as long as anyone can write.
    _keep: Reader,
}

/// What one batch of commands needs to know.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Tasks that are named (locked on PostgreSQL), and ids that are to be taken.
    pub ids: HashSet<TaskId>,
    /// Of these the inputs as well.
    pub inputs: HashSet<TaskId>,
    /// Request ids that are to be looked up.
    pub requests: HashSet<String>,
    /// What was seen by the database's own time is looked at again: it must not be earlier.
    pub exact_time: bool,
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
    /// The task that this one created.
    pub task: TaskId,
    /// That task has been removed.
    pub gone: bool,
}

/// What a batch of commands changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// New tasks with their inputs, and the request id that each was created under.
    pub created: Vec<Created>,
    /// Tasks that changed: before, and after. The store writes only what differs.
    pub changed: Vec<(Stored, Arc<Task>)>,
    /// Leases that ended, with the row of their task; at most one of each.
    pub attempts: Vec<(i64, Attempt)>,
    /// Rows that are to go, with the request ids that lead to them.
    pub deleted: Vec<Stored>,
    /// Of these, those that ended in the same batch: how.
    pub ended: Vec<(Stored, Arc<Task>)>,
    /// Kinds of which a remote worker was seen.
    pub served: Vec<Name>,
}

/// What other replicas want to know of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Tasks of which readers can see a change.
    pub changed: Vec<TaskId>,
    /// Tasks that were deleted.
    pub gone: Vec<Gone>,
    /// Lanes in which tasks wait to be handed out that did not before.
    pub ready: Vec<Due>,
    /// Lanes with a limit, in which leases have ended.
    pub freed: Vec<Lane>,
    /// Queues that go on.
    pub resumed: Vec<Name>,
    /// Tasks of which a runner is to learn at once what is wanted.
    pub steered: Vec<TaskId>,
}

/// A task that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its id.
    pub id: TaskId,
    /// Tells it from another task of that id.
    pub create_time: Timestamp,
    /// The row that it had.
    pub row: i64,
}

/// A task that is to be inserted.
#[derive(Debug)]
pub struct Created {
    /// The task.
    pub task: Arc<Task>,
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

/// A task that may be handed out.
#[derive(Clone, Debug)]
pub struct Picked {
    /// The task; its input where it was in memory.
    pub stored: Stored,
    /// About how long it is in a message, its input counted.
    pub bytes: usize,
    /// Whether there is an input that is yet to be read.
    pub has_input: bool,
}

/// Tasks that became due in one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Where.
    pub lane: Lane,
    /// How many.
    pub tasks: u64,
    /// None of them comes before this in its lane.
    pub first: Rank,
}

/// The place of a due task in its lane: the first one is handed out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Its priority.
    pub priority: std::cmp::Reverse<i32>,
    /// Since when it is ready.
    pub ready_time: Timestamp,
    /// Its row; the smallest number where it is not known yet.
    pub row: i64,
}

impl Rank {
    /// Of a task whose row may not be known yet.
    pub const fn of(task: &Task, row: i64) -> Self {
        let priority = std::cmp::Reverse(task.priority);
        Self { priority, ready_time: task.ready_time, row }
    }
}

/// Live leases in one lane.
pub type LiveLeases = HashMap<Lane, u64>;

/// All or nothing.
#[derive(Debug)]
pub struct Transaction<'a> {
    writer: &'a mut Writer,
    begun: bool,
    /// What is yet to be sent.
    script: script::Script,
    /// Something was read.
    reads: bool,
    /// On PostgreSQL: what is yet to be told to the other replicas.
    told: Option<batches::Told>,
    /// What it made of tasks that were there; none where it removed them.
    became: known::Became,
    /// On an embedded database: new tasks that are due, by their rows.
    created: Vec<Stored>,
}
