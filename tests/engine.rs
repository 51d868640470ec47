//! What the one writer promises, over a real database: who gets a task, under
//! which token, how often, and what is left of commands that cross each other.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::{join, join_all};
use support::{
    db::{Db, on_both},
    engine::{asks, create, ends, engine, ids, in_queue, is_lost, lease, name, says, token},
};
use taskwatch::{
    domain::{Code, Error, Failure, Object, Outcome, Patch, Report, State, TaskId, Value},
    tasks::{Create, LeaseRequest, Tasks},
};
use tokio::time::timeout;

async fn queues_are_served_in_turn_and_priorities_within_them(db: Db) {
    let tasks = engine(&db).await;
    let creates = vec![
        in_queue("a1", "a", 0),
        in_queue("a2", "a", 5),
        in_queue("a3", "a", 0),
        in_queue("a4", "a", 0),
        in_queue("b1", "b", 0),
        in_queue("b2", "b", 9),
    ];
    tasks.create_batch(creates).await.expect("created");
    let all = lease(&tasks, "work", 10).await;
    assert_eq!(ids(&all), ["a2", "b2", "a1", "b1", "a3", "a4"]);
}

async fn queues_that_came_to_nothing_hide_no_other(db: Db) {
    let tasks = engine(&db).await;
    assert!(lease(&tasks, "work", 1).await.is_empty());
    let creates = (0..600).map(|n| in_queue(&format!("t{n}"), &format!("q{n}"), 0));
    tasks.create_batch(creates.collect()).await.expect("created");
    let cancels = (0..580).map(|n| {
        let patch = Patch { state: Some(State::Cancelled), ..Patch::default() };
        tasks.update(name(&format!("t{n}")), patch)
    });
    for cancelled in join_all(cancels).await {
        cancelled.expect("cancelled");
    }
    let left: BTreeSet<String> = (580..600).map(|n| format!("t{n}")).collect();
    assert_eq!(ids(&lease(&tasks, "work", 100).await).into_iter().collect::<BTreeSet<_>>(), left);
}

async fn who_asks_together_gets_all_that_is_due(db: Db) {
    let tasks = engine(&db).await;
    for batch in 0..2 {
        let creates = (0..600).map(|n| in_queue(&format!("t{batch}-{n}"), "default", 0));
        tasks.create_batch(creates.collect()).await.expect("created");
    }
    let asked = (0..12).map(|_| tasks.lease(asks("work", 100, Duration::from_secs(60))));
    let leased = timeout(Duration::from_secs(10), join_all(asked)).await.expect("none waits");
    let leased: Vec<usize> =
        leased.into_iter().map(|leased| leased.expect("leased").len()).collect();
    assert_eq!(leased, [100; 12]);
}

async fn a_queue_behind_many_is_served_to_who_waits_for_it(db: Db) {
    let tasks = engine(&db).await;
    let creates = (0..600).map(|n| in_queue(&format!("t{n}"), &format!("q{n:03}"), 0));
    tasks.create_batch(creates.collect()).await.expect("created");
    let some = tasks.lease(asks("work", 100, Duration::ZERO));
    let last =
        LeaseRequest { queues: vec![name("q599")], ..asks("work", 1, Duration::from_secs(60)) };
    let both = join(some, tasks.lease(last));
    let (some, last) = timeout(Duration::from_secs(10), both).await.expect("none waits");
    assert_eq!(
        (some.expect("leased").len(), ids(&last.expect("leased"))),
        (100, vec!["t599".into()])
    );
}

async fn turns_go_on_from_one_call_to_the_next(db: Db) {
    let tasks = engine(&db).await;
    let creates = ["a", "b", "c"].map(|queue| {
        (0..3).map(move |n| in_queue(&format!("{queue}{n}"), queue, 0)).collect::<Vec<_>>()
    });
    for create in creates.into_iter().flatten() {
        tasks.create(create).await.expect("created");
    }
    let mut handed = Vec::new();
    for _ in 0..9 {
        handed.extend(ids(&lease(&tasks, "work", 1).await));
    }
    assert_eq!(handed, ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]);
}

/// Both come in one batch: it is handed out as it has just become.
async fn what_is_given_back_is_handed_out_at_once(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    let first = lease(&tasks, "work", 1).await;
    for _ in 0..3 {
        let held = lease_again(&tasks, &first[0].task.id).await;
        assert_eq!(held, State::Running);
    }
}

async fn lease_again(tasks: &Tasks, id: &TaskId) -> State {
    let held = tasks.get(id, false).await.expect("there").task.task.clone();
    let token = held.lease().expect("a live lease").token;
    let outcomes = vec![(id.clone(), ends(token, Outcome::Released))];
    let (given_back, leased) = tokio::join!(tasks.finish(outcomes), lease(tasks, "work", 1));
    assert_eq!(given_back, [Ok(())]);
    assert_eq!(leased.len(), 1, "it is due again");
    assert_ne!(leased[0].task.lease().expect("a live lease").token, token);
    leased[0].task.state()
}

/// What passes 3 MiB waits for the next call, and nothing smaller overtakes it.
async fn a_hand_out_ends_before_it_is_too_large(db: Db) {
    let tasks = engine(&db).await;
    let mut creates: Vec<Create> = (0..5).map(|n| create(&format!("t{n}"), "work")).collect();
    for large in &mut creates[..4] {
        large.new.input = Some(Object::from_encoded(vec![b'x'; 1_000_000].into()));
    }
    for create in creates {
        tasks.create(create).await.expect("created");
    }
    let leased = lease(&tasks, "work", 10).await;
    assert_eq!(ids(&leased), ["t0", "t1", "t2"]);
    assert!(leased.iter().all(|leased| leased.input.is_some()));
    assert_eq!(ids(&lease(&tasks, "work", 10).await), ["t3", "t4"]);
}

async fn a_waiting_worker_is_woken_by_a_create(db: Db) {
    let tasks = engine(&db).await;
    let waiting = tasks.lease(asks("work", 1, Duration::from_secs(30)));
    let creating = async {
        tokio::task::yield_now().await;
        tasks.create(create("t", "work")).await.expect("created")
    };
    let (leased, _) = tokio::join!(waiting, creating);
    assert_eq!(ids(&leased.expect("leased")), ["t"]);
}

async fn a_lease_whose_caller_has_gone_is_given_back(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    // The call is dropped while the committer works on it, again and again.
    for _ in 0..20 {
        let mut call = Box::pin(tasks.lease(asks("work", 1, Duration::ZERO)));
        let _ = futures_util::poll!(&mut call);
        drop(call);
    }
    let leased = tasks.lease(asks("work", 1, Duration::from_secs(30))).await.expect("leased");
    assert_eq!(ids(&leased), ["t"]);
    assert_eq!(leased[0].task.attempt, 1);
}

async fn nothing_passes_under_an_old_token(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    let first = token(&lease(&tasks, "work", 1).await[0]);
    let failed = Outcome::Failed { error: Failure::new(Code::UNKNOWN, "no"), permanent: false };
    let id = || name("t");
    let retried = tasks.finish(vec![(id(), ends(first, failed.clone()))]).await;
    assert_eq!(retried, [Ok(())]);
    let second = token(&lease(&tasks, "work", 1).await[0]);
    assert_ne!(first, second);
    assert!(is_lost(&tasks.report(vec![(id(), says(first, 10.0))]).await[0]));
    let late = tasks.finish(vec![(id(), ends(first, Outcome::Cancelled))]).await;
    assert!(is_lost(&late[0]));
    // The very outcome that ended its lease is answered as the first time.
    assert_eq!(tasks.finish(vec![(id(), ends(first, failed))]).await, [Ok(())]);
    let full = tasks.get(&id(), false).await.expect("there");
    assert_eq!((full.task.task.state(), full.task.task.attempt), (State::Running, 2));
    let result = Outcome::Succeeded(Value::from_json(&7.into()));
    for _ in 0..2 {
        let done = tasks.finish(vec![(id(), ends(second, result.clone()))]).await;
        assert_eq!(done, [Ok(())]);
    }
    assert!(is_lost(&tasks.report(vec![(id(), says(second, 10.0))]).await[0]));
}

async fn outcomes_said_twice_and_crosswise_end_each_task_once(db: Db) {
    let tasks = engine(&db).await;
    let creates = (0..200).map(|n| create(&format!("t{n}"), "work")).collect();
    tasks.create_batch(creates).await.expect("created");
    let leased = lease(&tasks, "work", 200).await;
    assert_eq!(leased.len(), 200);
    let calls = leased.iter().flat_map(|leased| {
        let (id, token) = (leased.task.id.clone(), token(leased));
        (0..4).map(move |n| {
            // Two different outcomes, each said twice: whichever comes first stands.
            let outcome = Outcome::Succeeded(Value::from_json(&(n % 2).into()));
            (id.clone(), ends(token, outcome))
        })
    });
    let answers =
        join_all(calls.map(|(id, finish)| tasks.finish(vec![(id, finish)]))).await.concat();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 400);
    assert_eq!(answers.iter().filter(|answer| is_lost(answer)).count(), 400);
    for leased in &leased {
        let task = tasks.get(&leased.task.id, false).await.expect("there").task;
        assert_eq!(task.task.state(), State::Succeeded);
        assert_eq!(task.task.revision, leased.task.revision + 1);
    }
}

async fn a_kind_has_no_more_live_leases_than_it_may(db: Db) {
    let tasks = engine(&db).await;
    let creates = (0..5).map(|n| create(&format!("t{n}"), "few")).collect();
    tasks.create_batch(creates).await.expect("created");
    let first = lease(&tasks, "few", 5).await;
    assert_eq!(first.len(), 2);
    assert!(lease(&tasks, "few", 5).await.is_empty());
    let waiting = tasks.lease(asks("few", 5, Duration::from_secs(30)));
    let finishing = async {
        tokio::task::yield_now().await;
        let done = ends(token(&first[0]), Outcome::Succeeded(Value::default()));
        tasks.finish(vec![(first[0].task.id.clone(), done)]).await
    };
    let (next, _) = tokio::join!(waiting, finishing);
    assert_eq!(next.expect("leased").len(), 1);
}

async fn a_kind_is_known_once_a_worker_has_asked_for_it(db: Db) {
    let tasks = engine(&db).await;
    let refused = tasks.create(create("t", "other")).await;
    let Err(Error::InvalidArgument(violations)) = refused else { panic!("{refused:?}") };
    assert_eq!(violations[0].field, "task.kind");
    assert!(violations[0].description.contains("external, few, slow, work"), "{violations:?}");
    assert!(lease(&tasks, "other", 1).await.is_empty());
    tasks.create(create("t", "other")).await.expect("known now");
    tasks.stop().await;
    drop(tasks);
    let tasks = engine(&db).await;
    tasks.create(create("u", "other")).await.expect("still known");
}

async fn a_batch_is_created_whole_or_not_at_all(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("b", "work")).await.expect("created");
    let batch = |ids: [&str; 3]| tasks.create_batch(ids.map(|id| create(id, "work")).into());
    let refused = batch(["a", "b", "c"]).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    let refused = batch(["x", "y", "x"]).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    for id in ["a", "c", "x", "y"] {
        assert!(tasks.get(&name(id), false).await.is_err(), "{id}");
    }
}

async fn a_repeated_request_creates_once_however_it_races(db: Db) {
    let tasks = engine(&db).await;
    let request = |id: &str, digest| Create {
        request: Some(("r".to_owned(), [digest; 32])),
        ..create(id, "work")
    };
    let calls = (0..50).map(|n| tasks.create(request(&format!("t{n}"), 1)));
    let created: Vec<TaskId> = join_all(calls)
        .await
        .into_iter()
        .map(|full| full.expect("created or found").task.task.id.clone())
        .collect();
    assert!(created.iter().all(|id| *id == created[0]));
    tasks.stop().await;
    drop(tasks);
    let tasks = engine(&db).await;
    let again = tasks.create(request("late", 1)).await.expect("found");
    assert_eq!(again.task.task.id, created[0]);
    let other = tasks.create(request("other", 2)).await;
    let Err(Error::InvalidArgument(violations)) = other else { panic!("{other:?}") };
    assert_eq!(violations[0].field, "request_id");
}

async fn a_repetition_never_stands_for_another_task(db: Db) {
    let tasks = engine(&db).await;
    let request = |id: &str, request: &str| Create {
        request: Some((request.to_owned(), [7; 32])),
        ..create(id, "external")
    };
    tasks.create(request("x", "r")).await.expect("created");
    let ended = Patch { state: Some(State::Cancelled), ..Patch::default() };
    tasks.update(name("x"), ended).await.expect("cancelled");
    tasks.delete(name("x"), false).await.expect("deleted");
    // Deleted, its request id is free; and what is created under it has a life of its own.
    tasks.create(request("x", "r")).await.expect("created anew");
    let again = tasks.create_batch(vec![request("y", "s"), request("x", "r")]).await;
    let again = again.expect("one new, one found");
    assert_eq!(again[0].task.task.id, name("y"));
    assert_eq!((again[1].task.task.id.clone(), again[1].task.task.revision), (name("x"), 1));
}

async fn updates_that_cross_each_other_are_guarded_by_the_revision(db: Db) {
    let tasks = engine(&db).await;
    let revision = tasks.create(create("t", "work")).await.expect("created").task.task.revision;
    let calls = (1..=50).map(|priority| {
        let patch =
            Patch { revision: Some(revision), priority: Some(priority), ..Patch::default() };
        tasks.update(name("t"), patch)
    });
    let results = join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let stale = Error::Aborted { reason: "REVISION_MISMATCH", message: String::new() };
    let aborted = |error: &Error| std::mem::discriminant(error) == std::mem::discriminant(&stale);
    assert!(results.iter().all(|result| result.as_ref().err().is_none_or(aborted)));
}

/// On an embedded database, where the process before can have been no one else's.
#[tokio::test]
async fn what_a_dead_process_ran_is_run_again_from_its_checkpoint() {
    let db = Db::sqlite();
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    let runner = LeaseRequest { by_runner: true, ..asks("work", 1, Duration::ZERO) };
    let leased = tasks.lease(runner.clone()).await.expect("leased");
    let checkpoint = Some(Object::from_encoded(vec![].into()));
    let report = Report { checkpoint: checkpoint.clone(), ..says(token(&leased[0]), 40.0) };
    assert!(tasks.report(vec![(name("t"), report)]).await[0].is_ok());
    tasks.stop().await;
    drop(tasks);
    let tasks = engine(&db).await;
    let after = tasks.get(&name("t"), false).await.expect("there").task;
    assert_eq!((after.task.state(), after.task.attempt), (State::Queued, 2));
    assert_eq!(after.task.error.as_ref().map(|error| error.code), Some(Code::UNAVAILABLE));
    assert_eq!(after.task.progress.as_ref().and_then(|p| p.report.percent), Some(40.0));
    let again =
        tasks.lease(LeaseRequest { wait: Duration::from_secs(30), ..runner }).await.unwrap();
    assert_eq!(again[0].task.checkpoint, checkpoint);
    assert!(again[0].task.revision > leased[0].task.revision);
}

async fn a_scheduled_task_is_handed_out_when_its_time_has_come(db: Db) {
    let tasks = engine(&db).await;
    let time = taskwatch::clock::now().plus(Duration::from_millis(300));
    let mut scheduled = create("t", "work");
    scheduled.new.schedule_time = Some(time);
    tasks.create(scheduled).await.expect("created");
    assert!(lease(&tasks, "work", 1).await.is_empty());
    let leased = tasks.lease(asks("work", 1, Duration::from_secs(30))).await.expect("leased");
    assert!(leased[0].task.start_time >= Some(time));
}

async fn a_drain_answers_those_who_wait_and_refuses_new_ones(db: Db) {
    let tasks = engine(&db).await;
    tasks.create(create("t", "work")).await.expect("created");
    let leased = lease(&tasks, "work", 1).await;
    let waiting = tasks.lease(asks("work", 1, Duration::from_secs(60)));
    let draining = async {
        tokio::task::yield_now().await;
        tasks.drain();
    };
    let (empty, ()) = tokio::join!(waiting, draining);
    assert!(empty.expect("answered").is_empty());
    let refused = tasks.lease(asks("work", 1, Duration::ZERO)).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })));
    let done = ends(token(&leased[0]), Outcome::Succeeded(Value::default()));
    assert_eq!(tasks.finish(vec![(name("t"), done)]).await, [Ok(())]);
    tasks.stop().await;
    let refused = tasks.create(create("u", "work")).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })));
}

on_both! {
    what_is_given_back_is_handed_out_at_once,
    turns_go_on_from_one_call_to_the_next,
    queues_that_came_to_nothing_hide_no_other,
    who_asks_together_gets_all_that_is_due,
    a_queue_behind_many_is_served_to_who_waits_for_it,
    a_hand_out_ends_before_it_is_too_large,
    a_repetition_never_stands_for_another_task,
    queues_are_served_in_turn_and_priorities_within_them,
    a_waiting_worker_is_woken_by_a_create,
    a_lease_whose_caller_has_gone_is_given_back,
    nothing_passes_under_an_old_token,
    outcomes_said_twice_and_crosswise_end_each_task_once,
    a_kind_has_no_more_live_leases_than_it_may,
    a_kind_is_known_once_a_worker_has_asked_for_it,
    a_batch_is_created_whole_or_not_at_all,
    a_repeated_request_creates_once_however_it_races,
    updates_that_cross_each_other_are_guarded_by_the_revision,
    a_scheduled_task_is_handed_out_when_its_time_has_come,
    a_drain_answers_those_who_wait_and_refuses_new_ones,
}
