//! What a runner needs of [`Tasks`], and no more: the same three calls that remote
//! workers make. A seam, so that faults of the store can be played in tests.

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use crate::{
    domain::{Error, Finish, Report, TaskId},
    tasks::{Answer, LeaseRequest, Leased, Tasks},
};

pub(super) trait Board: Send + Sync + 'static {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Leased>, Error>>;

    fn report(&self, reports: Vec<(TaskId, Report)>) -> BoxFuture<'_, Vec<Result<Answer, Error>>>;

    fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> BoxFuture<'_, Vec<Result<(), Error>>>;

    /// Tasks of which a report would be answered with something else from now on.
    fn steered(&self) -> broadcast::Receiver<TaskId>;
}

impl Board for Tasks {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Leased>, Error>> {
        Box::pin(Self::lease(self, request))
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
