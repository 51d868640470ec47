//! Statements: how they are asked, how long they are waited for, and their shapes.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value as Sql,
    sea_query::ArrayType,
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

/// Rows in one statement. PostgreSQL takes them as one array a column, whatever their number.
const MOST_ROWS: usize = 1_000;
/// SQLite takes a parameter for each value, in statements that are prepared for so many rows
/// and half as many, and so on.
const MOST_ROWS_SQLITE: usize = 256;

/// For how many rows SQLite's statement is prepared that takes so many.
pub(super) const fn size_for(rows: usize) -> usize {
    rows.next_power_of_two()
}

/// Some rows of values as the table `v` of a statement.
pub(super) struct Rows {
    /// To stand behind FROM.
    pub(super) table: String,
    /// What stands for each column; none where there is nothing but NULL in it. All but the
    /// first, which is always one of the table's, must be named once, in their order and
    /// before FROM: they may be parameters.
    pub(super) columns: Vec<Option<String>>,
    /// Its parameters, which must be all that the statement has.
    pub(super) values: Vec<Sql>,
    /// On SQLite: how many of them, the first ones, are for all rows.
    pub(super) shared: usize,
    /// How many rows. On SQLite there may be more, of NULLs only.
    pub(super) rows: usize,
}

/// Rows of values, each as long as the others, in as few statements of as few shapes as can
/// be. The first column must have no NULL. On PostgreSQL no other one may have both NULLs
/// and what stands for them in [`absent`].
pub(super) fn tables(postgres: bool, rows: Vec<Vec<Sql>>) -> Vec<Rows> {
    let form = if postgres { arrays } else { values };
    pieces(postgres, rows).into_iter().map(form).collect()
}

/// Cuts a list into pieces that fit into a statement; none of them is empty.
fn pieces<T>(postgres: bool, mut list: Vec<T>) -> Vec<Vec<T>> {
    let most = if postgres { MOST_ROWS } else { MOST_ROWS_SQLITE };
    let mut pieces = Vec::with_capacity(list.len() / most + 1);
    while list.len() > most {
        let rest = list.split_off(most);
        pieces.push(std::mem::replace(&mut list, rest));
    }
    pieces.extend(Some(list).filter(|list| !list.is_empty()));
    pieces
}

/// As many rows at least have one parameter for a column in which all have the same: each
/// value costs the server and the database something. Of fewer it would be chance what they
/// have in common, and a statement of its own for each.
const SAME_OF: usize = 16;

/// What is in a column.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    /// NULL alone.
    Nothing,
    /// The same in all rows, of which there are many.
    Same,
    /// Anything else.
    Each,
}

/// What is in the columns of some rows.
fn held(rows: &[Vec<Sql>]) -> Vec<Held> {
    let first = &rows[0];
    let begin = |value| if is_null(value) { Held::Nothing } else { Held::Same };
    let mut held: Vec<Held> = first.iter().map(begin).collect();
    for row in &rows[1..] {
        for ((held, value), first) in held.iter_mut().zip(row).zip(first) {
            if *held != Held::Each && value != first {
                *held = Held::Each;
            }
        }
    }
    for (at, held) in held.iter_mut().enumerate() {
        // The first one tells rows from those that are but there to fill a size.
        if *held == Held::Same && (at == 0 || rows.len() < SAME_OF) {
            *held = Held::Each;
        }
    }
    held
}

/// `(VALUES (?, ?), (?, ?))`: SQLite would look a numbered parameter up by going through all
/// of them. Those that are not bound are NULL.
fn values(piece: Vec<Vec<Sql>>) -> Rows {
    let (rows, held) = (piece.len(), held(&piece));
    let mut each = 0;
    let columns = held.iter().map(|held| match held {
        Held::Nothing => None,
        Held::Same => Some("?".to_owned()),
        Held::Each => {
            each += 1;
            Some(format!("v.column{each}"))
        }
    });
    let columns = columns.collect();
    let row = format!("({}), ", vec!["?"; each].join(", "));
    let list = row.repeat(size_for(rows));
    let of = |row: Vec<Sql>, which| {
        row.into_iter()
            .zip(&held)
            .filter_map(move |(value, held)| (*held == which).then_some(value))
    };
    let mut values = Vec::with_capacity(held.len() + each * rows);
    values.extend(of(piece[0].clone(), Held::Same));
    let shared = values.len();
    for row in piece {
        values.extend(of(row, Held::Each));
    }
    let table = format!("(VALUES {}) AS v", list.trim_end_matches(", "));
    Rows { table, columns, values, shared, rows }
}

/// `unnest($1::bigint[], $2::text[])`.
fn arrays(piece: Vec<Vec<Sql>>) -> Rows {
    let (rows, held) = (piece.len(), held(&piece));
    let mut by_column: Vec<Vec<Sql>> = held.iter().map(|_| Vec::with_capacity(rows)).collect();
    for row in piece {
        for (column, value) in by_column.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let (mut names, mut types, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns = Vec::with_capacity(held.len());
    for (mut column, held) in by_column.into_iter().zip(held) {
        let array = column[0].array_type();
        let number = values.len() + 1;
        let (kind, none, literal) = absent(&array);
        match held {
            Held::Nothing => columns.push(None),
            Held::Same => {
                columns.push(Some(format!("${number}::{kind}")));
                values.extend(column.into_iter().next());
            }
            Held::Each => {
                let name = format!("column{number}");
                let mut all = true;
                for value in column.iter_mut().filter(|value| is_null(value)) {
                    (*value, all) = (none.clone(), false);
                }
                columns.push(Some(if all {
                    format!("v.{name}")
                } else {
                    format!("nullif(v.{name}, {literal})")
                }));
                types.push(format!("${number}::{kind}[]"));
                names.push(name);
                values.push(Sql::Array(array, Some(Box::new(column))));
            }
        }
    }
    let table = format!("unnest({}) AS v({})", types.join(", "), names.join(", "));
    Rows { table, columns, values, shared: 0, rows }
}

/// Whether it is a NULL, of those that are stored.
pub(super) fn is_null(value: &Sql) -> bool {
    matches!(
        value,
        Sql::SmallInt(None)
            | Sql::Int(None)
            | Sql::BigInt(None)
            | Sql::Double(None)
            | Sql::String(None)
            | Sql::Bytes(None)
    )
}

/// PostgreSQL's name of a type, and what stands for NULL among values of it: an array has
/// none. No protobuf message is one zero.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our own enum, and no others are stored")]
fn absent(array: &ArrayType) -> (&'static str, Sql, &'static str) {
    match array {
        ArrayType::SmallInt => ("smallint", i16::MIN.into(), "'-32768'::smallint"),
        ArrayType::Int => ("integer", i32::MIN.into(), "'-2147483648'::integer"),
        ArrayType::Double => ("double precision", f64::NAN.into(), "'NaN'::double precision"),
        ArrayType::String => ("text", "".into(), "''"),
        ArrayType::Bytes => ("bytea", vec![0_u8].into(), "'\\x00'::bytea"),
        _ => ("bigint", i64::MIN.into(), "'-9223372036854775808'::bigint"),
    }
}

/// Lists of values to stand behind a column (`= ANY($1)`, `IN (?, ?)`), with the parameters
/// of each, which must be all that the statement has.
pub(super) fn lists<T: Into<Sql>>(
    postgres: bool,
    values: impl IntoIterator<Item = T>,
) -> Vec<(String, Vec<Sql>)> {
    let values = values.into_iter().map(Into::into).collect();
    let list = |piece: Vec<Sql>| {
        if postgres {
            let array = piece[0].array_type();
            return ("= ANY($1)".to_owned(), vec![Sql::Array(array, Some(Box::new(piece)))]);
        }
        // What is not bound is NULL, and like nothing.
        let list = "?, ".repeat(size_for(piece.len()));
        (format!("IN ({})", list.trim_end_matches(", ")), piece)
    };
    pieces(postgres, values).into_iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: i64) -> Vec<Vec<Sql>> {
        let row = |number: i64| {
            let odd = Some(number).filter(|number| number % 2 == 1);
            vec![number.into(), "kind".into(), Sql::BigInt(None), odd.into()]
        };
        (1..=count).map(row).collect()
    }

    #[test]
    fn what_many_rows_have_in_common_is_one_parameter() {
        let [many] = <[Rows; 1]>::try_from(tables(false, rows(17))).ok().expect("one statement");
        let columns = many.columns.iter().map(Option::as_deref).collect::<Vec<_>>();
        assert_eq!(columns, [Some("v.column1"), Some("?"), None, Some("v.column2")]);
        assert_eq!((many.shared, many.rows, many.values.len()), (1, 17, 1 + 2 * 17));
        assert_eq!(many.values[..4], ["kind".into(), 1_i64.into(), 1_i64.into(), 2_i64.into()]);
        assert_eq!(many.table.matches("(?, ?)").count(), 32);

        let [few] = <[Rows; 1]>::try_from(tables(false, rows(15))).ok().expect("one statement");
        let columns = few.columns.iter().map(Option::as_deref).collect::<Vec<_>>();
        assert_eq!(columns, [Some("v.column1"), Some("v.column2"), None, Some("v.column3")]);
        assert_eq!((few.shared, few.values.len()), (0, 3 * 15));
    }

    #[test]
    fn the_first_column_tells_rows_from_what_fills_a_size() {
        let same = vec![vec![7_i64.into(), 8_i64.into()]; 20];
        for postgres in [false, true] {
            let [all] = <[Rows; 1]>::try_from(tables(postgres, same.clone())).ok().expect("one");
            assert_eq!(all.columns[0].as_deref(), Some("v.column1"));
            let second = if postgres { "$2::bigint" } else { "?" };
            assert_eq!(all.columns[1].as_deref(), Some(second));
        }
    }
}
