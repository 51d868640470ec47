//! What a server's own memory grows by (RssAnon), for each of many that come to as many.

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
const KEPT: usize = 20 * MANY;
const WAITING: usize = 80 * MANY;
const ROUNDS: usize = 5;

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

/// What each of many idle watchers takes.
async fn watcher(address: &str, pid: u32) -> f64 {
    let created = client(address).create_task(create("external", json!(null))).await;
    let name = created.expect("created").into_inner().name;
    let names = vec![name; MANY];
    // What the first ones bring with them, no other brings again.
    let _first = streams(address, &names).await;
    let before = memory(pid).await;
    let _more = streams(address, &names).await;
    (memory(pid).await - before) / MANY as f64
}

/// What each of many tasks takes that wait.
async fn waiting() -> f64 {
    let server = filled(CONFIG).await;
    let mut client = server.client();
    // The newest stay in memory, however many there are.
    create_many(&mut client, "work", json!(null), MANY).await;
    let before = memory(server.pid()).await;
    create_many(&mut client, "work", json!(null), WAITING).await;
    (memory(server.pid()).await - before) / WAITING as f64
}

/// What each of many tasks takes that run.
async fn running() -> f64 {
    let server = filled(&format!("[runner]\nconcurrency = {}\n", 2 * MANY)).await;
    let mut client = server.client();
    let mut grown = Vec::new();
    for _ in 0..2 {
        let input = json!({ "steps": 2, "step_seconds": 3600 });
        let last = create_many(&mut client, "demo", input, MANY).await;
        while get(&mut client, &last).await.expect("there").state != i32::from(State::Running) {
            sleep(Duration::from_millis(100)).await;
        }
        grown.push(memory(server.pid()).await);
    }
    (grown[1] - grown[0]) / MANY as f64
}

/// A server whose database has filled its own cache.
async fn filled(config: &str) -> Server {
    let server = Server::configured(config).await;
    create_many(&mut server.client(), "external", json!(null), 3 * KEPT).await;
    server
}

pub(crate) async fn run() -> Vec<Figure> {
    let (mut watchers, mut of_bare, mut wait, mut run) = (vec![], vec![], vec![], vec![]);
    // Each time in new processes: what one has let go of, it takes again.
    for _ in 0..ROUNDS {
        let server = Server::configured(CONFIG).await;
        watchers.push(watcher(&server.address, server.pid()).await);
        let bare = Process::bare();
        of_bare.push(watcher(&bare.address, bare.pid()).await);
        wait.push(waiting().await);
        run.push(running().await);
    }
    let figure = |key: &str, what: &str, ours, baseline, goal| Figure {
        key: format!("memory-{key}"),
        what: what.to_owned(),
        unit: "KiB each",
        ours,
        against: "a server that streams one ready-made frame to all",
        baseline,
        goal: Goal::AtMost(goal),
    };
    vec![
        figure("watcher", "an idle watcher", watchers, of_bare, 6.0),
        // Below this it is the allocator's noise.
        figure("waiting", "a task that waits", wait, vec![], 0.05),
        figure("running", "a running task of kind demo", run, vec![], 4.0),
    ]
}
