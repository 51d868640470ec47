//! Taskwatch inside a program of your own, with a handler in Rust that reports,
//! saves, pauses and stops.
//!
//! ```text
//! cargo run --example embed
//! grpcurl -plaintext -d '{"task": {"kind": "primes", "input": {"below": 3000000}}}' \
//!   127.0.0.1:50051 taskwatch.v1.TaskService/CreateTask
//! ```

use std::{collections::BTreeMap, error::Error, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use taskwatch::{
    config::{Config, RunnerConfig},
    domain::KindDefaults,
    runner::{HandlerError, Handlers, Job, Progress},
    server::Server,
};

#[derive(Deserialize)]
struct Input {
    below: u64,
}

async fn primes(job: Job) -> Result<Value, HandlerError> {
    let Input { below } = job.input_as()?;
    let saved = |key: &str| job.checkpoint().and_then(|saved| saved.get(key)?.as_u64());
    let mut next = saved("next").unwrap_or(2);
    let mut found = saved("found").unwrap_or(0);
    while next < below {
        job.proceed().await?;
        let end = below.min(next + 10_000);
        found += tokio::task::spawn_blocking(move || count(next, end)).await?;
        next = end;
        job.report(Progress::units(next, below, "numbers").message(format!("{found} primes")));
        job.save_checkpoint(&json!({ "next": next, "found": found }))?;
    }
    Ok(json!({ "primes": found }))
}

fn count(from: u64, to: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (from..to).filter(is_prime).count() as u64
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();
    let config = Config {
        listen: "127.0.0.1:50051".parse()?,
        database: "sqlite://embed.db".into(),
        grace: Duration::from_secs(10),
        retention: Duration::from_secs(3_600),
        retry: KindDefaults::default(),
        runner: RunnerConfig {
            concurrency: 64,
            lease: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        },
        accept_unknown: false,
        kinds: BTreeMap::new(),
        queues: BTreeMap::new(),
        ..Config::default()
    };
    let handlers = Handlers::builtin(&config)?.with("primes", primes)?;
    let server = Server::bind(config, handlers).await?;
    server
        .run(async {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::error!(%error, "cannot listen for Ctrl-C");
            }
        })
        .await?;
    Ok(())
}
