//! The life cycle, in one table: present task, event and time in; new task, or a
//! refusal, out. Requests, workers, timers and recovery all come through here.

use std::{sync::Arc, time::Duration};

use super::{
    Error, Event, Expiry, Failure, Finish, Grant, KindDefaults, LastOutcome, Lease, NewTask,
    Object, Outcome, Patch, Progress, Report, State, Status, Task, TimeLimit, Timestamp, Token,
    Value, failure::Code,
};

/// What a transition may know besides the task and the event.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The present time.
    pub now: Timestamp,
    /// What the task's kind gives it.
    pub kind: &'a KindDefaults,
    /// Between 0 and 1: where in the backoff the next attempt falls.
    pub jitter: f64,
    /// The task's input; only an update that names it looks at it.
    pub input: Option<&'a Object>,
}

/// The new task, as it is at first.
pub fn create(new: &NewTask, now: Timestamp) -> Task {
    let NewTask {
        id,
        kind,
        input: _,
        queue,
        priority,
        labels,
        schedule_time,
        retry_policy,
        attempt_timeout,
        retention,
    } = new.clone();
    Task {
        id,
        kind,
        queue,
        status: Status::Queued,
        priority,
        labels: Arc::new(labels),
        schedule_time,
        ready_time: schedule_time.unwrap_or(now),
        retry_policy,
        attempt_timeout,
        retention,
        create_time: now,
        start_time: None,
        update_time: now,
        revision: 1,
        settled_revision: 1,
        attempt: 1,
        first_attempt: 1,
        worker: None,
        progress: None,
        checkpoint: None,
        error: None,
        last_outcome: None,
    }
}

/// What `event` makes of `task`. `None`: it is accepted and changes nothing.
///
/// # Errors
///
/// Whatever the state table does not allow, a guard that does not hold, a token
/// that is not the live one. A refusal changes nothing.
pub fn apply(task: &Task, event: &Event, context: &Context<'_>) -> Result<Option<Task>, Error> {
    match event {
        Event::Update(patch) => update(task, patch, context),
        Event::Lease(grant) => lease(task, grant, context).map(Some),
        Event::Report(report) => self::report(task, report, context),
        Event::Finish(finish) => self::finish(task, finish, context),
        Event::Expire { token, cause } => Ok(expire(task, *token, *cause, context)),
    }
}

/// A copy in which anything may have changed but its progress and checkpoint.
fn settled(task: &Task, now: Timestamp) -> Task {
    let revision = task.revision + 1;
    Task { revision, settled_revision: revision, update_time: now, ..task.clone() }
}

// --- Workers -----------------------------------------------------------------

fn lease(task: &Task, grant: &Grant, context: &Context<'_>) -> Result<Task, Error> {
    let ready = task.state() == State::Queued && task.ready_time <= context.now;
    if !ready || task.is_external() {
        return Err(precondition(task, "NOT_READY", "is not ready to be handed out".into()));
    }
    let now = context.now;
    let timeout = task.attempt_timeout.or(context.kind.attempt_timeout);
    Ok(Task {
        status: Status::Running(Some(Lease {
            token: grant.token,
            expire_time: now.plus(grant.duration),
            duration: grant.duration,
            limit: TimeLimit::starting(timeout, now),
            by_runner: grant.by_runner,
        })),
        worker: Some(grant.worker.clone()),
        start_time: Some(now),
        error: None,
        ..settled(task, now)
    })
}

/// The live lease, if `token` is the one that it was given under.
fn held(task: &Task, token: Token) -> Result<&Lease, Error> {
    task.lease().filter(|lease| lease.token == token).ok_or_else(|| Error::lease_lost(&task.id))
}

fn report(task: &Task, report: &Report, context: &Context<'_>) -> Result<Option<Task>, Error> {
    let lease = held(task, report.token)?;
    let now = context.now;
    let says_something = report.progress.is_some() || report.checkpoint.is_some();
    let spent = lease.duration.saturating_sub(lease.expire_time.since(now));
    if !says_something && spent < lease.duration / 3 {
        return Ok(None);
    }
    let mut next = task.clone();
    let renewed =
        Lease { expire_time: now.plus(lease.duration).max(lease.expire_time), ..lease.clone() };
    match &mut next.status {
        Status::Running(lease) | Status::Paused(lease) | Status::Cancelling(lease) => {
            *lease = Some(renewed);
        }
        Status::Queued
        | Status::Succeeded { .. }
        | Status::Failed { .. }
        | Status::Cancelled { .. } => {}
    }
    if says_something {
        next.revision += 1;
        take_report(&mut next, report, now);
    }
    Ok(Some(next))
}

fn take_report(task: &mut Task, report: &Report, now: Timestamp) {
    if let Some(progress) = &report.progress {
        let began = task.start_time.unwrap_or(task.create_time);
        // The clock of a paused attempt stands, so its pace says nothing.
        let taken = Progress::taken(progress.clone(), task.progress.as_ref(), began, now);
        let runs = matches!(task.status, Status::Running(_) | Status::Cancelling(_));
        task.progress = Some(if runs { taken } else { taken.at_rest() });
    }
    if let Some(checkpoint) = &report.checkpoint {
        task.checkpoint = Some(checkpoint.clone());
    }
}

fn finish(task: &Task, finish: &Finish, context: &Context<'_>) -> Result<Option<Task>, Error> {
    let said = LastOutcome { token: finish.report.token, digest: finish.outcome.digest() };
    if let Err(lost) = held(task, finish.report.token) {
        return if task.last_outcome == Some(said) { Ok(None) } else { Err(lost) };
    }
    let now = context.now;
    let mut next = settled(task, now);
    take_report(&mut next, &finish.report, now);
    let cancelling = task.state() == State::Cancelling;
    let mut next = match &finish.outcome {
        Outcome::Succeeded(result) => {
            let status = Status::Succeeded { end_time: now, result: result.clone() };
            Task { status, error: None, ..next }
        }
        Outcome::Failed { error, permanent: true } => {
            Task { status: Status::Failed { end_time: now }, error: Some(error.clone()), ..next }
        }
        _ if cancelling => Task { status: Status::Cancelled { end_time: now }, ..next },
        Outcome::Cancelled => Task { status: Status::Cancelled { end_time: now }, ..next },
        Outcome::Failed { error, permanent: false } => failed(next, error.clone(), context),
        Outcome::Released => {
            next.status = without_lease(&next.status);
            next
        }
    };
    next.last_outcome = Some(said);
    next.progress = next.progress.map(Progress::at_rest);
    Ok(Some(next))
}

/// Where a task goes that is given back or retried: a pause outlives its lease.
fn without_lease(status: &Status) -> Status {
    match status {
        Status::Paused(_) => Status::Paused(None),
        Status::Queued
        | Status::Running(_)
        | Status::Cancelling(_)
        | Status::Succeeded { .. }
        | Status::Failed { .. }
        | Status::Cancelled { .. } => Status::Queued,
    }
}

/// After a retryable error in RUNNING or PAUSED.
fn failed(task: Task, error: Failure, context: &Context<'_>) -> Task {
    let failures = task.attempt.saturating_sub(task.first_attempt) + 1;
    let error = Some(error);
    if !task.retry_policy.allows_another(failures, context.kind) {
        return Task { status: Status::Failed { end_time: context.now }, error, ..task };
    }
    let backoff = task.retry_policy.backoff(failures, context.kind, context.jitter);
    Task {
        status: without_lease(&task.status),
        attempt: task.attempt.saturating_add(1),
        ready_time: not_before_schedule(&task, context.now.plus(backoff)),
        error,
        ..task
    }
}

fn not_before_schedule(task: &Task, time: Timestamp) -> Timestamp {
    task.schedule_time.map_or(time, |scheduled| scheduled.max(time))
}

/// The lease of `token` ends without its worker's word; another is left alone,
/// and so is one that has been renewed since it was seen.
fn expire(task: &Task, token: Token, cause: Expiry, context: &Context<'_>) -> Option<Task> {
    let lease = task.lease().filter(|lease| lease.token == token)?;
    let now = context.now;
    let worker = task.worker.as_ref().map_or("?", |worker| worker.as_str());
    let (over, error) = match cause {
        Expiry::Lease => (
            lease.expire_time <= now,
            Failure::new(
                Code::UNAVAILABLE,
                format!("worker {worker} did not report within its lease"),
            ),
        ),
        Expiry::AttemptTimeout => (
            lease.limit.is_over(now),
            Failure::new(Code::DEADLINE_EXCEEDED, "the attempt took longer than its timeout"),
        ),
        Expiry::Orphaned => (
            lease.by_runner,
            Failure::new(Code::UNAVAILABLE, "the server that ran it stopped unexpectedly"),
        ),
    };
    if !over {
        return None;
    }
    let next = Task { last_outcome: None, ..settled(task, now) };
    let mut next = if task.state() == State::Cancelling {
        Task { status: Status::Cancelled { end_time: now }, ..next }
    } else {
        failed(next, error, context)
    };
    next.progress = next.progress.map(Progress::at_rest);
    Some(next)
}

// --- Updates -----------------------------------------------------------------

fn update(task: &Task, patch: &Patch, context: &Context<'_>) -> Result<Option<Task>, Error> {
    guard(task, patch)?;
    immutable(task, patch, context.input)?;
    let mut next = task.clone();
    // First the state, since what else can be set depends on it.
    if let Some(state) = patch.state {
        next = asked(next, state, context)?;
    }
    outcome(task, &mut next, patch)?;
    settings(task, &mut next, patch, context);
    if task.is_external() {
        progress(task, &mut next, patch, context.now)?;
    }
    if next == *task {
        return Ok(None);
    }
    next.revision = task.revision + 1;
    next.settled_revision = next.revision;
    let progress_only = Task {
        progress: task.progress.clone(),
        revision: task.revision,
        settled_revision: task.settled_revision,
        ..next.clone()
    } == *task;
    if !progress_only {
        next.update_time = context.now;
    }
    Ok(Some(next))
}

fn guard(task: &Task, patch: &Patch) -> Result<(), Error> {
    match patch.revision {
        Some(seen) if !(task.settled_revision..=task.revision).contains(&seen) => {
            Err(Error::Aborted {
                reason: "REVISION_MISMATCH",
                message: format!(
                    "tasks/{} has changed since revision {seen} (it is at {}): read it again, \
                     then decide",
                    task.id, task.revision
                ),
            })
        }
        _ => Ok(()),
    }
}

fn immutable(task: &Task, patch: &Patch, input: Option<&Object>) -> Result<(), Error> {
    let fixed = |field: &str| {
        Error::invalid(format!("task.{field}"), "cannot be changed: create another task")
    };
    if patch.kind.as_ref().is_some_and(|kind| kind != task.kind.as_str()) {
        return Err(fixed("kind"));
    }
    let own_queue = task.queue.as_ref().map_or("", |queue| queue.as_str());
    if patch.queue.as_ref().is_some_and(|q| q != own_queue && q != task.queue_name()) {
        return Err(fixed("queue"));
    }
    if patch.input.as_ref().is_some_and(|wanted| wanted.as_ref() != input) {
        return Err(fixed("input"));
    }
    Ok(())
}

/// What cannot be set in the present state: refused, but passed over where it is
/// equal and was not named.
fn set_or_pass<T: PartialEq>(
    task: &Task,
    patch: &Patch,
    (wanted, present): (&T, &T),
    field: &str,
) -> Result<(), Error> {
    if patch.lenient && wanted == present {
        return Ok(());
    }
    Err(precondition(
        task,
        "NOT_SETTABLE",
        format!("is {}, in which {field} cannot be set", task.state().name()),
    ))
}

/// Result and error of an external task, which go with the state they belong to.
fn outcome(task: &Task, next: &mut Task, patch: &Patch) -> Result<(), Error> {
    if !task.is_external() {
        return Ok(());
    }
    let arrives = |state| next.state() == state && task.state() != state;
    let (succeeds, fails) = (arrives(State::Succeeded), arrives(State::Failed));
    if let Some(wanted) = &patch.result {
        if !succeeds {
            set_or_pass(task, patch, (&wanted.as_ref(), &task.result()), "result")?;
        } else if let Status::Succeeded { result, .. } = &mut next.status {
            *result = wanted.clone().unwrap_or_default();
        }
    }
    if let Some(wanted) = &patch.error {
        if fails {
            next.error = Some(wanted.clone().unwrap_or_else(no_reason));
        } else {
            set_or_pass(task, patch, (wanted, &task.error), "error")?;
        }
    }
    Ok(())
}

fn no_reason() -> Failure {
    Failure::new(Code::UNKNOWN, "its owner gave no reason")
}

fn settings(task: &Task, next: &mut Task, patch: &Patch, context: &Context<'_>) {
    if let Some(priority) = patch.priority {
        next.priority = priority;
    }
    if let Some(labels) = patch.labels.as_ref().filter(|labels| **labels != *task.labels) {
        next.labels = Arc::new(labels.clone());
    }
    if let Some(schedule_time) = patch.schedule_time
        && schedule_time != task.schedule_time
    {
        next.schedule_time = schedule_time;
        next.ready_time = schedule_time.unwrap_or(task.create_time);
    }
    next.retry_policy = patch.retry_policy.applied_to(task.retry_policy);
    if let Some(timeout) = patch.attempt_timeout {
        set_timeout(next, timeout, context);
    }
    if let Some(retention) = patch.retention {
        next.retention = retention;
    }
}

fn set_timeout(task: &mut Task, timeout: Option<Duration>, context: &Context<'_>) {
    let old = task.attempt_timeout.or(context.kind.attempt_timeout);
    let new = timeout.or(context.kind.attempt_timeout);
    task.attempt_timeout = timeout;
    let start = task.start_time.unwrap_or(context.now);
    match &mut task.status {
        Status::Running(Some(lease)) | Status::Cancelling(Some(lease)) if old != new => {
            lease.limit = lease.limit.changed(old, new, start);
        }
        Status::Paused(Some(lease)) if old != new => {
            let now = context.now;
            lease.limit = lease.limit.changed(old, new, start).paused(now);
        }
        Status::Queued
        | Status::Running(_)
        | Status::Paused(_)
        | Status::Cancelling(_)
        | Status::Succeeded { .. }
        | Status::Failed { .. }
        | Status::Cancelled { .. } => {}
    }
}

fn progress(task: &Task, next: &mut Task, patch: &Patch, now: Timestamp) -> Result<(), Error> {
    let present = task.progress.as_ref().map(|p| p.report.clone()).unwrap_or_default();
    let wanted = patch.progress.clone().applied_to(present.clone()).derived();
    if patch.progress == super::ProgressPatch::default() || wanted == present {
        return Ok(());
    }
    if task.state().is_terminal() && next.state().is_terminal() {
        return Err(precondition(
            task,
            "NOT_SETTABLE",
            format!("is {}, in which progress cannot be set", task.state().name()),
        ));
    }
    let began = next.start_time.unwrap_or(next.create_time);
    let taken = Progress::taken(wanted, task.progress.as_ref(), began, now);
    let runs = matches!(next.status, Status::Running(_) | Status::Cancelling(_));
    next.progress = Some(if runs { taken } else { taken.at_rest() });
    Ok(())
}

/// The state table, for those who ask for a state.
fn asked(task: Task, wanted: State, context: &Context<'_>) -> Result<Task, Error> {
    let now = context.now;
    let external = task.is_external();
    if task.state() == wanted {
        return Ok(task);
    }
    let refused = |why: String| Err(precondition(&task, "STATE_CHANGE_NOT_ALLOWED", why));
    let status = match (task.status.clone(), wanted) {
        (Status::Queued | Status::Running(None), State::Paused) => Status::Paused(None),
        (Status::Running(Some(lease)), State::Paused) => {
            Status::Paused(Some(Lease { limit: lease.limit.paused(now), ..lease }))
        }
        (Status::Paused(Some(lease)), State::Queued | State::Running) => {
            Status::Running(Some(Lease { limit: lease.limit.resumed(now), ..lease }))
        }
        (Status::Paused(None), State::Running) if external => Status::Running(None),
        (Status::Paused(None), State::Queued | State::Running) => Status::Queued,
        (Status::Queued, State::Running) if external => {
            let next = Task { start_time: Some(now), error: None, ..task };
            return Ok(Task { status: Status::Running(None), ..next });
        }
        (
            Status::Queued
            | Status::Running(None)
            | Status::Paused(None)
            | Status::Cancelling(None),
            State::Cancelled,
        ) => Status::Cancelled { end_time: now },
        (Status::Queued | Status::Running(None) | Status::Paused(None), State::Cancelling)
            if external =>
        {
            Status::Cancelling(None)
        }
        (
            Status::Running(Some(lease)) | Status::Paused(Some(lease)),
            State::Cancelled | State::Cancelling,
        ) => Status::Cancelling(Some(Lease { limit: lease.limit.resumed(now), ..lease })),
        // On its way already.
        (Status::Cancelling(Some(_)), State::Cancelled) => return Ok(task),
        (Status::Running(None) | Status::Cancelling(None), State::Succeeded) if external => {
            Status::Succeeded { end_time: now, result: Value::default() }
        }
        (Status::Running(None) | Status::Cancelling(None), State::Failed) if external => {
            let next = Task { error: Some(no_reason()), ..task };
            return Ok(at_rest(Task { status: Status::Failed { end_time: now }, ..next }));
        }
        (Status::Failed { .. } | Status::Cancelled { .. }, State::Queued) => {
            return Ok(retried_by_hand(task, now));
        }
        (_, State::Succeeded | State::Failed) if !external => {
            return refused(format!(
                "is of kind {}: only its worker can end it with an outcome; cancel it instead",
                task.kind
            ));
        }
        (
            Status::Queued
            | Status::Running(_)
            | Status::Paused(_)
            | Status::Cancelling(_)
            | Status::Succeeded { .. }
            | Status::Failed { .. }
            | Status::Cancelled { .. },
            State::Queued
            | State::Running
            | State::Paused
            | State::Cancelling
            | State::Succeeded
            | State::Failed
            | State::Cancelled,
        ) => {
            return refused(format!(
                "is {}, from which it cannot become {}",
                task.state().name(),
                wanted.name()
            ));
        }
    };
    let next = Task { status, ..task };
    let rests = !matches!(next.status, Status::Running(_));
    let next = if next.state() == State::Succeeded { Task { error: None, ..next } } else { next };
    Ok(if rests { at_rest(next) } else { repaced(next, now) })
}

fn retried_by_hand(task: Task, now: Timestamp) -> Task {
    let attempt = task.attempt.saturating_add(1);
    Task {
        status: Status::Queued,
        attempt,
        first_attempt: attempt,
        ready_time: not_before_schedule(&task, now),
        ..task
    }
}

/// Nothing is worked on: an estimate of its end would be a guess.
fn at_rest(task: Task) -> Task {
    Task { progress: task.progress.map(Progress::at_rest), ..task }
}

/// After a pause the pace is measured from here on.
fn repaced(task: Task, now: Timestamp) -> Task {
    let progress = task.progress.map(|progress| {
        let pace = progress.report.percent.map(|percent| super::Pace { time: now, percent });
        Progress { pace, ..progress }
    });
    Task { progress, ..task }
}

fn precondition(task: &Task, reason: &'static str, description: String) -> Error {
    let subject = format!("tasks/{}", task.id);
    Error::FailedPrecondition { reason, description: format!("{subject} {description}"), subject }
}
