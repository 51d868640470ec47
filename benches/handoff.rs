//! How long it takes from the call that creates a task until a waiting remote worker has
//! it, beside the least that this could take: two unary calls over the same transport
//! and two commits of one row to the same disk. In alternating rounds, so that both meet
//! the same machine.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, TransactionTrait};
use taskwatch::proto::{
    CreateTaskRequest, FinishTasksRequest, LeaseTasksRequest, Task,
    finish_tasks_request::{self, outcome::Outcome},
    task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const ROUNDS: usize = 1_000;

async fn database(folder: &TempDir) -> DatabaseConnection {
    let url = format!("sqlite://{}/baseline.db?mode=rwc", folder.path().display());
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let database = Database::connect(options).await.expect("a database");
    for sql in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE tasks (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, state INTEGER NOT NULL)",
    ] {
        database.execute_unprepared(sql).await.expect(sql);
    }
    database
}

/// Two bare calls, and after each one commit of one row.
async fn least(health: &mut HealthClient<Channel>, database: &DatabaseConnection, row: usize) {
    for sql in [
        format!("INSERT INTO tasks VALUES ({row}, 'work', 1)"),
        format!("UPDATE tasks SET state = 2 WHERE id = {row}"),
    ] {
        health.check(HealthCheckRequest::default()).await.expect("healthy");
        let transaction = database.begin().await.expect("begun");
        transaction.execute_unprepared(&sql).await.expect("executed");
        transaction.commit().await.expect("committed");
    }
}

/// From the call to the lease in the worker's hands.
async fn handed_over(
    tasks: &mut TaskServiceClient<Channel>,
    workers: &WorkerServiceClient<Channel>,
) -> Duration {
    let mut worker = workers.clone();
    let waiting = tokio::spawn(async move {
        let request = LeaseTasksRequest {
            worker: "bench".to_owned(),
            kinds: vec!["work".to_owned()],
            wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            ..Default::default()
        };
        let leases = worker.lease_tasks(request).await.expect("leased").into_inner().leases;
        (Instant::now(), leases)
    });
    // It waits by then, as a worker without work does.
    sleep(Duration::from_millis(5)).await;
    let task = Task { kind: "work".to_owned(), ..Default::default() };
    let request = CreateTaskRequest { task: Some(task), ..Default::default() };
    let begin = Instant::now();
    let (created, waiting) = tokio::join!(tasks.create_task(request), waiting);
    created.expect("created");
    let (end, leases) = waiting.expect("waited");
    let lease = leases.into_iter().next().expect("a lease");
    let outcome = finish_tasks_request::Outcome {
        name: lease.task.expect("a task").name,
        lease_token: lease.lease_token,
        outcome: Some(Outcome::Result(prost_types::Value::default())),
        ..Default::default()
    };
    let request = FinishTasksRequest { outcomes: vec![outcome] };
    workers.clone().finish_tasks(request).await.expect("finished");
    end - begin
}

fn line(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    println!("{what:<44} {:>8.3} {:>8.3} {:>8.3}", at(50), at(90), at(99));
    times[times.len() / 2]
}

#[tokio::main]
async fn main() {
    let folder = TempDir::new().expect("a directory");
    let log = folder.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskwatch"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--database"]);
    command.arg(format!("sqlite://{}/taskwatch.db", folder.path().display()));
    command.env("TASKWATCH_CONFIG", folder.path().join("taskwatch.toml"));
    std::fs::write(folder.path().join("taskwatch.toml"), "[kinds]\naccept_unknown = true\n")
        .expect("written");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = command.stderr(File::create(&log).expect("a log")).spawn().expect("started");
    let address = loop {
        let text = std::fs::read_to_string(&log).expect("the log");
        let listens = text.split("127.0.0.1:").nth(1).and_then(|rest| {
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            (port != "0" && !port.is_empty()).then(|| format!("http://127.0.0.1:{port}"))
        });
        match listens {
            Some(address) => break address,
            None => sleep(Duration::from_millis(20)).await,
        }
    };
    let connect = async || {
        let endpoint = Endpoint::from_shared(address.clone()).expect("an address");
        endpoint.tcp_nodelay(true).connect().await.expect("connected")
    };
    let mut tasks = TaskServiceClient::new(connect().await);
    let workers = WorkerServiceClient::new(connect().await);
    let mut health = HealthClient::new(connect().await);
    let database = database(&folder).await;
    let (mut ours, mut leasts) = (Vec::new(), Vec::new());
    for row in 0..ROUNDS + 50 {
        let begin = Instant::now();
        least(&mut health, &database, row).await;
        let least = begin.elapsed();
        let taken = handed_over(&mut tasks, &workers).await;
        // The first ones warm up.
        if row >= 50 {
            leasts.push(least);
            ours.push(taken);
        }
    }
    server.kill().and_then(|()| server.wait()).expect("ended");
    println!("From create to a waiting remote worker, {ROUNDS} rounds, SQLite, durable\n");
    println!("{:<44} {:>8} {:>8} {:>8}", "milliseconds", "median", "p90", "p99");
    let least = line("two unary calls and two commits of one row", &mut leasts);
    let ours = line("create to lease", &mut ours);
    println!("\nratio of the medians: {:.2}", ours.as_secs_f64() / least.as_secs_f64());
}
