//! What changes with a task's state, column by column, and which of it differs: an index of
//! columns that are not set is left alone.

use std::collections::BTreeMap;

use sea_orm::Value as Sql;

use super::{
    Task, Timestamp,
    dml::Row,
    parts::Phase,
    rows::{due, failure_sql, micros, progress_sql, state_sql},
};
use crate::domain::{Failure, Progress, TimeLimit};

/// Rows that have the same columns to set.
pub(super) struct Update {
    pub(super) columns: Vec<&'static str>,
    /// Each has its row first, then its values.
    pub(super) rows: Vec<Row>,
}

/// What differs of some tasks, by the columns, of which each is a bit.
#[derive(Default)]
pub(super) struct States(BTreeMap<u32, Update>);

const COLUMNS: usize = 22;
/// Some columns of [`state`], as bits: what a report changes, and what a timer does.
const REPORTED: u32 = 0b0111;
const DUE: u32 = 0b1000;

impl States {
    /// What may differ from what stands in the row; nothing where there was but a report,
    /// which stands with the lease.
    pub(super) fn add(&mut self, row: i64, before: &Task, after: &Task, now: Timestamp) {
        let (was, is) = (state(before, now), state(after, now));
        let differ = |at: &usize| was[*at].1 != is[*at].1;
        let mut set: u32 = (0..COLUMNS).filter(differ).map(|at| 1 << at).sum();
        let was_held = before.lease().is_some();
        let only_reported = was_held && after.lease().is_some() && set & !REPORTED == 0;
        if only_reported || set == 0 {
            return;
        }
        if was_held {
            // The newest ones stand with the lease.
            set |= REPORTED;
        }
        if due(before, now).is_some() {
            // A timer may be late.
            set |= DUE;
        }
        let set_ones = || is.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0);
        let update = self.0.entry(set).or_insert_with(|| Update {
            columns: set_ones().map(|(_, (column, _))| *column).collect(),
            rows: Vec::new(),
        });
        let mut values = Vec::with_capacity(update.columns.len() + 1);
        values.push(row.into());
        values.extend(set_ones().map(|(_, (_, cell))| Sql::from(*cell)));
        update.rows.push(values);
    }

    /// One for all rows of the same columns.
    pub(super) fn updates(self) -> impl Iterator<Item = Update> {
        self.0.into_values()
    }
}

pub(super) fn phase(task: &Task) -> i16 {
    Phase::of(task) as i16
}

/// What stands in a column, to be compared without being made; none is NULL.
#[derive(Clone, Copy, PartialEq)]
enum Cell<'a> {
    Small(Option<i16>),
    Int(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
    Progress(Option<&'a Progress>),
    Failure(Option<&'a Failure>),
}

impl From<Cell<'_>> for Sql {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Small(number) => number.into(),
            Cell::Int(number) => number.into(),
            Cell::Text(text) => text.into(),
            Cell::Bytes(bytes) => bytes.map(<[u8]>::to_vec).into(),
            Cell::Progress(progress) => progress_sql(progress),
            Cell::Failure(failure) => failure_sql(failure),
        }
    }
}

/// The columns, and what stands in them.
fn state(task: &Task, now: Timestamp) -> [(&'static str, Cell<'_>); COLUMNS] {
    let time = |time: Option<Timestamp>| Cell::Int(time.map(Timestamp::micros));
    let lease = task.lease();
    let (limit_kind, limit_value): (i16, Option<i64>) =
        match lease.map_or(TimeLimit::None, |lease| lease.limit) {
            TimeLimit::None => (0, None),
            TimeLimit::At(end) => (1, Some(end.micros())),
            TimeLimit::Left(left) => (2, i64::try_from(left.as_micros()).ok()),
        };
    let last = task.last_outcome.as_ref();
    [
        // First what REPORTED and DUE name.
        ("revision", Cell::Int(Some(task.revision))),
        ("progress", Cell::Progress(task.progress.as_ref())),
        ("checkpoint", Cell::Bytes(task.checkpoint.as_ref().map(|c| &**c.encoded()))),
        ("due", Cell::Small(due(task, now))),
        ("state", Cell::Small(Some(state_sql(task.state())))),
        ("phase", Cell::Small(Some(phase(task)))),
        ("ready_time", time(Some(task.ready_time))),
        ("start_time", time(task.start_time)),
        ("end_time", time(task.end_time())),
        ("update_time", time(Some(task.update_time))),
        ("settled_revision", Cell::Int(Some(task.settled_revision))),
        ("attempt", Cell::Int(Some(task.attempt.into()))),
        ("first_attempt", Cell::Int(Some(task.first_attempt.into()))),
        ("worker", Cell::Text(task.worker.as_deref())),
        ("error", Cell::Failure(task.error.as_ref())),
        ("lease_token", Cell::Bytes(lease.map(|lease| lease.token.0.as_slice()))),
        ("lease_duration", Cell::Int(lease.map(|lease| micros(lease.duration)))),
        ("limit_kind", Cell::Small(Some(limit_kind))),
        ("limit_value", Cell::Int(limit_value)),
        ("by_runner", Cell::Small(Some(lease.is_some_and(|lease| lease.by_runner).into()))),
        ("last_token", Cell::Bytes(last.map(|said| said.token.0.as_slice()))),
        ("last_digest", Cell::Bytes(last.map(|said| said.digest.as_slice()))),
    ]
}
