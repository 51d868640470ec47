//! How many instructions the hot paths take, which does not depend on the neighbours of
//! the machine: each is run under callgrind with some rounds and with none, in a process
//! of its own, and the difference compared with what is kept in `instructions.json`.
//! Who makes a path longer, and means to, writes the new count there.

use std::process::Command;

use taskwatch::{
    domain::{Outcome, Patch, ProgressPatch, Value},
    tasks::Tasks,
    watch::WatchOptions,
};
use tokio::task::JoinSet;

use crate::{
    report::{Figure, Goal},
    support::{
        db::Db,
        engine::{create, ends, engine, lease, name, says, token},
    },
};

const KEPT: &str = include_str!("instructions.json");
/// Beyond this it has grown. Batches fall a little differently each time.
const MOST: f64 = 1.1;
const ROUNDS: usize = 20;
const A_ROUND: usize = 100;
const WATCHERS: usize = 100;

pub(crate) async fn run() -> Vec<Figure> {
    let kept: serde_json::Value = serde_json::from_str(KEPT).expect("JSON");
    let mut figures = Vec::new();
    for (mode, what) in [
        ("create", "to create a task"),
        ("life", "to create, lease, report and finish a task, 100 at a time"),
        ("publish", "to update a task and tell one of its 100 watchers"),
    ] {
        let units = if mode == "publish" { ROUNDS * WATCHERS } else { ROUNDS * A_ROUND };
        let counted = counted(mode, ROUNDS) - counted(mode, 0);
        figures.push(Figure {
            key: format!("instructions-{mode}"),
            what: format!("instructions {what}, in the engine, SQLite"),
            unit: "instructions",
            ours: vec![counted / units as f64],
            against: "as kept in the project",
            baseline: vec![kept[mode].as_f64().expect("a count that is kept")],
            goal: Goal::RatioAtMost(MOST),
        });
    }
    figures
}

/// All that a process took, its threads included.
fn counted(mode: &str, rounds: usize) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program"))
        .args([&format!("count-{mode}"), &rounds.to_string()])
        .output()
        .expect("valgrind: run `make bench`, which installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// What is run under callgrind.
pub(crate) fn count(mode: &str, rounds: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let db = Db::sqlite();
        let tasks = engine(&db).await;
        match mode {
            "count-publish" => publish(&tasks, rounds).await,
            "count-life" => lives(&tasks, rounds).await,
            _ => creates(&tasks, rounds).await,
        }
        tasks.stop().await;
    });
}

async fn creates(tasks: &Tasks, rounds: usize) {
    for round in 0..rounds {
        let mut creating = JoinSet::new();
        for n in 0..A_ROUND {
            let tasks = tasks.clone();
            let new = create(&format!("t-{round}-{n}"), "work");
            creating.spawn(async move { tasks.create(new).await.expect("created") });
        }
        creating.join_all().await;
    }
}

async fn lives(tasks: &Tasks, rounds: usize) {
    for round in 0..rounds {
        let new = (0..A_ROUND).map(|n| create(&format!("t-{round}-{n}"), "work")).collect();
        tasks.create_batch(new).await.expect("created");
        let leased = lease(tasks, "work", A_ROUND).await;
        let held = || leased.iter().map(|leased| (leased.task.id.clone(), token(leased)));
        let reports = held().map(|(id, token)| (id, says(token, 50.0))).collect();
        assert!(tasks.report(reports).await.iter().all(Result::is_ok));
        let done = || Outcome::Succeeded(Value::default());
        let outcomes = held().map(|(id, token)| (id, ends(token, done()))).collect();
        assert!(tasks.finish(outcomes).await.iter().all(Result::is_ok));
    }
}

async fn publish(tasks: &Tasks, rounds: usize) {
    let id = name("watched");
    tasks.create(create("watched", "external")).await.expect("created");
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = tasks.watch(id.clone(), WatchOptions::default()).await.expect("watched");
        watch.next().await.expect("a state").expect("read");
        watches.push(watch);
    }
    for round in 0..rounds {
        let progress = ProgressPatch { percent: Some(Some(round as f64)), ..Default::default() };
        let patch = Patch { progress, ..Patch::default() };
        tasks.update(id.clone(), patch).await.expect("updated");
        for watch in &mut watches {
            watch.next().await.expect("a state").expect("published");
        }
    }
}
