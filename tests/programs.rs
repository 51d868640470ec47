//! Configured programs through the server: input, progress, result, failure,
//! cancel, and that nothing of them outlives the server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::path::PathBuf;

use rustix::process::{Pid, test_kill_process};
use serde_json::json;
use support::{PATIENCE, Server, ask, create, follow, to_the_end, value};
use taskwatch::proto::task::State;
use tokio::time::{Duration, Instant, sleep};

const PROGRAMS: &str = r#"
[kinds.greet]
command = ["sh", "-c", 'echo "{\"percent\": 50, \"message\": \"hello $0\"}"; echo "{\"result\": {\"name\": \"$0\"}}"', "{input.name}"]

[kinds.copy]
command = ["sh", "-c", 'printf "  10%%\r  70%%\r"; cat']

[kinds.fail]
command = ["sh", "-c", "echo no such disk >&2; exit 3"]
max_attempts = 1

[kinds.absent]
command = ["/no/such/program"]

[kinds.family]
command = ["sh", "-c", 'sleep 1000 & sleep 1000 & echo "{\"checkpoint\": {\"pids\": [$$, $!]}, \"message\": \"up\"}"; wait']
max_attempts = 1
"#;

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_every_kind() {
    let server = Server::configured(PROGRAMS).await;
    let mut client = server.client();
    let mut run = async |kind: &str, input| {
        let task = client.create_task(create(kind, input)).await.expect(kind).into_inner();
        to_the_end(&server.address, &task.name).await
    };
    // No shell sees the input, whatever it holds.
    let greeted = run("greet", json!({"name": "a $(b) c"})).await;
    assert_eq!(greeted.state(), State::Succeeded, "{:?}", greeted.error);
    assert_eq!(greeted.result, Some(value(json!({"name": "a $(b) c"}))));
    let copied = run("copy", json!({"x": 1})).await;
    assert_eq!(copied.state(), State::Succeeded, "{:?}", copied.error);
    let failed = run("fail", json!(null)).await;
    assert_eq!(failed.state(), State::Failed);
    assert!(failed.error.unwrap().message.contains("no such disk"));
    let absent = run("absent", json!(null)).await;
    assert_eq!((absent.state(), absent.attempt), (State::Failed, 1), "permanent");
    let lacking = run("greet", json!({"other": 1})).await;
    assert_eq!(lacking.error.unwrap().code, tonic::Code::InvalidArgument as i32);
}

/// A family of processes that has come up, and its ids.
async fn family(server: &Server) -> (String, Vec<Pid>) {
    let mut client = server.client();
    let task = client.create_task(create("family", json!(null))).await.unwrap().into_inner();
    follow(&server.address, &task.name, |task| {
        task.progress.as_ref().is_some_and(|progress| progress.message == "up")
    })
    .await;
    let task = support::get(&mut client, &task.name).await.unwrap();
    let pids = task.checkpoint.expect("pids").fields.remove("pids").expect("pids");
    let Some(prost_types::value::Kind::ListValue(list)) = pids.kind else { panic!("{pids:?}") };
    let pids = list.values.iter().map(|pid| match pid.kind {
        Some(prost_types::value::Kind::NumberValue(pid)) => Pid::from_raw(pid as i32).unwrap(),
        ref other => panic!("{other:?}"),
    });
    (task.name, pids.collect())
}

/// Waits until none of them runs: gone, or a zombie that nobody has reaped yet.
async fn all_gone(pids: &[Pid]) {
    let deadline = Instant::now() + PATIENCE;
    let runs = |pid: &Pid| {
        let path = PathBuf::from(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        test_kill_process(*pid).is_ok()
            && std::fs::read_to_string(path).is_ok_and(|stat| !stat.contains(") Z "))
    };
    while pids.iter().any(runs) {
        assert!(Instant::now() < deadline, "they outlived it: {pids:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_whole_family() {
    let server = Server::configured(PROGRAMS).await;
    let (name, pids) = family(&server).await;
    ask(&mut server.client(), &name, State::Cancelled).await.unwrap();
    assert_eq!(to_the_end(&server.address, &name).await.state(), State::Cancelled);
    all_gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_survives_a_killed_server() {
    let mut server = Server::configured(PROGRAMS).await;
    let (name, pids) = family(&server).await;
    server.kill();
    all_gone(&pids).await;
    server.start_again().await;
    let end = to_the_end(&server.address, &name).await;
    assert_eq!(end.state(), State::Failed, "its only attempt died with the server");
}
