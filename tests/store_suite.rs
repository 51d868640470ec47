//! What every database must do, said once and asked of each: SQLite and PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "store/lost.rs"]
mod lost;
mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, Database};
use support::{
    db::{Db, on_both},
    postgres::value,
};
use taskwatch::{
    domain::{
        self, Context, Direction, Event, Expiry, Filter, Finish, Grant, KindDefaults, Name,
        NewTask, Object, Order, OrderKey, Outcome, Patch, ProgressReport, Report, RetryPolicy,
        State, Task, Timestamp, Token, Value,
    },
    store::{
        self, Changes, Created, Lane, ListQuery, Notice, Picked, Rank, Reader, StoreError, Stored,
        Wanted, Writer,
    },
};

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn new_task(id: &str) -> NewTask {
    NewTask {
        id: name(id),
        kind: name("work"),
        input: None,
        queue: None,
        priority: 0,
        labels: Default::default(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    }
}

fn created(new: &NewTask, now: Timestamp) -> Created {
    let task = domain::create(new, now).into();
    Created { task, input: new.input.clone(), request: None }
}

fn event(task: &Task, event: &Event, now: Timestamp) -> Task {
    let context = Context { now, kind: &KindDefaults::default(), jitter: 0.0, input: None };
    domain::apply(task, event, &context).expect("allowed").expect("a change")
}

fn grant(token: u8) -> Event {
    Event::Lease(Grant {
        worker: name("w"),
        token: Token([token; 16]),
        duration: Duration::from_secs(30),
        by_runner: false,
    })
}

fn report(token: u8, percent: Option<f64>, checkpoint: Option<&str>) -> Report {
    let checkpoint = checkpoint.map(|text| {
        let json = serde_json::json!({ "at": text });
        Object::from_json(json.as_object().expect("an object"))
    });
    let progress = percent
        .map(|percent| ProgressReport { percent: Some(percent), ..ProgressReport::default() });
    Report { token: Token([token; 16]), progress, checkpoint }
}

async fn write(writer: &mut Writer, changes: Changes) -> Result<(), StoreError> {
    let mut transaction = writer.begin().await?;
    let now = transaction.load(&Wanted::default()).await?.now;
    transaction.write(&changes, now).await?;
    transaction.commit(false).await
}

async fn create(writer: &mut Writer, created: Vec<Created>) {
    write(writer, Changes { created, ..Changes::default() }).await.expect("written");
}

async fn stored(reader: &Reader, id: &str) -> Stored {
    reader.task(&name(id), true).await.expect("read").expect("there")
}

/// Applies events to a task, a commit for each, and checks that it is read back as
/// it was written.
async fn happen(writer: &mut Writer, reader: &Reader, id: &str, events: &[Event]) -> Arc<Task> {
    for what in events {
        let before = stored(reader, id).await;
        let now = reader.now().await.expect("a time");
        let after = Arc::new(event(&before.task, what, now));
        let changed = vec![(before, after.clone())];
        write(writer, Changes { changed, ..Changes::default() }).await.expect("written");
        assert_eq!(stored(reader, id).await.task, after, "after {what:?}");
    }
    stored(reader, id).await.task
}

async fn a_whole_life_is_read_back_as_it_was_written(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let mut new = new_task("t");
    let json = serde_json::json!({"a": [1, "ü", null], "b": {"c": 2.5}});
    new.input = Some(Object::from_json(json.as_object().unwrap()));
    new.queue = Some(name("q"));
    new.priority = -7;
    new.labels = [("env", "prod"), ("odd key", "ü \"x\"")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    new.retry_policy.backoff_multiplier = Some(1.5);
    new.retry_policy.max_attempts = Some(9);
    new.attempt_timeout = Some(Duration::from_secs(3_600));
    new.retention = Some(Duration::from_micros(1_500_001));
    let now = reader.now().await.expect("a time");
    create(&mut writer, vec![created(&new, now)]).await;
    let first = stored(&reader, "t").await;
    assert_eq!(*first.task, domain::create(&new, now));
    assert_eq!(first.input, new.input);

    let ask = |state| Event::Update(Box::new(Patch { state: Some(state), ..Patch::default() }));
    let ends = |token, outcome| {
        let report = report(token, None, None);
        Event::Finish(Box::new(Finish { report, outcome }))
    };
    let error = domain::Failure {
        details: vec![domain::Detail { type_url: "x/y".into(), value: vec![1, 2].into() }],
        ..domain::Failure::new(domain::Code::UNKNOWN, "no luck")
    };
    let relabel = Patch { labels: Some(Default::default()), ..Patch::default() };
    let task = happen(
        &mut writer,
        &reader,
        "t",
        &[
            grant(1),
            Event::Report(report(1, Some(10.0), None)),
            Event::Report(report(1, Some(20.0), Some("twenty"))),
            ask(State::Paused),
            Event::Report(report(1, Some(21.0), None)),
            Event::Update(Box::new(relabel)),
            ask(State::Running),
            ends(1, Outcome::Failed { error, permanent: false }),
            grant(2),
            Event::Report(report(2, Some(90.0), None)),
            ends(2, Outcome::Succeeded(Value::from_json(&serde_json::json!({"n": 1})))),
        ],
    )
    .await;
    assert_eq!(task.attempt, 2);
    assert_eq!(task.progress.as_ref().unwrap().report.percent, Some(90.0));
    assert!(task.checkpoint.is_some());
    assert_eq!(next_deadline(&reader).await, None);
}

/// The next one, whenever.
async fn next_deadline(reader: &Reader) -> Option<Timestamp> {
    let (since, until) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
    reader.next_deadline(since, until).await.expect("read")
}

async fn all_or_nothing(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    create(&mut writer, vec![created(&new_task("b"), now)]).await;
    let both = ["a", "b"].map(|id| created(&new_task(id), now)).into();
    let refused = write(&mut writer, Changes { created: both, ..Changes::default() }).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert!(reader.task(&name("a"), false).await.expect("read").is_none());
    {
        let mut dropped = writer.begin().await.expect("begun");
        let created = vec![created(&new_task("c"), now)];
        let changes = Changes { created, ..Changes::default() };
        dropped.write(&changes, now).await.expect("written");
    }
    assert!(reader.task(&name("c"), false).await.expect("read").is_none());
    create(&mut writer, vec![created(&new_task("a"), now)]).await;
}

async fn what_may_be_picked_and_in_which_order(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let task = |id: &str, queue: &str, priority, ready: Option<u64>| {
        let mut new = new_task(id);
        new.queue = Some(name(queue));
        new.priority = priority;
        new.schedule_time = ready.map(|s| now.plus(Duration::from_secs(s)));
        created(&new, now)
    };
    let all = vec![
        task("old", "a", 0, None),
        task("young", "a", 0, None),
        task("urgent", "a", 5, None),
        task("later", "a", 100, Some(3_600)),
        task("other", "b", 0, None),
    ];
    create(&mut writer, all).await;
    let lane = |queue: &str| Lane { kind: name("work"), queue: name(queue) };
    let mut transaction = writer.begin().await.expect("begun");
    let lanes = transaction.lanes(&name("work")).await.expect("lanes");
    assert_eq!(lanes, [lane("a"), lane("b")]);
    assert_eq!(transaction.lanes(&name("none")).await.expect("lanes"), []);
    let picked = transaction.pick(&lane("a"), 10, None).await.expect("picked");
    let ids = |picked: &[Picked]| -> Vec<String> {
        picked.iter().map(|picked| picked.stored.task.id.to_string()).collect()
    };
    assert_eq!(ids(&picked), ["urgent", "old", "young"]);
    // From each place on.
    for (at, first) in picked.iter().enumerate() {
        let from = Rank::of(&first.stored.task, first.stored.row);
        let rest = transaction.pick(&lane("a"), 10, Some(from)).await.expect("picked");
        assert_eq!(ids(&rest), ids(&picked[at..]));
        let one = transaction.pick(&lane("a"), 1, Some(from)).await.expect("picked");
        assert_eq!(ids(&one), ids(&picked[at..=at]));
    }
    let then = now.plus(Duration::from_secs(7_200));
    let due = transaction.make_due(then, 10).await.expect("made due");
    assert_eq!((due.len(), due[0].tasks), (1, 1));
    let picked = transaction.pick(&lane("a"), 1, None).await.expect("picked");
    assert_eq!(picked[0].stored.task.id.as_str(), "later");
    transaction.rollback().await.expect("rolled back");
    let next = next_deadline(&reader).await;
    assert_eq!(next, Some(now.plus(Duration::from_secs(3_600))));
}

async fn what_is_picked_is_as_this_transaction_left_it(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let input = || report(1, None, Some("input")).checkpoint;
    let with_input = |id: &str| created(&NewTask { input: input(), ..new_task(id) }, now);
    create(&mut writer, vec![with_input("old")]).await;
    let mut transaction = writer.begin().await.expect("begun");
    let wanted = Wanted { ids: [name("old")].into(), ..Wanted::default() };
    let mut loaded = transaction.load(&wanted).await.expect("loaded");
    let before = loaded.tasks.remove(&name("old")).expect("there");
    let patch = Patch { priority: Some(7), ..Patch::default() };
    let after = Arc::new(event(&before.task, &Event::Update(Box::new(patch)), loaded.now));
    let (changed, created) = (vec![(before, Arc::clone(&after))], vec![with_input("new")]);
    let changes = Changes { changed, created, ..Changes::default() };
    transaction.write(&changes, loaded.now).await.expect("written");
    let lane = Lane { kind: name("work"), queue: name("default") };
    let mut picked = transaction.pick(&lane, 10, None).await.expect("picked");
    let tasks: Vec<&Task> = picked.iter().map(|picked| &*picked.stored.task).collect();
    assert_eq!(tasks, [&*after, &*changes.created[0].task]);
    for picked in &mut picked {
        if picked.has_input {
            transaction.read_inputs(&mut [&mut picked.stored]).await.expect("read");
        }
        assert_eq!(picked.stored.input, input());
    }
    transaction.rollback().await.expect("rolled back");
}

async fn leases_that_are_over(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let mut limited = new_task("limited");
    limited.attempt_timeout = Some(Duration::from_secs(5));
    create(&mut writer, vec![created(&limited, now), created(&new_task("plain"), now)]).await;
    happen(&mut writer, &reader, "limited", &[grant(1)]).await;
    let plain = happen(&mut writer, &reader, "plain", &[grant(2)]).await;
    let at = |seconds| now.plus(Duration::from_secs(seconds));
    assert_eq!(
        reader.overdue(now.minus(Duration::from_secs(1)), at(0), 10).await.expect("read"),
        []
    );
    let late = reader.overdue(now.minus(Duration::from_secs(1)), at(20), 10).await.expect("read");
    assert_eq!((late.len(), late[0].cause), (1, Expiry::AttemptTimeout));
    assert_eq!(
        reader.overdue(now.minus(Duration::from_secs(1)), at(60), 10).await.expect("read").len(),
        3
    );
    assert!(next_deadline(&reader).await < plain.lease().map(|l| l.expire_time));
    let mut transaction = writer.begin().await.expect("begun");
    let live = transaction.live_leases().await.expect("counted");
    assert_eq!(live.values().sum::<u64>(), 2);
}

async fn retention_takes_the_task_and_later_its_request(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let cancel =
        Event::Update(Box::new(Patch { state: Some(State::Cancelled), ..Patch::default() }));
    let mut own = new_task("own");
    own.retention = Some(Duration::from_secs(10));
    for new in [&own, &new_task("default"), &new_task("alive")] {
        let mut created = created(new, now);
        created.request = Some((format!("r-{}", new.id), [7; 32]));
        create(&mut writer, vec![created]).await;
    }
    for id in ["own", "default"] {
        happen(&mut writer, &reader, id, std::slice::from_ref(&cancel)).await;
    }
    let day = Duration::from_secs(86_400);
    assert!(!reader.has_expired(now, day).await.expect("read"));
    let soon = now.plus(Duration::from_secs(60));
    assert!(reader.has_expired(soon, day).await.expect("read"));
    let mut gone = BTreeSet::new();
    for time in [soon, now.plus(2 * day)] {
        let mut transaction = writer.begin().await.expect("begun");
        let tasks = transaction.purge(time, day, 10).await.expect("purged");
        gone.extend(tasks.tasks.into_iter().map(|task| task.task.id.to_string()));
        let requests = ["r-own", "r-default", "r-alive"].map(ToOwned::to_owned).into();
        let wanted = Wanted { requests, ..Wanted::default() };
        let known = transaction.load(&wanted).await.expect("loaded").requests;
        assert_eq!(known.len(), if time == soon { 3 } else { 1 }, "{known:?}");
        transaction.commit(false).await.expect("committed");
    }
    assert_eq!(gone, BTreeSet::from(["own".to_owned(), "default".to_owned()]));
    assert!(reader.task(&name("alive"), false).await.expect("read").is_some());
}

/// What befalls the tasks of a list: some are left alone, held, over, or all of it with
/// something of their own.
fn courses(now: Timestamp) -> Vec<Vec<Event>> {
    let update = |patch| Event::Update(Box::new(patch));
    let ask = |state| update(Patch { state: Some(state), ..Patch::default() });
    let weigh = |priority| update(Patch { priority: Some(priority), ..Patch::default() });
    let label = || {
        let labels = [("touched".to_owned(), "yes".to_owned())].into();
        update(Patch { labels: Some(labels), ..Patch::default() })
    };
    let ends = |token, outcome| {
        let report = report(token, None, None);
        Event::Finish(Box::new(Finish { report, outcome }))
    };
    let succeeds = |token| ends(token, Outcome::Succeeded(Value::default()));
    let fails = |token, permanent| {
        let error = domain::Failure::new(domain::Code::UNKNOWN, "no luck");
        ends(token, Outcome::Failed { error, permanent })
    };
    let later = Patch {
        schedule_time: Some(Some(now.plus(Duration::from_secs(3_600)))),
        ..Patch::default()
    };
    let kept = Patch { retention: Some(Some(Duration::from_secs(86_400))), ..Patch::default() };
    vec![
        vec![],
        vec![grant(1)],
        vec![grant(1), Event::Report(report(1, Some(1.0), None))],
        vec![grant(1), succeeds(1)],
        vec![grant(1), fails(1, true)],
        vec![grant(1), fails(1, false)],
        vec![grant(1), fails(1, false), grant(2)],
        vec![grant(1), label()],
        vec![grant(1), ask(State::Paused)],
        vec![grant(1), ask(State::Cancelled)],
        vec![grant(1), succeeds(1), label()],
        vec![ask(State::Cancelled)],
        vec![ask(State::Paused)],
        vec![weigh(7)],
        vec![weigh(7), grant(1)],
        vec![weigh(-1), grant(1), succeeds(1)],
        vec![weigh(1), weigh(0), grant(1)],
        vec![update(later)],
        vec![update(kept.clone())],
        vec![update(kept), grant(1), succeeds(1)],
    ]
}

/// Every order, with ties and times that are not set, page by page.
async fn lists_come_whole_and_in_order(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let (mut all, mut courses) = (Vec::new(), [courses(now), courses(now)].concat());
    for (n, course) in (0_u64..).zip(&courses) {
        let mut new = new_task(&format!("t{n}"));
        new.kind = name(["work", "other"][usize::from(course.len() % 2 == 0)]);
        new.queue = (n % 4 == 1).then(|| name("own"));
        new.labels = [("third".to_owned(), (n % 3).to_string())].into();
        all.push(created(&new, now.plus(Duration::from_micros(n / 4))));
    }
    let ask = |state| Event::Update(Box::new(Patch { state: Some(state), ..Patch::default() }));
    let own = [vec![], vec![], vec![ask(State::Running)], vec![ask(State::Cancelled)]];
    for course in own {
        let mut new = new_task(&format!("t{}", courses.len()));
        new.kind = name("external");
        new.queue = (courses.len() % 2 == 0).then(|| name("own"));
        all.push(created(&new, now));
        courses.push(course);
    }
    // By a clock that has gone back since.
    let Event::Update(label) = &courses[7][1] else { panic!("a label") };
    let ahead = now.plus(Duration::from_secs(600));
    all.push(created(&new_task(&format!("t{}", courses.len())), ahead));
    courses.push(vec![Event::Update(label.clone())]);
    create(&mut writer, all).await;
    for (n, course) in courses.iter().enumerate() {
        happen(&mut writer, &reader, &format!("t{n}"), course).await;
    }
    let changed = reader.task(&name("t4"), false).await.expect("read").expect("there").task;
    let since = format!("update_time >= \"{}\"", changed.update_time);
    let mut tasks = Vec::new();
    for n in 0..courses.len() {
        let found = reader.task(&name(&format!("t{n}")), false).await.expect("read");
        tasks.push(found.expect("there").task);
    }
    let value = |task: &Task, key| match key {
        OrderKey::CreateTime => task.create_time.micros(),
        OrderKey::UpdateTime => task.update_time.micros(),
        OrderKey::EndTime => task.end_time().map_or(i64::MIN, Timestamp::micros),
        OrderKey::Priority => task.priority.into(),
    };
    let directions = [Direction::Ascending, Direction::Descending];
    let mut orders: Vec<Vec<(OrderKey, Direction)>> = Vec::new();
    for first in OrderKey::ALL {
        for up in directions {
            orders.push(vec![(first, up)]);
            for second in OrderKey::ALL.into_iter().filter(|second| *second != first) {
                orders.extend(directions.map(|then| vec![(first, up), (second, then)]));
            }
        }
    }
    for keys in orders {
        for filter in [
            "",
            "labels.third = \"1\"",
            "priority > 5",
            "priority >= 0 AND NOT state = SUCCEEDED",
            "queue = \"default\"",
            "queue = \"own\"",
            "kind = \"work\"",
            "kind = \"work\" AND queue = \"own\" AND state = QUEUED",
            "kind = \"external\" AND queue = \"own\"",
            "state = QUEUED",
            "state = RUNNING",
            "state = CANCELLED",
            "state = SUCCEEDED AND kind = \"work\"",
            "state = SUCCEEDED OR state = FAILED OR state = CANCELLED",
            "NOT state = SUCCEEDED AND kind = \"other\"",
            "state = QUEUED AND state = RUNNING",
            "kind = \"no name\"",
            "state != QUEUED",
            &since,
            &format!("state = QUEUED AND {since}"),
            "priority < 0 OR end_time > \"2000-01-01T00:00:00Z\"",
        ] {
            let parsed = Filter::parse(filter).expect("a filter");
            let matching = tasks.iter().filter(|task| parsed.matches(task));
            let expected: BTreeSet<&str> = matching.map(|task| task.id.as_str()).collect();
            let mut query = ListQuery {
                filter: parsed,
                order: Order { keys: keys.clone() },
                after: None,
                limit: 9,
                max_bytes: usize::MAX,
                with_input: false,
            };
            let mut listed: Vec<Arc<Task>> = Vec::new();
            loop {
                let page = reader.list(&query).await.expect("listed");
                assert!(page.tasks.len() <= 9);
                listed.extend(page.tasks.into_iter().map(|stored| stored.task));
                if page.next.is_none() {
                    break;
                }
                query.after = page.next;
            }
            let ids: BTreeSet<&str> = listed.iter().map(|task| task.id.as_str()).collect();
            assert_eq!(ids, expected, "{keys:?} {filter}");
            assert_eq!(listed.len(), expected.len(), "{keys:?} {filter}");
            assert!(
                listed.is_sorted_by(|one, two| {
                    let differs = keys.iter().find(|(k, _)| value(one, *k) != value(two, *k));
                    differs.is_none_or(|(key, direction)| {
                        (value(one, *key) < value(two, *key))
                            == (*direction == Direction::Ascending)
                    })
                }),
                "{keys:?} {filter}"
            );
        }
    }
}

/// Each has a part of a list.
async fn lists_of_many_kinds_come_in_order(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let all = (0..150).map(|n| {
        let mut new = new_task(&format!("t{n}"));
        new.kind = name(&format!("kind-{}", (n * 7) % 150));
        new.queue = (n % 2 == 0).then(|| name("even"));
        created(&new, now.plus(Duration::from_micros(n)))
    });
    create(&mut writer, all.collect()).await;
    for (filter, every) in [("", 1), ("state = QUEUED", 1), ("queue = \"even\"", 2)] {
        let query = ListQuery {
            filter: Filter::parse(filter).expect("a filter"),
            order: Order::parse("create_time").expect("an order"),
            after: None,
            limit: 20,
            max_bytes: usize::MAX,
            with_input: false,
        };
        let page = reader.list(&query).await.expect("listed");
        let listed: Vec<String> =
            page.tasks.iter().map(|stored| stored.task.id.to_string()).collect();
        let expected: Vec<String> = (0..20).map(|n| format!("t{}", n * every)).collect();
        assert_eq!(listed, expected, "{filter}");
    }
}

async fn a_page_ends_before_it_is_too_long(db: Db) {
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let now = reader.now().await.expect("a time");
    let large = serde_json::json!({ "text": "x".repeat(100_000) });
    let all = (0..30)
        .map(|n| {
            let mut new = new_task(&format!("t{n}"));
            new.input = Some(Object::from_json(large.as_object().unwrap()));
            created(&new, now)
        })
        .collect();
    create(&mut writer, all).await;
    let query = ListQuery {
        filter: Filter::default(),
        order: Order::default(),
        after: None,
        limit: 30,
        max_bytes: 1_000_000,
        with_input: true,
    };
    let page = reader.list(&query).await.expect("listed");
    assert!((9..=11).contains(&page.tasks.len()), "{}", page.tasks.len());
    assert!(page.next.is_some());
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let db = Db::sqlite();
    let first = store::open(db.url()).await.expect("opened");
    let refused = store::open(db.url()).await.expect_err("refused");
    assert!(refused.to_string().contains("is open in another process"), "{refused}");
    drop(first);
    store::open(db.url()).await.expect("opened again");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_the_remedy() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |file: &str| format!("sqlite://{}/{file}", folder.path().display());
    std::fs::write(folder.path().join("torn.db"), vec![b'x'; 20_000]).unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    for (url, expected) in [
        (path("torn.db"), "is damaged, or no database"),
        (path("folder"), "is a folder"),
        (path("none/tasks.db"), "create it first"),
        ("mysql://x".to_owned(), "not a database that is known"),
        ("postgres://nobody@127.0.0.1:1/none".to_owned(), "Connection refused"),
        (format!("{}_none", Db::postgres().await.url()), "_none\" does not exist"),
    ] {
        let refused = store::open(&url).await.expect_err("refused");
        assert!(refused.to_string().contains(expected), "{url}: {refused}");
    }
}

on_both! {
    a_whole_life_is_read_back_as_it_was_written,
    all_or_nothing,
    what_may_be_picked_and_in_which_order,
    what_is_picked_is_as_this_transaction_left_it,
    leases_that_are_over,
    retention_takes_the_task_and_later_its_request,
    lists_come_whole_and_in_order,
    lists_of_many_kinds_come_in_order,
    a_page_ends_before_it_is_too_long,
}

/// Whoever creates takes its locks table by table in one order, or two would wait for one
/// another: that of the rows before that of the request ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_locked_in_one_order() {
    let db = Db::postgres().await;
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let direct = Database::connect(db.url()).await.expect("connected");
    let mut sql = "CREATE TABLE written (at bigserial, name text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO written (name) VALUES (TG_TABLE_NAME); RETURN NULL; END';"
        .to_owned();
    for table in ["tasks", "inputs", "labels", "requests", "kinds"] {
        sql += &format!("CREATE TRIGGER note BEFORE INSERT ON {table} EXECUTE FUNCTION note();");
    }
    direct.execute_unprepared(&sql).await.expect("prepared");
    let mut new = new_task("t");
    new.input = Some(Object::from_json(&serde_json::Map::new()));
    new.labels = [("a".to_owned(), "b".to_owned())].into();
    let mut task = created(&new, reader.now().await.expect("a time"));
    task.request = Some(("request".to_owned(), [7; 32]));
    let changes =
        Changes { created: vec![task], served: [name("work")].into(), ..Changes::default() };
    let mut transaction = writer.begin().await.expect("begun");
    let now = transaction.load(&Wanted::default()).await.expect("loaded").now;
    transaction.write(&changes, now).await.expect("written");
    let notice = Notice { changed: vec![name("t")], ..Notice::default() };
    transaction.notify(&notice, now);
    transaction.commit(false).await.expect("committed");
    let written: String =
        value(&direct, "SELECT string_agg(name, ' ' ORDER BY at) FROM written").await;
    assert_eq!(written, "tasks inputs labels requests kinds");
}

/// What others are told is for them, and by it a commit is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_known_by_what_it_told() {
    let db = Db::postgres().await;
    let (mut writer, reader) = store::open(db.url()).await.expect("opened");
    let feed = writer.feed().await.expect("connected").expect("others may write");
    let other = store::open(db.url()).await.expect("opened").0.feed().await.unwrap().unwrap();
    let before = other.mark().await.expect("read");
    let notice = Notice { changed: vec![name("t")], ..Notice::default() };
    let mut transaction = writer.begin().await.expect("begun");
    let now = transaction.load(&Wanted::default()).await.expect("loaded").now;
    transaction.notify(&notice, now);
    transaction.commit(false).await.expect("committed");
    // Others see it, and not the one that it is of.
    let numbers = other.since(before).await.expect("read");
    assert_eq!(other.notices(&numbers).await.expect("read"), [notice]);
    assert!(feed.since(before).await.expect("read").is_empty());
    assert!(writer.became(now).await);
    assert!(!writer.became(now.plus(Duration::from_micros(1))).await);
    drop(reader);
}

/// A replica that stops in the middle of a transaction holds nobody up for good, and finds
/// out that it was too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_locked_is_let_go() {
    let db = Db::postgres().await;
    let (mut stopped, reader) = store::open(db.url()).await.expect("opened");
    let (mut other, _) = store::open(db.url()).await.expect("opened");
    create(&mut stopped, vec![created(&new_task("t"), reader.now().await.unwrap())]).await;
    let wanted = Wanted { ids: [name("t")].into(), ..Wanted::default() };
    let mut transaction = stopped.begin().await.expect("begun");
    transaction.load(&wanted).await.expect("loaded");
    let mut next = other.begin().await.expect("begun");
    assert!(next.load(&wanted).await.expect("had in time").tasks.contains_key(&name("t")));
    next.commit(false).await.expect("committed");
    let late = transaction.commit(false).await.expect_err("too late");
    assert!(matches!(late, StoreError::Unavailable(_)), "{late:?}");
    stopped.begin().await.expect("on a new connection").rollback().await.expect("undone");
}
