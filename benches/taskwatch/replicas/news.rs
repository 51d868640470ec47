//! How long it takes from a worker's report at one replica until a watcher at another has
//! it, beside the same within one server; and what the word to the others costs a commit.
//! On a PostgreSQL of its own that flushes every commit, in alternating rounds.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, TransactionTrait};
use serde_json::json;
use taskwatch::proto::{
    Frame, LeaseTasksRequest, Progress, ReportTasksRequest, report_tasks_request::Report,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::{Instant, sleep};
use tonic::{Streaming, transport::Channel};

use crate::{
    CONFIG,
    load::alternate_calls,
    report::{Figure, Goal},
    support::{Server, create, next, postgres::Cluster, watch},
};

const ROUNDS: usize = 1_000;

/// A worker at one server, and a watcher at another one or the same.
struct Pair {
    worker: WorkerServiceClient<Channel>,
    watcher: Streaming<Frame>,
    report: Report,
}

impl Pair {
    async fn of(server: &Server, watched_at: &Server) -> Self {
        let created = server.client().create_task(create("work", json!(null))).await.unwrap();
        let name = created.into_inner().name;
        let mut worker = WorkerServiceClient::connect(server.url()).await.unwrap();
        let request = LeaseTasksRequest {
            worker: "bench".to_owned(),
            kinds: vec!["work".to_owned()],
            lease_duration: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            ..Default::default()
        };
        let lease = worker.lease_tasks(request).await.unwrap().into_inner().leases.remove(0);
        let watcher = watched_at.client().watch_task(watch(&name)).await.unwrap().into_inner();
        let report = Report { name, lease_token: lease.lease_token, ..Default::default() };
        Self { worker, watcher, report }
    }

    /// From the call that reports to the state in the watcher's hands.
    async fn round(&mut self, units: i64) -> Duration {
        let progress = Progress { completed_units: units, ..Default::default() };
        let report = Report { progress: Some(progress), ..self.report.clone() };
        let mut worker = self.worker.clone();
        let begin = Instant::now();
        let said = tokio::spawn(async move {
            let request = ReportTasksRequest { reports: vec![report] };
            worker.report_tasks(request).await.expect("reported");
        });
        loop {
            let task = next(&mut self.watcher).await.expect("a stream").expect("a state");
            if task.progress.is_some_and(|progress| progress.completed_units == units) {
                break;
            }
        }
        let taken = begin.elapsed();
        said.await.expect("said");
        taken
    }
}

/// One commit of one row, with a word to the others or without.
async fn commit(database: &DatabaseConnection, told: bool) -> Duration {
    let begin = Instant::now();
    let transaction = database.begin().await.expect("begun");
    let row = "INSERT INTO rows DEFAULT VALUES";
    transaction.execute_unprepared(row).await.expect("inserted");
    if told {
        let word = "WITH added AS (INSERT INTO batches (xid, replica, time, notice) \
             VALUES (pg_current_xact_id()::text::bigint, 0, \
             (extract(epoch FROM now()) * 1000000)::bigint, '') RETURNING number, replica) \
             SELECT pg_notify('taskwatch', number || ' ' || replica) FROM added";
        transaction.execute_unprepared(word).await.expect("told");
    }
    transaction.commit().await.expect("committed");
    begin.elapsed()
}

pub(crate) async fn run() -> Vec<Figure> {
    let cluster = Cluster::with("");
    let (shared, own) = (cluster.database(), cluster.database());
    let start = async |database: &str| Server::with(Some(database.to_owned()), Some(CONFIG)).await;
    let (a, b, c) = (start(&shared).await, start(&shared).await, start(&shared).await);
    let alone = start(&own).await;
    let mut across = Pair::of(&a, &c).await;
    let mut within = Pair::of(&alone, &alone).await;
    let database = Database::connect(&shared).await.expect("connected");
    database.execute_unprepared("CREATE TABLE rows (row BIGSERIAL PRIMARY KEY)").await.unwrap();
    let mut round = 0;
    let [across, within, told, bare] = alternate_calls(ROUNDS, async |which| {
        round += 1;
        // What follows a commit elsewhere is over by then.
        sleep(Duration::from_millis(2)).await;
        match which {
            0 => across.round(round).await,
            1 => within.round(round).await,
            _ => commit(&database, which == 2).await,
        }
    })
    .await;
    drop((b, database));
    vec![
        Figure {
            key: "replicas-news".to_owned(),
            what: "from a report at one replica to a watcher at another".to_owned(),
            unit: "ms",
            ours: across,
            against: "the same within one server",
            baseline: within,
            goal: Goal::AtMost(100.0),
        },
        Figure {
            key: "replicas-notice".to_owned(),
            what: "a commit of one row, of which the other replicas are told".to_owned(),
            unit: "ms",
            ours: told,
            against: "the commit alone",
            baseline: bare,
            goal: Goal::None,
        },
    ]
}
