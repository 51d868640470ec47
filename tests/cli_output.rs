//! What people see of the command line: its help, its output, its errors and its
//! exit status. Golden files stand in `tests/golden`; `UPDATE_GOLDEN=1` writes them
//! anew.

mod scripted;

use std::{
    env, ffi::OsStr, fs, net::SocketAddr, os::unix::ffi::OsStrExt, path::Path, process::Stdio,
};

use scripted::{Answer, Script, full_task, state};
use taskwatch::proto::{ListTasksResponse, Task, task::State};
use tokio::{io::AsyncWriteExt, process::Command};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// What a command did.
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("TASKWATCH_") {
            command.env_remove(variable);
        }
    }
    // The contexts of whoever runs the tests are none of theirs.
    command.env("TASKWATCH_CONTEXTS", "/dev/null");
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn done(mut command: Command) -> Ran {
    let output = command.output().await.expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn ran(args: &[&str]) -> Ran {
    done(command(args)).await
}

async fn at(address: SocketAddr, args: &[&str]) -> Ran {
    let mut command = command(args);
    command.env("TASKWATCH_SERVER", format!("http://{address}"));
    done(command).await
}

#[track_caller]
fn golden(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&path, seen).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(seen, expected, "{name}; UPDATE_GOLDEN=1 writes it anew");
}

#[tokio::test]
async fn help_of_every_verb() {
    let top = ran(&["--help"]).await;
    golden("help/taskwatch.txt", &top.out);
    assert!(!top.out.contains("demo-copy"));
    for verb in [
        "serve",
        "demo",
        "create",
        "get",
        "list",
        "watch",
        "wait",
        "update",
        "cancel",
        "pause",
        "resume",
        "retry",
        "delete",
        "attempts",
        "kinds",
        "queues",
        "top",
        "run",
        "work",
        "context",
        "completions",
        "man",
    ] {
        let ran = ran(&[verb, "--help"]).await;
        assert_eq!((ran.status, &*ran.err), (Some(0), ""));
        golden(&format!("help/{verb}.txt"), &ran.out);
        assert!(ran.out.contains("Examples:"), "{verb}");
    }
}

#[tokio::test]
async fn wrong_usage_is_2_and_says_what_is_right() {
    let mut seen = String::new();
    for args in [
        &["creat", "demo"][..],
        &["create"],
        &["create", "a b"],
        &["create", "demo", "--input", "[1]"],
        &["create", "demo", "--input", "{steps: 3}"],
        &["create", "demo", "--input", "@missing.json"],
        &["create", "demo", "--label", "x"],
        &["create", "demo", "--priority", "101"],
        &["get", "queues/a"],
        &["list", "--limit", "0"],
        &["get"],
        &["get", "a", "--label", "b=c"],
        &["cancel", "a", "--output", "xml"],
        &["watch", "a", "-o", "table"],
        &["update", "a"],
        &["update", "a", "--schedule", "tomorrow"],
        &["update", "a", "--state", "done"],
        &["update", "a", "--schedule", "+9999999d"],
        &["wait", "a", "--timeout", "soon"],
        &["wait", "a", "--timeout", "0"],
        &["wait", "a", "--timeout", "99999999999999d"],
        &["list", "--context", "prod"],
        &["queues", "pause", "tasks/a"],
        &["completions", "tcsh"],
        &["get", "a", "--server", "https://host:1"],
        &["serve", "--listen", "localhost"],
        &["serve", "--database", "mysql://x"],
        &["serve", "--grace", "2h"],
        &["serve", "--log-format", "xml"],
        &["serve", "--config", "missing.toml"],
    ] {
        let ran = ran(args).await;
        assert_eq!((ran.status, &*ran.out), (Some(2), ""), "{args:?}: {}", ran.err);
        seen.push_str(&format!("$ taskwatch {}\n{}\n", args.join(" "), ran.err));
    }
    golden("usage.txt", &seen);
}

/// Nobody is to talk to another server than the one that was meant.
#[tokio::test]
async fn a_server_that_is_no_text_is_no_default() {
    let mut command = command(&["list"]);
    command.env("TASKWATCH_SERVER", OsStr::from_bytes(b"http://\xff:1"));
    let ran = done(command).await;
    assert_eq!((ran.status, &*ran.out), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.starts_with("error: TASKWATCH_SERVER is no text"), "{}", ran.err);
}

#[tokio::test]
async fn a_wrong_configuration_tells_all_that_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "listen = \"here\"\n\n[runner]\nconcurency = 3\n";
    fs::write(dir.path().join("taskwatch.toml"), text).expect("written");
    let mut command = command(&["serve"]);
    command.current_dir(dir.path());
    let ran = done(command).await;
    assert_eq!(ran.status, Some(2));
    golden("configuration.txt", &ran.err);
}

#[tokio::test]
async fn nobody_there_is_4() {
    // Port 1 is nobody's.
    let ran = ran(&["get", "a", "--server", "http://127.0.0.1:1"]).await;
    assert_eq!((ran.status, &*ran.out), (Some(4), ""));
    assert!(
        ran.err.starts_with("error: cannot reach the server at http://127.0.0.1:1: Connection"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_task_in_words_and_in_json() {
    let address = Script::with_task(Ok(full_task())).serve().await;
    let words = at(address, &["get", "report-7", "--utc"]).await;
    assert_eq!((words.status, &*words.err), (Some(0), ""));
    golden("get.txt", &words.out);
    let json = at(address, &["get", "tasks/report-7", "--json"]).await;
    golden("get.json", &json.out);
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["revision"], "9007199254740993");
    assert_eq!(json["attemptTimeout"], "600s");
    assert_eq!(json["createTime"], "2023-11-14T22:13:20Z");
}

#[tokio::test]
async fn refusals_are_1_and_sentences() {
    let violations = vec![
        FieldViolation::new("task.kind", "nobody has ever served \"x\"; known: demo, external"),
        FieldViolation::new("task.labels", "at most 64"),
    ];
    let refusal = Status::with_error_details(
        Code::InvalidArgument,
        "task.kind: …",
        ErrorDetails::with_bad_request(violations),
    );
    let address = Script::with_task(Err(refusal)).serve().await;
    let created = at(address, &["create", "x"]).await;
    assert_eq!((created.status, &*created.out), (Some(1), ""));
    golden("refused.txt", &created.err);
    let script = Script::with_task(Err(Status::not_found("tasks/a not found")));
    // No name begins so, either.
    script.pages.lock().expect("not poisoned").push_back(page(Vec::new(), ""));
    let watched = at(script.serve().await, &["watch", "a"]).await;
    let said = "error: tasks/a not found; taskwatch list shows what is there\n";
    assert_eq!((watched.status, &*watched.err), (Some(1), said));
}

#[tokio::test]
async fn create_sends_what_was_said_and_prints_the_name() {
    let script = Script::with_task(Ok(state(1)));
    let address = script.serve().await;
    let mut command = command(&[
        "create",
        "demo",
        "--input",
        "-",
        "--id",
        "a",
        "--label",
        "env=prod",
        "--label",
        "x=",
        "--queue",
        "q",
        "--priority",
        "-5",
    ]);
    command.env("TASKWATCH_SERVER", address.to_string()).stdin(Stdio::piped());
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"{\"steps\": 3}").await.expect("written");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"tasks/a\n"[..]));
    let created = script.created.lock().expect("not poisoned");
    let task = created[0].task.as_ref().expect("a task");
    assert_eq!((&*created[0].task_id, &*task.kind, &*task.queue), ("a", "demo", "q"));
    assert_eq!(task.priority, -5);
    assert_eq!(task.labels["env"], "prod");
    assert_eq!(task.labels["x"], "");
    assert!(task.input.as_ref().expect("an input").fields.contains_key("steps"));
}

#[tokio::test]
async fn watch_prints_lines_and_ends_as_the_task_does() {
    for (end, expected) in [(State::Succeeded, 0), (State::Failed, 1), (State::Cancelled, 3)] {
        let script = Script::with_task(Ok(state(1)));
        let ended = Task { state: end.into(), ..state(9) };
        script.watch(Answer { states: vec![state(1)], end: Some(Ok(())) });
        script.watch(Answer { states: vec![state(2), ended], end: Some(Ok(())) });
        let address = script.serve().await;
        let ran = at(address, &["watch", "a"]).await;
        assert_eq!(ran.status, Some(expected), "{}", ran.err);
        if end == State::Succeeded {
            golden("watch.txt", &ran.out);
            golden("watch.err.txt", &ran.err);
        }
    }
}

#[tokio::test]
async fn watch_json_is_one_line_a_state() {
    let script = Script::with_task(Ok(state(1)));
    script.watch(Answer { states: vec![state(1), state(2), state(9)], end: Some(Ok(())) });
    let ran = at(script.serve().await, &["create", "demo", "--watch", "--json"]).await;
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let revisions: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|task| task["revision"].clone())
        .collect();
    assert_eq!(revisions, ["1", "2", "9"]);
}

#[tokio::test]
async fn cancel_asks_for_the_state_and_nothing_else() {
    let cancelling = Task { state: State::Cancelling.into(), ..state(3) };
    let script = Script::with_task(Ok(cancelling));
    let ran = at(script.serve().await, &["cancel", "a"]).await;
    assert_eq!((ran.status, &*ran.out), (Some(0), "tasks/a CANCELLING\n"));
    assert!(ran.err.contains("taskwatch wait tasks/a"));
    let updated = script.updated.lock().expect("not poisoned");
    assert_eq!(updated[0].update_mask.as_ref().expect("a mask").paths, ["state"]);
    assert_eq!(updated[0].task.as_ref().expect("a task").state, i32::from(State::Cancelled));
}

fn page(tasks: Vec<Task>, next: &str) -> ListTasksResponse {
    ListTasksResponse { tasks, next_page_token: next.into() }
}

#[tokio::test]
async fn list_goes_through_the_pages_to_its_limit() {
    let script = Script::default();
    let pages = [page(vec![full_task(), state(2)], "next"), page(vec![state(9)], "more")];
    script.pages.lock().expect("not poisoned").extend(pages);
    let mut args =
        vec!["list", "--limit", "3", "--filter", "state = RUNNING", "--order-by", "priority desc"];
    args.push("--utc");
    let ran = at(script.serve().await, &args).await;
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    golden("list.txt", &ran.out);
    assert_eq!(ran.err, "there are more: raise --limit, or narrow --filter\n");
    let listed = script.listed.lock().expect("not poisoned");
    let asked: Vec<_> = listed.iter().map(|r| (r.page_size, &*r.page_token)).collect();
    assert_eq!(asked, [(3, ""), (1, "next")]);
    assert_eq!((&*listed[1].filter, &*listed[1].order_by), ("state = RUNNING", "priority desc"));
}

#[tokio::test]
async fn the_forms_of_a_list() {
    for format in ["table", "wide", "json", "yaml", "name"] {
        let script = Script::default();
        let tasks = vec![full_task(), state(2), Task { error: full_task().error, ..failed() }];
        script.pages.lock().expect("not poisoned").push_back(page(tasks, ""));
        let ran = at(script.serve().await, &["list", "--utc", "-o", format]).await;
        assert_eq!((ran.status, &*ran.err), (Some(0), ""));
        golden(&format!("list.{format}.txt"), &ran.out);
    }
}

fn failed() -> Task {
    Task { state: State::Failed.into(), kind: "日本".into(), ..state(9) }
}

#[tokio::test]
async fn a_reader_that_leaves_early_is_no_fault() {
    let script = Script::default();
    let pages = (0..20).map(|_| page(vec![full_task(); 500], "next"));
    script.pages.lock().expect("not poisoned").extend(pages);
    let mut command = command(&["list", "--json", "--limit", "10000"]);
    command.env("TASKWATCH_SERVER", script.serve().await.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}
