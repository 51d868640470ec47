//! What workers and those who look after them are promised, over a real database:
//! limits, rates and pauses hold, attempts are remembered, kinds and queues counted.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{
    db::{Db, on_both},
    engine::{asks, create, ends, engine, ids, in_queue, lease, name, token},
};
use taskwatch::{
    domain::{Code, Failure, Outcome, Patch, State, Value},
    store::Count,
    tasks::{KindCensus, LeaseRequest, Source, Tasks},
};
use tokio::time::Instant;

fn failed() -> Outcome {
    Outcome::Failed { error: Failure::new(Code::INTERNAL, "broken"), permanent: false }
}

async fn finish(tasks: &Tasks, id: &str, outcome: Outcome) {
    let leased = tasks.lease(asks("work", 1, Duration::from_secs(30))).await.expect("leased");
    let done = tasks.finish(vec![(name(id), ends(token(&leased[0]), outcome))]).await;
    assert_eq!(done, [Ok(())]);
}

async fn every_lease_is_remembered_with_its_end(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    let none = tasks.attempts(&name("t"), 0, 10).await.expect("listed");
    assert!(none.attempts.is_empty() && none.next.is_none());
    finish(&tasks, "t", Outcome::Released).await;
    finish(&tasks, "t", failed()).await;
    finish(&tasks, "t", Outcome::Cancelled).await;
    let again = Patch { state: Some(State::Queued), ..Patch::default() };
    tasks.update(name("t"), again).await.expect("a retry by hand");
    finish(&tasks, "t", failed()).await;
    let live = lease(&tasks, "work", 1).await;
    let page = tasks.attempts(&name("t"), 0, 10).await.expect("listed");
    assert!(page.next.is_none());
    let seen: Vec<_> = page
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.end.as_ref().map(|end| end.state)))
        .collect();
    assert_eq!(
        seen,
        [
            (1, Some(State::Queued)),
            (1, Some(State::Failed)),
            (2, Some(State::Cancelled)),
            (3, Some(State::Failed)),
            (4, None)
        ]
    );
    let ended = page.attempts[1].end.as_ref().expect("ended");
    assert_eq!(ended.error.as_ref().map(|error| error.message.as_str()), Some("broken"));
    assert!(page.attempts[0].end.as_ref().is_some_and(|end| end.error.is_none()));
    assert!(page.attempts.iter().all(|attempt| attempt.worker == Some(name("tester"))));
    assert!(page.attempts.iter().all(|a| a.end.as_ref().is_none_or(|e| a.start_time <= e.time)));
    // Page by page the same.
    let mut after = 0;
    let mut numbers = Vec::new();
    loop {
        let page = tasks.attempts(&name("t"), after, 2).await.expect("listed");
        assert!(page.attempts.len() <= 2);
        numbers.extend(page.attempts.iter().map(|attempt| attempt.number));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(numbers, [1, 1, 2, 3, 4]);
    // They go with the task.
    let done = ends(token(&live[0]), Outcome::Succeeded(Value::default()));
    assert_eq!(tasks.finish(vec![(name("t"), done)]).await, [Ok(())]);
    tasks.delete(name("t"), false).await.expect("deleted");
    assert!(tasks.attempts(&name("t"), 0, 10).await.is_err());
    tasks.create(create("t", "work")).await.expect("created");
    assert!(tasks.attempts(&name("t"), 0, 10).await.expect("listed").attempts.is_empty());
}

async fn the_newest_hundred_are_kept(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    for _ in 0..103 {
        finish(&tasks, "t", Outcome::Released).await;
    }
    let page = tasks.attempts(&name("t"), 0, 100).await.expect("listed");
    assert_eq!((page.attempts.len(), page.next), (100, None));
    let page = tasks.attempts(&name("t"), 0, 60).await.expect("listed");
    let rest = tasks.attempts(&name("t"), page.next.expect("more"), 60).await.expect("listed");
    assert_eq!((rest.attempts.len(), rest.next), (40, None));
    assert!(rest.attempts[0].start_time > page.attempts[59].start_time);
}

/// The end of a task of one kind makes room for one of another in the same queue.
async fn a_limited_queue_wakes_the_workers_of_every_kind(db: Db) {
    let tasks = engine(&db).await;
    let mut other = in_queue("b", "narrow", 0);
    other.new.kind = name("few");
    tasks.create_batch(vec![in_queue("a", "narrow", 0), other]).await.expect("created");
    let first = lease(&tasks, "work", 5).await;
    assert_eq!(ids(&first), ["a"]);
    // It waits for less long than until somebody who was not woken looks by himself.
    let waiting = tasks.lease(asks("few", 1, Duration::from_secs(12)));
    let finishing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let done = ends(token(&first[0]), Outcome::Succeeded(Value::default()));
        tasks.finish(vec![(name("a"), done)]).await
    };
    let (leased, _) = tokio::join!(waiting, finishing);
    assert_eq!(ids(&leased.expect("leased")), ["b"]);
}

async fn a_paused_queue_hands_nothing_out_until_it_goes_on(db: Db) {
    let tasks = engine(&db).await;
    let creates = vec![in_queue("a", "held", 0), in_queue("b", "free", 0)];
    tasks.create_batch(creates).await.expect("created");
    let queue = tasks.update_queue(name("held"), Some(true)).await.expect("paused");
    assert_eq!((queue.paused, queue.count), (true, Count { queued: 1, running: 0 }));
    assert_eq!(ids(&lease(&tasks, "work", 10).await), ["b"]);
    tasks.stop().await;
    drop(tasks);
    // It is a fact of the database, not of the process.
    let tasks = engine(&db).await;
    let waiting = tasks.lease(asks("work", 10, Duration::from_secs(30)));
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let queues = tasks.queues().await.expect("listed");
        let held = queues.iter().find(|queue| queue.queue == name("held")).expect("there");
        assert!(held.paused);
        tasks.update_queue(name("held"), Some(false)).await.expect("resumed")
    };
    let (leased, queue) = tokio::join!(waiting, resuming);
    assert!(!queue.paused);
    assert_eq!(ids(&leased.expect("leased")), ["a"]);
}

async fn a_rate_holds_over_all_workers_and_wakes_those_who_wait(db: Db) {
    let tasks = engine(&db).await;
    // 20 a second, and a second's worth at once.
    let creates = (0..40).map(|n| create(&format!("t{n}"), "slow")).collect();
    tasks.create_batch(creates).await.expect("created");
    let begin = Instant::now();
    let worker = || async {
        let mut times = Vec::new();
        while times.len() < 10 {
            let asked =
                LeaseRequest { worker: name("w"), ..asks("slow", 1, Duration::from_secs(30)) };
            let leased = tasks.lease(asked).await.expect("leased");
            times.extend(leased.iter().map(|_| begin.elapsed()));
        }
        times
    };
    let mut times = join_all((0..4).map(|_| worker())).await.concat();
    times.sort();
    assert_eq!(times.len(), 40);
    // Slower than asked for is a matter of the machine, faster would be a fault.
    for (n, time) in times.iter().enumerate().skip(20) {
        let least =
            Duration::from_millis(50 * (n as u64 - 19)).saturating_sub(Duration::from_millis(60));
        assert!(*time >= least, "{n} at {time:?}, not before {least:?}");
    }
    assert!(lease(&tasks, "slow", 1).await.is_empty());
}

async fn kinds_and_queues_are_counted(db: Db) {
    let tasks = engine(&db).await;
    let mut later = in_queue("later", "a", 0);
    later.new.schedule_time = Some(taskwatch::clock::now().plus(Duration::from_secs(3_600)));
    let creates =
        vec![in_queue("t1", "a", 0), in_queue("t2", "b", 0), later, create("own", "external")];
    tasks.create_batch(creates).await.expect("created");
    let running =
        tasks.lease(LeaseRequest { queues: vec![name("a")], ..asks("work", 1, Duration::ZERO) });
    assert_eq!(running.await.expect("leased").len(), 1);
    let kinds = tasks.kinds().await.expect("listed");
    let of = |kind: &str| kinds.iter().find(|found| found.kind == name(kind)).expect("there");
    let KindCensus { source, count, workers, last_worker_time, .. } = of("work");
    assert_eq!((*source, *count), (Some(Source::BuiltIn), Count { queued: 2, running: 1 }));
    assert!(*workers == 1 && last_worker_time.is_some());
    assert_eq!(of("external").count, Count { queued: 1, running: 0 });
    assert_eq!((of("few").workers, of("few").last_worker_time), (0, None));
    assert!(kinds.is_sorted_by_key(|kind| kind.kind.clone()));
    let queues = tasks.queues().await.expect("listed");
    let queues: Vec<_> =
        queues.iter().map(|q| (q.queue.as_str(), q.count.queued, q.count.running)).collect();
    assert_eq!(queues, [("a", 1, 1), ("b", 1, 0), ("default", 1, 0), ("narrow", 0, 0)]);
}

async fn it_is_known_since_when_no_worker_was_seen(db: Db) {
    let tasks = engine(&db).await;
    let begin = taskwatch::clock::now();
    let look = async || {
        let kinds = tasks.kinds().await.expect("listed");
        kinds.into_iter().find(|kind| kind.kind == name("remote"))
    };
    assert_eq!(look().await, None);
    // Two that wait count as two, and nobody as none, with the time at which they went.
    let wait = |worker: &str| {
        let request = asks("remote", 1, Duration::from_secs(30));
        tasks.lease(LeaseRequest { worker: name(worker), ..request })
    };
    let (mut one, mut two) = (Box::pin(wait("w1")), Box::pin(wait("w2")));
    let present = loop {
        let _ = (futures_util::poll!(&mut one), futures_util::poll!(&mut two));
        match look().await {
            Some(kind) if kind.workers == 2 => break kind,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(present.source, None);
    drop((one, two));
    let gone = look().await.expect("still known");
    assert_eq!(gone.workers, 0);
    assert!(gone.last_worker_time.is_some_and(|time| time >= begin));
}

/// Waiting costs no command, and one task wakes one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_workers_wait() {
    let db = Db::sqlite();
    let tasks = engine(&db).await;
    let calls: Vec<_> = (0..10_000)
        .map(|n| {
            let tasks = tasks.clone();
            let request = LeaseRequest {
                worker: name(&format!("w{n}")),
                ..asks("work", 1, Duration::from_secs(60))
            };
            tokio::spawn(async move { tasks.lease(request).await.expect("answered") })
        })
        .collect();
    loop {
        let kinds = tasks.kinds().await.expect("listed");
        if kinds.iter().any(|kind| kind.workers == 10_000) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let creates = (0..100).map(|n| create(&format!("t{n}"), "work")).collect();
    tasks.create_batch(creates).await.expect("created");
    // Those who got none wait on, until the server stops.
    loop {
        let kinds = tasks.kinds().await.expect("listed");
        let work = kinds.iter().find(|kind| kind.kind == name("work")).expect("there");
        if work.count == (Count { queued: 0, running: 100 }) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tasks.drain();
    let answers = join_all(calls).await;
    let leased: Vec<usize> =
        answers.into_iter().map(|answer| answer.expect("ended").len()).collect();
    assert_eq!(leased.iter().filter(|leased| **leased == 1).count(), 100);
    assert_eq!(leased.iter().filter(|leased| **leased == 0).count(), 9_900);
}

on_both!(
    every_lease_is_remembered_with_its_end,
    the_newest_hundred_are_kept,
    a_limited_queue_wakes_the_workers_of_every_kind,
    a_paused_queue_hands_nothing_out_until_it_goes_on,
    a_rate_holds_over_all_workers_and_wakes_those_who_wait,
    kinds_and_queues_are_counted,
    it_is_known_since_when_no_worker_was_seen,
);
