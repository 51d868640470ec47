//! Who watches a filter: what is listed, what changes meanwhile, and what is over.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use tokio::time::Instant;

use super::{
    tests::{
        all, deleted, failed, id, listen, page, queued, revision, running, snapshots, state,
        synced, told,
    },
    *,
};

#[test]
fn changes_come_once_each_in_their_newest_state() {
    let hub = Hub::default();
    let mut listener = synced(&hub, "state = RUNNING");
    hub.publish(&[state(running("a", 1, 2)), state(queued("b", 2)), state(running("c", 3, 2))]);
    hub.publish(&[state(running("a", 1, 3)), state(running("a", 1, 2))]);
    assert_eq!(all(&mut listener), ["a@3", "c@2", "wait"]);
    // A state is kept only while somebody has yet to be sent it.
    let entries = hub.shared.lock();
    assert!(entries.filters.values().all(|entry| entry.states_held() == 0));
}

#[test]
fn removals_go_only_to_those_who_were_sent_the_task() {
    let hub = Hub::default();
    let mut early = synced(&hub, "state = RUNNING");
    hub.publish(&[state(running("a", 1, 2))]);
    assert_eq!(all(&mut early), ["a@2", "wait"]);
    let mut late = listen(&hub, "state = RUNNING");
    hub.publish(&[state(running("b", 2, 2)), state(failed("b", 2, 3))]);
    hub.publish(&[state(failed("a", 1, 3)), deleted("a", 1)]);
    assert!(page(&late, vec![], true));
    assert_eq!(all(&mut early), ["-a", "wait"]);
    assert_eq!(all(&mut late), ["synced", "wait"]);
}

#[test]
fn what_is_gone_and_back_is_told_as_both() {
    let hub = Hub::default();
    let mut listener = synced(&hub, "");
    hub.publish(&[state(running("a", 1, 9))]);
    assert_eq!(all(&mut listener), ["a@9", "wait"]);
    hub.publish(&[deleted("a", 1), state(queued("a", 2))]);
    assert_eq!(all(&mut listener), ["-a", "a@1", "wait"]);
    hub.publish(&[deleted("a", 2), state(queued("a", 3)), deleted("a", 3)]);
    assert_eq!(all(&mut listener), ["-a", "wait"]);
}

#[test]
fn the_first_list_and_the_changes_meet() {
    let hub = Hub::default();
    let mut listener = listen(&hub, "state = RUNNING");
    assert_eq!(told(&mut listener), "page");
    // Read before it was changed, delivered after.
    listener.begin_page();
    hub.publish(&[state(running("d", 40, 6)), state(failed("c", 30, 6))]);
    assert!(listener.page(
        &snapshots(vec![running("d", 40, 5), running("c", 30, 5), running("b", 20, 5)]),
        Some(running("b", 20, 5).create_time)
    ));
    // Of those not listed yet, only what the list will bring.
    hub.publish(&[state(running("a", 10, 6)), state(running("e", 50, 2))]);
    let mut history = all(&mut listener);
    assert_eq!(history.pop().unwrap(), "page");
    history.sort();
    assert_eq!(history, ["b@5", "d@6", "e@2"]);
    hub.publish(&[state(failed("b", 20, 6)), state(failed("z", 1, 6))]);
    assert!(page(&listener, vec![running("a", 10, 6)], true));
    let mut history = all(&mut listener);
    assert_eq!(history.pop().unwrap(), "wait");
    history.sort();
    assert_eq!(history, ["-b", "a@6", "synced"]);
    // The publication of what was read already is no news.
    hub.publish(&[state(running("a", 10, 6))]);
    assert_eq!(all(&mut listener), ["wait"]);
}

#[test]
fn what_one_has_read_is_news_for_the_others() {
    let hub = Hub::default();
    let mut early = synced(&hub, "state = RUNNING");
    hub.publish(&[state(running("a", 1, 2))]);
    assert_eq!(all(&mut early), ["a@2", "wait"]);
    let mut late = listen(&hub, "state = RUNNING");
    assert!(page(&late, vec![running("a", 1, 3)], true));
    assert_eq!(all(&mut late), ["a@3", "synced", "wait"]);
    hub.publish(&[state(running("a", 1, 3))]);
    assert_eq!(all(&mut early), ["a@3", "wait"]);
    assert_eq!(all(&mut late), ["wait"]);
}

#[test]
fn a_slow_listener_keeps_a_page_and_no_more() {
    let hub = Hub::default();
    let slow = listen(&hub, "");
    assert!(page(&slow, (100..200).rev().map(|n| queued(&n.to_string(), n)).collect(), false));
    for revision in 2..50 {
        let news: Vec<_> = (0..200).map(|n| state(running(&n.to_string(), n, revision))).collect();
        hub.publish(&news);
    }
    let entries = hub.shared.lock();
    let entry = entries.filters.values().next().unwrap();
    assert_eq!(entry.states_held(), 100);
    drop(entries);
    drop(slow);
    assert!(hub.shared.lock().filters.is_empty());
}

#[test]
fn a_busy_listed_task_does_not_hold_up_the_list() {
    let hub = Hub::default();
    let mut listener = listen(&hub, "");
    let mut pages = 0;
    assert!(page(&listener, vec![queued("busy", 1_000)], false));
    for revision in 2..40 {
        hub.publish(&[state(running("busy", 1_000, revision))]);
        if told(&mut listener) == "page" {
            pages += 1;
            let tasks = vec![queued(&format!("t{pages}"), 1_000 - pages)];
            assert!(page(&listener, tasks, false));
        }
    }
    assert!(pages > 5, "{pages}");
}

#[test]
fn what_changes_without_end_holds_up_neither_the_last_page_nor_its_mark() {
    let hub = Hub::default();
    let mut listener = listen(&hub, "");
    assert!(page(&listener, vec![queued("busy", 9), queued("a", 8), queued("b", 7)], true));
    let mut history = Vec::new();
    for revision in 2..12 {
        hub.publish(&[state(running("busy", 9, revision))]);
        history.push(told(&mut listener));
    }
    for wanted in ["a@1", "b@1", "synced"] {
        assert!(history.iter().any(|told| told == wanted), "{wanted} in {history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_interval_holds_also_for_what_comes_and_goes() {
    let hub = Hub::default();
    let interval = Duration::from_secs(10);
    let filter = Filter::parse("state = RUNNING").unwrap();
    let mut listener = hub.listen(&filter, interval).unwrap();
    assert!(page(&listener, vec![running("a", 1, 2)], true));
    assert_eq!(all(&mut listener), ["a@2", "synced", "wait"]);
    hub.publish(&[state(queued("a", 1))]);
    hub.publish(&[state(failed("a", 1, 3))]);
    assert_eq!(all(&mut listener), ["-a", "wait"]);
    hub.publish(&[state(running("a", 1, 4))]);
    assert_eq!(all(&mut listener), ["wait"]);
    tokio::time::advance(interval).await;
    assert_eq!(all(&mut listener), ["a@4", "wait"]);
}

#[tokio::test(start_paused = true)]
async fn the_interval_holds_states_back_but_no_end() {
    let hub = Hub::default();
    let interval = Duration::from_secs(10);
    let mut listener = hub.listen(&Filter::default(), interval).unwrap();
    assert!(page(&listener, vec![], true));
    hub.publish(&[state(running("a", 1, 2)), state(running("b", 2, 2))]);
    assert_eq!(all(&mut listener), ["synced", "a@2", "b@2", "wait"]);
    let begin = Instant::now();
    hub.publish(&[state(running("a", 1, 3)), state(running("b", 2, 3))]);
    let Next::Wait(Some(time)) = listener.next(Instant::now()).unwrap() else { panic!("told") };
    assert_eq!(time, begin + interval);
    tokio::time::advance(Duration::from_secs(4)).await;
    hub.publish(&[state(running("a", 1, 4)), state(failed("b", 2, 4))]);
    assert_eq!(all(&mut listener), ["b@4", "wait"]);
    // Queued again by hand, it begins anew.
    hub.publish(&[state(running("b", 2, 5))]);
    assert_eq!(all(&mut listener), ["b@5", "wait"]);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(all(&mut listener), ["a@4", "wait"]);
    assert!(matches!(listener.next(Instant::now()), Ok(Next::Wait(None))));
}

#[test]
fn too_many_are_refused_and_the_next_watch_begins_anew() {
    let hub = Hub::default();
    let mut listener = synced(&hub, "");
    let tasks = 0..=i64::try_from(WATCHED_IDS).unwrap();
    let news: Vec<_> = tasks.map(|n| state(queued(&n.to_string(), n))).collect();
    hub.publish(&news);
    let error = listener.next(Instant::now()).unwrap_err();
    assert!(matches!(error, Error::ResourceExhausted { .. }));
    let mut next = synced(&hub, "");
    drop(listener);
    hub.publish(&[state(queued("a", 1))]);
    assert_eq!(all(&mut next), ["a@1", "wait"]);
}

#[test]
fn what_a_list_passed_over_was_not_sent() {
    let hub = Hub::default();
    let mut listener = listen(&hub, "state = RUNNING");
    hub.publish(&[state(running("a", 1, 1))]);
    // Committed as failed by now, so not on the page; the news of it come later.
    assert!(page(&listener, vec![], true));
    hub.publish(&[state(failed("a", 1, 2))]);
    assert_eq!(all(&mut listener), ["synced", "wait"]);
    hub.publish(&[state(running("a", 1, 3))]);
    assert_eq!(all(&mut listener), ["a@3", "wait"]);
}

#[test]
fn a_name_that_was_read_anew_before_its_deletion_was_told() {
    let hub = Hub::default();
    let mut early = listen(&hub, "");
    assert!(page(&early, vec![queued("a", 1)], true));
    assert_eq!(all(&mut early), ["a@1", "synced", "wait"]);
    let late = listen(&hub, "");
    assert!(page(&late, vec![queued("a", 2)], true));
    assert_eq!(all(&mut early), ["-a", "a@1", "wait"]);
}

/// Two publish: the committer, and one who read what another replica committed.
#[test]
fn what_comes_late_brings_nothing_back() {
    let hub = Hub::default();
    let mut listener = synced(&hub, "state = RUNNING");
    let reading = hub.begin();
    hub.publish(&[state(failed("a", 1, 9)), deleted("b", 1)]);
    hub.publish(&[state(running("a", 1, 8)), state(running("b", 1, 5)), state(running("b", 2, 1))]);
    assert_eq!(all(&mut listener), ["b@1", "wait"]);
    // Who comes after the deletion follows the next one of that name.
    hub.publish(&[deleted("b", 2)]);
    let mut follower = hub.follow(&id("b")).unwrap();
    hub.publish(&[state(running("b", 2, 2))]);
    assert_eq!(revision(&mut follower), 0);
    hub.publish(&[state(running("b", 3, 1))]);
    assert_eq!(revision(&mut follower), 1);
    drop(reading);
    assert_eq!(all(&mut listener), ["-b", "b@1", "wait"]);
    hub.publish(&[state(running("a", 1, 10))]);
    assert_eq!(all(&mut listener), ["a@10", "wait"]);
}

#[test]
fn a_deletion_that_is_told_before_the_read_is_not_missed() {
    let hub = Hub::default();
    let mut follower = hub.follow(&id("a")).unwrap();
    hub.publish(&[deleted("a", 1)]);
    // What it read by then was of before; or of the next task of that name.
    follower.offer(&Arc::new(Snapshot::new(failed("a", 1, 3))));
    assert!(matches!(follower.latest(), Latest::Deleted(Some(last)) if last.task.revision == 3));
    let mut other = hub.follow(&id("a")).unwrap();
    hub.publish(&[deleted("a", 1)]);
    other.offer(&Arc::new(Snapshot::new(queued("a", 2))));
    assert_eq!(revision(&mut other), 1);
}
