//! Watches over a real store: what is read and what is published meet.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use serde_json::json;
use taskwatch::{
    domain::{
        Error, Filter, Name, NewTask, Object, RetryPolicy, Status, Task, TaskId, Timestamp, create,
    },
    hub::{Hub, News, Snapshot},
    store::{self, Changes, Created, Reader, Stored, Writer},
    watch::{Watch, WatchAll, WatchAllEvent, WatchAllOptions, WatchOptions},
};
use tempfile::TempDir;

struct House {
    hub: Hub,
    writer: Writer,
    reader: Reader,
    _folder: TempDir,
}

fn id(text: &str) -> TaskId {
    Name::new(text).unwrap()
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros)
}

fn input() -> Object {
    Object::from_json(json!({"steps": 3}).as_object().unwrap())
}

fn new(name: &str, created: i64) -> Task {
    let new = NewTask {
        id: id(name),
        kind: id("external"),
        input: Some(input()),
        queue: None,
        priority: 0,
        labels: Default::default(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    };
    create(&new, time(created))
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("tasks.db").display());
        let (writer, reader) = store::open(&url).await.unwrap();
        Self { hub: Hub::default(), writer, reader, _folder: folder }
    }

    async fn write(&mut self, changes: Changes) {
        let mut transaction = self.writer.begin().await.unwrap();
        transaction.write(&changes, time(0)).await.unwrap();
        transaction.commit(false).await.unwrap();
    }

    /// Creates them in one commit, and tells the hub.
    async fn create(&mut self, tasks: Vec<Task>) {
        let created = tasks.iter().map(|task| Created {
            task: task.clone().into(),
            input: Some(input()),
            request: None,
        });
        self.write(Changes { created: created.collect(), ..Changes::default() }).await;
        self.publish(tasks);
    }

    /// Commits the next state, and does not tell the hub yet.
    async fn commit(&mut self, name: &str, status: Status) -> Task {
        let before = self.stored(name).await;
        let revision = before.task.revision + 1;
        let after = Task { status, revision, settled_revision: revision, ..(*before.task).clone() };
        let changed = vec![(before, after.clone().into())];
        self.write(Changes { changed, ..Changes::default() }).await;
        after
    }

    async fn change(&mut self, name: &str, status: Status) {
        let task = self.commit(name, status).await;
        self.publish(vec![task]);
    }

    async fn delete(&mut self, name: &str) {
        let stored = self.stored(name).await;
        let created = stored.task.create_time;
        self.write(Changes { deleted: vec![stored], ..Changes::default() }).await;
        self.hub.publish(&[News::Deleted(id(name), created)]);
    }

    async fn stored(&self, name: &str) -> Stored {
        self.reader.task(&id(name), false).await.unwrap().unwrap()
    }

    fn publish(&self, tasks: Vec<Task>) {
        let states = tasks.into_iter().map(|task| News::State(Arc::new(Snapshot::new(task))));
        self.hub.publish(&states.collect::<Vec<_>>());
    }

    async fn watch(&self, name: &str, options: WatchOptions) -> Result<Watch, Error> {
        Watch::begin(&self.hub, &self.reader, id(name), options).await
    }

    async fn watch_all(&self, filter: &str) -> WatchAll {
        let filter = Filter::parse(filter).unwrap();
        let options = WatchAllOptions { filter, ..WatchAllOptions::default() };
        WatchAll::begin(&self.hub, &self.reader, options).await.unwrap()
    }
}

const RUNNING: Status = Status::Running(None);

fn ended() -> Status {
    Status::Cancelled { end_time: time(9) }
}

/// As short text, so that whole histories can be compared.
async fn told(watch: &mut WatchAll) -> String {
    match watch.next().await.unwrap() {
        WatchAllEvent::Task(snapshot, _) => {
            format!("{}@{}", snapshot.task.id, snapshot.task.revision)
        }
        WatchAllEvent::Removed(id) => format!("-{id}"),
        WatchAllEvent::Synced => "synced".into(),
    }
}

#[tokio::test]
async fn one_task_to_its_end() {
    let mut house = House::new().await;
    house.create(vec![new("a", 1)]).await;
    let options = WatchOptions { with_input: true, ..WatchOptions::default() };
    let mut watch = house.watch("a", options).await.unwrap();
    assert_eq!(watch.input(), Some(&input()));
    assert_eq!(watch.next().await.unwrap().unwrap().task.revision, 1);
    house.change("a", RUNNING).await;
    assert_eq!(watch.next().await.unwrap().unwrap().task.revision, 2);
    house.change("a", ended()).await;
    assert_eq!(watch.next().await.unwrap().unwrap().task.revision, 3);
    assert!(watch.next().await.is_none());
    // Afterwards it is watched as any other.
    let seen = WatchOptions { after_revision: 3, ..WatchOptions::default() };
    let mut again = house.watch("a", seen).await.unwrap();
    assert_eq!(again.next().await.unwrap().unwrap().task.revision, 3);
    assert!(again.next().await.is_none());
}

#[tokio::test]
async fn no_task_and_no_server() {
    let house = House::new().await;
    let error = house.watch("a", WatchOptions::default()).await.unwrap_err();
    assert_eq!(error, Error::no_task("a"));
    assert!(!house.hub.wants(&new("a", 1)));
    house.hub.close();
    let error = house.watch("a", WatchOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn those_that_exist_then_synced_then_changes() {
    let mut house = House::new().await;
    house.create(vec![new("a", 1), new("b", 2), new("c", 3)]).await;
    house.change("b", RUNNING).await;
    let mut watch = house.watch_all("state != RUNNING").await;
    let mut first = vec![told(&mut watch).await, told(&mut watch).await];
    first.sort();
    assert_eq!(first, ["a@1", "c@1"]);
    assert_eq!(told(&mut watch).await, "synced");
    house.change("a", RUNNING).await;
    assert_eq!(told(&mut watch).await, "-a");
    house.change("b", ended()).await;
    assert_eq!(told(&mut watch).await, "b@3");
    house.delete("b").await;
    assert_eq!(told(&mut watch).await, "-b");
}

#[tokio::test]
async fn a_list_of_many_pages_meets_changes() {
    let mut house = House::new().await;
    let tasks: Vec<_> = (0..2_500).map(|n| new(&format!("t{n}"), n)).collect();
    for part in tasks.chunks(500) {
        house.create(part.to_vec()).await;
    }
    let mut watch = house.watch_all("").await;
    let mut seen = std::collections::HashMap::new();
    let mut events = 0;
    loop {
        match watch.next().await.unwrap() {
            WatchAllEvent::Task(snapshot, _) => {
                let revision = snapshot.task.revision;
                let last = seen.insert(snapshot.task.id.to_string(), revision);
                assert!(last.is_none_or(|last| last < revision));
            }
            WatchAllEvent::Removed(id) => assert!(seen.remove(id.as_str()).is_some()),
            WatchAllEvent::Synced => break,
        }
        events += 1;
        if events == 10 {
            house.change("t0", RUNNING).await;
            house.change("t2499", RUNNING).await;
            house.create(vec![new("late", 3_000)]).await;
        }
    }
    assert_eq!(seen.len(), 2_501);
    assert_eq!((seen["t0"], seen["t2499"], seen["late"]), (2, 2, 1));
}

#[tokio::test]
async fn what_is_committed_and_not_yet_published_is_told_once() {
    let mut house = House::new().await;
    house.create(vec![new("a", 1)]).await;
    let task = house.commit("a", RUNNING).await;
    let mut watch = house.watch_all("").await;
    assert_eq!(told(&mut watch).await, "a@2");
    assert_eq!(told(&mut watch).await, "synced");
    house.publish(vec![task]);
    house.change("a", ended()).await;
    assert_eq!(told(&mut watch).await, "a@3");
}

#[tokio::test]
async fn inputs_and_heartbeats_and_the_drain() {
    let mut house = House::new().await;
    house.create(vec![new("a", 1)]).await;
    let options = WatchAllOptions {
        with_input: true,
        heartbeat_interval: Some(Duration::from_secs(1)),
        ..WatchAllOptions::default()
    };
    let mut watch = WatchAll::begin(&house.hub, &house.reader, options).await.unwrap();
    match watch.next().await.unwrap() {
        WatchAllEvent::Task(_, with) => assert_eq!(with, Some(input())),
        other @ (WatchAllEvent::Removed(_) | WatchAllEvent::Synced) => panic!("{other:?}"),
    }
    assert_eq!(told(&mut watch).await, "synced");
    assert_eq!(told(&mut watch).await, "synced");
    house.hub.close();
    assert!(matches!(watch.next().await, Err(Error::Unavailable { .. })));
}
