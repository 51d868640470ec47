//! Several servers on one PostgreSQL work as one: whichever is asked, the answer is the
//! same, and what happens at one is known at the others, whatever is lost on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "replicas/heal.rs"]
mod heal;
#[path = "replicas/held.rs"]
mod held;
mod support;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use support::{Client, PATIENCE, Server, ask, create, get, next, task, until, update, watch};
use taskwatch::proto::{
    CreateTaskRequest, DeleteTaskRequest, FinishTasksRequest, LeaseTasksRequest, Progress, Queue,
    ReportTasksRequest, Task, UpdateQueueRequest, WatchTasksRequest, finish_tasks_request,
    report_tasks_request::Report, task::State, worker_service_client::WorkerServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

/// Runs demos.
const RUNS: &str = "";
/// Runs nothing itself.
const SERVES: &str = "[runner]\nconcurrency = 0\n";

async fn replica(database: &str, config: &str) -> Server {
    Server::with(Some(database.to_owned()), Some(config)).await
}

fn external() -> CreateTaskRequest {
    create("external", json!(null))
}

async fn progress(client: &mut Client, name: &str, percent: f64) -> Task {
    let progress = Progress { percent: Some(percent), ..Default::default() };
    let task = Task { name: name.to_owned(), progress: Some(progress), ..Default::default() };
    client.update_task(update(task, &["progress"])).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn created_on_one_run_on_another_watched_on_a_third() {
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    // B's runner waits by the time it greets, or soon after.
    let b = replica(&database, RUNS).await;
    let input = json!({"steps": 20, "step_seconds": 0.05});
    let created = a.client().create_task(create("demo", input)).await.unwrap().into_inner();
    let mut stream = c.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    let (mut states, mut revision) = (0, 0);
    let ended = loop {
        let task = next(&mut stream).await.unwrap().expect("a state before the end");
        assert!(task.revision > revision);
        revision = task.revision;
        states += 1;
        if task.end_time.is_some() {
            break task;
        }
    };
    assert_eq!(ended.state(), State::Succeeded);
    assert!(next(&mut stream).await.unwrap().is_none());
    assert!(states >= 10, "progress streams, and not only the end: {states} states");
    let stored = get(&mut a.client(), &created.name).await.unwrap();
    assert_eq!((stored.revision, stored.result), (ended.revision, ended.result));
    drop(b);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_one_is_cancelled_and_paused_on_another() {
    let database = support::postgres::database().await;
    let (a, b) = (replica(&database, SERVES).await, replica(&database, RUNS).await);
    let input = json!({"steps": 1, "step_seconds": 3_600});
    let mut client = a.client();
    let created = client.create_task(create("demo", input)).await.unwrap().into_inner();
    let mut stream = b.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    until(&mut stream, |task| task.state() == State::Running).await.unwrap();
    ask(&mut client, &created.name, State::Paused).await.unwrap();
    until(&mut stream, |task| task.state() == State::Paused).await.unwrap();
    ask(&mut client, &created.name, State::Running).await.unwrap();
    let begin = Instant::now();
    ask(&mut client, &created.name, State::Cancelled).await.unwrap();
    until(&mut stream, |task| task.state() == State::Cancelled).await.unwrap();
    assert!(begin.elapsed() < PATIENCE / 4, "the silent work was told: {:?}", begin.elapsed());
}

/// A worker that waits at one replica has what was created at another, and is told there
/// what a third was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn workers_anywhere_have_what_is_created_anywhere() {
    let database = support::postgres::database().await;
    let config = "[runner]\nconcurrency = 0\n[kinds]\naccept_unknown = true\n";
    let a = replica(&database, config).await;
    let b = replica(&database, config).await;
    let mut workers = JoinSet::new();
    for server in [&a, &b, &b, &b] {
        let mut worker = WorkerServiceClient::connect(server.url()).await.unwrap();
        workers.spawn(async move {
            let request = LeaseTasksRequest {
                worker: "tester".to_owned(),
                kinds: vec!["work".to_owned()],
                max_tasks: 1,
                wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
                ..Default::default()
            };
            worker.lease_tasks(request).await.unwrap().into_inner().leases
        });
    }
    let begin = Instant::now();
    let mut client = a.client();
    for _ in 0..4 {
        client.create_task(create("work", json!(null))).await.unwrap();
    }
    let mut leased = BTreeSet::new();
    let mut last = None;
    while let Some(leases) = workers.join_next().await {
        for lease in leases.unwrap() {
            last = Some((lease.task.clone().unwrap().name, lease.lease_token.clone()));
            assert!(leased.insert(lease.task.unwrap().name), "handed out once");
        }
    }
    assert_eq!(leased.len(), 4);
    // Sooner than anybody looks by itself.
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let (name, lease_token) = last.unwrap();
    ask(&mut client, &name, State::Cancelled).await.unwrap();
    let mut worker = WorkerServiceClient::connect(b.url()).await.unwrap();
    let report = Report { name: name.clone(), lease_token, ..Default::default() };
    let request = ReportTasksRequest { reports: vec![report] };
    let answer = worker.report_tasks(request).await.unwrap().into_inner();
    assert_eq!(answer.answers[0].wanted_state(), State::Cancelling);
    assert_eq!(get(&mut b.client(), &name).await.unwrap().state(), State::Cancelling);
}

async fn delete(client: &mut Client, name: &str) {
    let request = DeleteTaskRequest { name: name.to_owned(), ..Default::default() };
    client.delete_task(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_watched_across_replicas() {
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    let mut client = a.client();
    let old = client.create_task(external()).await.unwrap().into_inner();
    let request = WatchTasksRequest { filter: "state = QUEUED".to_owned(), ..Default::default() };
    let mut stream = c.client().watch_tasks(request).await.unwrap().into_inner();
    let mut event = async || {
        let frame = timeout(PATIENCE, stream.message()).await.expect("in time").unwrap();
        frame.expect("a message").event().expect("a good frame")
    };
    assert_eq!(event().await.task.unwrap().name, old.name);
    assert_eq!(event().await.synced, Some(true));
    let new = client.create_task(external()).await.unwrap().into_inner();
    assert_eq!(event().await.task.unwrap().name, new.name);
    // No longer matches; then is no more.
    ask(&mut client, &old.name, State::Running).await.unwrap();
    assert_eq!(event().await.removed, Some(old.name.clone()));
    ask(&mut client, &new.name, State::Cancelled).await.unwrap();
    delete(&mut client, &new.name).await;
    assert_eq!(event().await.removed, Some(new.name));
    ask(&mut client, &old.name, State::Cancelled).await.unwrap();
    let again = ask(&mut client, &old.name, State::Queued).await.unwrap();
    let back = event().await.task.unwrap();
    assert_eq!((back.name, back.revision), (again.name, again.revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_creates_once_wherever_it_is_made() {
    let database = support::postgres::database().await;
    let servers = [replica(&database, SERVES).await, replica(&database, SERVES).await];
    let mut calls = JoinSet::new();
    for request in 0..50 {
        for server in &servers {
            let mut client = server.client();
            calls.spawn(async move {
                let request_id = format!("request-{request}");
                let request = CreateTaskRequest { request_id: request_id.clone(), ..external() };
                (request_id, client.create_task(request).await.unwrap().into_inner().name)
            });
        }
    }
    let mut names = BTreeSet::new();
    while let Some(created) = calls.join_next().await {
        names.insert(created.unwrap());
    }
    assert_eq!(names.len(), 50, "one task a request: {names:?}");
}

/// Limits hold over all replicas together, and what is freed at one is used at another.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_all() {
    let database = support::postgres::database().await;
    let config = "[runner]\nconcurrency = 0\n[kinds]\naccept_unknown = true\n\
         [kinds.few]\nconcurrency = 3\n[queues.slow]\nrate = \"5/s\"\n";
    // All at once, on an empty database: one of them makes the tables.
    let start = || replica(&database, config);
    let servers: [Server; 3] = tokio::join!(start(), start(), start()).into();
    let mut client = servers[0].client();
    for _ in 0..30 {
        client.create_task(create("few", json!(null))).await.unwrap();
    }
    for _ in 0..15 {
        let task = Task { queue: "slow".to_owned(), ..task("paced", json!(null)) };
        let request = CreateTaskRequest { task: Some(task), ..Default::default() };
        client.create_task(request).await.unwrap();
    }
    let begin = Instant::now();
    let held = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for (kind, each) in [("few", 4), ("paced", 2)] {
        for number in 0..3 * each {
            let mut worker = WorkerServiceClient::connect(servers[number % 3].url()).await.unwrap();
            let held = held.clone();
            workers.spawn(async move {
                let mut done = 0;
                loop {
                    let request = LeaseTasksRequest {
                        worker: format!("worker-{number}"),
                        kinds: vec![kind.to_owned()],
                        max_tasks: 2,
                        wait: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
                        ..Default::default()
                    };
                    let leases = worker.lease_tasks(request).await.unwrap().into_inner().leases;
                    if leases.is_empty() {
                        return (kind, done, Instant::now());
                    }
                    use std::sync::atomic::Ordering::SeqCst;
                    if kind == "few" {
                        let now = held.fetch_add(leases.len(), SeqCst) + leases.len();
                        assert!(now <= 3, "{now} leases at a time");
                        sleep(Duration::from_millis(20)).await;
                        // Before it is said: afterwards others may have them.
                        held.fetch_sub(leases.len(), SeqCst);
                    }
                    done += leases.len();
                    let outcomes = leases.into_iter().map(|lease| finish_tasks_request::Outcome {
                        name: lease.task.unwrap().name,
                        lease_token: lease.lease_token,
                        outcome: Some(finish_tasks_request::outcome::Outcome::Result(
                            prost_types::Value::default(),
                        )),
                        ..Default::default()
                    });
                    let request = FinishTasksRequest { outcomes: outcomes.collect() };
                    worker.finish_tasks(request).await.unwrap();
                }
            });
        }
    }
    let mut done = std::collections::HashMap::new();
    while let Some(worker) = workers.join_next().await {
        let (kind, tasks, ended) = worker.unwrap();
        let (all, last) = done.entry(kind).or_insert((0, begin));
        *all += tasks;
        *last = ended.max(*last);
    }
    assert_eq!(done["few"].0, 30);
    assert_eq!(done["paced"].0, 15);
    // The first five at once, the others at five a second.
    assert!(done["paced"].1 - begin >= Duration::from_secs(2), "{:?}", done["paced"].1 - begin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_held_back_and_let_go_everywhere() {
    let database = support::postgres::database().await;
    let (a, b) = (replica(&database, SERVES).await, replica(&database, RUNS).await);
    let mut client = a.client();
    let pause = async |paused| {
        let queue = Queue { name: "queues/default".to_owned(), paused, ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["paused".to_owned()] });
        let request = UpdateQueueRequest { queue: Some(queue), update_mask };
        a.client().update_queue(request).await.unwrap();
    };
    pause(true).await;
    let created =
        client.create_task(create("demo", json!({"steps": 1, "step_seconds": 0}))).await.unwrap();
    let created = created.into_inner();
    let mut stream = b.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), State::Queued);
    pause(false).await;
    let begin = Instant::now();
    let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
    assert_eq!(ended.state(), State::Succeeded);
    assert!(begin.elapsed() < Duration::from_secs(12), "it was told: {:?}", begin.elapsed());
}

/// Nobody's change is lost or doubled where two replicas change the same tasks, and nobody
/// learns of a lost race.
#[tokio::test(flavor = "multi_thread")]
async fn two_change_the_same_tasks() {
    let database = support::postgres::database().await;
    let servers = [replica(&database, SERVES).await, replica(&database, SERVES).await];
    let mut names = Vec::new();
    for number in 0..10 {
        let request = CreateTaskRequest { task_id: format!("task-{number}"), ..external() };
        let mut calls = servers.each_ref().map(Server::client);
        let [one, other] = &mut calls;
        let both = tokio::join!(one.create_task(request.clone()), other.create_task(request));
        let both = [both.0, both.1];
        let created = both.iter().filter_map(|result| result.as_ref().ok()).count();
        assert_eq!(created, 1, "{both:?}");
        let refused = both.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.code(), Code::AlreadyExists);
        names.push(format!("tasks/task-{number}"));
    }
    let mut calls = JoinSet::new();
    for round in 0..20 {
        for (number, server) in servers.iter().enumerate() {
            let (mut client, mut names) = (server.client(), names.clone());
            // Each in an order of its own.
            names.rotate_left(round % 10);
            if number == 1 {
                names.reverse();
            }
            calls.spawn(async move {
                for name in names {
                    let percent = f64::from(u32::try_from(2 * round + number).unwrap());
                    progress(&mut client, &name, percent).await;
                }
            });
        }
    }
    while let Some(called) = calls.join_next().await {
        called.unwrap();
    }
    for name in names {
        let task = get(&mut servers[0].client(), &name).await.unwrap();
        assert_eq!(task.revision, 1 + 2 * 20, "every change is one revision");
    }
}
