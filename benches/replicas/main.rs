//! Several replicas on one PostgreSQL: what they do together beside one of them and beside
//! the database alone, how fast news travels between them, and whether age slows them down.
//! Real servers on a real PostgreSQL that flushes every commit, in alternating rounds, so
//! that all of them meet the same machine. `-- news`, `-- throughput` or `-- age` runs one.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod age;
mod news;
mod pgbench;
mod throughput;

/// Nothing runs in the servers themselves.
const CONFIG: &str = "[runner]\nconcurrency = 0\n[kinds]\naccept_unknown = true\n";

#[tokio::main]
async fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    if is_wanted("news") {
        news::run().await;
    }
    if is_wanted("throughput") {
        throughput::run().await;
    }
    if is_wanted("age") {
        age::run().await;
    }
}

/// The one in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
