//! A task as people read it: in full, as a row of a table, and how it ended.

use prost::Message;

use super::{explain::code_name, line::progress};
use crate::{
    domain::{Object, Timestamp, Value},
    proto::{Task, task::State},
};

/// Text from elsewhere, safe in a terminal: what would move the cursor or colour
/// the rest is replaced, line ends too.
pub(super) fn clean(text: &str) -> String {
    // C1 controls and the marks that turn the writing direction are as good at
    // hiding things as the escape character.
    let unsafe_here = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if unsafe_here(c) { '\u{fffd}' } else { c }).collect()
}

/// A state by its name on the wire.
pub(super) fn state(task: &Task) -> String {
    State::try_from(task.state)
        .map_or_else(|_| format!("state {}", task.state), |state| state.as_str_name().to_owned())
}

pub(super) fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let micros = time.seconds.checked_mul(1_000_000)?.checked_add(i64::from(time.nanos) / 1_000)?;
    Some(Timestamp::from_micros(micros))
}

/// Everything that is known of a task, a line for each thing.
pub(super) fn full(task: &Task) -> String {
    let mut text = String::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("{key:<11} {value}\n"));
        }
    };
    let at = |t: &Option<prost_types::Timestamp>| time(t.as_ref()).map(|t| t.to_string());
    let object = |o: &Option<prost_types::Struct>| {
        let object = o.as_ref().map(|o| Object::from_encoded(o.encode_to_vec().into()).to_json());
        object.map(|json| clean(&serde_json::Value::Object(json).to_string()))
    };
    let some = |text: &str| Some(clean(text));
    put("name", some(&task.name));
    put("kind", some(&task.kind));
    put("state", Some(state(task)));
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
    put("revision", Some(task.revision.to_string()));
    put("input", object(&task.input));
    put("checkpoint", object(&task.checkpoint));
    text.truncate(text.trim_end().len());
    text
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
    let mut text = format!("{} {}", clean(&task.name), state(task));
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

/// Tasks as a table, with its head.
pub(super) fn table(tasks: &[Task]) -> Vec<String> {
    let head = ["NAME", "KIND", "STATE", "CREATED", "PROGRESS"].map(str::to_owned);
    let rows = tasks.iter().map(|task| {
        let created = time(task.create_time.as_ref()).map(|t| t.to_string()).unwrap_or_default();
        // To the second, which is enough to tell tasks apart.
        let created = created.get(..19).map(|t| format!("{t}Z")).unwrap_or(created);
        [clean(&task.name), clean(&task.kind), state(task), created, progress(task)]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> = (0..5)
        .map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or_default())
        .collect();
    let shown = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(shown).collect()
}
