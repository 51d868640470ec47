//! Whether the rows that are kept cost anything: on SQLite, beside an empty table.
//! TASKWATCH_BENCH_ROWS says how many, a million where it is not set.

use std::{fmt::Write as _, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::json;
use taskwatch::proto::{
    BatchCreateTasksRequest, FinishTasksRequest, GetTaskRequest, ListTasksRequest,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::Instant;

use crate::{
    CONFIG,
    baseline::connect,
    calls::{asks, succeeded},
    load::{alternate, alternate_calls, connections, creates},
    report::{Figure, Goal},
    support::{Client, Server, create},
};

pub(crate) fn asked_for() -> u64 {
    let rows = std::env::var("TASKWATCH_BENCH_ROWS").ok();
    rows.map_or(1_000_000, |rows| rows.parse().expect("TASKWATCH_BENCH_ROWS is a number"))
}

/// Tasks as if they had been run, or as if they waited; faster than making them so.
pub(crate) async fn fill(database: &DatabaseConnection, rows: u64, ended: bool) {
    let backend = database.get_database_backend();
    let postgres = backend == DbBackend::Postgres;
    let found = if postgres {
        "SELECT indexname, indexdef FROM pg_indexes \
         WHERE tablename IN ('tasks', 'results') AND indexname NOT LIKE '%_pkey'"
    } else {
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'tasks' \
         AND sql IS NOT NULL"
    };
    let indexes = database.query_all_raw(Statement::from_string(backend, found)).await;
    let (mut drop, mut again) = (String::new(), String::new());
    for index in indexes.expect("indexes") {
        let name: String = index.try_get_by_index(0).expect("a name");
        let definition: String = index.try_get_by_index(1).expect("a definition");
        write!(drop, "DROP INDEX {name};").unwrap();
        write!(again, "{definition};").unwrap();
    }
    let series = if postgres {
        format!("SELECT n FROM generate_series(1, {rows}::bigint) AS series(n)")
    } else {
        format!(
            "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series \
             WHERE n < {rows}) SELECT n FROM series"
        )
    };
    let now = taskwatch::clock::now().micros();
    // Behind what a server has taken ahead.
    let first = if postgres {
        "SELECT last_value FROM tasks_row"
    } else {
        "SELECT coalesce(max(row), 0) FROM tasks"
    };
    let first = database.query_one_raw(Statement::from_string(backend, first)).await;
    let first: i64 = first.expect("read").expect("a row").try_get_by_index(0).expect("a number");
    let life = if ended { "t + 20, 5, NULL, t + 10, t + 20, 2" } else { "t, 1, 1, NULL, NULL, 0" };
    let mut insert = format!(
        "INSERT INTO tasks (row, id, kind, queue, queue_set, priority, ready_time, create_time, \
             update_time, state, due, start_time, end_time, phase) \
         SELECT {first} + n, 'kept-' || n, 'work', 'default', 0, 0, t, t, {life} \
         FROM (SELECT n, {now} - ({rows} - n) * 1000 AS t FROM ({series}) AS numbers) AS times;"
    );
    if ended {
        let blob = if postgres { "'\\x1a00'::bytea" } else { "x'1a00'" };
        write!(
            insert,
            "INSERT INTO results SELECT row, {blob} FROM tasks WHERE row > {first}; \
             INSERT INTO attempts (row, number, attempt, start_time, end_time, end_state) \
             SELECT row, 1, 1, start_time, end_time, 5 FROM tasks WHERE row > {first};"
        )
        .unwrap();
    }
    if postgres {
        write!(insert, "SELECT setval('tasks_row', {first} + {rows} + 1000);").unwrap();
    }
    for sql in [drop, insert, again, "ANALYZE".to_owned()] {
        database.execute_unprepared(&sql).await.expect("filled");
    }
}

/// A server that finds so many rows when it starts.
async fn filled(rows: u64, ended: bool) -> Server {
    let mut server = Server::configured(CONFIG).await;
    server.kill();
    let database = connect(&server.folder().join("taskwatch.db")).await;
    fill(&database, rows, ended).await;
    // The server's statements are planned without statistics, as on any other day.
    database.execute_unprepared("DROP TABLE IF EXISTS sqlite_stat1").await.ok();
    database.close().await.expect("closed");
    server.start_again().await;
    server
}

const PAGE: i32 = 50;
/// Of the table that is as good as empty: enough for a page in its middle.
const FEW: usize = 2_000;

async fn page(client: &mut Client, page_size: i32, token: &str) -> (Duration, String, usize) {
    let request =
        ListTasksRequest { page_size, page_token: token.to_owned(), ..Default::default() };
    let begin = Instant::now();
    let page = client.list_tasks(request).await.expect("listed").into_inner();
    (begin.elapsed(), page.next_page_token, page.tasks.len())
}

/// The token of the page in the middle of so many tasks. However many that are, `reads` are
/// read: what a server has read leaves its memory in another state.
async fn middle(client: &mut Client, rows: u64, reads: u64) -> String {
    let (mut token, mut seen, mut middle) = (String::new(), 0, None);
    while seen < reads || middle.is_none() {
        let (_, next, tasks) = page(client, 1_000, &token).await;
        (token, seen) = (next, seen + tasks as u64);
        if seen >= rows / 2 {
            middle.get_or_insert_with(|| token.clone());
        }
    }
    middle.unwrap_or_default()
}

pub(crate) async fn kept() -> Vec<Figure> {
    let rows = asked_for();
    let servers = [filled(rows, true).await, Server::configured(CONFIG).await];
    let requests = vec![create("external", json!(null)); FEW / 2];
    for _ in 0..2 {
        let batch = BatchCreateTasksRequest { requests: requests.clone() };
        servers[1].client().batch_create_tasks(batch).await.expect("created");
    }
    let mut clients = [servers[0].client(), servers[1].client()];
    let [kept, few] = &mut clients;
    let middles = [middle(kept, rows, rows / 2).await, middle(few, FEW as u64, rows / 2).await];
    let first = alternate_calls(500, async |which| page(&mut clients[which], PAGE, "").await.0);
    let first: [Vec<f64>; 2] = first.await;
    let middle: [Vec<f64>; 2] = alternate_calls(500, async |which| {
        page(&mut clients[which], PAGE, &middles[which]).await.0
    })
    .await;
    let mut workers = Vec::new();
    for server in &servers {
        workers.push(WorkerServiceClient::connect(server.url()).await.expect("connected"));
    }
    let lease: [Vec<f64>; 2] = alternate_calls(500, async |which| {
        let worker = &mut workers[which];
        clients[which].create_task(create("work", json!(null))).await.expect("created");
        let begin = Instant::now();
        let leased = worker.lease_tasks(asks("bench", 1, 5)).await.expect("leased").into_inner();
        let taken = begin.elapsed();
        let outcomes = leased.leases.into_iter().map(succeeded).collect();
        worker.finish_tasks(FinishTasksRequest { outcomes }).await.expect("finished");
        taken
    })
    .await;
    let connected = [connections(&servers[0].address), connections(&servers[1].address)];
    let create = alternate(async |which| creates(&connected[which]).await).await;
    let figure = |key: &str, what: &str, unit, [ours, baseline]: [Vec<f64>; 2], goal| Figure {
        key: format!("rows-{key}"),
        what: format!("{what}, {rows} ended tasks kept, SQLite"),
        unit,
        ours,
        against: "an empty table",
        baseline,
        goal,
    };
    // A speed of 0.9 is a time of 1.11.
    let time = Goal::RatioAtMost(1.0 / 0.9);
    vec![
        figure("create", "CreateTask, 256 in flight", "tasks/s", create, Goal::RatioAtLeast(0.9)),
        figure("lease", "LeaseTasks of one", "ms", lease, time),
        figure("first-page", "the first page of a list of 50", "ms", first, time),
        figure("middle-page", "a page of 50 in the middle", "ms", middle, time),
    ]
}

const UNFINISHED: u64 = 1_000_000;

/// From the start of the process to the first answer.
async fn started(server: &mut Server) -> f64 {
    server.kill();
    let begin = Instant::now();
    server.start_again().await;
    let request = GetTaskRequest { name: "tasks/kept-1".to_owned(), view: 0 };
    // An answer is an answer: there is none such in an empty table.
    server.client().get_task(request).await.ok();
    begin.elapsed().as_secs_f64()
}

pub(crate) async fn start() -> Vec<Figure> {
    let mut servers = [filled(UNFINISHED, false).await, Server::configured(CONFIG).await];
    let [ours, empty] = alternate(async |which| started(&mut servers[which]).await).await;
    vec![Figure {
        key: "start".to_owned(),
        what: "a start with 1,000,000 unfinished tasks: time to the first answer".to_owned(),
        unit: "s",
        ours,
        against: "an empty table",
        baseline: empty,
        goal: Goal::AtMost(1.0),
    }]
}
