//! Writing what a batch of commands changed: only what differs, in few statements
//! of many rows.

use std::{iter::once, sync::Arc};

use super::{
    Changes, Created, StoreError, Stored, Task, Timestamp, Transaction,
    cells::Cell,
    rows::due,
    state::{States, Update, phase},
    statements::{aside, first, query},
    table::Table,
};
use crate::domain::Lease;

/// Numbers that are taken ahead. Where fewer are left, a commit brings them along: asked for by
/// themselves, they cost a way to the database and a flush.
pub(super) const NUMBERS: usize = 1_000;

/// So many numbers of PostgreSQL for new rows, as an array.
pub(super) fn new_numbers(count: usize) -> String {
    format!("ARRAY(SELECT nextval('tasks_row') FROM generate_series(1, {count}))")
}

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
        let served = served.map(|kind| [kind.as_str().into(), now.micros().into()]);
        self.upsert("kinds", ["kind", "last_worker_time"], &served.collect()).await
    }

    async fn create(&mut self, created: &[Created], now: Timestamp) -> Result<(), StoreError> {
        if created.is_empty() {
            return Ok(());
        }
        let numbers = self.numbers(created.len()).await?;
        let mut created: Vec<(&Created, i64)> = created.iter().zip(numbers).collect();
        if self.writer.known.is_some() {
            let due = created.iter().filter(|(created, _)| due(&created.task, now) == Some(1));
            self.created.extend(due.map(|(Created { task, input, .. }, row)| Stored {
                row: *row,
                task: Arc::clone(task),
                input: input.clone(),
            }));
        }
        // In the order in which all lock them, whoever is faster.
        created.sort_by(|one, other| one.0.task.id.cmp(&other.0.task.id));
        let (mut tasks, mut inputs) = (Table::default(), Table::default());
        let (mut labels, mut requests) = (Table::default(), Vec::new());
        for (Created { task, input, request }, row) in created {
            let create_time = task.create_time.micros();
            let known: [Cell<'_>; CREATED.len()] = [
                row.into(),
                task.id.as_str().into(),
                task.kind.as_str().into(),
                task.queue_name().into(),
                Cell::Small(Some(task.queue.is_some().into())),
                Cell::Small(Some(phase(task))),
                task.ready_time.micros().into(),
                Cell::Small(due(task, now)),
                create_time.into(),
                create_time.into(),
            ];
            tasks.push(known.into_iter().chain(settings(task)));
            if let Some(input) = input {
                inputs.push([row.into(), Cell::object(Some(input))]);
            }
            labels.extend(label_rows(row, task));
            if let Some((request, digest)) = request {
                let values: [Cell<'_>; REQUESTS.len()] = [
                    request.as_str().into(),
                    digest.as_slice().into(),
                    task.id.as_str().into(),
                    row.into(),
                    create_time.into(),
                ];
                requests.push((request, values));
            }
        }
        let columns: Vec<&str> = CREATED.iter().chain(SETTINGS).copied().collect();
        requests.sort_unstable_by_key(|(request, _)| *request);
        let requests = requests.into_iter().map(|(_, values)| values).collect();
        self.insert("tasks", &columns, &tasks).await?;
        self.insert("inputs", &["row", "input"], &inputs).await?;
        self.insert("labels", LABELS, &labels).await?;
        self.insert("requests", REQUESTS, &requests).await
    }

    /// Numbers for new rows, growing in the order of creation by this replica.
    async fn numbers(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        if self.postgres() {
            if self.writer.numbers.len() < count {
                let sql = format!("SELECT {}", new_numbers(count + NUMBERS));
                let rows = query(&self.writer.db, &sql, []);
                let taken: Option<Vec<i64>> = first(&aside(&mut self.begun, rows).await?)?;
                self.writer.numbers.extend(taken.unwrap_or_default());
            }
            return Ok(self.writer.numbers.drain(..count).collect());
        }
        // Taken for good, whatever becomes of the transaction.
        let many = i64::try_from(count).unwrap_or(i64::MAX);
        let begin = self.writer.next_row;
        self.writer.next_row += many;
        Ok((begin..begin + many).collect())
    }

    async fn change(
        &mut self,
        changed: &[(Stored, Arc<Task>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut states, mut settled) = (States::default(), Table::default());
        let (mut reports, mut checkpoints) = (Table::default(), Table::default());
        let (mut begun, mut results) = (Table::default(), Table::default());
        let (mut ended, mut relabelled) = (Vec::new(), Vec::new());
        let mut labels = Table::default();
        for (before, after) in changed {
            let (row, before) = (before.row, &before.task);
            states.add(row, before, after, now);
            if settings_differ(before, after) {
                settled.push(once(row.into()).chain(settings(after)));
            }
            if before.labels != after.labels {
                relabelled.push(row);
                labels.extend(label_rows(row, after));
            }
            if let Some(result) = after.result().filter(|_| before.result() != after.result()) {
                results.push([row.into(), (&**result.encoded()).into()]);
            }
            match (before.lease(), after.lease()) {
                (Some(_), Some(lease)) => {
                    reports.push(report(row, after, lease));
                    if before.checkpoint != after.checkpoint {
                        checkpoints.push([row.into(), Cell::object(after.checkpoint.as_ref())]);
                    }
                }
                (None, Some(lease)) => begun.push(report(row, after, lease)),
                (Some(_), None) => ended.push(row),
                (None, None) => {}
            }
        }
        for Update { columns, rows } in states.updates() {
            self.update("tasks", &columns, &rows).await?;
        }
        self.update("tasks", SETTINGS, &settled).await?;
        self.update("running", REPORT, &reports).await?;
        self.update("running", &["checkpoint"], &checkpoints).await?;
        self.insert("running", &["row", "revision", "progress", "expire_time"], &begun).await?;
        self.remove("running", "row", &ended).await?;
        self.insert("results", &["row", "result"], &results).await?;
        self.remove("labels", "row", &relabelled).await?;
        self.insert("labels", LABELS, &labels).await
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

fn settings_differ(before: &Task, after: &Task) -> bool {
    before.priority != after.priority
        || before.labels != after.labels
        || before.schedule_time != after.schedule_time
        || before.retry_policy != after.retry_policy
        || before.attempt_timeout != after.attempt_timeout
        || before.retention != after.retention
}

/// The values of [`SETTINGS`].
fn settings(task: &Task) -> [Cell<'_>; SETTINGS.len()] {
    let retry = &task.retry_policy;
    [
        Cell::Int(Some(task.priority)),
        Cell::labels(&task.labels),
        Cell::time(task.schedule_time),
        Cell::Big(retry.max_attempts.map(i64::from)),
        Cell::span(retry.initial_backoff),
        Cell::span(retry.max_backoff),
        Cell::Double(retry.backoff_multiplier),
        Cell::span(task.attempt_timeout),
        Cell::span(task.retention),
    ]
}

/// The values of [`REPORT`], behind the row.
fn report<'a>(row: i64, task: &'a Task, lease: &Lease) -> [Cell<'a>; REPORT.len() + 1] {
    [
        row.into(),
        task.revision.into(),
        Cell::Progress(task.progress.as_ref()),
        lease.expire_time.micros().into(),
    ]
}

fn label_rows(row: i64, task: &Task) -> impl Iterator<Item = [Cell<'_>; LABELS.len()]> {
    let create_time = task.create_time.micros();
    task.labels.iter().map(move |(key, value)| {
        [row.into(), key.as_str().into(), value.as_str().into(), create_time.into()]
    })
}
