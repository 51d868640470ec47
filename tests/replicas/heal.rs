//! What is lost between replicas comes all the same: notifications, listeners, the database,
//! a replica, and time.

use std::{collections::BTreeSet, time::Duration};

use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use serde_json::json;
use taskwatch::proto::{WatchTasksRequest, task::State};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use super::{
    RUNS, SERVES, delete, external, progress, replica,
    support::{self, PATIENCE, ask, create, next, postgres::Cluster, to_the_end, until, watch},
};

async fn execute(database: &str, sql: &str) {
    let connection = Database::connect(database).await.expect("connected");
    connection.execute_unprepared(sql).await.expect("executed");
    connection.close().await.expect("closed");
}

/// Whatever is cut, and however often: who watches at C learns the end.
#[tokio::test(flavor = "multi_thread")]
async fn lost_notifications_heal() {
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    let cut = |whose: &str| {
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() {whose}"
        )
    };
    let listeners = cut("AND query LIKE 'LISTEN%'");
    let all = cut("");
    for how in [&listeners, &all, &listeners, &all] {
        let mut client = a.client();
        let created = client.create_task(external()).await.unwrap().into_inner();
        let mut stream = c.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
        next(&mut stream).await.unwrap();
        execute(&database, how).await;
        ask(&mut client, &created.name, State::Running).await.unwrap();
        // At once: nobody listens, and calls wait for the database without a word of it.
        progress(&mut client, &created.name, 50.0).await;
        execute(&database, how).await;
        ask(&mut client, &created.name, State::Succeeded).await.unwrap();
        let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
        assert_eq!(ended.state(), State::Succeeded);
    }
    // Ended and gone before anybody could read it.
    let mut client = a.client();
    let created = client.create_task(external()).await.unwrap().into_inner();
    let mut stream = c.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    next(&mut stream).await.unwrap();
    execute(&database, &listeners).await;
    ask(&mut client, &created.name, State::Cancelled).await.unwrap();
    delete(&mut client, &created.name).await;
    let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
    assert_eq!(ended.state(), State::Cancelled);
    assert!(next(&mut stream).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_elsewhere_swallows_no_end() {
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    let mut client = a.client();
    for _ in 0..20 {
        let created = client.create_task(external()).await.unwrap().into_inner();
        let mut stream = c.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
        next(&mut stream).await.unwrap();
        ask(&mut client, &created.name, State::Cancelled).await.unwrap();
        delete(&mut client, &created.name).await;
        let ended = next(&mut stream).await.unwrap().expect("its end");
        assert_eq!(ended.state(), State::Cancelled);
        assert!(next(&mut stream).await.unwrap().is_none());
    }
}

/// The database crashes and comes back while tasks run, are watched and are reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_database_heals() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let database = cluster.database();
    let (a, b) = (replica(&database, SERVES).await, replica(&database, RUNS).await);
    let c = replica(&database, SERVES).await;
    let mut watchers = JoinSet::new();
    for number in 0..10 {
        let input = json!({"steps": 40 + number, "step_seconds": 0.1});
        let created = a.client().create_task(create("demo", input)).await.unwrap().into_inner();
        let address = c.address.clone();
        watchers.spawn(async move { to_the_end(&address, &created.name).await });
    }
    for mode in ["fast", "immediate"] {
        sleep(Duration::from_secs(1)).await;
        // Off the runtime: the watchers go on meanwhile.
        tokio::task::block_in_place(|| cluster.restart(mode));
        // A call waits, and at the worst is to be made again.
        let begin = Instant::now();
        while let Err(status) = a.client().create_task(external()).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(begin.elapsed() < PATIENCE, "{status}");
        }
    }
    while let Some(ended) = watchers.join_next().await {
        assert_eq!(ended.unwrap().state(), State::Succeeded);
    }
    drop(b);
}

/// What a replica ran that died is run by another one when its lease has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_died_leaves_its_work_to_others() {
    let database = support::postgres::database().await;
    let config = "[runner]\nlease = \"2s\"\n[retry]\ninitial_backoff = \"10ms\"\n";
    let a = replica(&database, SERVES).await;
    let mut b = replica(&database, config).await;
    let input = json!({"steps": 10, "step_seconds": 0.3});
    let created = a.client().create_task(create("demo", input)).await.unwrap().into_inner();
    let mut stream = a.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    until(&mut stream, |task| task.state() == State::Running && task.revision > 4).await.unwrap();
    b.kill();
    let c = replica(&database, config).await;
    let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
    assert_eq!((ended.state(), ended.attempt), (State::Succeeded, 2));
    drop(c);
}

/// One that was away for longer than the others' words are kept reads all that is watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_silence_heals() {
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    let mut client = a.client();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(client.create_task(external()).await.unwrap().into_inner().name);
    }
    let mut stream = c.client().watch_task(watch(&names[0])).await.unwrap().into_inner();
    next(&mut stream).await.unwrap();
    let request = WatchTasksRequest { filter: "state = QUEUED".to_owned(), ..Default::default() };
    let mut all = c.client().watch_tasks(request).await.unwrap().into_inner();
    let mut event = async || {
        let frame = timeout(PATIENCE, all.message()).await.expect("in time").unwrap();
        frame.expect("a message").event().expect("a good frame")
    };
    while event().await.synced.is_none() {}
    c.signal(rustix::process::Signal::STOP);
    ask(&mut client, &names[0], State::Cancelled).await.unwrap();
    ask(&mut client, &names[1], State::Cancelled).await.unwrap();
    delete(&mut client, &names[1]).await;
    let new = client.create_task(external()).await.unwrap().into_inner();
    execute(&database, "DELETE FROM batches").await;
    sleep(Duration::from_secs(32)).await;
    c.signal(rustix::process::Signal::CONT);
    let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
    assert_eq!(ended.state(), State::Cancelled);
    let (mut removed, mut came) = (BTreeSet::new(), BTreeSet::new());
    while removed.len() < 2 || came.is_empty() {
        let event = event().await;
        removed.extend(event.removed);
        came.extend(event.task.map(|task| task.name));
    }
    assert_eq!(removed, names[..2].iter().cloned().collect());
    assert_eq!(came, BTreeSet::from([new.name]));
}

/// A listener that hears nothing any more, and no error either: what it misses comes all the
/// same, and it is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_listener_is_replaced() {
    use rustix::process::{Pid, Signal, kill_process};
    let database = support::postgres::database().await;
    let (a, c) = (replica(&database, SERVES).await, replica(&database, SERVES).await);
    let listeners = async || -> BTreeSet<i32> {
        let connection = Database::connect(&database).await.expect("connected");
        let sql = "SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        let rows = connection
            .query_all_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await
            .expect("read");
        connection.close().await.expect("closed");
        rows.iter().map(|row| row.try_get_by_index(0).expect("a pid")).collect()
    };
    let signal = |pids: &BTreeSet<i32>, signal| {
        for pid in pids {
            kill_process(Pid::from_raw(*pid).expect("a pid"), signal).expect("signalled");
        }
    };
    let begin = Instant::now();
    let deaf = loop {
        let found = listeners().await;
        assert!(begin.elapsed() < PATIENCE, "{found:?}");
        if found.len() == 2 {
            break found;
        }
    };
    let mut client = a.client();
    let created = client.create_task(external()).await.unwrap().into_inner();
    let mut stream = c.client().watch_task(watch(&created.name)).await.unwrap().into_inner();
    next(&mut stream).await.unwrap();
    signal(&deaf, Signal::STOP);
    ask(&mut client, &created.name, State::Cancelled).await.unwrap();
    let ended = until(&mut stream, |task| task.end_time.is_some()).await.unwrap();
    assert_eq!(ended.state(), State::Cancelled);
    while listeners().await.difference(&deaf).count() < 2 {
        assert!(begin.elapsed() < PATIENCE, "they are not replaced");
        sleep(Duration::from_millis(100)).await;
    }
    signal(&deaf, Signal::CONT);
}
