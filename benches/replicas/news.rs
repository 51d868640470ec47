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

use crate::CONFIG;
use crate::support::{Server, create, next, postgres::Cluster, watch};

const ROUNDS: usize = 1_000;
const WARM_UP: usize = 50;

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

fn line(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    println!("{what:<52} {:>8.3} {:>8.3} {:>8.3}", at(50), at(90), at(99));
    times[times.len() / 2]
}

pub(crate) async fn run() {
    let cluster = Cluster::with("");
    let (shared, own) = (cluster.database(), cluster.database());
    let start = async |database: &str| Server::with(Some(database.to_owned()), Some(CONFIG)).await;
    let (a, b, c) = (start(&shared).await, start(&shared).await, start(&shared).await);
    let alone = start(&own).await;
    let mut across = Pair::of(&a, &c).await;
    let mut within = Pair::of(&alone, &alone).await;
    let database = Database::connect(&shared).await.expect("connected");
    database.execute_unprepared("CREATE TABLE rows (row BIGSERIAL PRIMARY KEY)").await.unwrap();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS + WARM_UP {
        let units = i64::try_from(round).expect("few") + 1;
        let taken = [
            within.round(units).await,
            across.round(units).await,
            commit(&database, false).await,
            commit(&database, true).await,
        ];
        if round >= WARM_UP {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
        // What follows a commit elsewhere is over by then.
        sleep(Duration::from_millis(5)).await;
    }
    let [mut within, mut across, mut bare, mut told] = times;
    println!("From report to watcher, {ROUNDS} rounds, PostgreSQL, durable, three replicas\n");
    println!("{:<52} {:>8} {:>8} {:>8}", "milliseconds", "median", "p90", "p99");
    let within = line("within one server", &mut within);
    let across = line("reported at A, watched at C", &mut across);
    let bare = line("a commit of one row", &mut bare);
    let told = line("the same, and the others are told", &mut told);
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    println!("\nratios of the medians: {:.2}, {:.2}", ratio(across, within), ratio(told, bare));
    drop((b, database));
}
