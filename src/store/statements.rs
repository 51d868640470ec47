//! Statements: how they are asked, how long they are waited for, and their shapes.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value as Sql,
};
use tokio::time::{Instant, sleep};

use super::StoreError;
use crate::{clock, domain::Timestamp};

/// No statement may take longer: a server that has vanished gives no error.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call waits for a database that went away, and how often it is tried.
pub(super) const WAITED_FOR: Duration = Duration::from_secs(3);
pub(super) const TRIED_EVERY: Duration = Duration::from_millis(100);

/// Runs a call to the database, but not for ever.
pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(STATEMENT_TIMEOUT, call).await
}

/// Makes a call on the connection of a transaction that is no part of it, also before it has
/// `begun`. It counts as begun where the call fails or is given up: nobody knows what is open.
pub(super) async fn aside<T>(
    begun: &mut bool,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let before = std::mem::replace(begun, true);
    let got = call.await?;
    *begun = before;
    Ok(got)
}

/// Runs a call to the database for so long at most.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into())))
}

/// The rows of a query. Placeholders are `$1`, `$2`, … for both databases, but for
/// long lists: see [`lists`].
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

/// How many rows a statement takes. PostgreSQL has them as one array a column, whatever their
/// number. SQLite takes a parameter for each value, in statements that are prepared for so many
/// rows and half as many, and so on.
pub(super) const fn most_rows(postgres: bool) -> usize {
    if postgres { 1_000 } else { 256 }
}

/// For how many rows SQLite's statement is prepared that takes so many.
pub(super) const fn size_for(rows: usize) -> usize {
    rows.next_power_of_two()
}

/// Lists of values to stand behind a column (`= ANY($1)`, `IN (?, ?)`), with the parameters
/// of each, which must be all that the statement has.
pub(super) fn lists<T: Into<Sql>>(
    postgres: bool,
    values: impl IntoIterator<Item = T>,
) -> Vec<(String, Vec<Sql>)> {
    let mut values = values.into_iter().map(Into::into);
    let pieces = std::iter::from_fn(|| {
        let piece: Vec<Sql> = values.by_ref().take(most_rows(postgres)).collect();
        Some(piece).filter(|piece| !piece.is_empty())
    });
    let list = |piece: Vec<Sql>| {
        if postgres {
            let array = piece[0].array_type();
            return ("= ANY($1)".to_owned(), vec![Sql::Array(array, Some(Box::new(piece)))]);
        }
        // What is not bound is NULL, and like nothing.
        let list = "?, ".repeat(size_for(piece.len()));
        (format!("IN ({})", list.trim_end_matches(", ")), piece)
    };
    pieces.map(list).collect()
}
