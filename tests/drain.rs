//! SIGTERM drains: watches end with UNAVAILABLE, running work is given back with
//! its attempt not counted, and everything is over within the grace.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{net::TcpStream, time::Duration};

use serde_json::json;
use support::{PATIENCE, Server, create, follow, get, next, until, update, value, watch};
use taskwatch::proto::{
    FinishTasksRequest, LeaseTasksRequest, ListKindsRequest, Progress, ReportTasksRequest, Task,
    WatchTasksRequest,
    finish_tasks_request::{self, outcome::Outcome},
    report_tasks_request::Report,
    task::State,
    task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

#[tokio::test(flavor = "multi_thread")]
async fn all_is_in_one_file_then() {
    let mut server = Server::start().await;
    let task = server.client().create_task(create("external", json!({}))).await.unwrap();
    server.terminate();
    assert!(timeout(PATIENCE, server.ended()).await.expect("in time").success());
    let mut other = Server::start().await;
    other.kill();
    for beside in ["taskwatch.db-wal", "taskwatch.db-shm"] {
        std::fs::remove_file(other.folder().join(beside)).ok();
    }
    let file = "taskwatch.db";
    std::fs::copy(server.folder().join(file), other.folder().join(file)).unwrap();
    other.start_again().await;
    let name = task.into_inner().name;
    assert_eq!(get(&mut other.client(), &name).await.unwrap().name, name);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_work_is_given_back_and_goes_on() {
    let mut server = Server::start().await;
    let mut client = server.client();
    let task = client
        .create_task(create("demo", json!({"steps": 600, "step_seconds": 0.1})))
        .await
        .unwrap()
        .into_inner();
    let mut stream = client.watch_task(watch(&task.name)).await.unwrap().into_inner();
    let before = until(&mut stream, |task| {
        task.state() == State::Running
            && task.progress.as_ref().is_some_and(|progress| progress.percent() > 0.0)
    })
    .await
    .unwrap();
    // It never says a word, and must not hold the end up.
    let silent = TcpStream::connect(&server.address).unwrap();

    server.terminate();
    let cut = loop {
        match next(&mut stream).await {
            Ok(Some(task)) => assert!(task.end_time.is_none(), "it cannot have ended"),
            Ok(None) => panic!("a drained stream must not end with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unavailable);
    let status = timeout(PATIENCE, server.ended()).await.expect("within the grace, and some");
    assert!(status.success(), "{status}\n{}", server.log());
    drop(silent);

    server.start_again().await;
    let after = follow(&server.address, &task.name, |task| task.state() == State::Running).await;
    assert_eq!(after.attempt, 1, "a released attempt does not count");
    assert!(after.revision > before.revision);
    let task = get(&mut server.client(), &task.name).await.unwrap();
    assert!(task.checkpoint.is_some(), "the next run goes on from it");
}

/// A program that does not want to stop holds the drain up for its grace; meanwhile
/// those who are connected are told where they are, and what is done is heard.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_while_it_drains() {
    let mut server = Server::configured(
        "[kinds]\naccept_unknown = true\n[kinds.stubborn]\nstop_grace = \"3s\"\n\
         command = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 0.1; done\"]\n",
    )
    .await;
    let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut client = TaskServiceClient::new(channel.clone());
    let mut worker = WorkerServiceClient::new(channel.clone());
    let mut health = HealthClient::new(channel);
    let lease = |wait: i64| LeaseTasksRequest {
        worker: "remote".to_owned(),
        kinds: vec!["work".to_owned()],
        wait: Some(prost_types::Duration { seconds: wait, nanos: 0 }),
        ..Default::default()
    };
    let stubborn = client.create_task(create("stubborn", json!(null))).await.unwrap().into_inner();
    follow(&server.address, &stubborn.name, |task| task.state() == State::Running).await;
    client.create_task(create("work", json!(null))).await.unwrap();
    let leased = worker.lease_tasks(lease(30)).await.unwrap().into_inner().leases.remove(0);
    let name = leased.task.clone().unwrap().name;
    let mut all = client.watch_tasks(WatchTasksRequest::default()).await.unwrap().into_inner();
    while all.message().await.unwrap().unwrap().event().unwrap().synced.is_none() {}
    let mut waits = worker.clone();
    let request = LeaseTasksRequest { kinds: vec!["idle".to_owned()], ..lease(60) };
    let waiting = tokio::spawn(async move { waits.lease_tasks(request).await });
    let waits = async |client: &mut support::Client| {
        let kinds = client.list_kinds(ListKindsRequest {}).await.unwrap().into_inner().kinds;
        kinds.iter().any(|kind| kind.kind == "idle" && kind.workers == 1)
    };
    while !waits(&mut client).await {
        sleep(Duration::from_millis(5)).await;
    }
    let mut states = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    server.terminate();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let cut = loop {
        match all.message().await {
            Ok(frame) => assert!(frame.is_some(), "a drained stream must not end with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::Unavailable);
    assert!(waiting.await.unwrap().unwrap().into_inner().leases.is_empty());
    let refused = worker.lease_tasks(lease(0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let refused = client.watch_task(watch(&name)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    // Reads, updates, reports and outcomes are served to the end.
    let priority = Task { name: name.clone(), priority: 5, ..Task::default() };
    client.update_task(update(priority, &["priority"])).await.unwrap();
    let report = Report {
        name: name.clone(),
        lease_token: leased.lease_token.clone(),
        progress: Some(Progress { percent: Some(90.0), ..Progress::default() }),
        checkpoint: None,
    };
    let report = ReportTasksRequest { reports: vec![report] };
    let answers = worker.report_tasks(report).await.unwrap().into_inner().answers;
    assert_eq!((answers[0].error.clone(), answers[0].wanted_state()), (None, State::Running));
    let outcome = finish_tasks_request::Outcome {
        name: name.clone(),
        lease_token: leased.lease_token,
        outcome: Some(Outcome::Result(value(json!("done")))),
        ..Default::default()
    };
    let outcomes = FinishTasksRequest { outcomes: vec![outcome] };
    let statuses = worker.finish_tasks(outcomes).await.unwrap().into_inner().statuses;
    assert_eq!(statuses[0].code, 0);
    assert_eq!(get(&mut client, &name).await.unwrap().state(), State::Succeeded);
    let status = timeout(PATIENCE, server.ended()).await.expect("within the grace, and some");
    assert!(status.success(), "{status}\n{}", server.log());

    server.start_again().await;
    let task = get(&mut server.client(), &name).await.unwrap();
    assert_eq!((task.state(), task.result), (State::Succeeded, Some(value(json!("done")))));
    let stubborn = get(&mut server.client(), &stubborn.name).await.unwrap();
    assert_eq!(stubborn.attempt, 1, "a released attempt does not count");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stops_at_once() {
    let mut server = Server::start().await;
    server.terminate();
    assert!(server.ended().await.success());
}
