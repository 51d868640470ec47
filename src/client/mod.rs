//! A client: the calls of `TaskService` as Rust functions, and a watch that
//! survives what cuts it.
//!
//! A thin layer over the generated client, for the command line, for the demo and
//! for Rust programs. It must not know of anything inside the server.

mod frames;
mod watch;
mod watch_all;
mod worker;

use std::time::Duration;

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

pub use watch::{Event, Watch, WatchOptions};
pub use watch_all::{Change, WatchAll};
pub use worker::WorkerClient;

use crate::proto::{
    Attempt, CreateTaskRequest, DeleteTaskRequest, GetTaskRequest, Kind, ListAttemptsRequest,
    ListKindsRequest, ListQueuesRequest, ListTasksRequest, ListTasksResponse, Queue, Task,
    TaskView, UpdateQueueRequest, UpdateTaskRequest, task::State,
    task_service_client::TaskServiceClient,
};

/// Where the server is by default.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// How long a unary call may take before it is DEADLINE_EXCEEDED.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A message of the server's: its own limit is 4 MiB, beside which the frame is small.
const MESSAGE_BYTES: usize = 5 << 20;

/// The most attempts that a page may hold.
const ATTEMPTS: i32 = 100;

/// Why there can be no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address.
    #[error("{0:?} is no server address: write it as in \"http://127.0.0.1:50051\"")]
    Malformed(String),
    /// An address that needs what is not there.
    #[error("{0:?}: only http:// is spoken; put TLS into a proxy beside this client")]
    Scheme(String),
}

/// Calls a server. Cheap to clone; all clones share one connection, which is made
/// when it is first needed and made again whenever it is lost.
#[derive(Clone, Debug)]
pub struct Client {
    service: TaskServiceClient<Channel>,
    channel: Channel,
}

impl Client {
    /// A client of the server at `address` (`http://host:port`, or `host:port`).
    /// Connects with the first call. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// An address that is none.
    pub fn connect(address: &str) -> Result<Self, AddressError> {
        let url = match address.split_once("://") {
            Some(("http", _)) => address.to_owned(),
            Some(_) => return Err(AddressError::Scheme(address.to_owned())),
            None => format!("http://{address}"),
        };
        let malformed = || AddressError::Malformed(address.to_owned());
        let endpoint = Endpoint::from_shared(url).map_err(|_| malformed())?;
        if endpoint.uri().authority().is_none_or(|authority| authority.host().is_empty()) {
            return Err(malformed());
        }
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            // A server that vanished without a word is found out while a watch waits.
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = endpoint.connect_lazy();
        let service = TaskServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        Ok(Self { service, channel })
    }

    /// The same connection, for a worker.
    pub fn worker(&self) -> WorkerClient {
        WorkerClient::new(self.channel.clone())
    }

    /// Creates a task; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// The server's refusal, with its details.
    pub async fn create(&self, request: CreateTaskRequest) -> Result<Task, Status> {
        Ok(self.service.clone().create_task(timed(request)).await?.into_inner())
    }

    /// Reads a task.
    ///
    /// # Errors
    ///
    /// The server's refusal: NOT_FOUND where there is none.
    pub async fn get(&self, name: &str, view: TaskView) -> Result<Task, Status> {
        let request = GetTaskRequest { name: name.to_owned(), view: view.into() };
        Ok(self.service.clone().get_task(timed(request)).await?.into_inner())
    }

    /// Reads a page of tasks.
    ///
    /// # Errors
    ///
    /// The server's refusal: INVALID_ARGUMENT where filter or order cannot be read.
    pub async fn list(&self, request: ListTasksRequest) -> Result<ListTasksResponse, Status> {
        Ok(self.service.clone().list_tasks(timed(request)).await?.into_inner())
    }

    /// Changes a task.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn update(&self, request: UpdateTaskRequest) -> Result<Task, Status> {
        Ok(self.service.clone().update_task(timed(request)).await?.into_inner())
    }

    /// Asks for a task to be cancelled. It is then CANCELLED, or CANCELLING until its
    /// worker has stopped.
    ///
    /// # Errors
    ///
    /// The server's refusal: FAILED_PRECONDITION where the task has ended otherwise.
    pub async fn cancel(&self, name: &str) -> Result<Task, Status> {
        self.to_state(name, State::Cancelled).await
    }

    /// Holds a task back, or tells its worker to pause.
    ///
    /// # Errors
    ///
    /// The server's refusal: FAILED_PRECONDITION where the task has ended.
    pub async fn pause(&self, name: &str) -> Result<Task, Status> {
        self.to_state(name, State::Paused).await
    }

    /// Lets a paused task go on.
    ///
    /// # Errors
    ///
    /// The server's refusal: FAILED_PRECONDITION where the task is not paused.
    pub async fn resume(&self, name: &str) -> Result<Task, Status> {
        self.to_state(name, State::Running).await
    }

    /// Queues a task again that FAILED or was CANCELLED.
    ///
    /// # Errors
    ///
    /// The server's refusal: FAILED_PRECONDITION where the task is in another state.
    pub async fn retry(&self, name: &str) -> Result<Task, Status> {
        self.to_state(name, State::Queued).await
    }

    async fn to_state(&self, name: &str, state: State) -> Result<Task, Status> {
        let task = Task { name: name.to_owned(), state: state.into(), ..Task::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
        self.update(UpdateTaskRequest { task: Some(task), update_mask }).await
    }

    /// Removes a task that has ended.
    ///
    /// # Errors
    ///
    /// The server's refusal: NOT_FOUND unless `allow_missing`, FAILED_PRECONDITION where
    /// the task has not ended.
    pub async fn delete(&self, name: &str, allow_missing: bool) -> Result<(), Status> {
        let request = DeleteTaskRequest { name: name.to_owned(), allow_missing };
        self.service.clone().delete_task(timed(request)).await.map(|_empty| ())
    }

    /// The attempts of a task that are kept, oldest first.
    ///
    /// # Errors
    ///
    /// The server's refusal: NOT_FOUND where there is no such task.
    pub async fn attempts(&self, name: &str) -> Result<Vec<Attempt>, Status> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListAttemptsRequest {
                name: name.to_owned(),
                page_size: ATTEMPTS,
                page_token: std::mem::take(&mut page_token),
            };
            let page = self.service.clone().list_attempts(timed(request)).await?.into_inner();
            all.extend(page.attempts);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Every known kind, by name.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn kinds(&self) -> Result<Vec<Kind>, Status> {
        let listed = self.service.clone().list_kinds(timed(ListKindsRequest {})).await?;
        Ok(listed.into_inner().kinds)
    }

    /// Every queue that has live tasks, a limit or a pause, by name.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn queues(&self) -> Result<Vec<Queue>, Status> {
        let listed = self.service.clone().list_queues(timed(ListQueuesRequest {})).await?;
        Ok(listed.into_inner().queues)
    }

    /// Holds a queue back, or lets it go on.
    ///
    /// # Errors
    ///
    /// The server's refusal.
    pub async fn pause_queue(&self, name: &str, paused: bool) -> Result<Queue, Status> {
        let queue = Queue { name: name.to_owned(), paused, ..Queue::default() };
        let request = UpdateQueueRequest { queue: Some(queue), update_mask: None };
        Ok(self.service.clone().update_queue(timed(request)).await?.into_inner())
    }

    /// Follows a task to its end, through restarts of the server. Nothing is sent
    /// before [`Watch::next`] is called.
    pub fn watch(&self, name: &str, options: WatchOptions) -> Watch {
        Watch::new(self.service.clone(), name.to_owned(), options)
    }

    /// Follows all tasks that `filter` matches, through restarts of the server.
    /// Nothing is sent before [`WatchAll::event`] is called;
    /// [`after_revision`](WatchOptions::after_revision) has no meaning here.
    pub fn watch_all(&self, filter: &str, options: &WatchOptions) -> WatchAll {
        WatchAll::new(self.service.clone(), filter.to_owned(), options)
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses() {
        for good in ["http://127.0.0.1:50051", "localhost:50051", "http://[::1]:1"] {
            assert!(Client::connect(good).is_ok(), "{good}");
        }
        for bad in ["https://a:1", "ftp://a", "unix:///a"] {
            assert!(matches!(Client::connect(bad), Err(AddressError::Scheme(_))), "{bad}");
        }
        for bad in ["", "http://", "a b", "http://:1"] {
            assert!(matches!(Client::connect(bad), Err(AddressError::Malformed(_))), "{bad}");
        }
    }
}
