//! The gRPC mouth: requests to commands, states to messages.
//!
//! Bad input is refused here, all of it at once and with the path of each field; what
//! goes on to [`Tasks`](crate::tasks::Tasks) is checked. Generated messages stop
//! here. Knows neither rows nor the rules of a task's life.

mod body;
mod call;
mod census;
mod create;
mod deadline;
mod edge;
mod errors;
mod mask;
mod message;
mod not_grpc;
mod operations;
mod page_token;
mod path;
mod payload;
mod read;
mod report;
mod services;
mod streams;
mod task_service;
mod update;
mod watch;
mod worker_service;

pub use edge::{Edge, RequestBytes, Served};
pub use errors::DOMAIN;
pub use not_grpc::NOT_GRPC;
pub use services::{SERVICES, Services};
pub use streams::OpenStreams;
