//! Writing what a batch of commands changed: only what differs, in few statements
//! of many rows.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::Value as Sql;

use super::{
    Changes, Created, StoreError, Stored, Task, Timestamp, Transaction,
    dml::Row,
    parts::Phase,
    rows::{
        due, failure_sql, labels_sql, micros, object_sql, progress_sql, span_sql, state_sql,
        time_sql,
    },
};
use crate::domain::{Failure, Lease, Progress, TimeLimit};

/// Numbers that are taken ahead, so that few transactions ask for some.
const NUMBERS: i64 = 1_000;

/// What is known of a new task, beside its settings.
const CREATED: &[&str] = &[
    "row",
    "id",
    "kind",
    "queue",
    "queue_set",
    "phase",
    "ready_time",
    "due",
    "create_time",
    "update_time",
];

/// What changes with a task's state; first what a report changes as well.
const STATE: [&str; 22] = [
    "revision",
    "progress",
    "checkpoint",
    "due",
    "state",
    "phase",
    "ready_time",
    "start_time",
    "end_time",
    "update_time",
    "settled_revision",
    "attempt",
    "first_attempt",
    "worker",
    "error",
    "lease_token",
    "lease_duration",
    "limit_kind",
    "limit_value",
    "by_runner",
    "last_token",
    "last_digest",
];
/// Some of these, as bits.
const REPORTED: u32 = 0b0111;
const DUE: u32 = 0b1000;

/// What only an update by hand changes.
const SETTINGS: &[&str] = &[
    "priority",
    "labels",
    "schedule_time",
    "max_attempts",
    "initial_backoff",
    "max_backoff",
    "backoff_multiplier",
    "attempt_timeout",
    "retention",
];

/// What a report changes.
const REPORT: &[&str] = &["revision", "progress", "expire_time"];
const LABELS: &[&str] = &["row", "key", "value", "create_time"];
const REQUESTS: &[&str] = &["request_id", "digest", "task_id", "task_row", "create_time"];

impl Transaction<'_> {
    /// Writes what changed, in few statements. A task is due at once where its
    /// `ready_time` is not after `now`.
    ///
    /// # Errors
    ///
    /// `Conflict` where a new row was there already.
    pub async fn write(&mut self, changes: &Changes, now: Timestamp) -> Result<(), StoreError> {
        self.change(&changes.ended, now).await?;
        self.delete(&changes.deleted, now).await?;
        self.create(&changes.created, now).await?;
        self.change(&changes.changed, now).await?;
        if self.writer.known.is_some() {
            for Stored { task, .. } in &changes.deleted {
                self.became.insert(task.id.clone(), None);
            }
            self.became.reserve(changes.changed.len());
            for (before, task) in &changes.changed {
                let after = Stored { row: before.row, task: Arc::clone(task), input: None };
                self.became.insert(task.id.clone(), Some(after));
            }
        }
        self.add_attempts(changes).await?;
        let served = changes.served.iter();
        let served = served.map(|kind| vec![kind.as_str().into(), now.micros().into()]);
        self.upsert("kinds", ["kind", "last_worker_time"], served.collect()).await
    }

    async fn create(&mut self, created: &[Created], now: Timestamp) -> Result<(), StoreError> {
        if created.is_empty() {
            return Ok(());
        }
        let numbers = self.numbers(created.len()).await?;
        let (mut tasks, mut inputs) = (Vec::with_capacity(created.len()), Vec::new());
        let (mut labels, mut requests) = (Vec::new(), Vec::new());
        for (Created { task, input, request }, row) in created.iter().zip(numbers) {
            let create_time = task.create_time.micros();
            let due = due(task, now);
            if self.writer.known.is_some() && due == Some(1) {
                let (task, input) = (Arc::clone(task), input.clone());
                self.created.push(Stored { row, task, input });
            }
            let mut values: Row = Vec::with_capacity(CREATED.len() + SETTINGS.len());
            values.extend([
                row.into(),
                task.id.as_str().into(),
                task.kind.as_str().into(),
                task.queue_name().into(),
                i16::from(task.queue.is_some()).into(),
                phase(task).into(),
                task.ready_time.micros().into(),
                due.into(),
                create_time.into(),
                create_time.into(),
            ]);
            values.extend(settings(task));
            tasks.push((values, task.id.clone()));
            if let Some(input) = input {
                inputs.push(vec![row.into(), object_sql(Some(input))]);
            }
            labels.extend(label_rows(row, task));
            if let Some((request, digest)) = request {
                let values = vec![
                    request.as_str().into(),
                    digest.to_vec().into(),
                    task.id.as_str().into(),
                    row.into(),
                    create_time.into(),
                ];
                requests.push((request, values));
            }
        }
        let columns: Vec<&str> = CREATED.iter().chain(SETTINGS).copied().collect();
        // In the order in which all lock them, whoever is faster.
        tasks.sort_by(|one, other| one.1.cmp(&other.1));
        requests.sort_by_key(|(request, _)| *request);
        let tasks: Vec<Row> = tasks.into_iter().map(|(values, _)| values).collect();
        self.insert("tasks", &columns, tasks).await?;
        self.insert("inputs", &["row", "input"], inputs).await?;
        self.insert("labels", LABELS, labels).await?;
        let requests: Vec<Row> = requests.into_iter().map(|(_, values)| values).collect();
        self.insert("requests", REQUESTS, requests).await
    }

    /// Numbers for new rows, growing in the order of creation by this replica.
    async fn numbers(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        let many = i64::try_from(count).unwrap_or(i64::MAX);
        if self.postgres() {
            if self.writer.numbers.len() < count {
                let sql = "SELECT nextval('tasks_row') FROM generate_series(1::bigint, $1)";
                for row in self.query(sql, [(many + NUMBERS).into()]).await? {
                    self.writer.numbers.push_back(row.try_get_by_index(0)?);
                }
            }
            return Ok(self.writer.numbers.drain(..count).collect());
        }
        // Taken for good, whatever becomes of the transaction.
        let begin = self.writer.next_row;
        self.writer.next_row += many;
        Ok((begin..begin + many).collect())
    }

    async fn change(
        &mut self,
        changed: &[(Stored, Arc<Task>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut states, mut settled) = (ByColumns::default(), Vec::new());
        let (mut reports, mut checkpoints) = (Vec::new(), Vec::new());
        let (mut begun, mut ended, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let (mut relabelled, mut labels) = (Vec::new(), Vec::new());
        for (before, after) in changed {
            let (row, before) = (before.row, &before.task);
            states.add(row, before, after, now);
            if settings_differ(before, after) {
                let mut values: Row = vec![row.into()];
                values.extend(self::settings(after));
                settled.push(values);
            }
            if before.labels != after.labels {
                relabelled.push(row);
                labels.extend(label_rows(row, after));
            }
            if let Some(result) = after.result().filter(|_| before.result() != after.result()) {
                results.push(vec![row.into(), result.encoded().to_vec().into()]);
            }
            match (before.lease(), after.lease()) {
                (Some(_), Some(lease)) => {
                    reports.push(report(row, after, lease));
                    if before.checkpoint != after.checkpoint {
                        checkpoints.push(vec![row.into(), object_sql(after.checkpoint.as_ref())]);
                    }
                }
                (None, Some(lease)) => begun.push(report(row, after, lease)),
                (Some(_), None) => ended.push(row),
                (None, None) => {}
            }
        }
        for (columns, rows) in states.0 {
            let columns: Vec<&str> = columns_of(columns).map(|at| STATE[at]).collect();
            self.update("tasks", &columns, rows).await?;
        }
        self.update("tasks", SETTINGS, settled).await?;
        self.update("running", REPORT, reports).await?;
        self.update("running", &["checkpoint"], checkpoints).await?;
        self.insert("running", &["row", "revision", "progress", "expire_time"], begun).await?;
        self.remove("running", "row", &ended).await?;
        self.insert("results", &["row", "result"], results).await?;
        self.remove("labels", "row", &relabelled).await?;
        self.insert("labels", LABELS, labels).await
    }

    async fn delete(&mut self, deleted: &[Stored], now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<i64> = deleted.iter().map(|stored| stored.row).collect();
        if self.postgres() {
            self.depart(&rows, now).await?;
        }
        for table in ["tasks", "running", "inputs", "results", "labels", "attempts"] {
            self.remove(table, "row", &rows).await?;
        }
        self.remove("requests", "task_row", &rows).await
    }
}

/// Rows by the columns of [`STATE`] that are to be set, a bit each: an index of columns that
/// are not is left alone.
#[derive(Default)]
struct ByColumns(BTreeMap<u32, Vec<Row>>);

fn columns_of(bits: u32) -> impl Iterator<Item = usize> {
    (0..STATE.len()).filter(move |at| bits & (1 << at) != 0)
}

impl ByColumns {
    /// Those that may differ from what stands in the row; none where there was but a report,
    /// which stands with the lease.
    fn add(&mut self, row: i64, before: &Task, after: &Task, now: Timestamp) {
        let (was, is) = (state(before, now), state(after, now));
        let differ = |at: &usize| was[*at] != is[*at];
        let mut bits: u32 = (0..STATE.len()).filter(differ).map(|at| 1 << at).sum();
        let was_held = before.lease().is_some();
        let only_reported = was_held && after.lease().is_some() && bits & !REPORTED == 0;
        if only_reported || bits == 0 {
            return;
        }
        let given = columns_of(REPORTED).filter(|at| !is[*at].is_null()).map(|at| 1 << at);
        if was_held {
            // The newest ones stand with the lease.
            bits |= given.sum::<u32>();
        }
        if due(before, now).is_some() {
            // A timer may be late.
            bits |= DUE;
        }
        let mut values = Vec::with_capacity(STATE.len() + 1);
        values.push(row.into());
        values.extend(columns_of(bits).map(|at| Sql::from(is[at])));
        self.0.entry(bits).or_default().push(values);
    }
}

fn settings_differ(before: &Task, after: &Task) -> bool {
    before.priority != after.priority
        || before.labels != after.labels
        || before.schedule_time != after.schedule_time
        || before.retry_policy != after.retry_policy
        || before.attempt_timeout != after.attempt_timeout
        || before.retention != after.retention
}

/// The values of [`SETTINGS`].
fn settings(task: &Task) -> Row {
    let retry = &task.retry_policy;
    vec![
        task.priority.into(),
        labels_sql(task),
        time_sql(task.schedule_time),
        retry.max_attempts.map(i64::from).into(),
        span_sql(retry.initial_backoff),
        span_sql(retry.max_backoff),
        retry.backoff_multiplier.into(),
        span_sql(task.attempt_timeout),
        span_sql(task.retention),
    ]
}

fn phase(task: &Task) -> i16 {
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

impl Cell<'_> {
    const fn is_null(self) -> bool {
        matches!(
            self,
            Self::Small(None)
                | Self::Int(None)
                | Self::Text(None)
                | Self::Bytes(None)
                | Self::Progress(None)
                | Self::Failure(None)
        )
    }
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

/// What stands in the columns of [`STATE`].
fn state(task: &Task, now: Timestamp) -> [Cell<'_>; STATE.len()] {
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
        Cell::Int(Some(task.revision)),
        Cell::Progress(task.progress.as_ref()),
        Cell::Bytes(task.checkpoint.as_ref().map(|checkpoint| &**checkpoint.encoded())),
        Cell::Small(due(task, now)),
        Cell::Small(Some(state_sql(task.state()))),
        Cell::Small(Some(phase(task))),
        time(Some(task.ready_time)),
        time(task.start_time),
        time(task.end_time()),
        time(Some(task.update_time)),
        Cell::Int(Some(task.settled_revision)),
        Cell::Int(Some(task.attempt.into())),
        Cell::Int(Some(task.first_attempt.into())),
        Cell::Text(task.worker.as_deref()),
        Cell::Failure(task.error.as_ref()),
        Cell::Bytes(lease.map(|lease| lease.token.0.as_slice())),
        Cell::Int(lease.map(|lease| micros(lease.duration))),
        Cell::Small(Some(limit_kind)),
        Cell::Int(limit_value),
        Cell::Small(Some(lease.is_some_and(|lease| lease.by_runner).into())),
        Cell::Bytes(last.map(|said| said.token.0.as_slice())),
        Cell::Bytes(last.map(|said| said.digest.as_slice())),
    ]
}

/// The values of [`REPORT`], behind the row.
fn report(row: i64, task: &Task, lease: &Lease) -> Row {
    vec![
        row.into(),
        task.revision.into(),
        progress_sql(task.progress.as_ref()),
        lease.expire_time.micros().into(),
    ]
}

fn label_rows(row: i64, task: &Task) -> impl Iterator<Item = Row> + '_ {
    let create_time = task.create_time.micros();
    task.labels.iter().map(move |(key, value)| {
        vec![row.into(), key.as_str().into(), value.as_str().into(), create_time.into()]
    })
}
