//! Killed at any moment, under load, again and again: nothing that was acknowledged
//! is lost, no end is taken back, no request id creates twice, and every watcher
//! that resumes reaches the end.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use support::{Server, client, create, get, to_the_end};
use taskwatch::proto::{CreateTaskRequest, RetryPolicy, Task};
use tokio::{task::JoinSet, time::sleep};
use tonic::Code;

const KILLS: usize = 20;
const CREATORS: usize = 4;

/// What the server has promised so far: request id to task, and ends that were seen.
#[derive(Default)]
struct Promises {
    tasks: Mutex<HashMap<String, String>>,
    ends: Mutex<HashMap<String, Task>>,
}

fn request(id: &str) -> CreateTaskRequest {
    let mut request = create("demo", json!({"steps": 3, "step_seconds": 0.02}));
    request.request_id = id.to_owned();
    let task = request.task.as_mut().expect("a task");
    // Every kill is a failed attempt of what ran.
    task.retry_policy = Some(RetryPolicy {
        max_attempts: 1_000,
        initial_backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        max_backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        backoff_multiplier: 1.0,
    });
    request
}

/// Creates tasks until it is told to stop, repeating each until it is acknowledged.
async fn creates(
    address: String,
    creator: usize,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    promises: Arc<Promises>,
) {
    let mut watchers = JoinSet::new();
    let mut client = client(&address);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{creator}-{number}");
        let task = loop {
            match client.create_task(request(&id)).await {
                Ok(task) => break task.into_inner(),
                Err(status) => {
                    assert_ne!(status.code(), Code::InvalidArgument, "{status}");
                    assert_ne!(status.code(), Code::NotFound, "{status}");
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        acknowledged.fetch_add(1, Ordering::Relaxed);
        promises.tasks.lock().unwrap().insert(id, task.name.clone());
        if number % 5 == 0 {
            let address = address.clone();
            watchers.spawn(async move { to_the_end(&address, &task.name).await });
        }
        while let Some(ended) = watchers.try_join_next() {
            let task = ended.expect("a watcher");
            promises.ends.lock().unwrap().insert(task.name.clone(), task);
        }
        sleep(Duration::from_millis(2)).await;
    }
    for task in watchers.join_all().await {
        promises.ends.lock().unwrap().insert(task.name.clone(), task);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_ever_lost() {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .map_or_else(rand::random, |text| text.parse().expect("CRASH_SEED is a number"));
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let mut server = Server::start().await;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let promises = Arc::new(Promises::default());
    let mut load = JoinSet::new();
    for creator in 0..CREATORS {
        load.spawn(creates(
            server.address.clone(),
            creator,
            stop.clone(),
            acknowledged.clone(),
            promises.clone(),
        ));
    }
    for _ in 0..KILLS {
        // Only a server that has done something since its start is worth killing.
        let before = acknowledged.load(Ordering::Relaxed);
        while acknowledged.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_micros(random.random_range(0..150_000))).await;
        server.kill();
        server.start_again().await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(creator) = load.join_next().await {
        creator.expect("a creator");
    }

    let mut client = server.client();
    let tasks = promises.tasks.lock().unwrap().clone();
    let ends = promises.ends.lock().unwrap().clone();
    assert!(tasks.len() >= KILLS && !ends.is_empty());
    for (name, end) in &ends {
        let now = get(&mut client, name).await.expect("an ended task stays");
        assert_eq!((now.state, now.revision), (end.state, end.revision), "{name}");
    }
    for (id, name) in &tasks {
        let again = client.create_task(request(id)).await.expect("known").into_inner();
        assert_eq!(&again.name, name, "request id {id} created twice");
        let end = to_the_end(&server.address, name).await;
        assert_eq!(end.error, None, "{name}");
    }
    let mut names: Vec<_> = tasks.values().collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), tasks.len(), "two requests share a task");
}
