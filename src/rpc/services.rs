//! The services of the port, and which of them a call is for.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

use super::{operations::OperationsApi, task_service::TaskApi, worker_service::WorkerApi};
use crate::{
    domain::limits::MESSAGE_BYTES,
    proto::{
        longrunning::operations_server::OperationsServer, task_service_server::TaskServiceServer,
        worker_service_server::WorkerServiceServer,
    },
    tasks::Tasks,
};

/// The names of our services, for health.
pub const SERVICES: [&str; 3] = [
    TaskServiceServer::<TaskApi>::NAME,
    WorkerServiceServer::<WorkerApi>::NAME,
    OperationsServer::<OperationsApi>::NAME,
];

/// All services. Ours are called at once, the others by tonic's router, which costs each call
/// some allocations and copies of it.
#[derive(Clone, Debug)]
pub struct Services(Arc<All>);

#[derive(Debug)]
struct All {
    tasks: TaskServiceServer<TaskApi>,
    workers: WorkerServiceServer<WorkerApi>,
    operations: OperationsServer<OperationsApi>,
    others: Routes,
}

impl Services {
    /// TaskService, WorkerService and Operations, beside others.
    #[must_use]
    pub fn new(tasks: &Tasks, others: Routes) -> Self {
        let all = All {
            tasks: TaskServiceServer::new(TaskApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
            workers: WorkerServiceServer::new(WorkerApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
            operations: OperationsServer::new(OperationsApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
            others: others.prepare(),
        };
        Self(Arc::new(all))
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // None of them is ever busy.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // `/package.Service/Method`
        match request.uri().path().split('/').nth(1).unwrap_or_default() {
            TaskServiceServer::<TaskApi>::NAME => self.0.tasks.clone().call(request),
            WorkerServiceServer::<WorkerApi>::NAME => self.0.workers.clone().call(request),
            OperationsServer::<OperationsApi>::NAME => self.0.operations.clone().call(request),
            _ => Box::pin(self.0.others.clone().call(request)),
        }
    }
}
