//! The whole state table, printed and checked.

use std::time::Duration;

use super::*;

pub(super) const BEGIN: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

pub(super) fn new_task(kind: &str) -> NewTask {
    NewTask {
        id: name("t"),
        kind: name(kind),
        input: None,
        queue: None,
        priority: 0,
        labels: Labels::new(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    }
}

fn kind() -> KindDefaults {
    KindDefaults { max_attempts: 3, ..KindDefaults::default() }
}

pub(super) fn at(now: Timestamp, event: &Event, task: &Task) -> Result<Option<Task>, Error> {
    let context = Context { now, kind: &kind(), jitter: 0.5, input: None };
    apply(task, event, &context)
}

fn done(task: &Task, event: &Event) -> Task {
    at(BEGIN, event, task).expect("allowed").expect("a change")
}

pub(super) fn asks(state: State) -> Event {
    Event::Update(Box::new(Patch { state: Some(state), ..Patch::default() }))
}

pub(super) fn grant(token: u8) -> Event {
    let duration = Duration::from_secs(30);
    let grant = Grant { worker: name("w"), token: Token([token; 16]), duration, by_runner: false };
    Event::Lease(grant)
}

pub(super) fn says(token: u8) -> Report {
    Report { token: Token([token; 16]), progress: None, checkpoint: None }
}

pub(super) fn ends(token: u8, outcome: Outcome) -> Event {
    Event::Finish(Box::new(Finish { report: says(token), outcome }))
}

pub(super) fn retryable() -> Outcome {
    Outcome::Failed { error: Failure::new(Code::UNKNOWN, "no luck"), permanent: false }
}

pub(super) fn permanent() -> Outcome {
    Outcome::Failed { error: Failure::new(Code::UNKNOWN, "no hope"), permanent: true }
}

pub(super) fn lease_over(token: u8) -> Event {
    Event::Expire { token: Token([token; 16]), cause: Expiry::Lease }
}

/// Every place that a task can be in, of a leased kind and of kind external.
fn places() -> Vec<(&'static str, Task)> {
    let queued = create(&new_task("work"), BEGIN);
    let running = done(&queued, &grant(1));
    let external = create(&new_task(EXTERNAL), BEGIN);
    let owned = done(&external, &asks(State::Running));
    vec![
        ("QUEUED", queued.clone()),
        ("RUNNING", running.clone()),
        ("PAUSED", done(&queued, &asks(State::Paused))),
        ("PAUSED leased", done(&running, &asks(State::Paused))),
        ("CANCELLING", done(&running, &asks(State::Cancelled))),
        ("SUCCEEDED", done(&running, &ends(1, Outcome::Succeeded(Value::default())))),
        ("FAILED", done(&running, &ends(1, permanent()))),
        ("CANCELLED", done(&queued, &asks(State::Cancelled))),
        ("external QUEUED", external.clone()),
        ("external RUNNING", owned.clone()),
        ("external PAUSED", done(&owned, &asks(State::Paused))),
        ("external CANCELLING", done(&owned, &asks(State::Cancelling))),
        ("external SUCCEEDED", done(&owned, &asks(State::Succeeded))),
        ("external FAILED", done(&owned, &asks(State::Failed))),
        ("external CANCELLED", done(&owned, &asks(State::Cancelled))),
    ]
}

fn place(task: &Task) -> String {
    let leased = task.state() == State::Paused && task.lease().is_some();
    format!("{}{}", task.state().name(), if leased { " leased" } else { "" })
}

#[test]
fn the_table_of_updates() {
    let mut table = String::new();
    for (from, task) in places() {
        let cells: Vec<String> = State::ALL
            .into_iter()
            .map(|to| match at(BEGIN, &asks(to), &task) {
                Ok(None) => "=".to_owned(),
                Ok(Some(next)) => place(&next),
                Err(Error::FailedPrecondition { .. }) => "-".to_owned(),
                Err(other) => panic!("{from} to {}: {other}", to.name()),
            })
            .collect();
        table += &format!("{from}: {}\n", cells.join(", "));
    }
    // Asked for: QUEUED, RUNNING, PAUSED, CANCELLING, SUCCEEDED, FAILED, CANCELLED.
    assert_eq!(
        table,
        "QUEUED: =, -, PAUSED, -, -, -, CANCELLED
RUNNING: -, =, PAUSED leased, CANCELLING, -, -, CANCELLING
PAUSED: QUEUED, QUEUED, =, -, -, -, CANCELLED
PAUSED leased: RUNNING, RUNNING, =, CANCELLING, -, -, CANCELLING
CANCELLING: -, -, -, =, -, -, =
SUCCEEDED: -, -, -, -, =, -, -
FAILED: QUEUED, -, -, -, -, =, -
CANCELLED: QUEUED, -, -, -, -, -, =
external QUEUED: =, RUNNING, PAUSED, CANCELLING, -, -, CANCELLED
external RUNNING: -, =, PAUSED, CANCELLING, SUCCEEDED, FAILED, CANCELLED
external PAUSED: QUEUED, RUNNING, =, CANCELLING, -, -, CANCELLED
external CANCELLING: -, -, -, =, SUCCEEDED, FAILED, CANCELLED
external SUCCEEDED: -, -, -, -, =, -, -
external FAILED: QUEUED, -, -, -, -, =, -
external CANCELLED: QUEUED, -, -, -, -, -, =
"
    );
}

#[test]
fn the_table_of_workers() {
    let outcomes = [
        ("succeeded", ends(1, Outcome::Succeeded(Value::default()))),
        ("permanent", ends(1, permanent())),
        ("retryable", ends(1, retryable())),
        ("cancelled", ends(1, Outcome::Cancelled)),
        ("released", ends(1, Outcome::Released)),
        ("lease over", lease_over(1)),
    ];
    let mut table = String::new();
    for (from, task) in places().into_iter().filter(|(_, task)| task.lease().is_some()) {
        for (what, event) in &outcomes {
            let next = at(BEGIN.plus(Duration::from_secs(60)), event, &task)
                .expect("taken")
                .expect("a change");
            assert_eq!(next.lease(), None);
            table += &format!("{from}, {what}: {} {}\n", place(&next), next.attempt);
        }
    }
    assert_eq!(
        table,
        "RUNNING, succeeded: SUCCEEDED 1
RUNNING, permanent: FAILED 1
RUNNING, retryable: QUEUED 2
RUNNING, cancelled: CANCELLED 1
RUNNING, released: QUEUED 1
RUNNING, lease over: QUEUED 2
PAUSED leased, succeeded: SUCCEEDED 1
PAUSED leased, permanent: FAILED 1
PAUSED leased, retryable: PAUSED 2
PAUSED leased, cancelled: CANCELLED 1
PAUSED leased, released: PAUSED 1
PAUSED leased, lease over: PAUSED 2
CANCELLING, succeeded: SUCCEEDED 1
CANCELLING, permanent: FAILED 1
CANCELLING, retryable: CANCELLED 1
CANCELLING, cancelled: CANCELLED 1
CANCELLING, released: CANCELLED 1
CANCELLING, lease over: CANCELLED 1
"
    );
}

#[test]
fn attempts_count_from_the_last_retry_by_hand() {
    let mut task = create(&new_task("work"), BEGIN);
    let mut now = BEGIN;
    for round in 0..2 {
        for _ in 0..3 {
            assert_eq!(task.state(), State::Queued);
            now = now.plus(Duration::from_secs(120));
            task = at(now, &grant(1), &task).expect("ready").expect("leased");
            assert_eq!(task.error, None);
            task = at(now, &ends(1, retryable()), &task).expect("taken").expect("ended");
            assert!(task.error.is_some());
        }
        assert_eq!((task.state(), task.attempt), (State::Failed, 3 * (round + 1)));
        task = at(now, &asks(State::Queued), &task).expect("allowed").expect("retried");
    }
}

#[test]
fn the_very_outcome_said_again_changes_nothing() {
    let running = done(&create(&new_task("work"), BEGIN), &grant(1));
    let ended = done(&running, &ends(1, retryable()));
    assert_eq!(at(BEGIN, &ends(1, retryable()), &ended), Ok(None));
    assert_eq!(at(BEGIN, &ends(1, permanent()), &ended), Err(Error::lease_lost("t")));
    let later = BEGIN.plus(Duration::from_secs(60));
    let again = at(later, &grant(2), &ended).expect("ready").expect("leased");
    assert_eq!(at(later, &ends(1, retryable()), &again), Ok(None));
    let over = later.plus(Duration::from_secs(60));
    let expired = at(over, &lease_over(2), &again).expect("taken").expect("over");
    assert_eq!(at(over, &ends(1, retryable()), &expired), Err(Error::lease_lost("t")));
}

#[test]
fn a_guard_tolerates_reports_and_nothing_else() {
    let running = done(&create(&new_task("work"), BEGIN), &grant(1));
    let mut report = says(1);
    report.progress = Some(ProgressReport::default());
    let reported = done(&running, &Event::Report(report));
    let guarded = |revision| {
        let priority = Some(7);
        Event::Update(Box::new(Patch { revision: Some(revision), priority, ..Patch::default() }))
    };
    assert!(at(BEGIN, &guarded(running.revision), &reported).is_ok());
    let updated = done(&reported, &guarded(reported.revision));
    for stale in [running.revision, reported.revision, updated.revision + 1] {
        assert!(matches!(at(BEGIN, &guarded(stale), &updated), Err(Error::Aborted { .. })));
    }
}

#[test]
fn time_paused_does_not_count() {
    let mut new = new_task("work");
    new.attempt_timeout = Some(Duration::from_secs(100));
    let seconds = |n| BEGIN.plus(Duration::from_secs(n));
    let limit = |task: &Task| task.lease().map(|lease| lease.limit);
    let running = done(&create(&new, BEGIN), &grant(1));
    let paused = at(seconds(40), &asks(State::Paused), &running).expect("ok").expect("paused");
    assert_eq!(limit(&paused), Some(TimeLimit::Left(Duration::from_secs(60))));
    let resumed = at(seconds(500), &asks(State::Running), &paused).expect("ok").expect("resumed");
    assert_eq!(limit(&resumed), Some(TimeLimit::At(seconds(560))));
    let longer =
        Patch { attempt_timeout: Some(Some(Duration::from_secs(130))), ..Patch::default() };
    let event = Event::Update(Box::new(longer));
    let longer = at(seconds(510), &event, &resumed).expect("ok").expect("changed");
    assert_eq!(limit(&longer), Some(TimeLimit::At(seconds(590))));
    let over = Event::Expire { token: Token([1; 16]), cause: Expiry::AttemptTimeout };
    assert_eq!(at(seconds(589), &over, &longer), Ok(None));
    let next = at(seconds(590), &over, &longer).expect("ok").expect("over");
    assert_eq!(next.error.map(|error| error.code), Some(Code::DEADLINE_EXCEEDED));
}

#[test]
fn time_goes_forward_for_each_task() {
    let queued = create(&new_task("work"), BEGIN);
    let later = BEGIN.plus(Duration::from_secs(5));
    let running = at(later, &grant(1), &queued).expect("allowed").expect("a change");
    // Late with its time: what follows happens when it was given out, not before.
    let released = done(&running, &ends(1, Outcome::Released));
    assert_eq!(released.update_time, later);
    let again = done(&released, &grant(2));
    assert_eq!(again.start_time, Some(later));
    assert!(again.lease().expect("a lease").expire_time > later);
}

#[test]
fn a_keep_alive_is_written_when_a_third_of_the_lease_has_gone() {
    let running = done(&create(&new_task("work"), BEGIN), &grant(1));
    let beat = Event::Report(says(1));
    assert_eq!(at(BEGIN.plus(Duration::from_secs(9)), &beat, &running), Ok(None));
    let ten = BEGIN.plus(Duration::from_secs(10));
    let kept = at(ten, &beat, &running).expect("ok").expect("renewed");
    assert_eq!(kept.revision, running.revision);
    assert_eq!(kept.lease().map(|l| l.expire_time), Some(ten.plus(Duration::from_secs(30))));
}

#[test]
fn a_state_that_cannot_be_is_refused_with_what_can() {
    let said = |from: &str, to: State| {
        let (_, task) = places().into_iter().find(|(place, _)| *place == from).expect("a place");
        let Err(Error::FailedPrecondition { description, .. }) = at(BEGIN, &asks(to), &task) else {
            panic!("{from} to {} is not refused", to.name());
        };
        description.split_once(' ').expect("a name").1.to_owned()
    };
    for (from, to, says) in [
        ("QUEUED", State::Running, "cannot become RUNNING; ask for PAUSED or CANCELLED"),
        (
            "RUNNING",
            State::Succeeded,
            "becomes SUCCEEDED only by its worker; ask for PAUSED or CANCELLING or CANCELLED",
        ),
        ("CANCELLING", State::Paused, "cannot become PAUSED; wait until it has ended"),
        ("SUCCEEDED", State::Failed, "cannot become FAILED; create another task"),
        ("FAILED", State::Running, "cannot become RUNNING; it has ended, and QUEUED retries it"),
        (
            "FAILED",
            State::Cancelled,
            "cannot become CANCELLED; it has ended, and QUEUED retries it",
        ),
        (
            "external QUEUED",
            State::Succeeded,
            "cannot become SUCCEEDED; ask for RUNNING or PAUSED or CANCELLING or CANCELLED",
        ),
    ] {
        let state = from.trim_start_matches("external ");
        assert_eq!(said(from, to), format!("is {state}: task.state {says}"));
    }
}

#[test]
fn a_revision_that_is_over_is_told_from_one_that_never_was() {
    let task = done(&create(&new_task("k"), BEGIN), &asks(State::Paused));
    let said = |revision| {
        let patch = Patch { revision: Some(revision), priority: Some(1), ..Patch::default() };
        let Err(Error::Aborted { message, .. }) = at(BEGIN, &Event::Update(Box::new(patch)), &task)
        else {
            panic!("{revision} is not refused");
        };
        message.split_once(' ').expect("a name").1.to_owned()
    };
    let then = "read it again, then decide";
    assert_eq!(said(1), format!("has changed since revision 1 (it is at 2): {then}"));
    assert_eq!(said(3), format!("never was at revision 3 (it is at 2): {then}"));
}

#[test]
fn an_owner_runs_an_external_task_through_updates() {
    let owned = done(&create(&new_task(EXTERNAL), BEGIN), &asks(State::Running));
    let update = |patch: Patch| Event::Update(Box::new(patch));
    let half = ProgressPatch { percent: Some(Some(50.0)), ..ProgressPatch::default() };
    let later = BEGIN.plus(Duration::from_secs(10));
    let patch = Patch { progress: half, ..Patch::default() };
    let half = at(later, &update(patch), &owned).expect("ok").expect("half");
    assert_eq!(half.update_time, BEGIN, "progress alone does not count as an update");
    let estimate = half.progress.as_ref().and_then(|p| p.estimated_end_time);
    assert_eq!(estimate, Some(later.plus(Duration::from_secs(10))));
    let result = Value::from_json(&serde_json::json!(42));
    let early = Patch { result: Some(Some(result.clone())), ..Patch::default() };
    let refused = at(later, &update(early.clone()), &half);
    assert!(matches!(refused, Err(Error::FailedPrecondition { .. })));
    let done = Patch { state: Some(State::Succeeded), ..early };
    let ended = at(later, &update(done.clone()), &half).expect("ok").expect("ended");
    assert_eq!(ended.result(), Some(&result));
    assert!(ended.progress.as_ref().is_some_and(|p| p.estimated_end_time.is_none()));
    // What was read is sent back whole: nothing to do, and no reason to refuse.
    let echo = Patch { lenient: true, error: Some(None), ..done };
    assert_eq!(at(later, &update(echo), &ended), Ok(None));
}
