//! What a runner needs of where its tasks come from, and no more: the same three
//! calls that remote workers make. [`Tasks`] answers them inside the server; a worker
//! on the command line asks a server, and tests play faults of the store.

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::{
    clock,
    domain::{
        Error, Finish, Lease, Name, Object, ProgressReport, Report, State, TaskId, TimeLimit,
        Timestamp, Token,
    },
    tasks::{Answer, LeaseRequest, Leased, Tasks},
};

pub(crate) trait Board: Send + Sync + 'static {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Assignment>, Error>>;

    fn report(&self, reports: Vec<(TaskId, Report)>) -> BoxFuture<'_, Vec<Result<Answer, Error>>>;

    fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> BoxFuture<'_, Vec<Result<(), Error>>>;

    /// Tasks of which a report would be answered with something else from now on. Where
    /// nobody tells, it is heard of by the next report.
    fn steered(&self) -> broadcast::Receiver<TaskId> {
        broadcast::channel(1).1
    }
}

/// A task that is in a worker's hands now: all that running it takes.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) id: TaskId,
    pub(crate) kind: Name,
    pub(crate) attempt: u32,
    pub(crate) state: State,
    pub(crate) token: Token,
    /// The lease began and ends, by the clock of who gave it.
    pub(crate) start_time: Timestamp,
    pub(crate) expire_time: Timestamp,
    pub(crate) limit: TimeLimit,
    pub(crate) input: Object,
    pub(crate) checkpoint: Option<Object>,
    /// What stood before this attempt.
    pub(crate) kept_progress: Option<ProgressReport>,
}

impl Assignment {
    /// `None` where the task came without a lease, which is a fault of the store.
    pub(super) fn of(leased: Leased) -> Option<Self> {
        let Leased { task, input } = leased;
        let Some(&Lease { token, expire_time, limit, .. }) = task.lease() else {
            tracing::error!(task = %task.id, "was handed out without a lease");
            return None;
        };
        Some(Self {
            id: task.id.clone(),
            kind: task.kind.clone(),
            attempt: task.attempt,
            state: task.state(),
            token,
            start_time: task.start_time.unwrap_or_else(clock::now),
            expire_time,
            limit,
            input: input.unwrap_or_default(),
            checkpoint: task.checkpoint.clone(),
            kept_progress: task.progress.as_ref().map(|progress| progress.report.clone()),
        })
    }
}

impl Board for Tasks {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Assignment>, Error>> {
        Box::pin(async {
            let leased = Self::lease(self, request).await?;
            Ok(leased.into_iter().filter_map(Assignment::of).collect())
        })
    }

    fn report(&self, reports: Vec<(TaskId, Report)>) -> BoxFuture<'_, Vec<Result<Answer, Error>>> {
        Box::pin(Self::report(self, reports))
    }

    fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(Self::finish(self, outcomes))
    }

    fn steered(&self) -> broadcast::Receiver<TaskId> {
        Self::steered(self)
    }
}

/// Whether the lease is gone for good, and its work with it.
pub(super) fn means_lost(error: &Error) -> bool {
    match error {
        Error::Aborted { .. } | Error::NotFound { .. } => true,
        Error::InvalidArgument(_)
        | Error::AlreadyExists { .. }
        | Error::FailedPrecondition { .. }
        | Error::ResourceExhausted { .. }
        | Error::Unavailable { .. }
        | Error::Unimplemented(_)
        | Error::Internal => false,
    }
}

/// Whether the same call may succeed later.
pub(super) fn means_later(error: &Error) -> bool {
    match error {
        // A fault of the server says nothing of what it was asked.
        Error::ResourceExhausted { .. } | Error::Unavailable { .. } | Error::Internal => true,
        Error::Aborted { .. }
        | Error::NotFound { .. }
        | Error::InvalidArgument(_)
        | Error::AlreadyExists { .. }
        | Error::FailedPrecondition { .. }
        | Error::Unimplemented(_) => false,
    }
}
