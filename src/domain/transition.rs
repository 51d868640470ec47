//! The life cycle, in one table: present task, event and time in; new task, or a
//! refusal, out. Requests, workers, timers and recovery all come through here.

use std::sync::Arc;

use super::{
    Error, Event, Expiry, Failure, Finish, Grant, LastOutcome, Lease, NewTask, Outcome, Progress,
    Report, State, Status, Task, TimeLimit, Timestamp, Token,
    context::{Context, not_before_schedule, precondition},
    failure::Code,
    update::update,
};

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
    // Time goes forward for each task, also where the database held a transaction up after
    // it had asked for the time, or a clock was set back.
    let context = &Context { now: context.now.max(task.update_time), ..*context };
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
