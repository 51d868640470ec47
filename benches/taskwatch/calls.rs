//! Unary calls: beside those that store nothing, those with one commit each, and SQL.

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait, Value};
use serde_json::json;
use taskwatch::proto::{
    BatchCreateTasksRequest, FinishTasksRequest, GetTaskRequest, Lease, LeaseTasksRequest,
    Progress, ReportTasksRequest,
    finish_tasks_request::{self, outcome::Outcome},
    report_tasks_request::Report,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tonic::transport::Channel;

use crate::{
    CONFIG,
    baseline::{Process, connect},
    load::{IN_FLIGHT, alternate, alternate_calls, connections, creates, rate},
    report::{Figure, Goal},
    support::{Client, Server, client, create, postgres::Cluster},
};

pub(crate) type Worker = WorkerServiceClient<Channel>;

pub(crate) async fn measure_create() -> Vec<Figure> {
    let (ours, bare) = (Server::configured(CONFIG).await, Process::bare());
    let (commits, log) = (Process::commits(), Process::log());
    let all = [&ours.address, &bare.address, &commits.address, &log.address];
    let clients = all.map(|address| connections(address));
    let [ours, bare, commits, log] = alternate(async |which| creates(&clients[which]).await).await;
    let figure = |key: &str, against, baseline, goal| Figure {
        key: key.to_owned(),
        what: format!("CreateTask, SQLite, {IN_FLIGHT} in flight"),
        unit: "tasks/s",
        ours: ours.clone(),
        against,
        baseline,
        goal,
    };
    vec![
        figure("create-sqlite", "a unary call that stores nothing", bare, Goal::RatioAtLeast(0.65)),
        figure("create-commits", "one insert and one commit a request", commits, Goal::None),
        // How far any service can go that answers when a task stands, and not before.
        figure("create-log", "a file, one flush for all who wait", log, Goal::None),
    ]
}

pub(crate) async fn measure_create_postgres() -> Vec<Figure> {
    let cluster = Cluster::with("-c shared_buffers=1GB -c max_wal_size=4GB");
    let ours = Server::with(Some(cluster.database()), Some(CONFIG)).await;
    let bare = Process::bare();
    let clients = [&ours.address, &bare.address].map(|at| connections(at));
    let [ours, bare] = alternate(async |which| creates(&clients[which]).await).await;
    vec![Figure {
        key: "create-postgres".to_owned(),
        what: format!("CreateTask, PostgreSQL on the same machine, {IN_FLIGHT} in flight"),
        unit: "tasks/s",
        ours,
        against: "a unary call that stores nothing",
        baseline: bare,
        goal: Goal::RatioAtLeast(0.5),
    }]
}

async fn timed_create(client: &mut Client) -> Duration {
    let request = create("external", json!(null));
    let begin = Instant::now();
    client.create_task(request).await.expect("created");
    begin.elapsed()
}

pub(crate) async fn measure_latency() -> Vec<Figure> {
    let (ours, commits) = (Server::configured(CONFIG).await, Process::commits());
    let mut clients = [client(&ours.address), client(&commits.address)];
    let [ours, commits] =
        alternate_calls(2_000, async |which| timed_create(&mut clients[which]).await).await;
    vec![Figure {
        key: "create-latency".to_owned(),
        what: "CreateTask, SQLite, 1 in flight".to_owned(),
        unit: "ms",
        ours,
        against: "a unary call and one commit of one row",
        baseline: commits,
        goal: Goal::RatioAtMost(1.2),
    }]
}

pub(crate) fn asks(worker: &str, max_tasks: usize, wait: i64) -> LeaseTasksRequest {
    LeaseTasksRequest {
        worker: worker.to_owned(),
        kinds: vec!["work".to_owned()],
        max_tasks: i32::try_from(max_tasks).expect("few"),
        wait: Some(prost_types::Duration { seconds: wait, nanos: 0 }),
        ..Default::default()
    }
}

pub(crate) fn succeeded(lease: Lease) -> finish_tasks_request::Outcome {
    finish_tasks_request::Outcome {
        name: lease.task.expect("a task").name,
        lease_token: lease.lease_token,
        outcome: Some(Outcome::Result(prost_types::Value::default())),
        ..Default::default()
    }
}

pub(crate) fn says(lease: &Lease, units: i64) -> Report {
    Report {
        name: lease.task.as_ref().expect("a task").name.clone(),
        lease_token: lease.lease_token.clone(),
        progress: Some(Progress { completed_units: units, ..Default::default() }),
        ..Default::default()
    }
}

/// From the call that creates a task until a worker that waits has it.
async fn handed_over(client: &mut Client, worker: &Worker) -> Duration {
    let mut waits = worker.clone();
    let waiting = tokio::spawn(async move {
        let leases = waits.lease_tasks(asks("bench", 1, 30)).await.expect("leased").into_inner();
        (Instant::now(), leases.leases)
    });
    // It waits by then, as a worker without work does.
    sleep(Duration::from_millis(5)).await;
    let begin = Instant::now();
    let (created, waiting) = tokio::join!(client.create_task(create("work", json!(null))), waiting);
    created.expect("created");
    let (end, leases) = waiting.expect("waited");
    let request = FinishTasksRequest { outcomes: leases.into_iter().map(succeeded).collect() };
    worker.clone().finish_tasks(request).await.expect("finished");
    end - begin
}

pub(crate) async fn measure_handoff() -> Vec<Figure> {
    let (ours, commits) = (Server::configured(CONFIG).await, Process::commits());
    let worker = WorkerServiceClient::connect(ours.url()).await.expect("connected");
    let mut clients = [client(&ours.address), client(&commits.address)];
    let [ours, commits] = alternate_calls(1_000, async |which| {
        let client = &mut clients[which];
        if which == 0 {
            handed_over(client, &worker).await
        } else {
            timed_create(client).await + timed_create(client).await
        }
    })
    .await;
    vec![Figure {
        key: "handoff".to_owned(),
        what: "from CreateTask to a remote worker that waits, SQLite".to_owned(),
        unit: "ms",
        ours,
        against: "two unary calls, each with one commit of one row",
        baseline: commits,
        goal: Goal::None,
    }]
}

const BATCH: usize = 1_000;

pub(crate) async fn measure_batch() -> Vec<Figure> {
    let ours = Server::configured(CONFIG).await;
    // The very schema, as another server made it.
    let mut other = Server::configured(CONFIG).await;
    other.kill();
    let database = connect(&other.folder().join("taskwatch.db")).await;
    let clients = connections(&ours.address);
    let requests = vec![create("external", json!(null)); BATCH];
    let row = format!("({})", ["?"; 10].join(", "));
    let insert = format!(
        "INSERT INTO tasks (row, id, kind, queue, queue_set, priority, ready_time, create_time, \
         update_time, state) VALUES {}",
        vec![row; BATCH].join(", ")
    );
    let rows = Arc::new(std::sync::atomic::AtomicI64::new(1));
    let [ours, plain] = alternate(async |which| {
        if which == 0 {
            let (clients, requests) = (clients.clone(), requests.clone());
            return rate(clients.len(), move |caller| {
                let batch = BatchCreateTasksRequest { requests: requests.clone() };
                let mut client = clients[caller].clone();
                async move {
                    client.batch_create_tasks(batch).await.expect("created");
                    BATCH
                }
            })
            .await;
        }
        let (database, insert, rows) = (database.clone(), insert.clone(), rows.clone());
        rate(1, move |_| {
            let (database, insert, rows) = (database.clone(), insert.clone(), rows.clone());
            async move {
                let mut values: Vec<Value> = Vec::with_capacity(BATCH * 10);
                for _ in 0..BATCH {
                    let row = rows.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let time = 1_800_000_000_000_000 + row;
                    values.extend::<[Value; 10]>([
                        row.into(),
                        uuid::Uuid::now_v7().to_string().into(),
                        "external".into(),
                        "default".into(),
                        0.into(),
                        0.into(),
                        time.into(),
                        time.into(),
                        time.into(),
                        1.into(),
                    ]);
                }
                let insert =
                    Statement::from_sql_and_values(DbBackend::Sqlite, insert.as_str(), values);
                let transaction = database.begin().await.expect("begun");
                transaction.execute_raw(insert).await.expect("inserted");
                transaction.commit().await.expect("committed");
                BATCH
            }
        })
        .await
    })
    .await;
    vec![Figure {
        key: "batch".to_owned(),
        what: format!("BatchCreateTasks of {BATCH}, SQLite, 4 in flight"),
        unit: "tasks/s",
        ours,
        against: "the same rows, one INSERT for each batch, without a service",
        baseline: plain,
        goal: Goal::RatioAtLeast(0.7),
    }]
}

pub(crate) async fn measure_get() -> Vec<Figure> {
    let (ours, bare) = (Server::configured(CONFIG).await, Process::bare());
    let requests = vec![create("external", json!(null)); BATCH];
    let created = ours.client().batch_create_tasks(BatchCreateTasksRequest { requests }).await;
    let tasks = created.expect("created").into_inner().tasks;
    let names: Arc<[String]> = tasks.into_iter().map(|task| task.name).collect();
    let clients = [&ours.address, &bare.address].map(|at| connections(at));
    let [ours, bare] = alternate(async |which| {
        let (clients, names) = (clients[which].clone(), names.clone());
        rate(IN_FLIGHT, move |caller| {
            let mut client = clients[caller % clients.len()].clone();
            let name = names[rand::random_range(0..names.len())].clone();
            async move {
                client.get_task(GetTaskRequest { name, view: 0 }).await.expect("read");
                1
            }
        })
        .await
    })
    .await;
    vec![Figure {
        key: "get".to_owned(),
        what: format!("GetTask, SQLite, {IN_FLIGHT} in flight"),
        unit: "calls/s",
        ours,
        against: "a unary call that stores nothing",
        baseline: bare,
        goal: Goal::RatioAtLeast(0.85),
    }]
}

/// Tasks that were created and are not finished, at most.
const BACKLOG: usize = 2_000;
const CREATORS: usize = 200;
const WORKERS: usize = 4;

/// What one caller does once: creators first, then workers. How many lives it ended.
async fn live(caller: usize, mut client: Client, mut worker: Worker, room: &Semaphore) -> usize {
    if caller < CREATORS {
        let Ok(room) = tokio::time::timeout(Duration::from_millis(100), room.acquire()).await
        else {
            return 0;
        };
        room.expect("open").forget();
        client.create_task(create("work", json!(null))).await.expect("created");
        return 0;
    }
    let leased = worker.lease_tasks(asks("bench", 100, 0)).await.expect("leased").into_inner();
    if leased.leases.is_empty() {
        sleep(Duration::from_millis(1)).await;
        return 0;
    }
    let reports = leased.leases.iter().map(|lease| says(lease, 1)).collect();
    worker.report_tasks(ReportTasksRequest { reports }).await.expect("reported");
    let outcomes: Vec<_> = leased.leases.into_iter().map(succeeded).collect();
    let done = outcomes.len();
    worker.finish_tasks(FinishTasksRequest { outcomes }).await.expect("finished");
    room.add_permits(done);
    done
}

pub(crate) async fn measure_life() -> Vec<Figure> {
    let (ours, bare) = (Server::configured(CONFIG).await, Process::bare());
    let clients = [&ours.address, &bare.address].map(|at| connections(at));
    let worker = WorkerServiceClient::connect(ours.url()).await.expect("connected");
    let room = Arc::new(Semaphore::new(BACKLOG));
    let [ours, bare] = alternate(async |which| {
        if which == 1 {
            return creates(&clients[1]).await;
        }
        let (clients, worker, room) = (clients[0].clone(), worker.clone(), room.clone());
        rate(CREATORS + WORKERS, move |caller| {
            let (client, worker) = (clients[caller % clients.len()].clone(), worker.clone());
            let room = room.clone();
            async move { live(caller, client, worker, &room).await }
        })
        .await
    })
    .await;
    vec![Figure {
        key: "life".to_owned(),
        what: "whole lives: one call to create each, then leased, reported and finished by 100"
            .to_owned(),
        unit: "lives/s",
        ours,
        against: "a unary call that stores nothing",
        baseline: bare,
        goal: Goal::RatioAtLeast(0.2),
    }]
}
