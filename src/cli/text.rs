//! A task as people read it: in full, and how it ended.

use std::time::Duration;

use prost::Message;

use super::{
    clean::clean,
    explain::code_name,
    line::{progress, span},
    style,
    times::Times,
};
use crate::{
    domain::{Object, Timestamp, Value},
    proto::{RetryPolicy, Task, task::State},
};

/// A state by its name on the wire.
pub(super) fn state_name(state: i32) -> String {
    State::try_from(state)
        .map_or_else(|_| format!("state {state}"), |state| state.as_str_name().to_owned())
}

/// The state of a task, by its name.
pub(super) fn state(task: &Task) -> String {
    state_name(task.state)
}

/// The same in its colour, at least so wide.
pub(super) fn painted_state(task: &Task, width: usize) -> String {
    style::painted(&format!("{:<width$}", state(task)), style::of(task.state))
}

pub(super) fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let micros = time.seconds.checked_mul(1_000_000)?.checked_add(i64::from(time.nanos) / 1_000)?;
    Some(Timestamp::from_micros(micros))
}

/// Everything that is known of a task, a line for each thing.
pub(super) fn full(task: &Task, times: &Times) -> String {
    let mut text = String::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let key = style::painted(&format!("{key:<11}"), style::FAINT);
            text.push_str(&format!("{key} {value}\n"));
        }
    };
    let at = |t: &Option<prost_types::Timestamp>| time(t.as_ref()).map(|t| times.full(t));
    let object = |o: &Option<prost_types::Struct>| {
        let object = o.as_ref().map(|o| Object::from_encoded(o.encode_to_vec().into()).to_json());
        object.map(|json| clean(&serde_json::Value::Object(json).to_string()))
    };
    let some = |text: &str| Some(clean(text));
    put("name", some(&task.name));
    put("kind", some(&task.kind));
    put("state", Some(painted_state(task, 0)));
    put("progress", Some(progress(task)));
    put("error", error(task));
    put("result", result(task));
    put("created", at(&task.create_time));
    put("scheduled", at(&task.schedule_time));
    put("started", at(&task.start_time));
    put("ended", at(&task.end_time));
    let estimated = task.progress.as_ref().and_then(|p| at(&p.estimated_end_time));
    put("estimated", estimated);
    put("attempt", Some(task.attempt.to_string()));
    put("worker", some(&task.worker));
    put("queue", some(&task.queue));
    put("priority", (task.priority != 0).then(|| task.priority.to_string()));
    let labels: Vec<String> = task.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    put("labels", some(&labels.join(" ")));
    put("timeout", lasts(&task.attempt_timeout));
    put("retries", task.retry_policy.as_ref().map(retries));
    put("retention", lasts(&task.retention));
    put("revision", Some(task.revision.to_string()));
    put("input", object(&task.input));
    put("checkpoint", object(&task.checkpoint));
    text.truncate(text.trim_end().len());
    text
}

fn lasts(duration: &Option<prost_types::Duration>) -> Option<String> {
    duration.and_then(|lasts| Duration::try_from(lasts).ok()).map(span)
}

/// What a policy says, as far as it says anything.
fn retries(policy: &RetryPolicy) -> String {
    let RetryPolicy { max_attempts, initial_backoff, max_backoff, backoff_multiplier } = policy;
    let parts = [
        (*max_attempts != 0).then(|| format!("{max_attempts} attempts")),
        lasts(initial_backoff).map(|first| format!("first after {first}")),
        (*backoff_multiplier != 0.0).then(|| format!("times {backoff_multiplier}")),
        lasts(max_backoff).map(|most| format!("at most {most}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Why its last attempt failed.
pub(super) fn error(task: &Task) -> Option<String> {
    let error = task.error.as_ref()?;
    Some(format!("{}: {}", code_name(error.code), clean(&error.message)))
}

/// What it gave; none where it gave nothing.
pub(super) fn result(task: &Task) -> Option<String> {
    let value = Value::from_encoded(task.result.as_ref()?.encode_to_vec().into()).to_json();
    (!value.is_null()).then(|| clean(&value.to_string()))
}

/// How a task ended, once it has.
pub(super) fn ending(task: &Task) -> String {
    let mut text = format!("{} {}", clean(&task.name), painted_state(task, 0));
    if let (Some(start), Some(end)) = (time(task.start_time.as_ref()), time(task.end_time.as_ref()))
    {
        text.push_str(&format!(" after {:.1} s", end.since(start).as_secs_f64()));
    }
    if let Some(error) = error(task) {
        text.push_str(&format!("\n  error   {error}"));
    }
    if let Some(result) = result(task) {
        text.push_str(&format!("\n  result  {result}"));
    }
    text
}
