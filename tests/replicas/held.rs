//! A transaction that somebody holds open keeps PostgreSQL from clearing away what is over.
//! Hand-outs do not go through all of that each time, and miss nothing for it.

use sea_orm::{ConnectionTrait, Database, TransactionTrait};
use serde_json::json;
use taskwatch::proto::{
    CreateTaskRequest, FinishTasksRequest, Lease, LeaseTasksRequest, Queue, Task,
    UpdateQueueRequest, finish_tasks_request, worker_service_client::WorkerServiceClient,
};
use tokio::time::{Instant, sleep};

use super::{
    replica,
    support::{self, Client, PATIENCE, Server, create, postgres::value},
};

/// Entries in the index of what is due that stand for nothing any more.
const OVER: i64 = 50_000;
const CONFIG: &str = "[runner]\nconcurrency = 0\n[kinds]\naccept_unknown = true\n";

async fn lease(server: &Server, max_tasks: i32) -> Vec<Lease> {
    let mut worker = WorkerServiceClient::connect(server.url()).await.unwrap();
    let request = LeaseTasksRequest {
        worker: "tester".to_owned(),
        kinds: vec!["work".to_owned()],
        max_tasks,
        ..Default::default()
    };
    worker.lease_tasks(request).await.unwrap().into_inner().leases
}

fn name(lease: &Lease) -> String {
    lease.task.clone().expect("a task").name
}

/// Leases one by one until this many were had; news between replicas takes a moment.
async fn leased(server: &Server, tasks: usize) -> Vec<String> {
    let begin = Instant::now();
    let mut names = Vec::new();
    while names.len() < tasks {
        assert!(begin.elapsed() < PATIENCE, "handed out so far: {names:?}");
        let got = lease(server, 1).await;
        names.extend(got.iter().map(name));
        if got.is_empty() {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    names
}

async fn created(client: &mut Client, priority: i32, queue: &str) -> String {
    let CreateTaskRequest { task, .. } = create("work", json!(null));
    let task = Task { priority, queue: queue.to_owned(), ..task.expect("a task") };
    let request = CreateTaskRequest { task: Some(task), ..Default::default() };
    client.create_task(request).await.unwrap().into_inner().name
}

async fn pause(client: &mut Client, paused: bool) {
    let queue = Queue { name: "queues/default".to_owned(), paused, ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["paused".to_owned()] });
    let request = UpdateQueueRequest { queue: Some(queue), update_mask };
    client.update_queue(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_not_gone_through_and_nothing_is_missed() {
    let url = support::postgres::database().await;
    let (a, b) = (replica(&url, CONFIG).await, replica(&url, CONFIG).await);
    let (mut at_a, mut at_b) = (a.client(), b.client());
    let database = Database::connect(&url).await.expect("connected");
    let held = database.begin().await.expect("begun");
    held.execute_unprepared("SELECT pg_current_xact_id()").await.expect("held");
    for sql in [
        &format!(
            "INSERT INTO tasks \
             (row, id, kind, queue, queue_set, due, priority, ready_time, create_time, update_time) \
             SELECT nextval('tasks_row'), 'over-' || n, 'work', 'default', 0, 1, 0, n, n, n \
             FROM generate_series(1, {OVER}) n"
        ),
        "DELETE FROM tasks WHERE id LIKE 'over-%'",
    ] {
        database.execute_unprepared(sql).await.expect(sql);
    }
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_due'";
    // Each learns that looking takes long.
    assert_eq!((lease(&a, 1).await, lease(&b, 1).await), (vec![], vec![]));
    let mut expected = Vec::new();
    for _ in 0..100 {
        expected.push(created(&mut at_a, 0, "").await);
    }
    let mut had = leased(&a, 50).await;
    // Ahead of all that was handed out, here and elsewhere; and in another queue.
    for client in [&mut at_a, &mut at_b] {
        let urgent = created(client, 7, "").await;
        let name = loop {
            let lease = lease(&a, 1).await.pop().expect("there are some");
            had.push(name(&lease));
            if name(&lease) == urgent {
                break urgent;
            }
        };
        expected.push(name);
        let other = created(client, -5, "other").await;
        expected.push(other);
    }
    // What was given back is ahead, too.
    let mut worker = WorkerServiceClient::connect(b.url()).await.unwrap();
    let lease = loop {
        if let Some(lease) = lease(&b, 1).await.pop() {
            break lease;
        }
    };
    let outcome = finish_tasks_request::Outcome {
        name: name(&lease),
        lease_token: lease.lease_token.clone(),
        outcome: Some(finish_tasks_request::outcome::Outcome::Released(true)),
        ..Default::default()
    };
    worker.finish_tasks(FinishTasksRequest { outcomes: vec![outcome] }).await.unwrap();
    // Held back and let go, at the other one.
    pause(&mut at_b, true).await;
    for _ in 0..3 {
        expected.push(created(&mut at_b, 0, "").await);
    }
    pause(&mut at_b, false).await;
    let rest = expected.len() - had.len();
    had.extend(leased(&a, rest / 2).await);
    had.extend(leased(&b, rest - rest / 2).await);
    had.sort();
    expected.sort();
    assert_eq!(had, expected, "each once");
    // A session tells its numbers when it has been idle for a while.
    sleep(std::time::Duration::from_secs(2)).await;
    let handed_out = expected.len() as i64;
    let gone_through: i64 = value(&database, read).await;
    assert!(
        gone_through < handed_out * OVER / 3,
        "{gone_through} entries were gone through for {handed_out} tasks"
    );
    held.rollback().await.expect("ended");
}
