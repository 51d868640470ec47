//! In which order a list comes, and where in it a page ends.

use super::Error;

/// The order of a list. `create_time desc` by default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The keys, the first one first. Ties beyond them: by row, in the direction of the last key.
    pub keys: Vec<(OrderKey, Direction)>,
}

/// What a list can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKey {
    /// `create_time`
    CreateTime,
    /// `update_time`
    UpdateTime,
    /// `end_time`; not set comes first.
    EndTime,
    /// `priority`
    Priority,
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Where a page ended: the values of the order's keys (microseconds, or the
/// priority) and the row of its last task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// One for each key of the order.
    pub keys: Vec<Option<i64>>,
    /// The store's number of the row.
    pub row: i64,
}

impl Order {
    /// Reads an `order_by`; empty is `create_time desc`.
    pub fn parse(_text: &str) -> Result<Self, Error> {
        unimplemented!()
    }
}
