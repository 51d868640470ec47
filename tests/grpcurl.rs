//! A real client that shares no code with the server: grpcurl, which learns the
//! schema by reflection. The calls are of the kind that the README shows.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{path::PathBuf, process::Output};

use serde_json::{Value, json};
use support::Server;
use tokio::process::Command;

/// Runs one call as it can be pasted.
async fn grpcurl(server: &Server, call: &[&str]) -> Output {
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/grpcurl");
    let program = if installed.exists() { installed } else { "grpcurl".into() };
    let (options, method) = call.split_at(call.len() - 1);
    Command::new(program)
        .args(["-plaintext", "-max-time", "60"])
        .args(options)
        .arg(&server.address)
        .args(method[0].split(' '))
        .output()
        .await
        .expect("grpcurl is not installed: run `make tools`, or `make test`")
}

/// The messages that a call answers, in order.
fn messages(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_finds_everything_by_reflection() {
    let server = Server::start().await;
    let list = grpcurl(&server, &["list"]).await;
    let services = String::from_utf8(list.stdout).unwrap();
    for service in ["taskwatch.v1.TaskService", "grpc.health.v1.Health"] {
        assert!(services.contains(service), "{services}");
    }
    let method = grpcurl(&server, &["describe taskwatch.v1.TaskService.WatchTask"]).await;
    assert!(String::from_utf8(method.stdout).unwrap().contains("stream"));
    let health = grpcurl(&server, &["grpc.health.v1.Health/Check"]).await;
    assert_eq!(messages(&health), [json!({"status": "SERVING"})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_created_watched_and_changed() {
    let server = Server::start().await;
    let create = r#"{"task_id": "first", "task": {"kind": "demo", "input": {"steps": 3, "step_seconds": 0.05}}}"#;
    let created = grpcurl(&server, &["-d", create, "taskwatch.v1.TaskService/CreateTask"]).await;
    assert_eq!(messages(&created)[0]["name"], "tasks/first");

    let watch = r#"{"name": "tasks/first"}"#;
    let watched = grpcurl(&server, &["-d", watch, "taskwatch.v1.TaskService/WatchTask"]).await;
    let states = messages(&watched);
    let last = &states.last().expect("a state")["task"];
    assert_eq!(last["state"], "SUCCEEDED");
    assert_eq!(last["result"], json!({"steps": 3}));

    let create = r#"{"task_id": "mine", "task": {"kind": "external"}}"#;
    grpcurl(&server, &["-d", create, "taskwatch.v1.TaskService/CreateTask"]).await;
    let update =
        r#"{"task": {"name": "tasks/mine", "state": "CANCELLED"}, "update_mask": "state"}"#;
    let updated = grpcurl(&server, &["-d", update, "taskwatch.v1.TaskService/UpdateTask"]).await;
    assert_eq!(messages(&updated)[0]["state"], "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_rich() {
    let server = Server::start().await;
    let create = r#"{"task": {"kind": "no such kind"}}"#;
    let refused = grpcurl(&server, &["-d", create, "taskwatch.v1.TaskService/CreateTask"]).await;
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("InvalidArgument") && error.contains("task.kind"), "{error}");
    let get = r#"{"name": "tasks/none"}"#;
    let missing = grpcurl(&server, &["-d", get, "taskwatch.v1.TaskService/GetTask"]).await;
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("NotFound") && error.contains("tasks/none"), "{error}");
}
