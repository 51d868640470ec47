//! What callers are told when they are wrong, over a real socket and a real database.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use prost_types::{FieldMask, ListValue, Struct, Value, value::Kind};
use taskwatch::{
    config::{Config, RunnerConfig},
    domain::KindDefaults,
    proto::{
        self, task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
    },
    runner::Handlers,
    server::Server,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        database: format!("sqlite://{}", dir.path().join("tasks.db").display()),
        grace: Duration::from_secs(5),
        retention: Duration::from_secs(3_600),
        retry: KindDefaults::default(),
        runner: RunnerConfig {
            concurrency: 0,
            lease: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        },
        accept_unknown: false,
        kinds: BTreeMap::new(),
        queues: BTreeMap::new(),
        ..Config::default()
    };
    let server = Server::bind(config, Handlers::none()).await.expect("starts");
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(async move {
        let shutdown = async {
            // Dropped is told as well.
            let _told = stopped.await;
        };
        server.run(shutdown).await.expect("runs");
    });
    Running { address, stop, server, _dir: dir }
}

impl Running {
    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address));
        endpoint.expect("an address").connect().await.expect("it is open")
    }

    async fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel().await)
    }

    async fn stop(self) {
        self.stop.send(()).expect("still there");
        self.server.await.expect("drains");
    }
}

fn refused<T>(answer: Result<T, Status>, code: Code, reason: &str) -> Status {
    let Err(status) = answer else { panic!("must be refused") };
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("always there");
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("taskwatch", reason));
    status
}

fn invalid<T>(answer: Result<T, Status>) -> Vec<String> {
    let details = refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT").get_error_details();
    let bad = details.bad_request().expect("has its violations");
    bad.field_violations.iter().map(|violation| violation.field.clone()).collect()
}

fn external() -> proto::CreateTaskRequest {
    proto::CreateTaskRequest {
        task: Some(proto::Task { kind: "external".into(), ..Default::default() }),
        task_id: "a".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_violation_is_told_with_its_path() {
    let server = start().await;
    let mut tasks = server.tasks().await;
    let labels = [("a\0b".to_owned(), String::new())].into();
    let bad = proto::Task { kind: "no spaces".into(), priority: 101, labels, ..Default::default() };
    let bad = proto::CreateTaskRequest { task: Some(bad), ..Default::default() };
    let fields = ["task.kind", "task.priority", "task.labels[\"a\\0b\"]"];
    assert_eq!(invalid(tasks.create_task(bad.clone()).await), fields);
    let batch = proto::BatchCreateTasksRequest { requests: vec![external(), bad] };
    let fields = fields.map(|field| format!("requests[1].{field}"));
    assert_eq!(invalid(tasks.batch_create_tasks(batch).await), fields);
    // Nothing of the batch was created.
    let get = proto::GetTaskRequest { name: "tasks/a".into(), ..Default::default() };
    refused(tasks.get_task(get).await, Code::NotFound, "NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn names_masks_tokens_and_orders() {
    let server = start().await;
    let mut tasks = server.tasks().await;
    let get = proto::GetTaskRequest { name: "a".into(), view: 9 };
    assert_eq!(invalid(tasks.get_task(get).await), ["name", "view"]);
    let list = proto::ListTasksRequest {
        page_size: -1,
        page_token: "garbage".into(),
        ..Default::default()
    };
    assert_eq!(invalid(tasks.list_tasks(list).await), ["page_size", "page_token"]);
    let list = proto::ListTasksRequest {
        filter: "state =".into(),
        order_by: "nonsense".into(),
        ..Default::default()
    };
    assert_eq!(invalid(tasks.list_tasks(list).await), ["filter", "order_by"]);
    let update = proto::UpdateTaskRequest {
        task: Some(proto::Task { name: "tasks/a".into(), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["bogus".into(), "state".into()] }),
    };
    assert_eq!(invalid(tasks.update_task(update).await), ["update_mask", "task.state"]);
    server.stop().await;
}

#[tokio::test]
async fn the_details_say_what_a_program_needs() {
    let server = start().await;
    let mut tasks = server.tasks().await;
    tasks.create_task(external()).await.expect("fine");
    let again = tasks.create_task(external()).await;
    let details = refused(again, Code::AlreadyExists, "ALREADY_EXISTS").get_error_details();
    assert_eq!(details.resource_info().expect("there").resource_name, "tasks/a");
    let delete = proto::DeleteTaskRequest { name: "tasks/a".into(), ..Default::default() };
    let status = tasks.delete_task(delete).await.expect_err("it is live");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    assert_eq!(details.precondition_failure().expect("there").violations[0].subject, "tasks/a");
    let watch = proto::WatchTaskRequest { name: "tasks/none".into(), ..Default::default() };
    let details = refused(tasks.watch_task(watch).await, Code::NotFound, "NOT_FOUND");
    let details = details.get_error_details();
    assert_eq!(details.resource_info().expect("there").resource_name, "tasks/none");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_the_caller_s_fault() {
    let server = start().await;
    let mut tasks = server.tasks().await;
    let list = |value| Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) };
    let nested = |depth| {
        let value = (0..depth).fold(Value { kind: Some(Kind::BoolValue(true)) }, |v, _| list(v));
        let input = Some(Struct { fields: [("a".to_owned(), value)].into() });
        let task = proto::Task { kind: "external".into(), input, ..Default::default() };
        proto::CreateTaskRequest { task: Some(task), ..Default::default() }
    };
    tasks.create_task(nested(15)).await.expect("sixteen deep");
    assert_eq!(invalid(tasks.create_task(nested(16)).await), ["task.input"]);
    // Deeper than can be decoded at all.
    let deep = tasks.create_task(nested(60)).await;
    let deep = refused(deep, Code::InvalidArgument, "MALFORMED_MESSAGE");
    let told = "the request cannot be read: it is nested too deeply, make it flatter";
    assert!(deep.message().starts_with(told), "{deep:?}");
    let task = proto::Task { kind: "x".repeat(5 << 20), ..Default::default() };
    let large = proto::CreateTaskRequest { task: Some(task), ..Default::default() };
    refused(tasks.create_task(large).await, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    server.stop().await;
}

#[tokio::test]
async fn workers_are_told_as_well() {
    let server = start().await;
    let mut worker = WorkerServiceClient::new(server.channel().await);
    let lease = proto::LeaseTasksRequest { kinds: vec!["external".into()], ..Default::default() };
    assert_eq!(invalid(worker.lease_tasks(lease).await), ["worker", "kinds[0]"]);
    let report = |name: &str| proto::report_tasks_request::Report {
        name: name.into(),
        lease_token: "stale".into(),
        ..Default::default()
    };
    let reports = vec![report("nonsense"), report("tasks/a")];
    let answers = worker.report_tasks(proto::ReportTasksRequest { reports }).await;
    let codes: Vec<i32> = answers
        .expect("each by itself")
        .into_inner()
        .answers
        .into_iter()
        .map(|answer| answer.error.map_or(0, |error| error.code))
        .collect();
    assert_eq!(codes, [Code::InvalidArgument as i32, Code::Aborted as i32]);
    server.stop().await;
}
