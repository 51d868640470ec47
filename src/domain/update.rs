//! What a person or a program may ask of a task: its state, its settings, and of an
//! external one everything else.

use std::{sync::Arc, time::Duration};

use super::{
    Error, Failure, Lease, Object, Patch, Progress, State, Status, Task, Timestamp, Value,
    context::{Context, not_before_schedule, precondition},
    failure::Code,
};

/// What `patch` makes of `task`.
pub(super) fn update(
    task: &Task,
    patch: &Patch,
    context: &Context<'_>,
) -> Result<Option<Task>, Error> {
    guard(task, patch)?;
    immutable(task, patch, context.input)?;
    let mut next = task.clone();
    // First the state, since what else can be set depends on it.
    if let Some(state) = patch.state {
        next = asked(next, state, context.now)?;
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
            let past = if seen > task.revision { "never was at" } else { "has changed since" };
            Err(Error::Aborted {
                reason: "REVISION_MISMATCH",
                message: format!(
                    "tasks/{} {past} revision {seen} (it is at {}): read it again, then decide",
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
    (field, with): (&str, State),
) -> Result<(), Error> {
    if patch.lenient && wanted == present {
        return Ok(());
    }
    let description = format!(
        "is {}: task.{field} is set by the very update that sets task.state to {}",
        task.state().name(),
        with.name()
    );
    Err(precondition(task, "NOT_SETTABLE", description))
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
            set_or_pass(
                task,
                patch,
                (&wanted.as_ref(), &task.result()),
                ("result", State::Succeeded),
            )?;
        } else if let Status::Succeeded { result, .. } = &mut next.status {
            *result = wanted.clone().unwrap_or_default();
        }
    }
    if let Some(wanted) = &patch.error {
        if fails {
            next.error = Some(wanted.clone().unwrap_or_else(no_reason));
        } else {
            set_or_pass(task, patch, (wanted, &task.error), ("error", State::Failed))?;
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
            format!("is {}: task.progress cannot be set any more", task.state().name()),
        ));
    }
    let began = next.start_time.unwrap_or(next.create_time);
    let taken = Progress::taken(wanted, task.progress.as_ref(), began, now);
    let runs = matches!(next.status, Status::Running(_) | Status::Cancelling(_));
    next.progress = Some(if runs { taken } else { taken.at_rest() });
    Ok(())
}

/// In a state that is asked for; where it cannot be, the refusal says which it could be in.
fn asked(task: Task, wanted: State, now: Timestamp) -> Result<Task, Error> {
    if let Some(next) = became(task.clone(), wanted, now) {
        return Ok(next);
    }
    let present = task.state();
    let leads = |other: &State| {
        became(task.clone(), *other, now).is_some_and(|next| next.state() != present)
    };
    let others: Vec<&str> = State::ALL.into_iter().filter(leads).map(State::name).collect();
    let remedy = match (others.join(" or "), present.is_terminal()) {
        (others, true) if others.is_empty() => "create another task".to_owned(),
        (others, false) if others.is_empty() => "wait until it has ended".to_owned(),
        (others, true) => format!("it has ended, and {others} retries it"),
        (others, false) => format!("ask for {others}"),
    };
    let by_worker = matches!(wanted, State::Succeeded | State::Failed) && !task.is_external();
    let cannot = if by_worker && !present.is_terminal() {
        format!("becomes {} only by its worker", wanted.name())
    } else {
        format!("cannot become {}", wanted.name())
    };
    let description = format!("is {}: task.state {cannot}; {remedy}", present.name());
    Err(precondition(&task, "STATE_CHANGE_NOT_ALLOWED", description))
}

/// The state table, for those who ask for a state. None: it does not allow that.
fn became(task: Task, wanted: State, now: Timestamp) -> Option<Task> {
    let external = task.is_external();
    if task.state() == wanted {
        return Some(task);
    }
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
            return Some(Task { status: Status::Running(None), ..next });
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
        (Status::Cancelling(Some(_)), State::Cancelled) => return Some(task),
        (Status::Running(None) | Status::Cancelling(None), State::Succeeded) if external => {
            Status::Succeeded { end_time: now, result: Value::default() }
        }
        (Status::Running(None) | Status::Cancelling(None), State::Failed) if external => {
            let next = Task { error: Some(no_reason()), ..task };
            return Some(at_rest(Task { status: Status::Failed { end_time: now }, ..next }));
        }
        (Status::Failed { .. } | Status::Cancelled { .. }, State::Queued) => {
            return Some(retried_by_hand(task, now));
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
        ) => return None,
    };
    let next = Task { status, ..task };
    let rests = !matches!(next.status, Status::Running(_));
    let next = if next.state() == State::Succeeded { Task { error: None, ..next } } else { next };
    Some(if rests { at_rest(next) } else { repaced(next, now) })
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
