//! The gRPC mouth: requests to commands, states to messages.
//!
//! Bad input is refused here, all of it at once and with the path of each field; what
//! goes on to [`Tasks`](crate::tasks::Tasks) is checked. Generated messages stop
//! here. Knows neither rows nor the rules of a task's life.

mod body;
mod census;
mod create;
mod deadline;
mod edge;
mod errors;
mod mask;
mod message;
mod operations;
mod page_token;
mod path;
mod payload;
mod read;
mod report;
mod streams;
mod task_service;
mod update;
mod watch;
mod worker_service;

pub use edge::{Edge, RequestBytes};
pub use errors::DOMAIN;
pub use streams::OpenStreams;

use tonic::{server::NamedService, service::Routes};

use crate::{
    domain::limits::MESSAGE_BYTES,
    proto::{
        longrunning::operations_server::OperationsServer, task_service_server::TaskServiceServer,
        worker_service_server::WorkerServiceServer,
    },
    tasks::Tasks,
};
use operations::OperationsApi;
use task_service::TaskApi;
use worker_service::WorkerApi;

/// The names of the services that [`add_to`] adds, for health.
pub const SERVICES: [&str; 3] = [
    TaskServiceServer::<TaskApi>::NAME,
    WorkerServiceServer::<WorkerApi>::NAME,
    OperationsServer::<OperationsApi>::NAME,
];

/// Adds TaskService, WorkerService and Operations.
#[must_use]
pub fn add_to(routes: Routes, tasks: &Tasks) -> Routes {
    routes
        .add_service(
            TaskServiceServer::new(TaskApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
        )
        .add_service(
            WorkerServiceServer::new(WorkerApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
        )
        .add_service(
            OperationsServer::new(OperationsApi::new(tasks.clone()))
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
        )
}
