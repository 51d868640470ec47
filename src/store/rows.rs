//! Tasks as rows and back. What a row cannot say is an error with the task's id,
//! not a panic.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use prost::Message;
use sea_orm::{
    DbErr, QueryResult, RuntimeErr,
    sqlx::{Decode, Postgres, Row, Sqlite, Type},
};

use super::{StoreError, Stored};
use crate::domain::{
    Code, Detail, Failure, LastOutcome, Lease, Name, Object, Pace, Progress, ProgressReport,
    RetryPolicy, State, Status, Task, TimeLimit, Timestamp, Token, Value,
};

/// How progress stands in a row.
#[derive(Clone, PartialEq, Message)]
struct ProgressRow {
    #[prost(double, optional, tag = "1")]
    percent: Option<f64>,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int64, tag = "3")]
    completed_units: i64,
    #[prost(int64, tag = "4")]
    total_units: i64,
    #[prost(string, tag = "5")]
    unit: String,
    #[prost(bytes = "bytes", optional, tag = "6")]
    details: Option<bytes::Bytes>,
    #[prost(int64, tag = "7")]
    update_time: i64,
    #[prost(int64, optional, tag = "8")]
    estimated_end_time: Option<i64>,
    #[prost(int64, optional, tag = "9")]
    pace_time: Option<i64>,
    #[prost(double, tag = "10")]
    pace_percent: f64,
}

/// How an error stands in a row.
#[derive(Clone, PartialEq, Message)]
struct FailureRow {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<DetailRow>,
}

#[derive(Clone, PartialEq, Message)]
struct DetailRow {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
}

/// How labels stand in a row.
#[derive(Clone, PartialEq, Message)]
struct LabelsRow {
    #[prost(btree_map = "string, string", tag = "1")]
    labels: BTreeMap<String, String>,
}

/// What is read of a task, in the order in which [`stored`] takes it. `t` is the
/// task, `r` its live lease, `s` its result.
pub(super) const COLUMNS: &str = "t.row, t.id, t.kind, t.queue, t.queue_set, t.state, t.priority, \
     t.labels, t.schedule_time, t.ready_time, t.max_attempts, t.initial_backoff, t.max_backoff, \
     t.backoff_multiplier, t.attempt_timeout, t.retention, t.create_time, t.start_time, \
     t.end_time, t.update_time, coalesce(r.revision, t.revision), t.settled_revision, t.attempt, \
     t.first_attempt, t.worker, coalesce(r.progress, t.progress), \
     coalesce(r.checkpoint, t.checkpoint), t.error, t.lease_token, t.lease_duration, \
     t.limit_kind, t.limit_value, t.by_runner, t.last_token, t.last_digest, r.expire_time, \
     s.result";

/// The same of a task that has neither lease nor result, and for which neither is looked up.
pub(super) static WAITING: LazyLock<String> = LazyLock::new(|| {
    COLUMNS
        .replace("(r.", "(t.")
        .replace("r.expire_time", "CAST(NULL AS BIGINT)")
        .replace("s.result", "CAST(NULL AS BYTEA)")
});

/// Where it is read from.
pub(super) const fn from(postgres: bool) -> &'static str {
    if postgres {
        // One look at the other indexes for each row, whatever the planner believes of tables
        // that were empty when it last heard of them: it would read all that is over in them.
        return "FROM tasks t \
            LEFT JOIN LATERAL (SELECT * FROM running WHERE row = t.row OFFSET 0) r ON true \
            LEFT JOIN LATERAL (SELECT * FROM results WHERE row = t.row OFFSET 0) s ON true";
    }
    "FROM tasks t LEFT JOIN running r ON r.row = t.row \
         LEFT JOIN results s ON s.row = t.row"
}

/// Reads columns one after the other, as sqlx has them: sea-orm would write a message for
/// each NULL.
struct Columns<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl Columns<'_> {
    fn take<T>(&mut self) -> Result<T, DbErr>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        let at = self.next;
        self.next += 1;
        let taken = if let Some(row) = self.row.try_as_sqlite_row() {
            row.try_get(at)
        } else if let Some(row) = self.row.try_as_pg_row() {
            row.try_get(at)
        } else {
            return Err(DbErr::Type("a row of neither database".to_owned()));
        };
        taken.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(Arc::new(error))))
    }

    fn time(&mut self) -> Result<Option<Timestamp>, DbErr> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    fn span(&mut self) -> Result<Option<Duration>, DbErr> {
        Ok(self.take::<Option<i64>>()?.map(span))
    }
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A task from a row of [`COLUMNS`].
pub(super) fn stored(row: &QueryResult) -> Result<Stored, StoreError> {
    let mut columns = Columns { row, next: 0 };
    let number: i64 = columns.take()?;
    let id: String = columns.take()?;
    let nonsense =
        |what: &str| StoreError::Nonsense { id: format!("tasks/{id}"), what: what.to_owned() };
    let name = |text: &str| Name::new(text).ok_or_else(|| nonsense("a malformed name"));
    let kind = name(&columns.take::<String>()?)?;
    let queue = name(&columns.take::<String>()?)?;
    let queue_set: i16 = columns.take()?;
    let state: i16 = columns.take()?;
    let state = State::from_number(state.into()).ok_or_else(|| nonsense("an unknown state"))?;
    let priority: i32 = columns.take()?;
    let labels: Option<Vec<u8>> = columns.take()?;
    let labels = match labels {
        None => LabelsRow::default(),
        Some(bytes) => LabelsRow::decode(&*bytes).map_err(|_| nonsense("unreadable labels"))?,
    };
    let schedule_time = columns.time()?;
    let ready_time = columns.time()?.ok_or_else(|| nonsense("no ready_time"))?;
    let retry_policy = RetryPolicy {
        max_attempts: columns.take::<Option<i64>>()?.and_then(|n| u32::try_from(n).ok()),
        initial_backoff: columns.span()?,
        max_backoff: columns.span()?,
        backoff_multiplier: columns.take()?,
    };
    let (attempt_timeout, retention) = (columns.span()?, columns.span()?);
    let create_time = columns.time()?.ok_or_else(|| nonsense("no create_time"))?;
    let (start_time, end_time) = (columns.time()?, columns.time()?);
    let update_time = columns.time()?.ok_or_else(|| nonsense("no update_time"))?;
    let (revision, settled_revision): (i64, i64) = (columns.take()?, columns.take()?);
    let (attempt, first_attempt): (i64, i64) = (columns.take()?, columns.take()?);
    let worker = columns.take::<Option<String>>()?.map(|text| name(&text)).transpose()?;
    let progress: Option<Vec<u8>> = columns.take()?;
    let checkpoint: Option<Vec<u8>> = columns.take()?;
    let error: Option<Vec<u8>> = columns.take()?;
    let lease_token: Option<Vec<u8>> = columns.take()?;
    let lease_duration = columns.span()?;
    let (limit_kind, limit_value): (i16, Option<i64>) = (columns.take()?, columns.take()?);
    let by_runner: i16 = columns.take()?;
    let last_token: Option<Vec<u8>> = columns.take()?;
    let last_digest: Option<Vec<u8>> = columns.take()?;
    let expire_time = columns.time()?;
    let result: Option<Vec<u8>> = columns.take()?;

    let lease = match (lease_token, lease_duration, expire_time) {
        (None, None, None) => None,
        (Some(token), Some(duration), Some(expire_time)) => Some(Lease {
            token: Token(sixteen(token).ok_or_else(|| nonsense("a malformed token"))?),
            expire_time,
            duration,
            limit: match (limit_kind, limit_value) {
                (0, None) => TimeLimit::None,
                (1, Some(at)) => TimeLimit::At(Timestamp::from_micros(at)),
                (2, Some(left)) => TimeLimit::Left(span(left)),
                _ => return Err(nonsense("a malformed time limit")),
            },
            by_runner: by_runner != 0,
        }),
        _ => return Err(nonsense("half a lease")),
    };
    let status = match (state, end_time, lease) {
        (State::Queued, None, None) => Status::Queued,
        (State::Running, None, lease) => Status::Running(lease),
        (State::Paused, None, lease) => Status::Paused(lease),
        (State::Cancelling, None, lease) => Status::Cancelling(lease),
        (State::Succeeded, Some(end_time), None) => Status::Succeeded {
            end_time,
            result: result.map_or_else(Value::default, |b| Value::from_encoded(b.into())),
        },
        (State::Failed, Some(end_time), None) => Status::Failed { end_time },
        (State::Cancelled, Some(end_time), None) => Status::Cancelled { end_time },
        (
            State::Queued
            | State::Running
            | State::Paused
            | State::Cancelling
            | State::Succeeded
            | State::Failed
            | State::Cancelled,
            ..,
        ) => return Err(nonsense("a state that does not go with its times or its lease")),
    };
    let last_outcome = match (last_token, last_digest) {
        (None, None) => None,
        (Some(token), Some(digest)) => Some(LastOutcome {
            token: Token(sixteen(token).ok_or_else(|| nonsense("a malformed token"))?),
            digest: sixteen(digest).ok_or_else(|| nonsense("a malformed digest"))?,
        }),
        _ => return Err(nonsense("half an outcome")),
    };
    let small = |n: i64| u32::try_from(n).map_err(|_| nonsense("a malformed attempt"));
    let task = Task {
        id: name(&id)?,
        kind,
        queue: (queue_set != 0).then_some(queue),
        status,
        priority,
        labels: Arc::new(labels.labels),
        schedule_time,
        ready_time,
        retry_policy,
        attempt_timeout,
        retention,
        create_time,
        start_time,
        update_time,
        revision,
        settled_revision,
        attempt: small(attempt)?,
        first_attempt: small(first_attempt)?,
        worker,
        progress: progress
            .map(|bytes| progress_from(&bytes).ok_or_else(|| nonsense("unreadable progress")))
            .transpose()?,
        checkpoint: checkpoint.map(|bytes| Object::from_encoded(bytes.into())),
        error: error
            .map(|bytes| failure_from(&bytes).ok_or_else(|| nonsense("an unreadable error")))
            .transpose()?,
        last_outcome,
    };
    Ok(Stored { row: number, task: Arc::new(task), input: None })
}

fn sixteen(bytes: Vec<u8>) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}

fn progress_from(bytes: &[u8]) -> Option<Progress> {
    let row = ProgressRow::decode(bytes).ok()?;
    Some(Progress {
        report: ProgressReport {
            percent: row.percent,
            message: row.message,
            completed_units: row.completed_units,
            total_units: row.total_units,
            unit: row.unit,
            details: row.details.map(Object::from_encoded),
        },
        update_time: Timestamp::from_micros(row.update_time),
        estimated_end_time: row.estimated_end_time.map(Timestamp::from_micros),
        pace: row
            .pace_time
            .map(|time| Pace { time: Timestamp::from_micros(time), percent: row.pace_percent }),
    })
}

/// Progress as bytes.
pub(super) fn progress_sql(progress: &Progress) -> Vec<u8> {
    let Progress { report, update_time, estimated_end_time, pace } = progress.clone();
    let ProgressReport { percent, message, completed_units, total_units, unit, details } = report;
    let row = ProgressRow {
        percent,
        message,
        completed_units,
        total_units,
        unit,
        details: details.map(|details| details.encoded().clone()),
        update_time: update_time.micros(),
        estimated_end_time: estimated_end_time.map(Timestamp::micros),
        pace_time: pace.map(|pace| pace.time.micros()),
        pace_percent: pace.map_or(0.0, |pace| pace.percent),
    };
    row.encode_to_vec()
}

pub(super) fn failure_from(bytes: &[u8]) -> Option<Failure> {
    let FailureRow { code, message, details } = FailureRow::decode(bytes).ok()?;
    let details = details
        .into_iter()
        .map(|DetailRow { type_url, value }| Detail { type_url, value })
        .collect();
    Some(Failure { code: Code::new(code), message, details })
}

/// An error as bytes.
pub(super) fn failure_sql(Failure { code, message, details }: &Failure) -> Vec<u8> {
    let detail = |Detail { type_url, value }: &Detail| DetailRow {
        type_url: type_url.clone(),
        value: value.clone(),
    };
    let row = FailureRow {
        code: code.number(),
        message: message.clone(),
        details: details.iter().map(detail).collect(),
    };
    row.encode_to_vec()
}

/// Labels as bytes.
pub(super) fn labels_sql(labels: &BTreeMap<String, String>) -> Vec<u8> {
    LabelsRow { labels: labels.clone() }.encode_to_vec()
}

/// The column is SMALLINT: a wider parameter would pass its index by.
pub(super) fn state_sql(state: State) -> i16 {
    i16::try_from(state.number()).unwrap_or_default()
}

pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Whether it may be picked: NULL where it does not wait to be.
pub(super) fn due(task: &Task, now: Timestamp) -> Option<i16> {
    task.waits().then(|| task.is_due(now).into())
}
