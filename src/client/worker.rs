//! The calls of `WorkerService` as Rust functions.

use std::time::Duration;

use tonic::{Request, Status, transport::Channel};

use super::{CALL_TIMEOUT, MESSAGE_BYTES, timed};
use crate::proto::{
    FinishTasksRequest, Lease, LeaseTasksRequest, ReportTasksRequest, finish_tasks_request,
    report_tasks_request, report_tasks_response, worker_service_client::WorkerServiceClient,
};

/// Calls a server as a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WorkerClient {
    service: WorkerServiceClient<Channel>,
}

impl WorkerClient {
    pub(super) fn new(channel: Channel) -> Self {
        let service = WorkerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        Self { service }
    }

    /// Waits for tasks as long as the request says. Dropped meanwhile, what it was
    /// given is given back by the server.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn lease(&self, request: LeaseTasksRequest) -> Result<Vec<Lease>, Status> {
        let wait = request.wait.and_then(|wait| Duration::try_from(wait).ok());
        let mut request = Request::new(request);
        request.set_timeout(wait.unwrap_or_default() + CALL_TIMEOUT);
        Ok(self.service.clone().lease_tasks(request).await?.into_inner().leases)
    }

    /// Reports progress, keeps leases, and learns what is wanted of each.
    ///
    /// # Errors
    ///
    /// The server's refusal of the call; those of single reports are in the answers.
    pub async fn report(
        &self,
        reports: Vec<report_tasks_request::Report>,
    ) -> Result<Vec<report_tasks_response::Answer>, Status> {
        let request = timed(ReportTasksRequest { reports });
        Ok(self.service.clone().report_tasks(request).await?.into_inner().answers)
    }

    /// Ends attempts.
    ///
    /// # Errors
    ///
    /// The server's refusal of the call; those of single outcomes are in the answers.
    pub async fn finish(
        &self,
        outcomes: Vec<finish_tasks_request::Outcome>,
    ) -> Result<Vec<tonic_types::Status>, Status> {
        let request = timed(FinishTasksRequest { outcomes });
        Ok(self.service.clone().finish_tasks(request).await?.into_inner().statuses)
    }
}
