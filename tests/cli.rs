//! The command line as a script uses it: what it prints and how it exits.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Output,
};

use serde_json::Value;
use support::{Server, get, taskwatch};
use taskwatch::proto::task::State;

async fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut command = taskwatch();
    command.args(arguments).env("TASKWATCH_SERVER", server.url());
    tokio::task::spawn_blocking(move || {
        command.stdout(std::process::Stdio::piped()).output().expect("it starts")
    })
    .await
    .expect("it ran")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of the task that an output begins with or holds.
fn task_name(output: &Output) -> String {
    let out = text(&output.stdout);
    let at = out.find("tasks/").unwrap_or_else(|| panic!("{out}{}", text(&output.stderr)));
    out[at..].chars().take_while(|c| c.is_alphanumeric() || "/-_.".contains(*c)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn create_watch_get_and_list() {
    let server = Server::start().await;
    let input = r#"{"steps": 3, "step_seconds": 0.05}"#;
    let done = run(&server, &["create", "demo", "--input", input, "--watch"]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    let shown = text(&done.stdout) + &text(&done.stderr);
    assert!(shown.to_lowercase().contains("succeeded"), "{shown}");

    let created = run(&server, &["create", "demo", "--input", input]).await;
    assert!(created.status.success(), "{}", text(&created.stderr));
    let name = task_name(&created);
    let watched = run(&server, &["watch", &name, "--json"]).await;
    assert!(watched.status.success(), "{}", text(&watched.stderr));
    let out = text(&watched.stdout);
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["state"], "SUCCEEDED", "{out}");

    let got = run(&server, &["get", &name]).await;
    assert!(got.status.success() && text(&got.stdout).contains(&name));
    let list = run(&server, &["list"]).await;
    let id = name.trim_start_matches("tasks/");
    assert!(list.status.success() && text(&list.stdout).contains(id), "{}", text(&list.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_exits_with_a_failure() {
    let server = Server::start().await;
    let missing = run(&server, &["get", "none"]).await;
    assert!(!missing.status.success());
    assert!(text(&missing.stderr).contains("none"), "{}", text(&missing.stderr));
    assert!(!run(&server, &["create", "no-such-kind"]).await.status.success());
    assert!(!run(&server, &["create", "demo", "--input", "{"]).await.status.success());
    let input = r#"{"steps": 1000, "step_seconds": 0.05}"#;
    let name = task_name(&run(&server, &["create", "demo", "--input", input]).await);
    assert!(run(&server, &["cancel", &name]).await.status.success());
    let watched = run(&server, &["watch", &name]).await;
    assert_eq!(watched.status.code(), Some(3), "a cancelled task is no success");
    assert_eq!(get(&mut server.client(), &name).await.unwrap().state(), State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_three_tasks() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = taskwatch();
    command.args(["demo", "--exit"]).current_dir(folder.path());
    // Where it lies need not be text.
    command.arg0(OsStr::from_bytes(b"./\xff/taskwatch"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let done = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
    let done = done.await.unwrap();
    let shown = text(&done.stdout) + &text(&done.stderr);
    assert!(done.status.success(), "{shown}");
    assert!(shown.contains("grpcurl") && shown.matches("SUCCEEDED").count() >= 3, "{shown}");
}
