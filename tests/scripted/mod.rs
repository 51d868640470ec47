//! A server that does what a test tells it to, over a real socket: for what the
//! real one does only when something breaks.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use taskwatch::proto::{
    task_service_server::{TaskService, TaskServiceServer},
    *,
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status};

/// What one WatchTask call is answered with: states, then an end; no end means that
/// it stays open.
#[derive(Clone, Debug)]
pub struct Answer {
    pub states: Vec<Task>,
    pub end: Option<Result<(), Status>>,
}

/// What the server answers, and what it was asked.
#[derive(Clone, Default)]
pub struct Script {
    pub task: Arc<Mutex<Option<Result<Task, Status>>>>,
    pub pages: Arc<Mutex<VecDeque<ListTasksResponse>>>,
    pub watches: Arc<Mutex<VecDeque<Answer>>>,
    pub watched: Arc<Mutex<Vec<WatchTaskRequest>>>,
    pub created: Arc<Mutex<Vec<CreateTaskRequest>>>,
    pub updated: Arc<Mutex<Vec<UpdateTaskRequest>>>,
    pub listed: Arc<Mutex<Vec<ListTasksRequest>>>,
}

impl Script {
    pub fn with_task(task: Result<Task, Status>) -> Self {
        let script = Self::default();
        *script.task.lock().expect("not poisoned") = Some(task);
        script
    }

    pub fn watch(&self, answer: Answer) -> &Self {
        self.watches.lock().expect("not poisoned").push_back(answer);
        self
    }

    /// Serves on a free port, until the test's runtime ends.
    pub async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let service = TaskServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }

    fn answer(&self) -> Result<Response<Task>, Status> {
        let task = self.task.lock().expect("not poisoned").clone();
        task.unwrap_or_else(|| Err(Status::unimplemented("not scripted"))).map(Response::new)
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

#[tonic::async_trait]
impl TaskService for Script {
    async fn create_task(&self, r: Request<CreateTaskRequest>) -> Result<Response<Task>, Status> {
        self.created.lock().expect("not poisoned").push(r.into_inner());
        self.answer()
    }

    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        self.answer()
    }

    async fn update_task(&self, r: Request<UpdateTaskRequest>) -> Result<Response<Task>, Status> {
        self.updated.lock().expect("not poisoned").push(r.into_inner());
        self.answer()
    }

    async fn list_tasks(
        &self,
        r: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        self.listed.lock().expect("not poisoned").push(r.into_inner());
        let page = self.pages.lock().expect("not poisoned").pop_front();
        page.map(Response::new).ok_or_else(|| Status::unimplemented("not scripted"))
    }

    type WatchTaskStream = Frames;
    async fn watch_task(&self, r: Request<WatchTaskRequest>) -> Result<Response<Frames>, Status> {
        self.watched.lock().expect("not poisoned").push(r.into_inner());
        let answer = self.watches.lock().expect("not poisoned").pop_front();
        let Some(Answer { states, end }) = answer else {
            return Err(Status::unavailable("not scripted"));
        };
        let states = states
            .into_iter()
            .map(|task| Ok(Frame::new(&WatchEvent { task: Some(task), ..WatchEvent::default() })));
        let states = tokio_stream::iter(states);
        let stream: Frames = match end {
            Some(Ok(())) => Box::pin(states),
            Some(Err(status)) => Box::pin(states.chain(tokio_stream::once(Err(status)))),
            None => Box::pin(states.chain(tokio_stream::pending())),
        };
        Ok(Response::new(stream))
    }

    type WatchTasksStream = Frames;
    async fn watch_tasks(&self, _: Request<WatchTasksRequest>) -> Result<Response<Frames>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn batch_create_tasks(
        &self,
        _: Request<BatchCreateTasksRequest>,
    ) -> Result<Response<BatchCreateTasksResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn delete_task(&self, _: Request<DeleteTaskRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_attempts(
        &self,
        _: Request<ListAttemptsRequest>,
    ) -> Result<Response<ListAttemptsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_kinds(
        &self,
        _: Request<ListKindsRequest>,
    ) -> Result<Response<ListKindsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn update_queue(
        &self,
        _: Request<UpdateQueueRequest>,
    ) -> Result<Response<Queue>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// A task that has everything.
pub fn full_task() -> Task {
    use taskwatch::domain::{Object, Value};
    let object = |json: serde_json::Value| {
        let object = Object::from_json(json.as_object().expect("an object"));
        prost::Message::decode(object.encoded().clone()).expect("a Struct")
    };
    let at = |seconds: i64, nanos: i32| {
        Some(prost_types::Timestamp { seconds: 1_700_000_000 + seconds, nanos })
    };
    let result = Value::from_json(&serde_json::json!({"lines": 7, "ok": true}));
    let mut status = tonic_types::Status {
        code: 14,
        message: "the end of its lease".into(),
        details: vec![prost_types::Any {
            type_url: "type.example.com/some.Unknown".into(),
            value: vec![1, 2, 3],
        }],
    };
    status.details.insert(
        0,
        prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
            value: prost::Message::encode_to_vec(&tonic_types::pb::ErrorInfo {
                reason: "LEASE_LOST".into(),
                domain: "taskwatch".into(),
                metadata: Default::default(),
            }),
        },
    );
    Task {
        name: "tasks/report-7".into(),
        kind: "report".into(),
        input: Some(object(serde_json::json!({"month": 5, "to": ["a", null]}))),
        state: task::State::Succeeded.into(),
        progress: Some(Progress {
            percent: Some(100.0),
            message: "written".into(),
            completed_units: 7,
            total_units: 7,
            unit: "lines".into(),
            details: Some(object(serde_json::json!({"page": 1.5}))),
            update_time: at(9, 500_000_000),
            estimated_end_time: None,
        }),
        result: Some(prost::Message::decode(result.encoded().clone()).expect("a Value")),
        error: Some(status),
        create_time: at(0, 0),
        start_time: at(1, 1_000),
        end_time: at(10, 0),
        update_time: at(10, 0),
        revision: 9_007_199_254_740_993,
        attempt: 2,
        worker: "worker-1".into(),
        queue: "nightly".into(),
        priority: -5,
        labels: [("env".into(), "prod".into()), ("odd key".into(), "\u{1b}[2J".into())].into(),
        schedule_time: at(-60, 0),
        retry_policy: Some(RetryPolicy {
            max_attempts: 3,
            initial_backoff: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            max_backoff: Some(prost_types::Duration { seconds: 60, nanos: 500_000_000 }),
            backoff_multiplier: 2.0,
        }),
        attempt_timeout: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        retention: None,
        checkpoint: Some(object(serde_json::json!({"line": 3}))),
    }
}

/// A state on the way; `revision` 9 or more has ended.
pub fn state(revision: i64) -> Task {
    let ended = revision >= 9;
    Task {
        name: "tasks/a".into(),
        revision,
        attempt: 1,
        state: if ended { task::State::Succeeded } else { task::State::Running }.into(),
        end_time: ended.then(prost_types::Timestamp::default),
        progress: Some(Progress { message: format!("step {revision}"), ..Progress::default() }),
        ..Task::default()
    }
}
