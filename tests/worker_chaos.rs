//! A thousand tasks and ten worker processes, of which one is killed and another one
//! stopped for longer than its lease every second: each task ends once, no outcome is
//! overwritten, and no lease ends before its time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::zombie_processes, missing_docs)]

mod support;

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{PATIENCE, Server, create};
use taskwatch::proto::{
    BatchCreateTasksRequest, CreateTaskRequest, FinishTasksRequest, LeaseTasksRequest,
    ListAttemptsRequest, RetryPolicy, Task, WatchTasksRequest,
    finish_tasks_request::{self, outcome::Outcome},
    task::State,
    task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::{Instant, interval, sleep, timeout};
use tonic::Code;

const TASKS: usize = 1_000;
const WORKERS: usize = 10;
/// As in the example.
const LEASE: Duration = Duration::from_secs(2);

struct Worker(Child);

impl Worker {
    fn start(url: &str) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_taskwatch"));
        let example = binary.with_file_name("examples").join("worker");
        assert!(example.is_file(), "{}: run cargo build --examples", example.display());
        let mut command = Command::new(example);
        command.args([url, "count"]).stdin(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("a worker"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("signalled");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("ended");
    }
}

fn request(number: usize) -> CreateTaskRequest {
    let mut request = create("count", json!({"steps": 8, "step_ms": 20}));
    request.task_id = format!("t{number}");
    let soon = prost_types::Duration { seconds: 0, nanos: 1_000_000 };
    request.task.as_mut().expect("a task").retry_policy = Some(RetryPolicy {
        max_attempts: 100,
        initial_backoff: Some(soon),
        max_backoff: Some(soon),
        backoff_multiplier: 1.0,
    });
    request
}

/// One that says each outcome twice, and then another one.
async fn says_it_twice(url: String) {
    let mut client = WorkerServiceClient::connect(url).await.expect("connected");
    loop {
        let request = LeaseTasksRequest {
            worker: "twice".to_owned(),
            kinds: vec!["count".to_owned()],
            wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..Default::default()
        };
        for lease in client.lease_tasks(request).await.expect("leased").into_inner().leases {
            sleep(Duration::from_millis(100)).await;
            let ends = |outcome| finish_tasks_request::Outcome {
                name: lease.task.clone().expect("a task").name,
                lease_token: lease.lease_token.clone(),
                outcome: Some(outcome),
                ..Default::default()
            };
            let result = Outcome::Result(support::value(json!({"steps": 8})));
            let outcomes = vec![ends(result.clone()), ends(result), ends(Outcome::Cancelled(true))];
            let said = client.finish_tasks(FinishTasksRequest { outcomes }).await;
            let codes: Vec<i32> =
                said.expect("answered").into_inner().statuses.iter().map(|s| s.code).collect();
            assert_eq!(codes, [0, 0, Code::Aborted as i32]);
        }
    }
}

/// Every state that a watcher of all of them is sent, until all have ended.
async fn watched(url: String) -> HashMap<String, Vec<Task>> {
    let mut client = TaskServiceClient::connect(url).await.expect("connected");
    let mut stream = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    let (mut seen, mut ended) = (HashMap::<String, Vec<Task>>::new(), 0);
    while ended < TASKS {
        let frame = stream.message().await.expect("goes on").expect("never ends by itself");
        let Some(task) = frame.event().expect("a watch event").task else { continue };
        let ends = matches!(task.state(), State::Succeeded | State::Failed | State::Cancelled);
        ended += usize::from(ends);
        seen.entry(task.name.clone()).or_default().push(task);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_ends_once_whatever_becomes_of_its_workers() {
    let server = Server::configured("[kinds]\naccept_unknown = true\n").await;
    let mut client = server.client();
    let requests = (0..TASKS).map(request).collect();
    client.batch_create_tasks(BatchCreateTasksRequest { requests }).await.expect("created");
    let watching = tokio::spawn(watched(server.url()));
    let twice = tokio::spawn(says_it_twice(server.url()));
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(&server.url())).collect();
    let mut second = interval(Duration::from_secs(1));
    let (mut killed, mut stopped) = (0, None::<usize>);
    let deadline = Instant::now() + 3 * PATIENCE;
    while !watching.is_finished() && Instant::now() < deadline {
        second.tick().await;
        workers[killed % WORKERS] = Worker::start(&server.url());
        killed += 1;
        // Every fourth second another one sleeps past the end of its lease.
        if killed % 4 == 0 {
            if let Some(stopped) = stopped.take() {
                workers[stopped].signal(Signal::CONT);
            }
            let next = (killed + WORKERS / 2) % WORKERS;
            workers[next].signal(Signal::STOP);
            stopped = Some(next);
        }
    }
    let seen = timeout(PATIENCE, watching).await.expect("all ended in time").expect("watched");
    assert!(!twice.is_finished(), "{:?}", twice.await);
    twice.abort();
    drop(workers);
    assert!(killed > 5, "{killed} kills are too few to show anything");

    assert_eq!(seen.len(), TASKS);
    let mut taken_over = 0;
    for (name, states) in &seen {
        assert!(states.is_sorted_by(|one, next| one.revision < next.revision), "{name}");
        let last = states.last().expect("some");
        assert_eq!(last.state(), State::Succeeded, "{name}: {:?}", last.error);
        assert_eq!(last.result, Some(support::value(json!({"steps": 8}))), "{name}");
        // What stands now is what was seen to stand.
        assert_eq!(support::get(&mut client, name).await.unwrap().revision, last.revision);
        let request = ListAttemptsRequest { name: name.clone(), ..Default::default() };
        let attempts = client.list_attempts(request).await.unwrap().into_inner().attempts;
        let (end, lost) = attempts.split_last().expect("at least one");
        assert_eq!(end.end_state(), State::Succeeded, "{name}");
        for attempt in lost {
            // Killed before the task had reached it: given back, and not counted.
            if attempt.end_state() == State::Queued {
                continue;
            }
            assert_eq!(attempt.end_state(), State::Failed, "{name}");
            let lived = micros(attempt.end_time) - micros(attempt.start_time);
            assert!(lived >= LEASE.as_micros() as i64, "{name}: a lease of {lived} µs");
        }
        assert!(attempts.is_sorted_by(|one, next| micros(one.end_time) <= micros(next.start_time)));
        taken_over += lost.len();
    }
    assert!(taken_over > 0, "nobody was killed at work");
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}
