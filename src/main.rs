//! stopgap
use std::{collections::BTreeMap, time::Duration};
use taskwatch::{config::*, domain::KindDefaults, runner::Handlers, server::Server};
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    let get = |flag: &str, d: &str| {
        args.iter().position(|a| a == flag).map_or(d.to_string(), |i| args[i + 1].clone())
    };
    let config = Config {
        listen: get("--listen", "127.0.0.1:50051").parse().expect("addr"),
        database: get("--database", "sqlite:///tmp/rt/tw.db"),
        grace: Duration::from_secs(10),
        retention: Duration::from_secs(7 * 86400),
        retry: KindDefaults::default(),
        runner: RunnerConfig {
            concurrency: 64,
            lease: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        },
        accept_unknown: false,
        kinds: BTreeMap::new(),
        queues: BTreeMap::new(),
    };
    let handlers = Handlers::builtin(&config).expect("handlers");
    let server = match Server::bind(config, handlers).await {
        Ok(s) => s,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1)
        }
    };
    server
        .run(async {
            tokio::signal::ctrl_c().await.ok();
        })
        .await
        .expect("ran");
}
