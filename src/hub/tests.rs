#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::domain::{Filter, Name, NewTask, RetryPolicy, Status, Task, Timestamp, create};

pub(crate) fn id(text: &str) -> TaskId {
    Name::new(text).unwrap()
}

pub(crate) fn queued(name: &str, created: i64) -> Task {
    let new = NewTask {
        id: id(name),
        kind: id("demo"),
        input: None,
        queue: None,
        priority: 0,
        labels: Default::default(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    };
    create(&new, Timestamp::from_micros(created))
}

pub(crate) fn running(name: &str, created: i64, revision: i64) -> Task {
    Task { status: Status::Running(None), revision, ..queued(name, created) }
}

pub(crate) fn failed(name: &str, created: i64, revision: i64) -> Task {
    let status = Status::Failed { end_time: Timestamp::from_micros(9) };
    Task { status, revision, ..queued(name, created) }
}

pub(crate) fn state(task: Task) -> News {
    News::State(Arc::new(Snapshot::new(task)))
}

pub(crate) fn deleted(name: &str, created: i64) -> News {
    News::Deleted(id(name), Timestamp::from_micros(created))
}

pub(super) fn snapshots(tasks: Vec<Task>) -> Vec<Arc<Snapshot>> {
    tasks.into_iter().map(|task| Arc::new(Snapshot::new(task))).collect()
}

pub(super) fn listen(hub: &Hub, filter: &str) -> Listener {
    hub.listen(&Filter::parse(filter).unwrap(), Duration::ZERO).unwrap()
}

/// As short text, so that whole histories can be compared.
pub(super) fn told(listener: &mut Listener) -> String {
    match listener.next(Instant::now()).unwrap() {
        Next::Task(snapshot) => format!("{}@{}", snapshot.task.id, snapshot.task.revision),
        Next::Removed(id) => format!("-{id}"),
        Next::Synced => "synced".into(),
        Next::ReadPage => "page".into(),
        Next::Wait(_) => "wait".into(),
    }
}

pub(super) fn all(listener: &mut Listener) -> Vec<String> {
    let mut history = Vec::new();
    loop {
        history.push(told(listener));
        if history.last().is_some_and(|last| last == "wait" || last == "page") {
            return history;
        }
    }
}

pub(super) fn page(listener: &Listener, tasks: Vec<Task>, last: bool) -> bool {
    listener.begin_page();
    let passed = tasks.last().map(|task| task.create_time).filter(|_| !last);
    listener.page(&snapshots(tasks), passed)
}

/// A listener behind an empty first list.
pub(super) fn synced(hub: &Hub, filter: &str) -> Listener {
    let mut listener = listen(hub, filter);
    assert!(page(&listener, vec![], true));
    assert_eq!(all(&mut listener), ["synced", "wait"]);
    listener
}

pub(super) fn revision(follower: &mut Follower) -> i64 {
    match follower.latest() {
        Latest::State(snapshot) => snapshot.task.revision,
        Latest::Unknown => 0,
        Latest::Deleted(_) => -1,
    }
}

#[test]
fn a_deletion_does_not_swallow_the_end() {
    let hub = Hub::default();
    let mut late = hub.follow(&id("a")).unwrap();
    hub.publish(&[state(running("a", 1, 2))]);
    hub.publish(&[state(failed("a", 1, 3)), deleted("a", 1)]);
    assert!(matches!(late.latest(), Latest::Deleted(Some(last)) if last.task.revision == 3));
    let mut other = hub.follow(&id("b")).unwrap();
    hub.publish(&[state(running("b", 1, 2)), deleted("b", 1)]);
    assert!(matches!(other.latest(), Latest::Deleted(None)));
}

#[test]
fn what_nobody_watches_leaves_nothing() {
    let hub = Hub::default();
    assert!(!hub.wants(&queued("a", 1)));
    hub.publish(&[state(queued("a", 1))]);
    let one = hub.follow(&id("a")).unwrap();
    let other = hub.follow(&id("a")).unwrap();
    assert!(hub.wants(&queued("a", 1)) && !hub.wants(&queued("b", 1)));
    drop(one);
    assert!(hub.wants(&queued("a", 1)));
    drop(other);
    assert!(!hub.wants(&queued("a", 1)));
    let filter = listen(&hub, "state = RUNNING");
    let again = listen(&hub, "NOT state != RUNNING");
    assert_eq!(hub.shared.lock().filters.len(), 1);
    assert!(hub.wants(&queued("b", 1)));
    drop((filter, again));
    assert!(!hub.wants(&queued("b", 1)));
    let entries = hub.shared.lock();
    assert!(entries.tasks.is_empty() && entries.filters.is_empty());
}

#[test]
fn nothing_older_replaces_what_is_newer() {
    let hub = Hub::default();
    let mut follower = hub.follow(&id("a")).unwrap();
    hub.publish(&[state(running("a", 1, 5)), state(running("a", 1, 4))]);
    assert_eq!(revision(&mut follower), 5);
    follower.offer(&Arc::new(Snapshot::new(running("a", 1, 3))));
    assert_eq!(revision(&mut follower), 5);
    follower.offer(&Arc::new(Snapshot::new(running("a", 1, 6))));
    assert_eq!(revision(&mut follower), 6);
}

#[test]
fn a_thousand_followers_share_one_encoding() {
    let hub = Hub::default();
    let mut followers: Vec<_> = (0..1_000).map(|_| hub.follow(&id("a")).unwrap()).collect();
    let encoded = AtomicUsize::new(0);
    let encode = || {
        encoded.fetch_add(1, Ordering::Relaxed);
        Bytes::from_static(b"task")
    };
    for follower in &mut followers {
        follower.offer(&Arc::new(Snapshot::new(running("a", 1, 2))));
        let Latest::State(snapshot) = follower.latest() else { panic!("nothing") };
        snapshot.basic(encode);
    }
    assert_eq!(encoded.load(Ordering::Relaxed), 1);
    hub.publish(&[state(running("a", 1, 3))]);
    for follower in &mut followers {
        let Latest::State(snapshot) = follower.latest() else { panic!("nothing") };
        assert_eq!(snapshot.task.revision, 3);
        snapshot.basic(encode);
    }
    assert_eq!(encoded.load(Ordering::Relaxed), 2);
}

#[test]
fn a_deleted_task_and_the_next_of_its_name_are_two() {
    let hub = Hub::default();
    let mut old = hub.follow(&id("a")).unwrap();
    hub.publish(&[state(running("a", 1, 7)), deleted("a", 1)]);
    let mut new = hub.follow(&id("a")).unwrap();
    hub.publish(&[state(queued("a", 2))]);
    assert_eq!(revision(&mut old), -1);
    assert_eq!(revision(&mut new), 1);
    // The old one leaves an entry alone that is not its own.
    drop(old);
    assert!(hub.wants(&queued("a", 2)));
    drop(new);
    assert!(!hub.wants(&queued("a", 2)));
}

#[tokio::test]
async fn when_it_is_closed_everybody_learns_it() {
    let hub = Hub::default();
    let mut follower = hub.follow(&id("a")).unwrap();
    let mut listener = synced(&hub, "");
    hub.publish(&[state(failed("a", 1, 2))]);
    hub.close();
    // What was told before is still there.
    assert!(follower.changed().await);
    assert_eq!(revision(&mut follower), 2);
    assert!(!follower.changed().await);
    listener.woken().await;
    assert!(matches!(listener.next(Instant::now()), Err(Error::Unavailable { .. })));
    assert!(matches!(hub.follow(&id("a")), Err(Error::Unavailable { .. })));
    let filter = Filter::default();
    assert!(matches!(hub.listen(&filter, Duration::ZERO), Err(Error::Unavailable { .. })));
    assert!(!hub.wants(&queued("a", 1)));
}
