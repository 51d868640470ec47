//! What a server's own memory grows by (RssAnon), for each of many.

use std::time::Duration;

use serde_json::json;
use taskwatch::proto::{BatchCreateTasksRequest, task::State};
use tokio::time::sleep;

use crate::{
    CONFIG,
    baseline::Process,
    report::{Figure, Goal},
    support::{Client, Server, client, create, get},
    watches::streams,
};

const MANY: usize = 10_000;

/// KiB that are the process's own, when they no longer change much.
async fn memory(pid: u32) -> f64 {
    sleep(Duration::from_secs(3)).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

async fn create_many(
    client: &mut Client,
    kind: &str,
    input: serde_json::Value,
    many: usize,
) -> String {
    let mut last = String::new();
    for _ in 0..many / 1_000 {
        let requests = vec![create(kind, input.clone()); 1_000];
        let created = client.batch_create_tasks(BatchCreateTasksRequest { requests }).await;
        last.clone_from(&created.expect("created").into_inner().tasks[999].name);
    }
    last
}

async fn watchers(address: &str, pid: u32) -> f64 {
    let created = client(address).create_task(create("external", json!(null))).await;
    let name = created.expect("created").into_inner().name;
    // What the first ones bring with them, no other brings again.
    drop(streams(address, &vec![name.clone(); MANY / 10]).await);
    let before = memory(pid).await;
    let streams = streams(address, &vec![name; MANY]).await;
    let taken = (memory(pid).await - before) / streams.len() as f64;
    drop(streams);
    taken
}

pub(crate) async fn run() -> Vec<Figure> {
    let figure = |key: &str, what: &str, ours, goal| Figure {
        key: format!("memory-{key}"),
        what: what.to_owned(),
        unit: "KiB each",
        ours: vec![ours],
        against: "a server that streams one ready-made frame to all",
        baseline: Vec::new(),
        goal: Goal::AtMost(goal),
    };
    let (server, bare) = (Server::configured(CONFIG).await, Process::bare());
    let watcher = watchers(&server.address, server.pid()).await;
    let baseline = watchers(&bare.address, bare.pid()).await;
    let mut watcher = figure("watcher", "an idle watcher", watcher, 6.0);
    watcher.baseline.push(baseline);

    let server = Server::configured(CONFIG).await;
    let mut client = server.client();
    // The database's own cache is full by then.
    create_many(&mut client, "work", json!(null), 20 * MANY).await;
    let before = memory(server.pid()).await;
    create_many(&mut client, "work", json!(null), 20 * MANY).await;
    let waiting = (memory(server.pid()).await - before) / (20 * MANY) as f64;

    let config = format!("[runner]\nconcurrency = {MANY}\n");
    let server = Server::configured(&config).await;
    let mut client = server.client();
    // The database's own cache is full by then.
    create_many(&mut client, "external", json!(null), 20 * MANY).await;
    let before = memory(server.pid()).await;
    let input = json!({ "steps": 2, "step_seconds": 3600 });
    let last = create_many(&mut client, "demo", input, MANY).await;
    while get(&mut client, &last).await.expect("there").state != i32::from(State::Running) {
        sleep(Duration::from_millis(100)).await;
    }
    let running = (memory(server.pid()).await - before) / MANY as f64;
    vec![
        watcher,
        // Below this it is the allocator's noise.
        figure("waiting", "a task that waits", waiting, 0.05),
        figure("running", "a running task of kind demo", running, 4.0),
    ]
}
