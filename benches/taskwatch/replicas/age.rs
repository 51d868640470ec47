//! Whether age slows it down: whole lives of tasks (created, leased and finished, a hundred
//! at a time) on a database that keeps many ended tasks, and has a transaction held open
//! elsewhere, beside a fresh database of the same server of PostgreSQL.

use sea_orm::{ConnectionTrait, Database, DbBackend, Statement, TransactionTrait};
use taskwatch::proto::{
    BatchCreateTasksRequest, FinishTasksRequest, worker_service_client::WorkerServiceClient,
};
use tokio::time::Instant;

use crate::{
    CONFIG,
    calls::{asks, succeeded},
    load::{alternate, rate},
    report::{Figure, Goal},
    rows::{asked_for, fill},
    support::{Server, create, postgres::Cluster},
};

const CALLERS: usize = 8;
const AT_ONCE: usize = 100;

/// Ended a second.
async fn lives(server: &Server) -> f64 {
    let client = server.client();
    let worker = WorkerServiceClient::connect(server.url()).await.expect("connected");
    let requests = vec![create("work", serde_json::Value::Null); AT_ONCE];
    rate(CALLERS, move |caller| {
        let (mut client, mut worker) = (client.clone(), worker.clone());
        let batch = BatchCreateTasksRequest { requests: requests.clone() };
        async move {
            client.batch_create_tasks(batch).await.expect("created");
            let lease = asks(&format!("bench-{caller}"), AT_ONCE, 0);
            let leased = worker.lease_tasks(lease).await.expect("leased").into_inner().leases;
            let outcomes: Vec<_> = leased.into_iter().map(succeeded).collect();
            let done = outcomes.len();
            if done > 0 {
                worker.finish_tasks(FinishTasksRequest { outcomes }).await.expect("finished");
            }
            done
        }
    })
    .await
}

pub(crate) async fn run() -> Vec<Figure> {
    let rows = asked_for();
    let cluster = Cluster::with("-c shared_buffers=1GB -c max_wal_size=8GB");
    let (fresh, old) = (cluster.database(), cluster.database());
    let start = async |database: &str| Server::with(Some(database.to_owned()), Some(CONFIG)).await;
    let servers = [start(&old).await, start(&fresh).await];
    let database = Database::connect(&old).await.expect("connected");
    let mut figures = Vec::new();
    let mut compare = async |key: &str, what: String| {
        let [ours, baseline] = alternate(async |which| lives(&servers[which]).await).await;
        figures.push(Figure {
            key: format!("replicas-rows-{key}"),
            what: format!("whole lives, PostgreSQL: {what}"),
            unit: "lives/s",
            ours,
            against: "a new database on the same server",
            baseline,
            goal: Goal::RatioAtLeast(0.8),
        });
    };
    compare("new", "both databases new".to_owned()).await;
    fill(&database, rows, true).await;
    compare("kept", format!("{rows} ended tasks kept")).await;
    let held = database.begin().await.expect("begun");
    let look = Statement::from_string(
        DbBackend::Postgres,
        "SELECT pg_current_xact_id()::text, count(*) FROM kinds",
    );
    held.query_one_raw(look).await.expect("looked");
    let since = Instant::now();
    for key in ["held", "held-longer"] {
        let open = since.elapsed().as_secs();
        compare(key, format!("and a transaction of others open, from its second {open} on")).await;
    }
    held.rollback().await.expect("ended");
    compare("after", "the transaction over".to_owned()).await;
    figures
}
