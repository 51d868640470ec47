#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::{prelude::*, test_runner::TestRunner};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, sea_query::Query};

use super::*;
use crate::domain::{
    Name, NewTask, RetryPolicy, State, Status, Task, Timestamp, Value, create,
    filter_strategies::{any_filter, any_text, any_time},
};

fn any_status() -> impl Strategy<Value = Status> {
    (prop::sample::select(State::ALL.to_vec()), any_time()).prop_map(
        |(state, end_time)| match state {
            State::Queued => Status::Queued,
            State::Running => Status::Running(None),
            State::Paused => Status::Paused(None),
            State::Cancelling => Status::Cancelling(None),
            State::Succeeded => Status::Succeeded { end_time, result: Value::default() },
            State::Failed => Status::Failed { end_time },
            State::Cancelled => Status::Cancelled { end_time },
        },
    )
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["a", "b", "B", "ab", "default"]).prop_map(|n| Name::new(n).unwrap())
}

fn any_task() -> impl Strategy<Value = Task> {
    let names =
        (any_name(), any_name(), prop::option::of(any_name()), prop::option::of(any_name()));
    let times =
        (any_time(), any_time(), prop::option::of(any_time()), prop::option::of(any_time()));
    let labels = prop::collection::btree_map(any_text(), any_text(), 0..4);
    (names, times, labels, any_status(), -3..4_i32, 1..4_u32).prop_map(
        |((id, kind, queue, worker), times, labels, status, priority, attempt)| {
            let (create_time, update_time, start_time, schedule_time) = times;
            let new = NewTask {
                id,
                kind,
                input: None,
                queue,
                priority,
                labels,
                schedule_time,
                retry_policy: RetryPolicy::default(),
                attempt_timeout: None,
                retention: None,
            };
            let task = create(&new, create_time);
            Task { status, worker, attempt, update_time, start_time, ..task }
        },
    )
}

async fn database() -> DatabaseConnection {
    let db = Database::connect("sqlite::memory:").await.unwrap();
    for statement in [
        "CREATE TABLE tasks (row INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL, \
         queue TEXT NOT NULL, state SMALLINT NOT NULL, priority INTEGER NOT NULL, \
         attempt INTEGER NOT NULL, worker TEXT, create_time BIGINT NOT NULL, \
         update_time BIGINT NOT NULL, start_time BIGINT, end_time BIGINT, schedule_time BIGINT)",
        "CREATE TABLE labels (row BIGINT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, \
         PRIMARY KEY (row, key))",
    ] {
        db.execute_unprepared(statement).await.unwrap();
    }
    db
}

async fn insert(db: &DatabaseConnection, row: i64, task: &Task) {
    const COLUMNS: [&str; 13] = [
        "row",
        "id",
        "kind",
        "queue",
        "state",
        "priority",
        "attempt",
        "worker",
        "create_time",
        "update_time",
        "start_time",
        "end_time",
        "schedule_time",
    ];
    let micros = |time: Option<Timestamp>| time.map(Timestamp::micros);
    let mut into = Query::insert();
    into.into_table("tasks").columns(COLUMNS).values_panic([
        row.into(),
        task.id.as_str().into(),
        task.kind.as_str().into(),
        task.queue_name().into(),
        task.state().number().into(),
        task.priority.into(),
        task.attempt.into(),
        task.worker.as_ref().map(|worker| worker.to_string()).into(),
        task.create_time.micros().into(),
        task.update_time.micros().into(),
        micros(task.start_time).into(),
        micros(task.end_time()).into(),
        micros(task.schedule_time).into(),
    ]);
    db.execute(&into).await.unwrap();
    for (key, value) in task.labels.iter() {
        let mut into = Query::insert();
        into.into_table("labels").columns(["row", "key", "value"]).values_panic([
            row.into(),
            key.as_str().into(),
            value.as_str().into(),
        ]);
        db.execute(&into).await.unwrap();
    }
}

async fn selected(db: &DatabaseConnection, filter: &Filter) -> Vec<i64> {
    let mut select = Query::select();
    select
        .column(("tasks", "row"))
        .from("tasks")
        .cond_where(condition(filter, &|column| Expr::col(("tasks", column))));
    let mut rows: Vec<i64> = db
        .query_all(&select)
        .await
        .unwrap()
        .iter()
        .map(|r| r.try_get("", "row").unwrap())
        .collect();
    rows.sort_unstable();
    rows
}

fn matched(tasks: &[Task], filter: &Filter) -> Vec<i64> {
    (0..).zip(tasks).filter(|(_, task)| filter.matches(task)).map(|(row, _)| row).collect()
}

#[test]
fn the_database_selects_what_matches() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 48, ..ProptestConfig::default() });
    let tasks = prop::collection::vec(any_task(), 1..12);
    let filters = prop::collection::vec(any_filter(), 24);
    runner
        .run(&(tasks, filters), |(tasks, filters)| {
            runtime.block_on(async {
                let db = database().await;
                for (row, task) in (0..).zip(&tasks) {
                    insert(&db, row, task).await;
                }
                for filter in &filters {
                    let (sql, own) = (selected(&db, filter).await, matched(&tasks, filter));
                    prop_assert_eq!(sql, own, "{}", filter);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn the_deepest_and_the_longest_are_taken() {
    let db = database().await;
    let deep = (0..16).fold(String::from("attempt = 1"), |inner, n| {
        format!("NOT (priority < {n} AND (kind = \"{n}\" OR {inner}))")
    });
    // Sixteen times NOT and two parentheses are too many: the bound is ours, not
    // the database's.
    assert!(Filter::parse(&deep).is_err());
    let deep = (0..10).fold(String::from("attempt = 1"), |inner, n| {
        format!("NOT (priority < {n} AND (kind = \"{n}\" OR {inner}))")
    });
    let long: Vec<_> = (0..290).map(|n| format!("kind>\"{n}\"")).collect();
    for text in [deep, long.join("AND "), long.join("OR ")] {
        let filter = Filter::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        selected(&db, &filter).await;
    }
}
