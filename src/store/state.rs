//! What changes with a task's state, column by column, and which of it differs: an index of
//! columns that are not set is left alone.

use std::{collections::BTreeMap, iter::once};

use super::{Task, Timestamp, cells::Cell, parts::Phase, rows::due, table::Table};
use crate::domain::TimeLimit;

/// Rows that have the same columns to set.
pub(super) struct Update<'a> {
    pub(super) columns: Vec<&'static str>,
    /// Each has its row first, then its values.
    pub(super) rows: Table<'a>,
}

/// What differs of some tasks, by the columns, of which each is a bit.
#[derive(Default)]
pub(super) struct States<'a>(BTreeMap<u32, Update<'a>>);

const COLUMNS: usize = 22;
/// Some columns of [`state`], as bits: what a report changes, and what a timer does.
const REPORTED: u32 = 0b0111;
const DUE: u32 = 0b1000;

impl<'a> States<'a> {
    /// What may differ from what stands in the row; nothing where there was but a report,
    /// which stands with the lease.
    pub(super) fn add(&mut self, row: i64, before: &Task, after: &'a Task, now: Timestamp) {
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
            rows: Table::default(),
        });
        update.rows.push(once(row.into()).chain(set_ones().map(|(_, (_, cell))| *cell)));
    }

    /// One for all rows of the same columns.
    pub(super) fn updates(self) -> impl Iterator<Item = Update<'a>> {
        self.0.into_values()
    }
}

pub(super) fn phase(task: &Task) -> i16 {
    Phase::of(task) as i16
}

/// The columns, and what stands in them.
fn state(task: &Task, now: Timestamp) -> [(&'static str, Cell<'_>); COLUMNS] {
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
        ("revision", task.revision.into()),
        ("progress", Cell::Progress(task.progress.as_ref())),
        ("checkpoint", Cell::object(task.checkpoint.as_ref())),
        ("due", Cell::Small(due(task, now))),
        ("state", task.state().into()),
        ("phase", Cell::Small(Some(phase(task)))),
        ("ready_time", Cell::time(Some(task.ready_time))),
        ("start_time", Cell::time(task.start_time)),
        ("end_time", Cell::time(task.end_time())),
        ("update_time", Cell::time(Some(task.update_time))),
        ("settled_revision", task.settled_revision.into()),
        ("attempt", i64::from(task.attempt).into()),
        ("first_attempt", i64::from(task.first_attempt).into()),
        ("worker", Cell::Text(task.worker.as_deref())),
        ("error", Cell::Failure(task.error.as_ref())),
        ("lease_token", Cell::Bytes(lease.map(|lease| lease.token.0.as_slice()))),
        ("lease_duration", Cell::span(lease.map(|lease| lease.duration))),
        ("limit_kind", Cell::Small(Some(limit_kind))),
        ("limit_value", Cell::Big(limit_value)),
        ("by_runner", Cell::Small(Some(lease.is_some_and(|lease| lease.by_runner).into()))),
        ("last_token", Cell::Bytes(last.map(|said| said.token.0.as_slice()))),
        ("last_digest", Cell::Bytes(last.map(|said| said.digest.as_slice()))),
    ]
}
