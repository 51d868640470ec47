//! Tasks, attempts, kinds and queues as rows of a table.

use super::{
    clean::clean,
    explain::code_name,
    json::Mapped,
    line::progress,
    style,
    table::Cell,
    text::{self, state_name, time},
    times::Times,
};
use crate::{
    domain::Timestamp,
    proto::{Attempt, Kind, Queue, Task, kind::Source, task::State},
};

/// What has a row in a table, and a name.
pub(super) trait Row: Mapped {
    /// The heads of its columns; those that only the wide form has stand last.
    const HEADS: &'static [&'static str];
    /// How many of them are in the narrow form.
    const NARROW: usize;

    /// Its name; an attempt's is its number.
    fn name(&self) -> String;
    /// A cell for each head.
    fn cells(&self, times: &Times) -> Vec<Cell>;
}

/// The id alone: what stands before it is the same in every row.
fn id(name: &str) -> String {
    clean(name.rsplit('/').next().unwrap_or_default())
}

fn at(at: &Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time(at.as_ref())
}

fn in_state(state: i32) -> Cell {
    Cell::styled(state_name(state), style::of(state))
}

impl Row for Task {
    const HEADS: &'static [&'static str] = &[
        "NAME", "KIND", "STATE", "CREATED", "PROGRESS", "QUEUE", "PRIORITY", "ATTEMPT", "STARTED",
        "ENDED", "WORKER", "LABELS",
    ];
    const NARROW: usize = 5;

    fn name(&self) -> String {
        clean(&self.name)
    }

    fn cells(&self, times: &Times) -> Vec<Cell> {
        let when = |t: &_| at(t).map(|t| times.short(t)).unwrap_or_default().into();
        let labels: Vec<String> = self.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        // Why it failed says more than how far it was.
        let failed = self.state == i32::from(State::Failed);
        let error = failed.then(|| text::error(self)).flatten();
        vec![
            id(&self.name).into(),
            clean(&self.kind).into(),
            in_state(self.state),
            when(&self.create_time),
            error.unwrap_or_else(|| progress(self)).into(),
            clean(if self.queue.is_empty() { "default" } else { &self.queue }).into(),
            self.priority.to_string().into(),
            self.attempt.to_string().into(),
            when(&self.start_time),
            when(&self.end_time),
            clean(&self.worker).into(),
            clean(&labels.join(" ")).into(),
        ]
    }
}

impl Row for Attempt {
    const HEADS: &'static [&'static str] =
        &["ATTEMPT", "STATE", "STARTED", "TOOK", "ERROR", "WORKER"];
    const NARROW: usize = 5;

    fn name(&self) -> String {
        self.attempt.to_string()
    }

    fn cells(&self, times: &Times) -> Vec<Cell> {
        let (start, end) = (at(&self.start_time), at(&self.end_time));
        let state = match end {
            None => in_state(State::Running.into()),
            Some(_) if self.end_state == i32::from(State::Queued) => "given back".into(),
            Some(_) => in_state(self.end_state),
        };
        let error = self.error.as_ref();
        let error = error.map(|e| format!("{}: {}", code_name(e.code), clean(&e.message)));
        vec![
            self.attempt.to_string().into(),
            state,
            start.map(|t| times.short(t)).unwrap_or_default().into(),
            start.map(|t| times.between(t, end)).unwrap_or_default().into(),
            error.unwrap_or_default().into(),
            clean(&self.worker).into(),
        ]
    }
}

impl Row for Kind {
    const HEADS: &'static [&'static str] =
        &["KIND", "SERVED BY", "QUEUED", "RUNNING", "WORKERS", "LAST WORKER"];
    const NARROW: usize = 6;

    fn name(&self) -> String {
        clean(&self.kind)
    }

    fn cells(&self, times: &Times) -> Vec<Cell> {
        let source = match Source::try_from(self.source) {
            Ok(Source::BuiltIn) => "the server",
            Ok(Source::Program) => "a program",
            Ok(Source::Workers) => "workers",
            Ok(Source::Unspecified) | Err(_) => "",
        };
        vec![
            clean(&self.kind).into(),
            source.into(),
            self.queued_tasks.to_string().into(),
            self.running_tasks.to_string().into(),
            self.workers.to_string().into(),
            at(&self.last_worker_time).map(|t| times.short(t)).unwrap_or_default().into(),
        ]
    }
}

impl Row for Queue {
    const HEADS: &'static [&'static str] = &["QUEUE", "QUEUED", "RUNNING", "PAUSED"];
    const NARROW: usize = 4;

    fn name(&self) -> String {
        clean(&self.name)
    }

    fn cells(&self, _: &Times) -> Vec<Cell> {
        vec![
            id(&self.name).into(),
            self.queued_tasks.to_string().into(),
            self.running_tasks.to_string().into(),
            if self.paused {
                Cell::styled("paused", style::of(State::Paused.into()))
            } else {
                "".into()
            },
        ]
    }
}
