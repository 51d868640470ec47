//! Pages of lists. First the rows of a page are found along an index (or along some, of
//! which each has a part of the tasks), then the tasks are read, until the page is long
//! enough.

use std::cmp::Ordering;

use hashbrown::HashMap;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, JoinType,
    sea_query::{Condition, Expr, ExprTrait, Order as Sort, Query, SelectStatement, UnionType},
};

use super::{
    Cursor, ListQuery, Page, StoreError, Stored, filter,
    parts::{Part, fresh_kinds, is_recent, parts},
    payloads::{inputs, size},
    rows::{COLUMNS, from, stored},
    statements::{in_time, is_postgres, lists, query},
};
use crate::domain::{Direction, OrderKey};

/// Tasks that are read at once: a page of large ones ends early.
const PIECE: usize = 64;

/// One page of a list.
pub(super) async fn page(db: &DatabaseConnection, list: &ListQuery) -> Result<Page, StoreError> {
    let mut found = rows(db, list).await?;
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

/// Where the rows of a page are, and of one more where there is one.
async fn rows(db: &DatabaseConnection, list: &ListQuery) -> Result<Vec<Cursor>, StoreError> {
    let keys = &list.order.keys;
    let Some(select) = statement(list, is_postgres(db)) else { return Ok(Vec::new()) };
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

/// The first rows of all parts, as one statement, so that no task is between two of them.
/// None where all of them come before the page.
fn statement(list: &ListQuery, postgres: bool) -> Option<SelectStatement> {
    let parts = parts(list);
    let mut selects: Vec<_> =
        parts.iter().filter_map(|part| select(part, list, postgres)).collect();
    if selects.len() < 2 && !parts.iter().any(Part::is_of_all_kinds) {
        return selects.pop();
    }
    let whole = |part| Query::select().expr(Expr::cust("*")).from_subquery(part, "part").take();
    let mut all = selects.into_iter().map(whole);
    let mut merged = all.next()?;
    merged.unions(all.map(|other| (UnionType::All, other)));
    for (key, direction) in &list.order.keys {
        merged.order_by(key.name(), sort(*direction));
    }
    Some(merged.order_by("row", sort(last_direction(list))).limit(list.limit as u64 + 1).take())
}

/// Ties are broken by the row, in this direction.
fn last_direction(list: &ListQuery) -> Direction {
    list.order.keys.last().map_or(Direction::Descending, |(_, direction)| *direction)
}

const fn sort(direction: Direction) -> Sort {
    match direction {
        Direction::Ascending => Sort::Asc,
        Direction::Descending => Sort::Desc,
    }
}

const fn in_direction(order: Ordering, direction: Direction) -> Ordering {
    match direction {
        Direction::Ascending => order,
        Direction::Descending => order.reverse(),
    }
}

/// The first rows of a part. None where all of it comes before the page.
fn select(part: &Part, list: &ListQuery, postgres: bool) -> Option<SelectStatement> {
    let keys = &list.order.keys;
    let mut select = Query::select();
    select
        .column(("tasks", "row"))
        .from("tasks")
        .cond_where(filter::condition(&list.filter, &|column| part.column(column)))
        .cond_where(part.condition(postgres));
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
    let along_label = label.is_some() && keys.iter().all(|(key, _)| *key == OrderKey::CreateTime);
    let key = |part: &Part, key: OrderKey| {
        if along_label { Expr::col(("labels", "create_time")) } else { part.key(key) }
    };
    for (each, _) in keys {
        select.expr_as(key(&Part::All, *each), each.name());
    }
    let row = Expr::col((if along_label { "labels" } else { "tasks" }, "row"));
    let mut sorted: Vec<(Expr, Direction)> =
        keys.iter().map(|(each, direction)| (key(part, *each), *direction)).collect();
    sorted.push((row, last_direction(list)));
    if let Some(cursor) = &list.after
        && !go_on(&mut select, part, keys, &sorted, cursor)
    {
        return None;
    }
    // Few can match a range of names, or have changed since: they are found by that, then
    // sorted. As an expression the key is no reason to run along its index instead.
    let recent = matches!(part, Part::Other | Part::Ended) && is_recent(list);
    let is_sorted = recent || list.filter.has_name_range();
    let is_same = keys.iter().map(|(key, _)| part.same(*key).is_some()).chain([false]);
    for ((key, direction), is_same) in sorted.into_iter().zip(is_same) {
        if is_same {
            continue;
        }
        select.order_by_expr(if is_sorted { key.add(0) } else { key }, sort(direction));
    }
    select.limit(list.limit as u64 + 1);
    Some(if part.is_of_all_kinds() { of_each_kind(select, keys, postgres) } else { select })
}

/// What this selects of one kind, `fresh.kind`, of each.
fn of_each_kind(
    mut select: SelectStatement,
    keys: &[(OrderKey, Direction)],
    postgres: bool,
) -> SelectStatement {
    let mut each = Query::select();
    each.with_cte(fresh_kinds()).from("fresh");
    if postgres {
        each.expr(Expr::cust("part.*"));
        return each.join_lateral(JoinType::InnerJoin, select, "part", Condition::all()).take();
    }
    // It has no such join. CROSS says which comes first.
    let row = select.clear_selects().column(("tasks", "row")).take();
    each.column(("tasks", "row"))
        .cross_join("tasks")
        .and_where(Expr::col(("tasks", "row")).in_subquery(row));
    for (key, _) in keys {
        each.expr_as(Part::All.key(*key), key.name());
    }
    each
}

/// Leaves what comes behind the cursor. False where nothing of this part does.
fn go_on(
    select: &mut SelectStatement,
    part: &Part,
    keys: &[(OrderKey, Direction)],
    sorted: &[(Expr, Direction)],
    Cursor { keys: values, row }: &Cursor,
) -> bool {
    let values: Vec<i64> =
        values.iter().map(|key| key.unwrap_or(-i64::MAX)).chain([*row]).collect();
    let mut from = 0;
    // What is the same for all of them is compared here, so that an index serves the rest.
    while let Some((key, direction)) = keys.get(from)
        && let Some(same) = part.same(*key)
    {
        match in_direction(same.cmp(&values[from]), *direction) {
            Ordering::Less => return false,
            Ordering::Greater => return true,
            Ordering::Equal => from += 1,
        }
    }
    behind(select, &sorted[from..], &values[from..]);
    true
}

/// What comes behind these values in this order.
fn behind(select: &mut SelectStatement, sorted: &[(Expr, Direction)], values: &[i64]) {
    let direction = sorted[0].1;
    if sorted.iter().all(|(_, each)| *each == direction) {
        // One comparison of rows, which both databases answer from an index.
        let columns = Expr::tuple(sorted.iter().map(|(column, _)| column.clone()));
        let values = Expr::tuple(values.iter().copied().map(Expr::val));
        select.and_where(match direction {
            Direction::Ascending => columns.gt(values),
            Direction::Descending => columns.lt(values),
        });
        return;
    }
    let mut any = Condition::any();
    for (at, (column, direction)) in sorted.iter().enumerate() {
        let mut all = Condition::all();
        for ((column, _), value) in sorted.iter().zip(values).take(at) {
            all = all.add(column.clone().eq(*value));
        }
        all = all.add(match direction {
            Direction::Ascending => column.clone().gt(values[at]),
            Direction::Descending => column.clone().lt(values[at]),
        });
        any = any.add(all);
    }
    // The first key alone bounds what the index has to pass.
    let first = sorted[0].0.clone();
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
