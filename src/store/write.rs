//! Writing what a batch of commands changed: only what differs, in few statements
//! of many rows.

use std::sync::Arc;

use sea_orm::Value as Sql;

use super::{
    Changes, Created, StoreError, Stored, Task, Timestamp, Transaction,
    rows::{
        due_sql, failure_sql, labels_sql, object_sql, progress_sql, queue_sql, span_sql, time_sql,
    },
    statements::{execute, is_postgres, placeholders, query, shaped},
};
use crate::domain::{Lease, TimeLimit};

/// One row of values for a statement of many.
type Row = Vec<Sql>;

/// A column that a statement of many rows sets, and its type on PostgreSQL, which
/// would take a row of NULLs for text.
const STATE: &[(&str, &str)] = &[
    ("state", "smallint"),
    ("ready_time", "bigint"),
    ("due", "smallint"),
    ("start_time", "bigint"),
    ("end_time", "bigint"),
    ("end_order", "bigint"),
    ("update_time", "bigint"),
    ("revision", "bigint"),
    ("settled_revision", "bigint"),
    ("attempt", "bigint"),
    ("first_attempt", "bigint"),
    ("worker", "text"),
    ("progress", "bytea"),
    ("checkpoint", "bytea"),
    ("error", "bytea"),
    ("lease_token", "bytea"),
    ("lease_duration", "bigint"),
    ("limit_kind", "smallint"),
    ("limit_value", "bigint"),
    ("by_runner", "smallint"),
    ("last_token", "bytea"),
    ("last_digest", "bytea"),
];

/// What only an update by hand changes.
const SETTINGS: &[(&str, &str)] = &[
    ("priority", "integer"),
    ("labels", "bytea"),
    ("schedule_time", "bigint"),
    ("max_attempts", "bigint"),
    ("initial_backoff", "bigint"),
    ("max_backoff", "bigint"),
    ("backoff_multiplier", "double precision"),
    ("attempt_timeout", "bigint"),
    ("retention", "bigint"),
];

/// What a report changes.
const REPORT: &[(&str, &str)] =
    &[("revision", "bigint"), ("progress", "bytea"), ("expire_time", "bigint")];
const CHECKPOINT: &[(&str, &str)] = &[("checkpoint", "bytea")];

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
        self.add_attempts(&changes.attempts).await?;
        for kind in &changes.served {
            let sql = "INSERT INTO kinds (kind, last_worker_time) VALUES ($1, $2) \
                 ON CONFLICT (kind) DO UPDATE SET last_worker_time = excluded.last_worker_time";
            execute(self.db()?, sql, [kind.as_str().into(), now.micros().into()]).await?;
        }
        Ok(())
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
            let mut values: Row = vec![
                row.into(),
                task.id.as_str().into(),
                task.kind.as_str().into(),
                queue_sql(task),
                i16::from(task.queue.is_some()).into(),
                task.ready_time.micros().into(),
                due_sql(task, now),
                create_time.into(),
                create_time.into(),
            ];
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
        let settings: Vec<&str> = SETTINGS.iter().map(|(column, _)| *column).collect();
        let columns = format!(
            "row, id, kind, queue, queue_set, ready_time, due, create_time, update_time, {}",
            settings.join(", ")
        );
        // In the order in which all lock them, whoever is faster.
        tasks.sort_by(|one, other| one.1.cmp(&other.1));
        requests.sort_by_key(|(request, _)| *request);
        let tasks: Vec<Row> = tasks.into_iter().map(|(values, _)| values).collect();
        // Somebody else's row of the same id or request shows in the count.
        self.insert("tasks", &columns, &tasks, "ON CONFLICT DO NOTHING").await?;
        self.insert("inputs", "row, input", &inputs, "").await?;
        self.insert("labels", "row, key, value, create_time", &labels, "").await?;
        let requests: Vec<Row> = requests.into_iter().map(|(_, values)| values).collect();
        let columns = "request_id, digest, task_id, task_row, create_time";
        self.insert("requests", columns, &requests, "ON CONFLICT DO NOTHING").await
    }

    /// Numbers for new rows, growing in the order of creation.
    async fn numbers(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        let many = i64::try_from(count).unwrap_or(i64::MAX);
        let db = self.db()?;
        if is_postgres(db) {
            let sql = "SELECT nextval('tasks_row') FROM generate_series(1::bigint, $1)";
            let rows = query(db, sql, [many.into()]).await?;
            let mut numbers = Vec::with_capacity(count);
            for row in rows {
                numbers.push(row.try_get_by_index(0)?);
            }
            return Ok(numbers);
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
        let (mut states, mut settled) = (Vec::new(), Vec::new());
        let (mut reports, mut checkpoints) = (Vec::new(), Vec::new());
        let (mut begun, mut ended, mut results) = (Vec::new(), Vec::new(), Vec::new());
        let (mut relabelled, mut labels) = (Vec::new(), Vec::new());
        for (before, after) in changed {
            let (row, before) = (before.row, &before.task);
            if !only_reported(before, after) {
                let mut values: Row = vec![row.into()];
                values.extend(state(after, now));
                states.push(values);
            }
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
        self.update("tasks", STATE, &states).await?;
        self.update("tasks", SETTINGS, &settled).await?;
        self.update("running", REPORT, &reports).await?;
        self.update("running", CHECKPOINT, &checkpoints).await?;
        self.insert("running", "row, revision, progress, expire_time", &begun, "").await?;
        self.remove("running", &ended).await?;
        self.insert("results", "row, result", &results, "").await?;
        self.remove("labels", &relabelled).await?;
        self.insert("labels", "row, key, value, create_time", &labels, "").await
    }

    async fn delete(&mut self, deleted: &[Stored], now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<i64> = deleted.iter().map(|stored| stored.row).collect();
        if is_postgres(self.db()?) {
            self.depart(&rows, now).await?;
        }
        for table in ["tasks", "running", "inputs", "results", "labels", "attempts"] {
            self.remove(table, &rows).await?;
        }
        for piece in shaped(&rows) {
            let list = placeholders(self.db()?, 1, piece.len());
            let sql = format!("DELETE FROM requests WHERE task_row IN {list}");
            execute(self.db()?, &sql, piece.iter().map(|row| (*row).into())).await?;
        }
        Ok(())
    }

    /// Inserts rows; `Conflict` where one of them is skipped.
    async fn insert(
        &mut self,
        table: &str,
        columns: &str,
        rows: &[Row],
        conflict: &str,
    ) -> Result<(), StoreError> {
        for piece in shaped(rows) {
            let list = placeholders(self.db()?, piece.len(), piece[0].len());
            let sql = format!("INSERT INTO {table} ({columns}) VALUES {list} {conflict}");
            let inserted = execute(self.db()?, &sql, piece.iter().flatten().cloned()).await?;
            if inserted < piece.len() as u64 {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// Sets columns of rows, of which each names its row first.
    async fn update(
        &mut self,
        table: &str,
        columns: &[(&str, &str)],
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let postgres = is_postgres(self.db()?);
        let sets: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, (column, kind))| {
                let cast = if postgres { format!("::{kind}") } else { String::new() };
                format!("{column} = v.column{}{cast}", at + 2)
            })
            .collect();
        let sets = sets.join(", ");
        for piece in shaped(rows) {
            let list = placeholders(self.db()?, piece.len(), columns.len() + 1);
            // Said twice, so that PostgreSQL looks for these rows alone, whatever it believes
            // of a table that was empty when it last heard of it.
            let rows: Vec<String> =
                (0..piece.len()).map(|row| format!("${}", row * (columns.len() + 1) + 1)).collect();
            let only = if postgres {
                format!("AND {table}.row IN ({})", rows.join(", "))
            } else {
                String::new()
            };
            let sql = format!(
                "UPDATE {table} SET {sets} FROM (VALUES {list}) AS v \
                 WHERE {table}.row = v.column1 {only}"
            );
            execute(self.db()?, &sql, piece.iter().flatten().cloned()).await?;
        }
        Ok(())
    }

    pub(super) async fn remove(&mut self, table: &str, rows: &[i64]) -> Result<(), StoreError> {
        for piece in shaped(rows) {
            let list = placeholders(self.db()?, 1, piece.len());
            let sql = format!("DELETE FROM {table} WHERE row IN {list}");
            execute(self.db()?, &sql, piece.iter().map(|row| (*row).into())).await?;
        }
        Ok(())
    }
}

/// Whether nothing differs but what a report changes.
fn only_reported(before: &Task, after: &Task) -> bool {
    let (Some(_), Some(lease)) = (before.lease(), after.lease()) else { return false };
    let mut like = before.clone();
    like.revision = after.revision;
    like.progress.clone_from(&after.progress);
    like.checkpoint.clone_from(&after.checkpoint);
    match &mut like.status {
        crate::domain::Status::Running(Some(held))
        | crate::domain::Status::Paused(Some(held))
        | crate::domain::Status::Cancelling(Some(held)) => held.expire_time = lease.expire_time,
        crate::domain::Status::Queued
        | crate::domain::Status::Running(None)
        | crate::domain::Status::Paused(None)
        | crate::domain::Status::Cancelling(None)
        | crate::domain::Status::Succeeded { .. }
        | crate::domain::Status::Failed { .. }
        | crate::domain::Status::Cancelled { .. } => {}
    }
    like == *after
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

/// The values of [`STATE`].
fn state(task: &Task, now: Timestamp) -> Row {
    let lease = task.lease();
    let (limit_kind, limit_value): (i16, Option<i64>) =
        match lease.map_or(TimeLimit::None, |lease| lease.limit) {
            TimeLimit::None => (0, None),
            TimeLimit::At(end) => (1, Some(end.micros())),
            TimeLimit::Left(left) => (2, i64::try_from(left.as_micros()).ok()),
        };
    let end_time = task.end_time();
    let number = i16::try_from(task.state().number()).unwrap_or_default();
    vec![
        number.into(),
        task.ready_time.micros().into(),
        due_sql(task, now),
        time_sql(task.start_time),
        time_sql(end_time),
        end_time.map_or(-i64::MAX, Timestamp::micros).into(),
        task.update_time.micros().into(),
        task.revision.into(),
        task.settled_revision.into(),
        i64::from(task.attempt).into(),
        i64::from(task.first_attempt).into(),
        task.worker.as_ref().map(|worker| worker.to_string()).into(),
        progress_sql(task.progress.as_ref()),
        object_sql(task.checkpoint.as_ref()),
        failure_sql(task.error.as_ref()),
        lease.map(|lease| lease.token.0.to_vec()).into(),
        span_sql(lease.map(|lease| lease.duration)),
        limit_kind.into(),
        limit_value.into(),
        i16::from(lease.is_some_and(|lease| lease.by_runner)).into(),
        task.last_outcome.map(|said| said.token.0.to_vec()).into(),
        task.last_outcome.map(|said| said.digest.to_vec()).into(),
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
