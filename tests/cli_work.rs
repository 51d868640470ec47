//! `taskwatch work`: a worker of one line, around real commands, through what happens
//! to workers.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Child,
    time::Duration,
};

use serde_json::json;
use support::{PATIENCE, Server, ask, create, follow, get, taskwatch, to_the_end, value};
use taskwatch::proto::{RetryPolicy, Task, task::State};
use tokio::time::{Instant, sleep};

/// A worker that ends with the test.
struct Worker {
    child: Child,
    log: std::path::PathBuf,
}

impl Worker {
    fn start(server: &Server, name: &str, flags: &[&str], command: &[&str]) -> Self {
        let log = server.folder().join(format!("{name}.log"));
        let mut worker = taskwatch();
        worker.args(["work", "job"]).args(flags).arg("--").args(command);
        worker.env("TASKWATCH_SERVER", server.url()).current_dir(server.folder());
        // What the caller has set need not be text.
        worker.env("ODD", OsStr::from_bytes(b"\xff")).env(OsStr::from_bytes(b"\xff"), "odd");
        let child = worker.stderr(File::create(&log).expect("a log")).spawn().expect("it starts");
        Self { child, log }
    }

    fn shell(server: &Server, name: &str, flags: &[&str], script: &str) -> Self {
        Self::start(server, name, flags, &["sh", "-c", script])
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn says(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text} is not said: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("told");
    }

    async fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the worker does not end: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn make(server: &Server, id: &str, input: serde_json::Value) -> String {
    let mut request = create("job", input);
    request.task_id = id.to_owned();
    let task = request.task.as_mut().expect("a task");
    let backoff = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    task.retry_policy = Some(RetryPolicy {
        max_attempts: 2,
        initial_backoff: backoff,
        max_backoff: backoff,
        ..RetryPolicy::default()
    });
    server.client().create_task(request).await.expect("created").into_inner().name
}

fn appears(path: &Path) -> impl Future<Output = ()> {
    let path = path.to_owned();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            assert!(Instant::now() < deadline, "{} does not appear", path.display());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_its_input_and_tells_progress_and_result() {
    let server = Server::start().await;
    let worker = Worker::shell(
        &server,
        "worker",
        &[],
        r#"read input; echo "at 40% of it"; echo "{{\"result\": $input}}"
           test "$TASKWATCH_TASK" = tasks/a && test "$(printf %s "$ODD" | od -An -tx1)" = " ff""#,
    );
    worker.says("serves job").await;
    let name = make(&server, "a", json!({"text": "hello; $(false)"})).await;
    let task = to_the_end(&server.address, &name).await;
    assert_eq!(task.state(), State::Succeeded, "{task:?}");
    assert_eq!(task.result, Some(value(json!({"text": "hello; $(false)"}))));
    let progress = task.progress.expect("progress");
    assert_eq!((progress.percent, &*progress.message), (Some(40.0), "at 40% of it"));
    worker.says("tasks/a succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_retried_and_told() {
    let server = Server::start().await;
    let command = ["sh", "-c", "echo broken pipe {input.n} >&2; exit 7"];
    let worker = Worker::start(&server, "worker", &[], &command);
    worker.says("serves job").await;
    let name = make(&server, "a", json!({"n": 5})).await;
    let task = to_the_end(&server.address, &name).await;
    assert_eq!((task.state(), task.attempt), (State::Failed, 2));
    assert_eq!(task.error.expect("an error").message, "broken pipe 5");
    worker.says("tasks/a failed: UNKNOWN: broken pipe 5").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_run_at_once_and_a_cancel_stops_one() {
    let server = Server::start().await;
    // Each of the first two ends only when the other one runs as well.
    let script =
        "touch started-{input.me}; while ! test -e started-{input.other}; do sleep 0.02; done";
    let worker = Worker::shell(&server, "worker", &["--concurrency", "2"], script);
    worker.says("serves job").await;
    let a = make(&server, "a", json!({"me": "a", "other": "b"})).await;
    let b = make(&server, "b", json!({"me": "b", "other": "a"})).await;
    let c = make(&server, "c", json!({"me": "c", "other": "nobody"})).await;
    for name in [&a, &b] {
        assert_eq!(to_the_end(&server.address, name).await.state(), State::Succeeded);
    }
    appears(&server.folder().join("started-c")).await;
    ask(&mut server.client(), &c, State::Cancelled).await.expect("asked");
    assert_eq!(to_the_end(&server.address, &c).await.state(), State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_on_while_the_server_is_away() {
    let mut server = Server::start().await;
    let script = "touch started; while ! test -e go; do sleep 0.02; done; echo '{{\"result\": 1}}'";
    let worker = Worker::shell(&server, "worker", &["--lease", "30s"], script);
    worker.says("serves job").await;
    let name = make(&server, "a", json!({})).await;
    appears(&server.folder().join("started")).await;
    server.kill();
    fs::write(server.folder().join("go"), "").expect("written");
    sleep(Duration::from_millis(300)).await;
    server.start_again().await;
    let task = to_the_end(&server.address, &name).await;
    assert_eq!((task.state(), task.attempt), (State::Succeeded, 1), "{}", worker.log());
    // And it goes on with the next one.
    let name = make(&server, "b", json!({})).await;
    assert_eq!(to_the_end(&server.address, &name).await.state(), State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_gives_back_and_another_goes_on_from_the_checkpoint() {
    let server = Server::start().await;
    let script = r#"if test -n "$TASKWATCH_CHECKPOINT"; then
        echo "{{\"result\": $TASKWATCH_CHECKPOINT}}"
    else
        echo '{{"checkpoint": {{"step": 3}}, "message": "saved"}}'; sleep 100
    fi"#;
    let mut worker = Worker::shell(&server, "first", &[], script);
    worker.says("serves job").await;
    let name = make(&server, "a", json!({})).await;
    follow(&server.address, &name, |task: &Task| {
        task.progress.as_ref().is_some_and(|progress| progress.message == "saved")
    })
    .await;
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.ended().await, Some(0));
    assert!(worker.log().contains("tasks/a was given back"), "{}", worker.log());
    let task = get(&mut server.client(), &name).await.expect("there");
    assert_eq!((task.state(), task.attempt), (State::Queued, 1));
    let _second = Worker::shell(&server, "second", &[], script);
    let task = to_the_end(&server.address, &name).await;
    assert_eq!(task.result, Some(value(json!({"step": 3}))));
    assert_eq!(task.attempt, 1, "it did not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_one_is_told_what_is_wrong() {
    let server = Server::start().await;
    for (flags, status) in [
        (&["work", "external", "--", "true"][..], 2),
        (&["work", "job", "--", "echo", "{input.}"], 2),
        (&["work", "job", "--lease", "0.5s", "--", "true"], 2),
        (&["work", "job", "--concurrency", "0", "--", "true"], 2),
        (&["work", "job"], 2),
        (&["work", "job", "--server", "http://127.0.0.1:1", "--", "true"], 4),
    ] {
        let mut command = taskwatch();
        command.args(flags).env("TASKWATCH_SERVER", server.url());
        let output = tokio::task::spawn_blocking(move || {
            command.stderr(std::process::Stdio::piped()).output().expect("it starts")
        });
        let output = output.await.expect("it ran");
        assert_eq!(output.status.code(), Some(status), "{flags:?}");
        assert!(output.stderr.starts_with(b"error: "), "{flags:?}");
    }
}
