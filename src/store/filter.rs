//! Filters as SQL. Says exactly what [`Filter::matches`] says; a property test
//! holds the two together. Knows the columns of `tasks` and `labels`, no more.
//!
//! Every part is true or false, never NULL, so that NOT is plain negation. Text
//! compares as bytes because its columns are declared so.

use sea_orm::sea_query::{Condition as Sql, Expr, ExprTrait, Query, SelectStatement};

use super::rows::state_sql;
use crate::domain::{
    Filter,
    filter::{Comparison, Condition, NumberField, Test, TextField, TimeField},
};

/// What stands for a column of `tasks`.
type Column<'a> = &'a dyn Fn(&'static str) -> Expr;

/// What must hold of a row of `tasks`.
pub(super) fn condition(filter: &Filter, task: Column<'_>) -> Sql {
    filter.condition().map_or_else(Sql::all, |root| of(root, task))
}

fn of(condition: &Condition, task: Column<'_>) -> Sql {
    match condition {
        Condition::All(each) => each.iter().fold(Sql::all(), |all, part| all.add(of(part, task))),
        Condition::Any(each) => each.iter().fold(Sql::any(), |any, part| any.add(of(part, task))),
        Condition::Not(inner) => Sql::all().add(of(inner, task)).not(),
        Condition::Test(test) => Sql::all().add(one(test, task)),
    }
}

fn one(test: &Test, task: Column<'_>) -> Expr {
    match test {
        Test::State { equal, state } => compare(task("state"), is(*equal), state_sql(*state)),
        Test::Name(by, id) => compare(task("id"), *by, id.as_str()),
        Test::Text(field, by, value) => match field {
            TextField::Kind => compare(task("kind"), *by, value.as_str()),
            TextField::Queue => compare(task("queue"), *by, value.as_str()),
            TextField::Worker => nullable(task("worker"), *by, value.as_str()),
        },
        Test::Number(field, by, value) => match field {
            NumberField::Priority => compare(task("priority"), *by, *value),
            NumberField::Attempt => compare(task("attempt"), *by, *value),
        },
        Test::Time(field, by, value) => match field {
            TimeField::Create => compare(task("create_time"), *by, value.micros()),
            TimeField::Update => compare(task("update_time"), *by, value.micros()),
            TimeField::Start => nullable(task("start_time"), *by, value.micros()),
            TimeField::End => nullable(task("end_time"), *by, value.micros()),
            TimeField::Schedule => nullable(task("schedule_time"), *by, value.micros()),
        },
        Test::Label(key, Comparison::NotEqual, value) => {
            Expr::exists(labelled(key, Some((Comparison::Equal, value)))).not()
        }
        Test::Label(key, by, value) => Expr::exists(labelled(key, Some((*by, value)))),
        Test::HasLabel(key) => Expr::exists(labelled(key, None)),
    }
}

const fn is(equal: bool) -> Comparison {
    if equal { Comparison::Equal } else { Comparison::NotEqual }
}

/// The task's label of this key, if its value is like that. Looked up by row and
/// key; a list that is to run along a label's index starts from
/// [`Filter::required_label`].
fn labelled(key: &str, value: Option<(Comparison, &str)>) -> SelectStatement {
    let mut labels = Query::select();
    labels
        .expr(Expr::val(1))
        .from("labels")
        .and_where(Expr::col(("labels", "row")).equals(("tasks", "row")))
        .and_where(Expr::col(("labels", "key")).eq(key));
    if let Some((by, value)) = value {
        labels.and_where(compare(Expr::col(("labels", "value")), by, value));
    }
    labels
}

/// NULL is different from everything, and that is all.
fn nullable(column: Expr, by: Comparison, value: impl Into<Expr>) -> Expr {
    let compared = compare(column.clone(), by, value);
    match by {
        Comparison::NotEqual => column.is_null().or(compared),
        Comparison::Equal
        | Comparison::Less
        | Comparison::LessOrEqual
        | Comparison::Greater
        | Comparison::GreaterOrEqual => column.is_not_null().and(compared),
    }
}

fn compare(column: Expr, by: Comparison, value: impl Into<Expr>) -> Expr {
    match by {
        Comparison::Equal => column.eq(value),
        Comparison::NotEqual => column.ne(value),
        Comparison::Less => column.lt(value),
        Comparison::LessOrEqual => column.lte(value),
        Comparison::Greater => column.gt(value),
        Comparison::GreaterOrEqual => column.gte(value),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
