//! google.longrunning.Operations over a real socket: each call, what it refuses and
//! how; waits and the pollers of others have files of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "operations/pollers.rs"]
mod pollers;
mod support;
#[path = "operations/waits.rs"]
mod waits;

use prost::Message;
use serde_json::json;
use support::{Client, Server, ask, create, follow, get, to_the_end, update, value};
use taskwatch::proto::{
    RetryPolicy, Task,
    longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operation::Result as End,
        operations_client::OperationsClient,
    },
    task::State,
};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt;

type Operations = OperationsClient<Channel>;

/// On a connection of its own.
async fn operations(server: &Server) -> Operations {
    OperationsClient::connect(server.url()).await.expect("it listens")
}

/// An external task of this id, whose owner is the test.
async fn external(client: &mut Client, id: &str) -> String {
    let mut request = create("external", json!(null));
    request.task_id = id.to_owned();
    client.create_task(request).await.unwrap().into_inner().name
}

/// Ends an external task, with this result.
async fn succeed(client: &mut Client, name: &str, result: serde_json::Value) {
    ask(client, name, State::Running).await.unwrap();
    let end = Task {
        name: name.to_owned(),
        state: State::Succeeded.into(),
        result: Some(value(result)),
        ..Default::default()
    };
    client.update_task(update(end, &["state", "result"])).await.unwrap();
}

async fn look(operations: &mut Operations, name: &str) -> Operation {
    let request = GetOperationRequest { name: name.to_owned() };
    operations.get_operation(request).await.expect(name).into_inner()
}

async fn cancel(operations: &mut Operations, name: &str) -> Result<(), Status> {
    let request = CancelOperationRequest { name: name.to_owned() };
    operations.cancel_operation(request).await.map(Response::into_inner)
}

async fn delete(operations: &mut Operations, name: &str) -> Result<(), Status> {
    let request = DeleteOperationRequest { name: name.to_owned() };
    operations.delete_operation(request).await.map(Response::into_inner)
}

/// A wait of at most so many milliseconds, or as long as it takes.
fn wait(name: &str, millis: Option<i32>) -> WaitOperationRequest {
    let timeout = millis.map(|millis| prost_types::Duration {
        seconds: i64::from(millis / 1_000),
        nanos: millis % 1_000 * 1_000_000,
    });
    WaitOperationRequest { name: name.to_owned(), timeout }
}

/// The task that an operation has as its metadata.
fn metadata(operation: &Operation) -> Task {
    let metadata = operation.metadata.as_ref().expect("always there");
    assert_eq!(metadata.type_url, "type.googleapis.com/taskwatch.v1.Task");
    Task::decode(&metadata.value[..]).expect("a task")
}

fn response(operation: &Operation) -> prost_types::Value {
    let Some(End::Response(response)) = &operation.result else { panic!("{operation:?}") };
    assert!(operation.done);
    assert_eq!(response.type_url, "type.googleapis.com/google.protobuf.Value");
    prost_types::Value::decode(&response.value[..]).expect("a value")
}

fn error(operation: &Operation) -> (i32, &str) {
    let Some(End::Error(error)) = &operation.result else { panic!("{operation:?}") };
    assert!(operation.done);
    (error.code, &error.message)
}

/// Refused with this code and the details that are due.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> Status {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("an ErrorInfo").domain, "taskwatch");
    status
}

/// Refused as bad input, and the path of the field is named.
fn names<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) -> Status {
    let status = refused(answer, Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    assert!(violations.iter().any(|violation| violation.field == field), "{violations:?}");
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_its_task() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);

    let task = external(&mut client, "a").await;
    ask(&mut client, &task, State::Running).await.unwrap();
    let live = look(&mut operations, "operations/a").await;
    assert_eq!((live.name.as_str(), live.done, &live.result), ("operations/a", false, &None));
    let shown = metadata(&live);
    assert_eq!((shown.name.as_str(), shown.state()), ("tasks/a", State::Running));
    assert_eq!(shown.revision, get(&mut client, &task).await.unwrap().revision);

    succeed(&mut client, &task, json!({"rows": 4})).await;
    let ended = look(&mut operations, "operations/a").await;
    assert_eq!(response(&ended), value(json!({"rows": 4})));
    assert_eq!(metadata(&ended).state(), State::Succeeded);

    let task = external(&mut client, "b").await;
    ask(&mut client, &task, State::Running).await.unwrap();
    let failed = Task {
        name: task,
        state: State::Failed.into(),
        error: Some(tonic_types::Status { code: 5, message: "no disk".into(), details: vec![] }),
        ..Default::default()
    };
    client.update_task(update(failed, &["state", "error"])).await.unwrap();
    assert_eq!(error(&look(&mut operations, "operations/b").await), (5, "no disk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_failed_is_not_the_end() {
    let server = Server::start().await;
    let mut request = create("demo", json!({"steps": 2, "step_seconds": 0.01, "fail_at": 1}));
    let backoff = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    request.task.as_mut().unwrap().retry_policy = Some(RetryPolicy {
        max_attempts: 9,
        initial_backoff: backoff,
        max_backoff: backoff,
        ..Default::default()
    });
    request.task_id = "a".into();
    server.client().create_task(request).await.unwrap();
    follow(&server.address, "tasks/a", |task| {
        task.state() == State::Queued && task.error.is_some()
    })
    .await;
    let operation = look(&mut operations(&server).await, "operations/a").await;
    assert_eq!((operation.done, &operation.result), (false, &None));
    assert!(metadata(&operation).error.is_some(), "which can be seen in its metadata");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_none_and_names_of_nothing() {
    let server = Server::start().await;
    let mut operations = operations(&server).await;
    for bad in ["", "a", "tasks/a", "operations/", "operations", "operations/a/b", "operations/-"] {
        let request = GetOperationRequest { name: bad.to_owned() };
        let status = names(operations.get_operation(request).await, "name");
        assert!(status.message().contains("operations/{task}"), "{}", status.message());
        names(cancel(&mut operations, bad).await, "name");
        names(delete(&mut operations, bad).await, "name");
        names(operations.wait_operation(wait(bad, None)).await, "name");
        let list = ListOperationsRequest { name: bad.to_owned(), ..Default::default() };
        if bad != "operations" {
            names(operations.list_operations(list).await, "name");
        }
    }
    let none = "operations/none".to_owned();
    let answers = [
        operations.get_operation(GetOperationRequest { name: none.clone() }).await.map(drop),
        cancel(&mut operations, &none).await,
        delete(&mut operations, &none).await,
        operations.wait_operation(wait(&none, None)).await.map(drop),
        operations.wait_operation(wait(&none, Some(0))).await.map(drop),
    ];
    for answer in answers {
        let details = refused(answer, Code::NotFound).get_error_details();
        let resource = details.resource_info().expect("a ResourceInfo");
        assert_eq!(resource.resource_type, "google.longrunning.Operation");
        assert_eq!(resource.resource_name, none);
    }
}

async fn list(
    operations: &mut Operations,
    filter: &str,
    page_size: i32,
    page_token: &str,
) -> Result<ListOperationsResponse, Status> {
    let request = ListOperationsRequest {
        name: "operations".into(),
        filter: filter.into(),
        page_size,
        page_token: page_token.into(),
        return_partial_success: false,
    };
    Ok(operations.list_operations(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_page_by_page() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    for id in ["a", "b", "c", "d", "e"] {
        external(&mut client, id).await;
    }
    ask(&mut client, "tasks/b", State::Cancelled).await.unwrap();

    let filter = "state = QUEUED";
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&mut operations, filter, 3, &token).await.unwrap();
        found.extend(page.operations.into_iter().map(|operation| operation.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = list(&mut operations, "state = CANCELLED", 3, &token).await;
        names(other, "page_token");
    }
    assert_eq!(found, ["operations/e", "operations/d", "operations/c", "operations/a"]);
    let ended = list(&mut operations, "state = CANCELLED", 0, "").await.unwrap();
    assert_eq!(error(&ended.operations[0]), (1, "operations/b was cancelled"));

    names(list(&mut operations, "colour = 1", 0, "").await, "filter");
    names(list(&mut operations, "", -1, "").await, "page_size");
    names(list(&mut operations, "", 0, "garbage").await, "page_token");
    let partial = ListOperationsRequest {
        name: "operations".into(),
        return_partial_success: true,
        ..Default::default()
    };
    refused(operations.list_operations(partial).await, Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_results_fits_into_a_message() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    let large = "x".repeat((1 << 20) - 100);
    for number in 0..4 {
        let name = external(&mut client, &number.to_string()).await;
        succeed(&mut client, &name, json!(large)).await;
    }
    let (mut found, mut token) = (0, String::new());
    while found < 4 {
        let page = list(&mut operations, "", 0, &token).await.unwrap();
        found += page.operations.len();
        assert_eq!(response(&page.operations[0]), value(json!(large)));
        token = page.next_page_token;
    }
    assert_eq!(token, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    external(&mut client, "a").await;
    cancel(&mut operations, "operations/a").await.unwrap();
    let cancelled = look(&mut operations, "operations/a").await;
    assert_eq!(error(&cancelled), (1, "operations/a was cancelled"));
    cancel(&mut operations, "operations/a").await.expect("asked again");
    assert_eq!(look(&mut operations, "operations/a").await, cancelled);

    // One that has ended before: a try that came too late, and changes nothing.
    let name = external(&mut client, "b").await;
    succeed(&mut client, &name, json!(1)).await;
    let ended = look(&mut operations, "operations/b").await;
    cancel(&mut operations, "operations/b").await.expect("completed despite it");
    assert_eq!(look(&mut operations, "operations/b").await, ended);

    // One that runs is told to stop.
    let mut request = create("demo", json!({"steps": 10_000, "step_seconds": 0.05}));
    request.task_id = "c".into();
    client.create_task(request).await.unwrap();
    follow(&server.address, "tasks/c", |task| task.state() == State::Running).await;
    cancel(&mut operations, "operations/c").await.unwrap();
    to_the_end(&server.address, "tasks/c").await;
    assert_eq!(error(&look(&mut operations, "operations/c").await).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting() {
    let server = Server::start().await;
    let (mut client, mut operations) = (server.client(), operations(&server).await);
    let name = external(&mut client, "a").await;
    let live = refused(delete(&mut operations, "operations/a").await, Code::FailedPrecondition);
    assert!(live.message().starts_with("operations/a is QUEUED"), "{}", live.message());
    let details = live.get_error_details();
    let violations = &details.precondition_failure().expect("a PreconditionFailure").violations;
    assert_eq!(violations[0].subject, "operations/a");
    cancel(&mut operations, "operations/a").await.unwrap();
    delete(&mut operations, "operations/a").await.unwrap();
    assert_eq!(get(&mut client, &name).await.unwrap_err().code(), Code::NotFound);
    refused(delete(&mut operations, "operations/a").await, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_finds_it_by_reflection() {
    let server = Server::start().await;
    let mut request = create("demo", json!({"steps": 2, "step_seconds": 0.01}));
    request.task_id = "first".into();
    server.client().create_task(request).await.unwrap();
    let call = async |message: &str, method: &str| {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/grpcurl");
        let output = tokio::process::Command::new(program)
            .args(["-plaintext", "-max-time", "60", "-d", message, &server.address, method])
            .output()
            .await
            .expect("grpcurl is not installed: run `make tools`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let wait = r#"{"name": "operations/first", "timeout": "60s"}"#;
    let operation = call(wait, "google.longrunning.Operations/WaitOperation").await;
    assert_eq!(
        (&operation["name"], &operation["done"]),
        (&json!("operations/first"), &json!(true))
    );
    assert_eq!(operation["metadata"]["state"], "SUCCEEDED");
    assert_eq!(operation["response"]["value"], json!({"steps": 2}));
    let health = r#"{"service": "google.longrunning.Operations"}"#;
    let health = call(health, "grpc.health.v1.Health/Check").await;
    assert_eq!(health, json!({"status": "SERVING"}));
}
