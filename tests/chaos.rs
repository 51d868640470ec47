//! Three replicas under load, while everything around them breaks: what was acknowledged
//! is kept, each task ends once, each watcher reaches the end.
//!
//! `TASKWATCH_CHAOS_SEED` repeats a schedule of faults, `TASKWATCH_CHAOS_FAULTS` says how
//! many there are at least; `make chaos` is the long form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm)]
#![allow(unreachable_pub, missing_docs)]

#[path = "chaos/checker.rs"]
mod checker;
#[path = "chaos/field.rs"]
mod field;
#[path = "chaos/history.rs"]
mod history;
#[path = "chaos/load/mod.rs"]
mod load;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/schedule.rs"]
mod schedule;
mod support;

use std::{collections::BTreeMap, io::Write, path::Path};

use checker::{Attempt, Finals};
use field::Field;
use history::{Seen, micros};
use load::{Filter, Load};
use support::PATIENCE;
use tokio::time::timeout;

/// In the short form.
const FAULTS: usize = 50;
/// For each fault, at most.
const TASKS: usize = 20;

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{variable} is a number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_breaks() {
    let seed: u64 = number("TASKWATCH_CHAOS_SEED").unwrap_or_else(rand::random);
    let faults = number("TASKWATCH_CHAOS_FAULTS").unwrap_or(FAULTS);
    // Past the test's own capture: a run that hangs has a seed, too.
    let repeat = format!(
        "TASKWATCH_CHAOS_SEED={seed} TASKWATCH_CHAOS_FAULTS={faults} cargo test --test chaos"
    );
    writeln!(std::io::stderr(), "{repeat}").unwrap();

    let phases = schedule::draw(seed, faults);
    let field = Field::start().await;
    let load = Load::new(&field.addresses().await, seed);
    let filters = ["kind = \"external\"", "state = FAILED", "state = RUNNING", ""]
        .map(|filter| Filter::watch(&load, filter));
    load.begin(faults * TASKS);
    field.storm(&phases).await;

    load.enough.cancel();
    load.going.close();
    timeout(2 * PATIENCE, load.going.wait()).await.expect("those who create end");
    let mut wrong: Vec<String> =
        load.settle().await.into_iter().map(|task| format!("does not end: {task}")).collect();
    let finals = read(&load).await;
    let last = &finals.replicas[0];
    for filter in &filters {
        let matching = |seen: &&Seen| match filter.filter {
            "state = FAILED" => seen.state == "FAILED",
            "state = RUNNING" => seen.state == "RUNNING",
            "" => true,
            _ => seen.request.starts_with("external"),
        };
        let expected: BTreeMap<String, i64> =
            last.iter().filter(matching).map(|seen| (seen.name.clone(), seen.revision)).collect();
        wrong.extend(filter.agrees(&expected).await);
    }
    load.done.cancel();
    load.following.close();
    // Those who do not end are found by the checker.
    drop(timeout(PATIENCE, load.following.wait()).await);

    let history = load.history.records();
    wrong.extend(checker::check(&history, &finals));
    println!(
        "{} faults, {} tasks, {} records, {} violations",
        schedule::count(&phases),
        last.len(),
        history.len(),
        wrong.len()
    );
    if !wrong.is_empty() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
        field.keep_logs(&kept).await;
        load.history.write(&kept.join("history.jsonl"));
        panic!("{}\nhistory and logs: {}\n{repeat}", wrong.join("\n"), kept.display());
    }
}

/// What stands at the end, by each replica.
async fn read(load: &Load) -> Finals {
    let mut caller = load.caller("finals");
    let mut finals = Finals::default();
    for server in 0..schedule::REPLICAS {
        let tasks = caller.list(server, "").await;
        finals.replicas.push(tasks.iter().map(Seen::from).collect());
    }
    for task in finals.replicas[0].iter().filter(|seen| !seen.request.starts_with("external")) {
        let attempts = caller.attempts(&task.name).await;
        let attempts = attempts.iter().map(|attempt| Attempt {
            attempt: attempt.attempt,
            start: micros(attempt.start_time),
            end: micros(attempt.end_time),
            state: attempt.end_state().as_str_name(),
        });
        finals.attempts.insert(task.name.clone(), attempts.collect());
    }
    finals
}
