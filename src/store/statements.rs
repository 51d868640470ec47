//! Statements: how they are asked, how long they are waited for, and their shapes.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value as Sql,
};
use tokio::time::{Instant, sleep};

use super::StoreError;
use crate::{clock, domain::Timestamp};

/// No statement may take longer: a server that has vanished gives no error.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call waits for a database that went away, and how often it is tried.
pub(super) const WAITED_FOR: Duration = Duration::from_secs(3);
pub(super) const TRIED_EVERY: Duration = Duration::from_millis(100);

/// Runs a call to the database, but not for ever.
pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(STATEMENT_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into())))
}

/// The rows of a query. Placeholders are `$1`, `$2`, … for both databases, but for
/// long lists: see [`placeholders`].
pub(super) async fn query(
    db: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Sql>,
) -> Result<Vec<QueryResult>, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    in_time(async { Ok(db.query_all_raw(statement).await?) }).await
}

/// As [`query`], outside of any transaction: waits a little for a database that went away.
pub(super) async fn read(
    db: &DatabaseConnection,
    sql: &str,
    values: impl IntoIterator<Item = Sql>,
) -> Result<Vec<QueryResult>, StoreError> {
    let values: Vec<Sql> = values.into_iter().collect();
    patiently(db, || query(db, sql, values.iter().cloned())).await
}

/// Makes a call that only reads, and makes it again for a little while where the database
/// went away.
pub(super) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    db: &DatabaseConnection,
    call: impl Fn() -> F,
) -> Result<T, StoreError> {
    let begin = Instant::now();
    loop {
        match call().await {
            Err(StoreError::Unavailable(_)) if is_postgres(db) && begin.elapsed() < WAITED_FOR => {
                sleep(TRIED_EVERY).await;
            }
            result => return result,
        }
    }
}

/// How many rows a statement changed.
pub(super) async fn execute(
    db: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Sql>,
) -> Result<u64, StoreError> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    in_time(async { Ok(db.execute_raw(statement).await?.rows_affected()) }).await
}

/// The first column of the first row.
pub(super) fn first<T: sea_orm::TryGetable>(rows: &[QueryResult]) -> Result<Option<T>, StoreError> {
    Ok(rows.first().map(|row| row.try_get_by_index(0)).transpose()?)
}

pub(super) fn is_postgres(db: &impl ConnectionTrait) -> bool {
    db.get_database_backend() == DbBackend::Postgres
}

/// The time of PostgreSQL.
pub(super) const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The present time by the clock that this database goes by.
pub(super) async fn now(db: &impl ConnectionTrait) -> Result<Timestamp, StoreError> {
    if !is_postgres(db) {
        return Ok(clock::now());
    }
    let micros: Option<i64> = first(&query(db, &format!("SELECT {CLOCK}"), []).await?)?;
    Ok(Timestamp::from_micros(micros.unwrap_or_default()))
}

/// The sizes in which long lists are cut, so that few shapes of statements are
/// prepared and each is used again.
const SHAPES: [usize; 5] = [128, 32, 8, 2, 1];

/// Cuts a list into pieces of few sizes.
pub(super) fn shaped<T>(mut list: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SHAPES.into_iter().find(|size| *size <= list.len())?;
        let (piece, rest) = list.split_at(size);
        list = rest;
        Some(piece)
    })
}

/// The same for a list in which it is no harm to say one again, as behind IN: its last
/// piece is filled up, so that there are as few statements as can be.
pub(super) fn filled<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    list.chunks(SHAPES[0]).map(|piece| {
        let size = SHAPES.into_iter().rev().find(|size| *size >= piece.len());
        let last = piece.last().into_iter().cycle().cloned();
        piece.iter().cloned().chain(last).take(size.unwrap_or(piece.len())).collect()
    })
}

/// Placeholders for so many rows of so many columns, which must be all that the
/// statement has: `(?, ?), (?, ?)` on SQLite, which looks up a numbered one by going
/// through all of them, and `($1, $2), ($3, $4)` on PostgreSQL.
pub(super) fn placeholders(db: &impl ConnectionTrait, rows: usize, columns: usize) -> String {
    let numbered = is_postgres(db);
    let mut text = String::with_capacity(rows * (columns * 6 + 4));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            text.push_str(if column == 1 { "" } else { ", " });
            if numbered {
                text.push('$');
                text.push_str(&(row * columns + column).to_string());
            } else {
                text.push('?');
            }
        }
        text.push(')');
    }
    text
}
