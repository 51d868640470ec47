#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::*;
use crate::{
    domain::{Error, Status, Task},
    hub::{
        Hub,
        tests::{deleted, failed, id, queued, running, state},
    },
};

/// A watch that has registered, and then read `task`.
fn watch(hub: &Hub, task: Task, options: &WatchOptions) -> Watch {
    Watch::over(hub.follow(&task.id).unwrap(), task, None, options)
}

async fn revision(watch: &mut Watch) -> i64 {
    watch.next().await.unwrap().unwrap().task.revision
}

/// Nothing is to be sent now.
fn waits(watch: &mut Watch) -> bool {
    watch.next().now_or_never().is_none()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_present_state_then_the_newest_then_the_end() {
    let hub = Hub::default();
    let mut watch = watch(&hub, running("a", 1, 3), &WatchOptions::default());
    assert_eq!(revision(&mut watch).await, 3);
    assert!(waits(&mut watch));
    hub.publish(&[state(running("a", 1, 4)), state(running("a", 1, 5))]);
    assert_eq!(revision(&mut watch).await, 5);
    hub.publish(&[state(running("a", 1, 6))]);
    hub.publish(&[state(failed("a", 1, 7))]);
    assert_eq!(revision(&mut watch).await, 7);
    assert!(watch.next().await.is_none());
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_published_between_registration_and_read_is_not_lost() {
    let hub = Hub::default();
    let follower = hub.follow(&id("a")).unwrap();
    // Read before the commit, published before the read was told.
    hub.publish(&[state(failed("a", 1, 9))]);
    let mut watch = Watch::over(follower, running("a", 1, 8), None, &WatchOptions::default());
    assert_eq!(revision(&mut watch).await, 9);
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_not_sent_again_when_it_is_published() {
    let hub = Hub::default();
    let mut watch = watch(&hub, running("a", 1, 8), &WatchOptions::default());
    assert_eq!(revision(&mut watch).await, 8);
    hub.publish(&[state(running("a", 1, 7)), state(running("a", 1, 8))]);
    assert!(waits(&mut watch));
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_is_not_sent_but_the_end_is() {
    let hub = Hub::default();
    let seen = WatchOptions { after_revision: 5, ..WatchOptions::default() };
    let mut resumed = watch(&hub, running("a", 1, 5), &seen);
    assert!(waits(&mut resumed));
    hub.publish(&[state(running("a", 1, 6))]);
    assert_eq!(revision(&mut resumed).await, 6);
    let mut ended = watch(&hub, failed("b", 1, 5), &seen);
    assert_eq!(revision(&mut ended).await, 5);
    assert!(ended.next().await.is_none());
    // One that the task has not reached is of another task.
    let mut other = watch(&hub, running("c", 1, 4), &seen);
    assert_eq!(revision(&mut other).await, 4);
}

#[tokio::test(start_paused = true)]
async fn the_interval_conflates_but_holds_no_end_back() {
    let hub = Hub::default();
    let options = WatchOptions { min_interval: seconds(10), ..WatchOptions::default() };
    let mut watch = watch(&hub, running("a", 1, 1), &options);
    assert_eq!(revision(&mut watch).await, 1);
    let begin = Instant::now();
    hub.publish(&[state(running("a", 1, 2))]);
    assert!(waits(&mut watch));
    hub.publish(&[state(running("a", 1, 3))]);
    assert_eq!(revision(&mut watch).await, 3);
    assert_eq!(begin.elapsed().as_secs(), 10);
    hub.publish(&[state(running("a", 1, 4))]);
    assert!(waits(&mut watch));
    hub.publish(&[state(failed("a", 1, 5))]);
    let end = Instant::now();
    assert_eq!(revision(&mut watch).await, 5);
    assert_eq!(end.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_breaks_every_silence() {
    let hub = Hub::default();
    let beat = |after_revision, interval| WatchOptions {
        after_revision,
        heartbeat_interval: Some(interval),
        ..WatchOptions::default()
    };
    let mut watched = watch(&hub, running("a", 1, 5), &beat(5, seconds(30)));
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(revision(&mut watched).await, 5);
        assert!((27..=33).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    }
    let mut short = watch(&hub, running("b", 1, 5), &beat(0, Duration::from_millis(1)));
    assert_eq!(revision(&mut short).await, 5);
    let begin = Instant::now();
    assert_eq!(revision(&mut short).await, 5);
    assert!(begin.elapsed() >= seconds(1), "{:?}", begin.elapsed());
    // No two messages closer than the interval, heartbeats included.
    let options = WatchOptions { min_interval: seconds(60), ..beat(0, seconds(2)) };
    let mut rare = watch(&hub, running("c", 1, 5), &options);
    assert_eq!(revision(&mut rare).await, 5);
    let begin = Instant::now();
    assert_eq!(revision(&mut rare).await, 5);
    assert_eq!(begin.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_taken_back_before_it_was_sent_is_skipped() {
    let hub = Hub::default();
    let mut watch = watch(&hub, running("a", 1, 1), &WatchOptions::default());
    assert_eq!(revision(&mut watch).await, 1);
    hub.publish(&[state(failed("a", 1, 2))]);
    hub.publish(&[state(Task { revision: 3, status: Status::Queued, ..queued("a", 1) })]);
    assert_eq!(revision(&mut watch).await, 3);
    assert!(waits(&mut watch));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_task_is_not_found() {
    let hub = Hub::default();
    let mut watch = watch(&hub, running("a", 1, 1), &WatchOptions::default());
    hub.publish(&[deleted("a", 1)]);
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error, Error::no_task("a"));
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_every_watch_but_loses_no_end() {
    let hub = Hub::default();
    let slow = WatchOptions { min_interval: seconds(3_600), ..WatchOptions::default() };
    let mut open = watch(&hub, running("a", 1, 1), &slow);
    let mut ended = watch(&hub, running("b", 1, 1), &slow);
    assert_eq!(revision(&mut open).await, 1);
    assert_eq!(revision(&mut ended).await, 1);
    hub.publish(&[state(running("a", 1, 2)), state(failed("b", 1, 2))]);
    hub.close();
    let begin = Instant::now();
    let error = open.next().await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("after_revision"), "{error}");
    assert!(open.next().await.is_none());
    assert_eq!(revision(&mut ended).await, 2);
    assert!(ended.next().await.is_none());
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn every_watcher_reaches_the_end_while_states_fly() {
    let hub = Hub::default();
    let watchers: Vec<_> = (0..50)
        .map(|_| {
            let mut watch = watch(&hub, running("a", 1, 1), &WatchOptions::default());
            tokio::spawn(async move {
                let mut last = 0;
                while let Some(snapshot) = watch.next().await {
                    let task = &snapshot.unwrap().task;
                    assert!(task.revision > last, "{} after {last}", task.revision);
                    last = task.revision;
                }
                last
            })
        })
        .collect();
    // One that never reads holds nobody up.
    let stalled = Arc::new(watch(&hub, running("a", 1, 1), &WatchOptions::default()));
    for revision in 2..2_000 {
        hub.publish(&[state(running("a", 1, revision))]);
        if revision % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    hub.publish(&[state(failed("a", 1, 2_000))]);
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), 2_000);
    }
    drop(stalled);
    assert!(!hub.wants(&queued("a", 1)));
}
