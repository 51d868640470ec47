//! Whether age slows it down: whole lives of tasks (created, leased and finished, a hundred
//! at a time) on a database that keeps many ended tasks, and has a transaction held open
//! elsewhere, beside a fresh database of the same server of PostgreSQL.

use std::{fmt::Write as _, time::Duration};

use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait,
};
use taskwatch::proto::{
    BatchCreateTasksRequest, FinishTasksRequest, LeaseTasksRequest,
    finish_tasks_request::{self, outcome::Outcome},
    worker_service_client::WorkerServiceClient,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    CONFIG, median,
    support::{Server, create, postgres::Cluster},
};

const CALLERS: usize = 8;
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: usize = 6;
const AT_ONCE: usize = 100;

/// Ended a second.
async fn lives(server: &Server) -> f64 {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = server.client();
        let url = server.url();
        callers.spawn(async move {
            let mut worker = WorkerServiceClient::connect(url).await.expect("connected");
            let requests = vec![create("work", serde_json::Value::Null); AT_ONCE];
            let lease = LeaseTasksRequest {
                worker: format!("bench-{caller}"),
                kinds: vec!["work".to_owned()],
                max_tasks: AT_ONCE as i32,
                ..Default::default()
            };
            let mut done = 0_usize;
            while start.elapsed() < ROUND {
                let batch = BatchCreateTasksRequest { requests: requests.clone() };
                client.batch_create_tasks(batch).await.expect("created");
                let leased = worker.lease_tasks(lease.clone()).await.expect("leased");
                let outcomes = leased.into_inner().leases.into_iter().map(|lease| {
                    finish_tasks_request::Outcome {
                        name: lease.task.expect("a task").name,
                        lease_token: lease.lease_token,
                        outcome: Some(Outcome::Result(prost_types::Value::default())),
                        ..Default::default()
                    }
                });
                let request = FinishTasksRequest { outcomes: outcomes.collect() };
                done += request.outcomes.len();
                if !request.outcomes.is_empty() {
                    worker.finish_tasks(request).await.expect("finished");
                }
            }
            done
        });
    }
    let done: usize = callers.join_all().await.iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

/// Ended tasks, as if they had been run; faster than running them.
async fn fill(database: &DatabaseConnection, rows: u64) {
    let rows = rows.to_string();
    let found = "SELECT indexname, indexdef FROM pg_indexes \
         WHERE tablename IN ('tasks', 'results') AND indexname NOT LIKE '%_pkey'";
    let statement = Statement::from_string(DbBackend::Postgres, found);
    let indexes = database.query_all_raw(statement).await.expect("indexes");
    let (mut drop, mut again) = (String::new(), String::new());
    for index in indexes {
        let name: String = index.try_get_by_index(0).expect("a name");
        let definition: String = index.try_get_by_index(1).expect("a definition");
        write!(drop, "DROP INDEX {name};").unwrap();
        write!(again, "{definition};").unwrap();
    }
    let insert = "INSERT INTO tasks (row, id, kind, queue, queue_set, state, priority, ready_time, \
             create_time, start_time, end_time, end_order, update_time, revision, settled_revision) \
         SELECT nextval('tasks_row'), 'kept-' || n, 'work', 'default', 0, 5, 0, t, t, t + 10, t + 20, \
             t + 20, t + 20, 3, 3 \
         FROM generate_series(1, $rows::bigint) n, LATERAL (SELECT \
             (extract(epoch FROM now()) * 1000000)::bigint - ($rows - n) * 1000 AS t) times; \
         INSERT INTO results SELECT row, '\\x1200' FROM tasks WHERE id LIKE 'kept-%'; \
         INSERT INTO attempts (row, number, attempt, start_time, end_time, end_state) \
         SELECT row, 1, 1, start_time, end_time, 5 FROM tasks WHERE id LIKE 'kept-%';"
        .replace("$rows", &rows);
    for sql in [drop, insert, again, "ANALYZE".to_owned()] {
        database.execute_unprepared(&sql).await.expect("filled");
    }
}

pub(crate) async fn run() {
    let rows = std::env::var("TASKWATCH_BENCH_ROWS").ok();
    let rows: u64 = rows.map_or(200_000, |rows| rows.parse().expect("a number"));
    let cluster = Cluster::with("-c shared_buffers=1GB -c max_wal_size=8GB");
    let (fresh, old) = (cluster.database(), cluster.database());
    let start = async |database: &str| Server::with(Some(database.to_owned()), Some(CONFIG)).await;
    let servers = [start(&fresh).await, start(&old).await];
    let database = Database::connect(&old).await.expect("connected");
    println!("\nTasks created, leased and finished, {AT_ONCE} at a time, PostgreSQL, durable\n");
    println!("{:<52} {:>8} {:>8} {:>6}", "lives/s", "fresh", "old", "ratio");
    let compare = async |what: &str| {
        let mut rates: [Vec<f64>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (server, rates) in servers.iter().zip(&mut rates) {
                rates.push(lives(server).await);
            }
        }
        let [fresh, old] = rates.map(median);
        println!("{what:<52} {fresh:>8.0} {old:>8.0} {:>6.2}", old / fresh);
    };
    compare("both new").await;
    fill(&database, rows).await;
    compare(&format!("{rows} ended tasks kept")).await;
    let held = database.begin().await.expect("begun");
    let look = Statement::from_string(
        DbBackend::Postgres,
        "SELECT pg_current_xact_id()::text, count(*) FROM kinds",
    );
    held.query_one_raw(look).await.expect("looked");
    let since = Instant::now();
    for _ in 0..2 {
        let what = format!("and a transaction open for {} s", since.elapsed().as_secs() + 60);
        compare(&what).await;
    }
    held.rollback().await.expect("ended");
    compare("the transaction over").await;
}
