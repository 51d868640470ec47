//! Google's own pollers, in Python and in Go, follow tasks that they take for
//! operations. The programs stand beside this file; `make tools` builds them.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use taskwatch::proto::{CreateTaskRequest, RetryPolicy, Task, task::State};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::support::{Client, PATIENCE, Server, create, follow, update};

fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/operations")
}

fn python() -> Command {
    let mut command = Command::new(tools().join("python/bin/python"));
    command.arg(tools().join("follow.py"));
    command
}

fn go() -> Command {
    Command::new(tools().join("follow-go"))
}

/// A poller at work.
struct Poller {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Poller {
    fn start(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}: run `make tools`"));
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// What it prints next.
    async fn says(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        let line = line.expect("readable").expect("a line before it ends; see what it said above");
        serde_json::from_str(&line).expect("JSON")
    }

    async fn ends(mut self) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("an end in time");
        assert!(status.expect("waited for").success());
    }
}

/// Long before the end of the test.
fn later() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 })
}

/// Creates a task that begins only when `release` lets it.
async fn held(client: &mut Client, id: &str, input: Value) {
    let mut request = create("demo", input);
    let task = request.task.as_mut().expect("set");
    task.schedule_time = later();
    task.retry_policy = Some(RetryPolicy { max_attempts: 1, ..Default::default() });
    let request = CreateTaskRequest { task_id: id.to_owned(), ..request };
    client.create_task(request).await.expect("created");
}

async fn release(client: &mut Client, id: &str) {
    let task = Task { name: format!("tasks/{id}"), ..Default::default() };
    client.update_task(update(task, &["schedule_time"])).await.expect("updated");
}

async fn to_success(server: &Server, poller: Command) {
    let mut client = server.client();
    held(&mut client, "good", json!({"steps": 3, "step_seconds": 0.05})).await;
    let mut poller = Poller::start(poller, &[&server.address, "operations/good"]);
    assert_eq!(poller.says().await, json!({"done": false, "state": "QUEUED"}));
    release(&mut client, "good").await;
    let end = poller.says().await;
    assert_eq!((&end["done"], &end["state"]), (&json!(true), &json!("SUCCEEDED")));
    assert_eq!(end["response"]["steps"].as_f64(), Some(3.0), "{end}");
    poller.ends().await;
}

async fn to_failure(server: &Server, poller: Command) {
    let mut client = server.client();
    held(&mut client, "bad", json!({"steps": 3, "step_seconds": 0.05, "fail_at": 2})).await;
    let mut poller = Poller::start(poller, &[&server.address, "operations/bad"]);
    assert_eq!(poller.says().await["done"], false);
    release(&mut client, "bad").await;
    let end = poller.says().await;
    let error = crate::get(&mut client, "tasks/bad").await.expect("kept").error.expect("it failed");
    assert_eq!((&end["done"], &end["state"]), (&json!(true), &json!("FAILED")));
    assert_eq!(end["message"], json!(error.message));
    assert_eq!(end["code"], json!(error.code));
    assert_ne!(end["cancelled"], true);
    poller.ends().await;
}

async fn to_cancellation(server: &Server, poller: Command) {
    let mut client = server.client();
    held(&mut client, "long", json!({"steps": 100_000, "step_seconds": 0.05})).await;
    release(&mut client, "long").await;
    follow(&server.address, "tasks/long", |task| task.state() == State::Running).await;
    let mut poller = Poller::start(poller, &["--cancel", &server.address, "operations/long"]);
    assert_eq!(poller.says().await, json!({"done": false, "state": "RUNNING"}));
    let end = poller.says().await;
    assert_eq!((&end["done"], &end["state"]), (&json!(true), &json!("CANCELLED")));
    assert_eq!(end["message"], "operations/long was cancelled");
    assert_eq!(end["code"], 1);
    // Only Python's has a word for it.
    assert_ne!(end["cancelled"], false);
    poller.ends().await;
}

async fn follows(poller: fn() -> Command) {
    let server = Server::start().await;
    tokio::join!(
        to_success(&server, poller()),
        to_failure(&server, poller()),
        to_cancellation(&server, poller()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn google_api_core_follows_tasks() {
    follows(python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_longrunning_client_follows_tasks() {
    follows(go).await;
}
