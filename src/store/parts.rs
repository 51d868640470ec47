//! What a list is made of: parts of the tasks, of which each has an index in its order. New
//! tasks are in few indexes, since every one of them would pay for each.

use sea_orm::sea_query::Expr;

use super::{ListQuery, rows::state_sql};
use crate::domain::{OrderKey, State};

/// Some of the tasks: each part has an index in the order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// As they were created, in that order: QUEUED, of priority 0.
    New,
    /// All others.
    Changed,
    /// Of these the ones in this state, in the order of their creation.
    State(State),
    Ended,
}

/// The parts that a list is made of.
pub(super) fn parts(list: &ListQuery) -> Vec<Part> {
    let filter = &list.filter;
    // Those have an index of their own to go by.
    if filter.required_label().is_some() || filter.has_name_range() {
        return vec![Part::All];
    }
    let by_change = vec![Part::New, Part::Changed];
    match list.order.keys.first() {
        Some((OrderKey::UpdateTime | OrderKey::Priority, _)) => by_change,
        Some((OrderKey::EndTime, _)) => {
            let live = State::ALL.into_iter().filter(|state| !state.is_terminal()).map(Part::State);
            [Part::New, Part::Ended].into_iter().chain(live).collect()
        }
        Some((OrderKey::CreateTime, _)) | None if filter.requires_recent_change() => by_change,
        Some((OrderKey::CreateTime, _)) | None => match filter.required_state() {
            Some(State::Queued) => vec![Part::New, Part::State(State::Queued)],
            Some(state) => vec![Part::State(state)],
            None if filter.requires_kind_or_queue() => vec![Part::All],
            None => by_change,
        },
    }
}

impl Part {
    /// As its index says it, to the letter.
    pub(super) fn condition(self) -> Option<String> {
        match self {
            Self::All => None,
            Self::New => Some("changed = 0".to_owned()),
            Self::Changed => Some("changed = 1".to_owned()),
            Self::State(state) => Some(format!("changed = 1 AND state = {}", state.number())),
            Self::Ended => Some("end_time IS NOT NULL".to_owned()),
        }
    }

    /// What this key is for all of them, where it is the same.
    pub(super) fn same(self, key: OrderKey) -> Option<i64> {
        match (self, key) {
            (Self::New, OrderKey::Priority) => Some(0),
            (Self::New, OrderKey::EndTime) => Some(-i64::MAX),
            (Self::State(state), OrderKey::EndTime) if !state.is_terminal() => Some(-i64::MAX),
            _ => None,
        }
    }

    /// What stands for a column of `tasks`.
    pub(super) fn column(self, name: &'static str) -> Expr {
        match (self, name) {
            (Self::New, "priority") => Expr::val(0),
            (Self::New, "state") => Expr::val(state_sql(State::Queued)),
            (Self::State(state), "state") => Expr::val(state_sql(state)),
            (Self::New, "update_time") => Expr::col(("tasks", "create_time")),
            _ => Expr::col(("tasks", name)),
        }
    }

    /// What is sorted by.
    pub(super) fn key(self, key: OrderKey) -> Expr {
        match (self.same(key), key) {
            (Some(same), _) => Expr::val(same),
            (None, OrderKey::CreateTime) => self.column("create_time"),
            (None, OrderKey::UpdateTime) => self.column("update_time"),
            (None, OrderKey::EndTime) => self.column("end_order"),
            (None, OrderKey::Priority) => self.column("priority"),
        }
    }
}
