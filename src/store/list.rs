//! Pages of lists. First the rows of a page are found along an index, then the
//! tasks are read, until the page is long enough.

use std::collections::HashMap;

use sea_orm::{
    ConnectionTrait, DatabaseConnection,
    sea_query::{Condition, Expr, ExprTrait, Order as Sort, Query, SelectStatement},
};

use super::{
    Cursor, ListQuery, Page, StoreError, Stored, filter,
    rows::{COLUMNS, from, stored},
    statements::{in_time, is_postgres, lists, query},
    transaction::inputs,
};
use crate::domain::{Direction, Order, OrderKey};

/// Tasks that are read at once: a page of large ones ends early.
const PIECE: usize = 64;

/// One page of a list.
pub(super) async fn page(db: &DatabaseConnection, list: &ListQuery) -> Result<Page, StoreError> {
    let keys = keys(&list.order);
    let mut found = rows(db, list, &keys).await?;
    let more = found.len() > list.limit;
    found.truncate(list.limit);
    let mut page = Page { tasks: Vec::new(), next: None };
    let mut bytes = 0;
    // Some may be gone by now, so where the page ended is told by what was found.
    let mut last: Option<&Cursor> = None;
    for piece in found.chunks(PIECE) {
        let mut read = tasks(db, piece, list.with_input).await?;
        for at in piece {
            // What has changed since it was found may not match any more.
            let read = read.remove(&at.row).filter(|read| list.filter.matches(&read.task));
            if let Some(stored) = read {
                bytes += size(&stored);
                if bytes > list.max_bytes && !page.tasks.is_empty() {
                    page.next = last.cloned();
                    return Ok(page);
                }
                page.tasks.push(stored);
            }
            last = Some(at);
        }
    }
    page.next = last.filter(|_| more).cloned();
    Ok(page)
}

/// The keys to sort by. After `priority` alone the time of creation, so that an
/// index serves it.
fn keys(order: &Order) -> Vec<(OrderKey, Direction)> {
    let mut keys = order.keys.clone();
    if let [(OrderKey::Priority, direction)] = keys[..] {
        keys.push((OrderKey::CreateTime, direction));
    }
    keys
}

/// Where the rows of a page are, and of one more where there is one.
async fn rows(
    db: &DatabaseConnection,
    list: &ListQuery,
    keys: &[(OrderKey, Direction)],
) -> Result<Vec<Cursor>, StoreError> {
    let mut select = Query::select();
    select.column(("tasks", "row")).from("tasks").cond_where(filter::condition(&list.filter));
    // With a label that must be there, the list runs along that label's index.
    let label = list.filter.required_label();
    if let Some((key, value)) = label {
        select.inner_join(
            "labels",
            Condition::all()
                .add(Expr::col(("labels", "row")).equals(("tasks", "row")))
                .add(Expr::col(("labels", "key")).eq(key))
                .add(Expr::col(("labels", "value")).eq(value)),
        );
    }
    let home = |create_time: bool| {
        if label.is_some() && create_time { "labels" } else { "tasks" }
    };
    let by_create_time = keys.iter().all(|(key, _)| *key == OrderKey::CreateTime);
    let column = |key: OrderKey| match key {
        OrderKey::CreateTime => (home(by_create_time), "create_time"),
        OrderKey::UpdateTime => ("tasks", "update_time"),
        OrderKey::EndTime => ("tasks", "end_order"),
        OrderKey::Priority => ("tasks", "priority"),
    };
    let mut sorted: Vec<((&'static str, &'static str), Direction)> =
        keys.iter().map(|(key, direction)| (column(*key), *direction)).collect();
    let last = keys.last().map_or(Direction::Descending, |(_, direction)| *direction);
    sorted.push(((home(by_create_time), "row"), last));
    for (column, _) in &sorted[..keys.len()] {
        select.column(*column);
    }
    if let Some(Cursor { keys, row }) = &list.after {
        let values = keys.iter().map(|key| key.unwrap_or(-i64::MAX)).chain([*row]).collect();
        behind(&mut select, &sorted, values);
    }
    // Few can match a range of names: they are found by their names, then sorted. As
    // an expression the key is no reason to run along its index instead.
    let by_name = list.filter.has_name_range();
    for (column, direction) in &sorted {
        let sort = match direction {
            Direction::Ascending => Sort::Asc,
            Direction::Descending => Sort::Desc,
        };
        if by_name {
            select.order_by_expr(Expr::col(*column).add(0), sort);
        } else {
            select.order_by(*column, sort);
        }
    }
    select.limit(list.limit as u64 + 1);
    let found = in_time(async { Ok(db.query_all(&select).await?) }).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        let mut values = Vec::with_capacity(keys.len());
        for (at, (key, _)) in keys.iter().enumerate() {
            let value: i64 = match key {
                OrderKey::Priority => row.try_get_by_index::<i32>(at + 1)?.into(),
                OrderKey::CreateTime | OrderKey::UpdateTime | OrderKey::EndTime => {
                    row.try_get_by_index(at + 1)?
                }
            };
            values.push((value != -i64::MAX).then_some(value));
        }
        rows.push(Cursor { keys: values, row: row.try_get_by_index(0)? });
    }
    Ok(rows)
}

/// What comes behind these values in this order.
fn behind(
    select: &mut SelectStatement,
    sorted: &[((&'static str, &'static str), Direction)],
    values: Vec<i64>,
) {
    let direction = sorted[0].1;
    if sorted.iter().all(|(_, each)| *each == direction) {
        // One comparison of rows, which both databases answer from an index.
        let columns = Expr::tuple(sorted.iter().map(|(column, _)| Expr::col(*column)));
        let values = Expr::tuple(values.into_iter().map(Expr::val));
        select.and_where(match direction {
            Direction::Ascending => columns.gt(values),
            Direction::Descending => columns.lt(values),
        });
        return;
    }
    let mut any = Condition::any();
    for (at, (column, direction)) in sorted.iter().enumerate() {
        let mut all = Condition::all();
        for ((column, _), value) in sorted.iter().zip(&values).take(at) {
            all = all.add(Expr::col(*column).eq(*value));
        }
        all = all.add(match direction {
            Direction::Ascending => Expr::col(*column).gt(values[at]),
            Direction::Descending => Expr::col(*column).lt(values[at]),
        });
        any = any.add(all);
    }
    // The first key alone bounds what the index has to pass.
    let first = Expr::col(sorted[0].0);
    select.and_where(match direction {
        Direction::Ascending => first.gte(values[0]),
        Direction::Descending => first.lte(values[0]),
    });
    select.cond_where(any);
}

/// The tasks of these rows, by their row; without those that are gone by now.
async fn tasks(
    db: &DatabaseConnection,
    rows: &[Cursor],
    with_input: bool,
) -> Result<HashMap<i64, Stored>, StoreError> {
    let mut all = HashMap::with_capacity(rows.len());
    let postgres = is_postgres(db);
    for (list, values) in lists(postgres, rows.iter().map(|at| at.row)) {
        let sql = format!("SELECT {COLUMNS} {} WHERE t.row {list}", from(postgres));
        for row in query(db, &sql, values).await? {
            let stored = stored(&row)?;
            all.insert(stored.row, stored);
        }
    }
    if with_input {
        inputs(db, &mut all.values_mut().collect::<Vec<_>>()).await?;
    }
    Ok(all)
}

/// About how long a task is in a message.
pub(super) fn size(stored: &Stored) -> usize {
    let Stored { task, input, .. } = stored;
    let labels: usize = task.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    let progress = task.progress.as_ref().map_or(0, |progress| {
        let details = progress.report.details.as_ref();
        progress.report.message.len() + details.map_or(0, |details| details.encoded().len())
    });
    let error = task.error.as_ref().map_or(0, |error| {
        error.message.len() + error.details.iter().map(|d| d.value.len()).sum::<usize>()
    });
    let input = input.as_ref().map_or(0, |input| {
        // Inputs are read for the full view, which has the checkpoint as well.
        input.encoded().len() + task.checkpoint.as_ref().map_or(0, |c| c.encoded().len())
    });
    let result = task.result().map_or(0, |result| result.encoded().len());
    256 + labels + progress + error + input + result
}
