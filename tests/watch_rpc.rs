//! Watches over a real socket: the present state at once, the newest state after
//! it, the terminal state always, last, and then OK.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Client, PATIENCE, Server, ask, client, create, next, task, update, watch};
use taskwatch::proto::{
    DeleteTaskRequest, Progress, Task, WatchEvent, WatchTaskRequest, WatchTasksRequest, task::State,
};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Streaming};

async fn external(client: &mut Client) -> Task {
    client.create_task(create("external", json!(null))).await.unwrap().into_inner()
}

async fn progress(client: &mut Client, name: &str, percent: f64) -> Task {
    let progress = Progress { percent: Some(percent), ..Default::default() };
    let task = Task { name: name.to_owned(), progress: Some(progress), ..Default::default() };
    client.update_task(update(task, &["progress"])).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_followed_to_its_end() {
    let server = Server::start().await;
    let mut client = server.client();
    let created = external(&mut client).await;
    let mut stream = client.watch_task(watch(&created.name)).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((first.state(), first.revision), (State::Queued, created.revision));

    ask(&mut client, &created.name, State::Running).await.unwrap();
    let running = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(running.state(), State::Running);
    assert!(running.revision > first.revision);

    progress(&mut client, &created.name, 40.0).await;
    let reported = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(reported.progress.unwrap().percent, Some(40.0));

    let ended = ask(&mut client, &created.name, State::Succeeded).await.unwrap();
    let last = next(&mut stream).await.unwrap().unwrap();
    assert_eq!((last.state(), last.revision), (State::Succeeded, ended.revision));
    assert!(next(&mut stream).await.unwrap().is_none(), "OK after the terminal state");

    // An ended task: its terminal state in any case, then OK.
    for after_revision in [0, ended.revision, ended.revision + 100] {
        let request = WatchTaskRequest { after_revision, ..watch(&created.name) };
        let mut stream = client.watch_task(request).await.unwrap().into_inner();
        assert_eq!(next(&mut stream).await.unwrap().unwrap().state(), State::Succeeded);
        assert!(next(&mut stream).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_watch_waits_for_what_is_new() {
    let server = Server::start().await;
    let mut client = server.client();
    let created = external(&mut client).await;
    let request = WatchTaskRequest { after_revision: created.revision, ..watch(&created.name) };
    let mut stream = client.watch_task(request).await.unwrap().into_inner();
    let running = ask(&mut client, &created.name, State::Running).await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(first.revision, running.revision, "what was seen is not sent again");

    // With heartbeats, the present state comes again without any change.
    let request = WatchTaskRequest {
        after_revision: running.revision,
        heartbeat_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..watch(&created.name)
    };
    let mut stream = client.watch_task(request).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.unwrap().unwrap().revision, running.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused() {
    let server = Server::start().await;
    let mut client = server.client();
    let status = client.watch_task(watch("tasks/none")).await.expect_err("no such task");
    assert_eq!(status.code(), Code::NotFound);
    let status = client.watch_task(watch("nonsense")).await.expect_err("a bad name");
    assert_eq!(status.code(), Code::InvalidArgument);
    let request = WatchTasksRequest { filter: "state =".to_owned(), ..Default::default() };
    let status = client.watch_tasks(request).await.expect_err("a bad filter");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_all_see_the_end() {
    let server = Server::start().await;
    let mut client = server.client();
    let created = external(&mut client).await;
    let mut watchers = JoinSet::new();
    let mut readers = server.client();
    for number in 0..1_000 {
        if number % 100 == 0 {
            readers = server.client();
        }
        let request = watch(&created.name);
        let mut stream = readers.watch_task(request).await.unwrap().into_inner();
        watchers.spawn(async move {
            let mut revision = 0;
            let mut state = State::Unspecified;
            while let Some(task) = next(&mut stream).await.unwrap() {
                assert!(task.revision > revision);
                (revision, state) = (task.revision, task.state());
            }
            state
        });
    }
    ask(&mut client, &created.name, State::Running).await.unwrap();
    for percent in 1..20 {
        progress(&mut client, &created.name, f64::from(percent)).await;
    }
    ask(&mut client, &created.name, State::Succeeded).await.unwrap();
    let ends = watchers.join_all().await;
    assert_eq!(ends.len(), 1_000);
    assert!(ends.iter().all(|state| *state == State::Succeeded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_skips_states_and_holds_nobody_up() {
    let server = Server::start().await;
    let mut writer = server.client();
    let created = external(&mut writer).await;
    let mut reader = client(&server.address);
    let mut slow = reader.watch_task(watch(&created.name)).await.unwrap().into_inner();
    ask(&mut writer, &created.name, State::Running).await.unwrap();
    // 64 MiB of states that nobody takes: more than any buffer between us holds.
    let details = support::object(json!({"text": "x".repeat(60 << 10)}));
    for percent in 0..1_000 {
        let progress = Progress {
            percent: Some(f64::from(percent) / 10.0),
            details: Some(details.clone()),
            ..Default::default()
        };
        let name = created.name.clone();
        let task = Task { name, progress: Some(progress), ..Default::default() };
        let done = writer.update_task(update(task, &["progress"]));
        timeout(PATIENCE, done).await.expect("a writer never waits for a reader").unwrap();
    }
    ask(&mut writer, &created.name, State::Succeeded).await.unwrap();
    let (mut states, mut last) = (0, None);
    while let Some(task) = next(&mut slow).await.unwrap() {
        states += 1;
        last = Some(task);
    }
    assert_eq!(last.unwrap().state(), State::Succeeded);
    assert!(states < 900, "{states} states were kept for a reader who took none");
}

async fn event(stream: &mut Streaming<taskwatch::proto::Frame>) -> WatchEvent {
    let frame = timeout(PATIENCE, stream.message()).await.expect("in time").unwrap();
    frame.expect("no end").event().expect("a good frame")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_followed() {
    let server = Server::start().await;
    let mut client = server.client();
    let mut labelled = task("external", json!(null));
    labelled.labels.insert("env".to_owned(), "prod".to_owned());
    let request =
        taskwatch::proto::CreateTaskRequest { task: Some(labelled.clone()), ..Default::default() };
    let existing = client.create_task(request.clone()).await.unwrap().into_inner();
    external(&mut client).await;

    let filter = r#"labels.env = "prod""#.to_owned();
    let watch = WatchTasksRequest { filter, ..Default::default() };
    let mut stream = client.watch_tasks(watch).await.unwrap().into_inner();
    assert_eq!(event(&mut stream).await.task.unwrap().name, existing.name);
    assert_eq!(event(&mut stream).await.synced, Some(true));

    let new = client.create_task(request).await.unwrap().into_inner();
    assert_eq!(event(&mut stream).await.task.unwrap().name, new.name);

    // No longer a match, and then no longer there at all.
    let plain = Task { name: new.name.clone(), ..Default::default() };
    client.update_task(update(plain, &["labels"])).await.unwrap();
    assert_eq!(event(&mut stream).await.removed, Some(new.name));
    ask(&mut client, &existing.name, State::Cancelled).await.unwrap();
    let ended = event(&mut stream).await.task.unwrap();
    assert_eq!(ended.state(), State::Cancelled);
    let delete = DeleteTaskRequest { name: existing.name.clone(), allow_missing: false };
    client.delete_task(delete).await.unwrap();
    assert_eq!(event(&mut stream).await.removed, Some(existing.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn states_come_no_closer_than_asked() {
    let server = Server::start().await;
    let mut client = server.client();
    let created = external(&mut client).await;
    let request = WatchTaskRequest {
        min_interval: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..watch(&created.name)
    };
    let mut stream = client.watch_task(request).await.unwrap().into_inner();
    next(&mut stream).await.unwrap().unwrap();
    ask(&mut client, &created.name, State::Running).await.unwrap();
    progress(&mut client, &created.name, 10.0).await;
    ask(&mut client, &created.name, State::Succeeded).await.unwrap();
    let last = timeout(Duration::from_secs(30), next(&mut stream)).await.unwrap().unwrap();
    assert_eq!(last.unwrap().state(), State::Succeeded, "the end does not wait");
}
