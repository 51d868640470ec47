//! google.longrunning.Operations over the same tasks, so that whatever polls Google's
//! operations follows a task unchanged: `operations/{task}` is `tasks/{task}`.

mod message;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use self::message::operation;
use super::{
    deadline::Deadline,
    errors,
    page_token::Listing,
    path::{At, checked},
    read,
    streams::Lasting,
    task_service::list_query,
};
use crate::{
    domain::{Error, Patch, State, TaskId, limits},
    proto::{
        self,
        longrunning::{
            CancelOperationRequest, DeleteOperationRequest, GetOperationRequest,
            ListOperationsRequest, ListOperationsResponse, Operation, WaitOperationRequest,
            operations_server::Operations,
        },
    },
    store::ListQuery,
    tasks::Tasks,
    watch::WatchOptions,
};

/// The one collection that there is.
const COLLECTION: &str = "operations";
/// A page of tasks ends at about so many bytes. An operation shows the result twice, as
/// its response and in its metadata: less than a page of ListTasks fits into a message.
const PAGE_BYTES: usize = limits::PAGE_BYTES / 4;

/// Operations over [`Tasks`].
#[derive(Debug)]
pub(super) struct OperationsApi {
    tasks: Tasks,
}

impl OperationsApi {
    pub(super) const fn new(tasks: Tasks) -> Self {
        Self { tasks }
    }

    async fn get(&self, id: &TaskId) -> Result<Operation, Error> {
        let full = self.tasks.get(id, false).await?;
        Ok(operation(&full.task.task))
    }

    /// The operation as it is when it is done, or `until` then.
    async fn wait(&self, id: &TaskId, until: Instant) -> Result<Operation, Error> {
        let mut watch = self.tasks.watch(id.clone(), WatchOptions::default()).await?;
        let mut newest = None;
        let ended = timeout_at(until, async {
            while let Some(next) = watch.next().await {
                newest = Some(next?);
            }
            Ok(())
        });
        // That the time is over is no error: the operation is then shown as it is.
        ended.await.unwrap_or(Ok(()))?;
        match newest {
            Some(snapshot) => Ok(operation(&snapshot.task)),
            None => self.get(id).await,
        }
    }
}

#[tonic::async_trait]
impl Operations for OperationsApi {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let GetOperationRequest { name } = request.into_inner();
        let id = checked(|at| read::operation_name(&at.field("name"), &name))?;
        self.get(&id).await.map(Response::new).map_err(|error| refused(error, &id))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let request = request.into_inner();
        if request.return_partial_success {
            let why = "return_partial_success is not supported: there is one collection, and \
                       all of it can be reached";
            return Err(errors::status(Error::Unimplemented(why)));
        }
        let (query, listing) = checked(|at| operations_query(at, request))?;
        let page = self.tasks.list(&query).await.map_err(errors::status)?;
        Ok(Response::new(ListOperationsResponse {
            operations: page.tasks.iter().map(|stored| operation(&stored.task)).collect(),
            next_page_token: page.next.map(|next| listing.token(&next)).unwrap_or_default(),
            unreachable: Vec::new(),
        }))
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let DeleteOperationRequest { name } = request.into_inner();
        let id = checked(|at| read::operation_name(&at.field("name"), &name))?;
        let deleted = self.tasks.delete(id.clone(), false).await;
        deleted.map(Response::new).map_err(|error| refused(error, &id))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let CancelOperationRequest { name } = request.into_inner();
        let id = checked(|at| read::operation_name(&at.field("name"), &name))?;
        let cancel = Patch { state: Some(State::Cancelled), ..Patch::default() };
        match self.tasks.update(id.clone(), cancel).await {
            // What refuses to be cancelled has ended. operations.proto promises no more
            // than a try, and that it can complete despite it is no error.
            Ok(_) | Err(Error::FailedPrecondition { .. }) => Ok(Response::new(())),
            Err(error) => Err(refused(error, &id)),
        }
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let (_, extensions, request) = request.into_parts();
        let (id, timeout) = checked(|at| wait_query(at, request))?;
        let wait = Deadline::shorten(&extensions, timeout);
        let operation = if wait.is_zero() {
            self.get(&id).await
        } else {
            let until = Instant::now() + wait;
            let _lasting = Lasting::begin(&extensions).map_err(errors::status)?;
            self.wait(&id, until).await
        };
        operation.map(Response::new).map_err(|error| refused(error, &id))
    }
}

/// The same list as that of tasks, newest first.
fn operations_query(at: &At<'_>, request: ListOperationsRequest) -> Option<(ListQuery, Listing)> {
    let ListOperationsRequest { name, filter, page_size, page_token, return_partial_success: _ } =
        request;
    if name != COLLECTION {
        at.field("name").refuse(format!("must be \"{COLLECTION}\", the one collection here"));
    }
    let tasks = proto::ListTasksRequest { page_size, page_token, filter, ..Default::default() };
    let (query, listing) = list_query(at, &tasks)?;
    Some((ListQuery { max_bytes: PAGE_BYTES, ..query }, listing))
}

/// Which one, and how long at most. Without a timeout the call's own deadline decides.
fn wait_query(at: &At<'_>, request: WaitOperationRequest) -> Option<(TaskId, Duration)> {
    let WaitOperationRequest { name, timeout } = request;
    let id = read::operation_name(&at.field("name"), &name);
    let wait = if timeout.is_some() {
        // One of 0 is an answer at once.
        read::duration(&at.field("timeout"), timeout).unwrap_or_default()
    } else {
        limits::DURATION_MAX
    };
    Some((id?, wait))
}

/// A refusal by the name under which the caller knows the task.
fn refused(mut error: Error, id: &TaskId) -> Status {
    let (task, operation) = (super::message::name(id), message::name(id));
    if let Error::NotFound { resource } = &mut error
        && *resource == task
    {
        *resource = operation;
    } else if let Error::FailedPrecondition { subject, description, .. } = &mut error
        && *subject == task
    {
        *description = description.replacen(&task, &operation, 1);
        *subject = operation;
    }
    errors::status(error)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;
    use crate::{domain::Name, rpc::path::Findings};

    fn fields<T: std::fmt::Debug>(read: impl FnOnce(&At<'_>) -> Option<T>) -> Vec<String> {
        let findings = Findings::default();
        let read = read(&findings.root());
        match findings.judge(read) {
            Err(Error::InvalidArgument(found)) => found.into_iter().map(|v| v.field).collect(),
            other => panic!("must be refused: {other:?}"),
        }
    }

    #[test]
    fn lists_are_checked() {
        let bad = ListOperationsRequest {
            name: "operations/".into(),
            filter: "colour = 1".into(),
            page_size: -1,
            page_token: "x".into(),
            return_partial_success: false,
        };
        assert_eq!(fields(|at| operations_query(at, bad)), ["name", "page_size", "filter"]);
        let good = ListOperationsRequest {
            name: COLLECTION.into(),
            page_size: 5_000,
            ..Default::default()
        };
        let (query, _) = checked(|at| operations_query(at, good)).expect("fine");
        assert_eq!((query.limit, query.max_bytes), (limits::PAGE_SIZE, PAGE_BYTES));
    }

    #[test]
    fn waits_are_checked() {
        let request = |timeout| WaitOperationRequest { name: "operations/a".into(), timeout };
        let read = |timeout| checked(|at| wait_query(at, request(timeout))).map(|(_, wait)| wait);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert_eq!(read(None).expect("fine"), limits::DURATION_MAX);
        assert_eq!(read(seconds(0)).expect("fine"), Duration::ZERO);
        assert_eq!(read(seconds(7)).expect("fine"), Duration::from_secs(7));
        assert_eq!(fields(|at| wait_query(at, request(seconds(-1)))), ["timeout"]);
        let bad = WaitOperationRequest { name: "tasks/a".into(), timeout: seconds(-1) };
        assert_eq!(fields(|at| wait_query(at, bad)), ["name", "timeout"]);
    }

    #[test]
    fn refusals_name_the_operation() {
        let id = Name::new("a").expect("well formed");
        let status = refused(Error::no_task("a"), &id);
        assert_eq!(status.message(), "operations/a not found");
        let details = status.get_error_details();
        let resource = details.resource_info().expect("there");
        assert_eq!(resource.resource_type, "google.longrunning.Operation");
        let live = Error::FailedPrecondition {
            reason: "NOT_ENDED",
            subject: "tasks/a".into(),
            description: "tasks/a is RUNNING: cancel it".into(),
        };
        let status = refused(live, &id);
        assert_eq!(status.message(), "operations/a is RUNNING: cancel it");
        let details = status.get_error_details();
        let violations = &details.precondition_failure().expect("there").violations;
        assert_eq!(violations[0].subject, "operations/a");
    }
}
