//! In which order a list comes, and where in it a page ends.

use std::fmt;

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

impl Default for Order {
    fn default() -> Self {
        Self { keys: vec![(OrderKey::CreateTime, Direction::Descending)] }
    }
}

impl OrderKey {
    /// Every key.
    pub const ALL: [Self; 4] = [Self::CreateTime, Self::UpdateTime, Self::EndTime, Self::Priority];

    /// Its name in an `order_by`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateTime => "create_time",
            Self::UpdateTime => "update_time",
            Self::EndTime => "end_time",
            Self::Priority => "priority",
        }
    }
}

impl Order {
    /// Reads an `order_by`; empty is `create_time desc`. After `priority` or `end_time` alone
    /// comes the time of creation, so that an index serves it.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT: an unknown key, one named twice, or a direction other than
    /// `desc`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut keys: Vec<(OrderKey, Direction)> = Vec::new();
        for part in text.split(',') {
            let (key, direction) =
                part_of(part).map_err(|wrong| Error::invalid("order_by", wrong))?;
            if keys.iter().any(|(known, _)| *known == key) {
                let wrong = format!("{} is named twice", key.name());
                return Err(Error::invalid("order_by", wrong));
            }
            keys.push((key, direction));
        }
        if let [(OrderKey::Priority | OrderKey::EndTime, direction)] = keys[..] {
            keys.push((OrderKey::CreateTime, direction));
        }
        Ok(Self { keys })
    }
}

fn part_of(part: &str) -> Result<(OrderKey, Direction), String> {
    let mut words = part.split_whitespace();
    let Some(name) = words.next() else {
        return Err("a key is missing before or behind a comma".into());
    };
    let key = OrderKey::ALL.into_iter().find(|key| key.name() == name).ok_or_else(|| {
        let known = OrderKey::ALL.map(OrderKey::name);
        let near = known.iter().find(|known| strsim::damerau_levenshtein(name, known) <= 2);
        near.map_or_else(
            || format!("{name:?} is no key: use one of {}", known.join(", ")),
            |near| format!("{name:?} is no key; did you mean {near}?"),
        )
    })?;
    let direction = match words.next() {
        None => Direction::Ascending,
        Some("desc") => Direction::Descending,
        Some(other) => {
            return Err(format!("{other:?} is no direction: use \"desc\" or, to ascend, nothing"));
        }
    };
    match words.next() {
        None => Ok((key, direction)),
        Some(more) => Err(format!("{more:?} is too much: put a comma between keys")),
    }
}

impl fmt::Display for Order {
    /// Canonical: it parses to the same order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, direction)) in self.keys.iter().enumerate() {
            let between = if at > 0 { ", " } else { "" };
            let direction = match direction {
                Direction::Ascending => "",
                Direction::Descending => " desc",
            };
            write!(f, "{between}{}{direction}", key.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        use Direction::{Ascending, Descending};
        assert_eq!(Order::parse(" ").unwrap(), Order::default());
        let order = Order::parse(" priority desc,end_time ").unwrap();
        let keys = vec![(OrderKey::Priority, Descending), (OrderKey::EndTime, Ascending)];
        assert_eq!(order.keys, keys);
        assert_eq!(order.to_string(), "priority desc, end_time");
        assert_eq!(Order::parse(&order.to_string()).unwrap(), order);
        assert_eq!(Order::default().to_string(), "create_time desc");
        let order = Order::parse("end_time desc").unwrap();
        assert_eq!(order.to_string(), "end_time desc, create_time desc");
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, part) in [
            ("create_time, create_time desc", "named twice"),
            ("craete_time", "did you mean create_time?"),
            ("name", "use one of create_time"),
            ("priority asc", "to ascend, nothing"),
            ("priority DESC", "no direction"),
            ("priority,", "a key is missing"),
            ("priority desc end_time", "a comma"),
        ] {
            let error = Order::parse(text).unwrap_err();
            assert!(error.to_string().starts_with("order_by: "), "{error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
