//! What a list is made of: parts of the tasks, of which each has an index in its order.
//!
//! An index costs every task that enters it. Most tasks are new, then held by a worker, then
//! over, and are never touched by hand: of those the new and the held ones are in one index
//! for lists, and what all of them have in common is left out of the others. The column
//! `phase` says which a task is; `write` keeps it.

use sea_orm::sea_query::{
    CommonTableExpression, Condition, Expr, ExprTrait, Func, Query, UnionType, WithClause,
};

use super::{ListQuery, rows::state_sql};
use crate::domain::{EXTERNAL, OrderKey, State, Status, Task};

/// The column `phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// QUEUED as it was created, not for later; or held under a lease; of priority 0.
    Fresh = 0,
    /// All that is neither of the others.
    Other = 1,
    /// Over and untouched since; of priority 0, with no retention of its own.
    Ended = 2,
}

impl Phase {
    pub(super) fn of(task: &Task) -> Self {
        let is_new = task.status == Status::Queued
            && task.update_time == task.create_time
            && task.ready_time == task.create_time;
        let is_left = task.end_time() == Some(task.update_time) && task.retention.is_none();
        match task.priority {
            0 if is_new || task.lease().is_some() => Self::Fresh,
            0 if is_left => Self::Ended,
            _ => Self::Other,
        }
    }
}

/// Some of the tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// Fresh ones of a kind, in the order of their creation; or of each kind: `fresh.kind`.
    Fresh(Fresh, Option<String>),
    /// Fresh ones that are held: as many as there are leases, to be sorted.
    Held,
    Other,
    /// Of these the ones in this state, in the order of their creation.
    OtherIn(State),
    OtherEnded,
    /// In the order of their ends.
    Ended,
    /// In the order of their creation.
    EndedIn(State),
    /// Other and ended ones, for those of a kind or a queue.
    NotFresh,
}

/// Which fresh ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    All,
    /// Those that nobody holds.
    New,
    /// Of these the ones of a queue.
    NewIn(String),
}

/// The kinds of fresh tasks as `fresh(kind)`, from one to the next along their index; the
/// last one is NULL. Downwards, where the newest tasks of each come first, and not what is over.
pub(super) fn fresh_kinds() -> WithClause {
    let next = "(SELECT max(t.kind) FROM tasks t WHERE t.phase = 0 AND t.kind < fresh.kind)";
    let next = Query::select()
        .expr(Expr::cust(next))
        .from("fresh")
        .and_where(Expr::cust("fresh.kind IS NOT NULL"))
        .take();
    let kinds = Query::select()
        .expr(Expr::cust("max(kind)"))
        .from("tasks")
        .and_where(Expr::cust("phase = 0"))
        .union(UnionType::All, next)
        .take();
    let mut fresh = CommonTableExpression::new();
    fresh.table_name("fresh").column("kind").query(kinds);
    let mut with = WithClause::new();
    with.recursive(true).cte(fresh);
    with
}

/// The parts that a list is made of.
pub(super) fn parts(list: &ListQuery) -> Vec<Part> {
    let filter = &list.filter;
    // Those have an index of their own to go by.
    if filter.required_label().is_some() || filter.has_name_range() {
        return vec![Part::All];
    }
    let states: Vec<State> =
        State::ALL.into_iter().filter(|state| filter.can_match(*state)).collect();
    if states.is_empty() {
        return Vec::new();
    }
    let (ended, live): (Vec<State>, Vec<State>) =
        states.iter().partition(|state| state.is_terminal());
    let (kind, queue) = (filter.required_kind(), filter.required_queue());
    let by_priority = matches!(list.order.keys.first(), Some((OrderKey::Priority, _)));
    let by_creation = key(list) == OrderKey::CreateTime;
    let by_update = key(list) == OrderKey::UpdateTime || is_recent(list);

    let queued = live.contains(&State::Queued);
    let held = live.len() > usize::from(queued);
    let queue = queue.filter(|_| by_creation);
    let mut parts = Vec::new();
    let mut fresh = |which| parts.push(Part::Fresh(which, kind.map(ToOwned::to_owned)));
    if queued && held && !by_update && queue.is_none() {
        fresh(Fresh::All);
    } else {
        if queued {
            fresh(queue.map_or(Fresh::New, |queue| Fresh::NewIn(queue.to_owned())));
        }
        // Those are never due, by which the others in a queue are found.
        if let (true, Some(queue), None) = (queued, queue, kind) {
            let which = Fresh::NewIn(queue.to_owned());
            parts.push(Part::Fresh(which, Some(EXTERNAL.to_owned())));
        }
        parts.extend(held.then_some(Part::Held));
    }
    let any_ended = !ended.is_empty();
    if by_update {
        parts.extend(any_ended.then_some(Part::Ended));
        parts.push(Part::Other);
        return parts;
    }
    if by_creation && !by_priority && states.len() > 1 && (kind.is_some() || queue.is_some()) {
        parts.push(Part::NotFresh);
        return parts;
    }
    if by_creation {
        parts.extend(ended.iter().copied().map(Part::EndedIn));
    } else {
        parts.extend(any_ended.then_some(Part::Ended));
    }
    if by_priority || by_creation && states.len() == State::ALL.len() {
        parts.push(Part::Other);
    } else if by_creation {
        parts.extend(states.into_iter().map(Part::OtherIn));
    } else {
        parts.extend(live.into_iter().map(Part::OtherIn));
        parts.extend(any_ended.then_some(Part::OtherEnded));
    }
    parts
}

/// What fresh and ended tasks are ordered by, which are all of one priority.
fn key(list: &ListQuery) -> OrderKey {
    let mut keys = list.order.keys.iter().map(|(key, _)| *key);
    keys.find(|key| *key != OrderKey::Priority).unwrap_or(OrderKey::CreateTime)
}

/// Whether few can match since they have changed lately: those are found by that, then sorted.
pub(super) fn is_recent(list: &ListQuery) -> bool {
    key(list) == OrderKey::CreateTime && list.filter.requires_recent_change()
}

impl Part {
    /// Whether it is told kind by kind.
    pub(super) const fn is_of_all_kinds(&self) -> bool {
        matches!(self, Self::Fresh(_, None))
    }

    /// What its index asks for is said as the index says it, to the letter. `phase + 0` keeps
    /// an index of that part from being taken for a better one.
    pub(super) fn condition(&self, postgres: bool) -> Condition {
        let is = |sql: &str| Condition::all().add(Expr::cust(sql.to_owned()));
        let equals =
            |name: &'static str, value: &str| Expr::col(("tasks", name)).eq(value.to_owned());
        match self {
            Self::All => Condition::all(),
            Self::Fresh(Fresh::NewIn(queue), Some(kind)) if kind == EXTERNAL => {
                is("kind = 'external' AND state = 1 AND phase + 0 = 0").add(equals("queue", queue))
            }
            Self::Fresh(which, kind) => {
                let kind = kind.as_ref().map_or_else(
                    || Expr::col(("tasks", "kind")).equals(("fresh", "kind")),
                    |kind| equals("kind", kind),
                );
                match which {
                    Fresh::All => is("phase = 0").add(kind),
                    Fresh::New => is("phase = 0 AND state = 1").add(kind),
                    Fresh::NewIn(queue) => is("due = 1 AND priority = 0 AND phase + 0 = 0")
                        .add(kind)
                        .add(equals("queue", queue)),
                }
            }
            Self::Held if postgres => {
                is("phase + 0 = 0 AND tasks.row = ANY(ARRAY(SELECT row FROM running))")
            }
            Self::Held => is("phase + 0 = 0 AND tasks.row IN (SELECT row FROM running)"),
            Self::Other => is("phase = 1"),
            Self::OtherIn(state) => is(&format!("phase = 1 AND state = {}", state.number())),
            Self::OtherEnded => is("phase = 1 AND end_time IS NOT NULL"),
            Self::Ended => is("phase = 2"),
            Self::EndedIn(state) => is(&format!("phase = 2 AND state = {}", state.number())),
            Self::NotFresh => is("phase >= 1"),
        }
    }

    /// What this key is for all of them, where it is the same.
    pub(super) fn same(&self, key: OrderKey) -> Option<i64> {
        match (self, key) {
            (Self::Fresh(..) | Self::Held | Self::Ended | Self::EndedIn(_), OrderKey::Priority) => {
                Some(0)
            }
            (Self::Fresh(..) | Self::Held, OrderKey::EndTime) => Some(-i64::MAX),
            (Self::OtherIn(state), OrderKey::EndTime) if !state.is_terminal() => Some(-i64::MAX),
            _ => None,
        }
    }

    /// What stands for a column of `tasks`.
    pub(super) fn column(&self, name: &'static str) -> Expr {
        let column = |name: &'static str| Expr::col(("tasks", name));
        match (self, name) {
            (_, "priority") if self.same(OrderKey::Priority).is_some() => Expr::val(0),
            (Self::Fresh(Fresh::New | Fresh::NewIn(_), _), "state") => {
                Expr::val(state_sql(State::Queued))
            }
            (Self::OtherIn(state) | Self::EndedIn(state), "state") => Expr::val(state_sql(*state)),
            // As an expression it is no reason to leave the index in the order of the list.
            (Self::Ended | Self::Other | Self::OtherEnded, "state") => column("state").add(0),
            // All three are when it was created; which one is in its index differs.
            (Self::Fresh(Fresh::NewIn(_), kind), "create_time" | "update_time")
                if kind.as_deref() != Some(EXTERNAL) =>
            {
                column("ready_time")
            }
            (Self::Fresh(Fresh::New | Fresh::NewIn(_), _), "update_time") => column("create_time"),
            (Self::Ended | Self::EndedIn(_), "update_time") => column("end_time"),
            _ => column(name),
        }
    }

    const fn is_ended(&self) -> bool {
        matches!(self, Self::Ended | Self::EndedIn(_) | Self::OtherEnded)
    }

    /// What is sorted by.
    pub(super) fn key(&self, key: OrderKey) -> Expr {
        match (self.same(key), key) {
            (Some(same), _) => Expr::val(same),
            (None, OrderKey::CreateTime) => self.column("create_time"),
            (None, OrderKey::UpdateTime) => self.column("update_time"),
            (None, OrderKey::EndTime) if self.is_ended() => self.column("end_time"),
            (None, OrderKey::EndTime) => {
                Func::coalesce([self.column("end_time"), Expr::val(-i64::MAX)]).into()
            }
            (None, OrderKey::Priority) => self.column("priority"),
        }
    }
}
