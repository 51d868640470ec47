//! Which tasks: AIP-160 filters, parsed and applied. The store says the same in
//! SQL; a property test holds the two together.
//!
//! Logic is two-valued throughout. A field that is not set equals nothing: `=`,
//! `<`, `>`, `<=` and `>=` are false of it and `!=` is true; NOT is plain negation.

mod lex;
mod parse;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::cmp::Ordering;

use super::{Error, State, Task, TaskId, Timestamp};

/// A checked filter. An empty one matches every task. Equal filters mean the same;
/// order and repetition of what AND and OR join make no difference.
///
/// Its `Display` is a canonical text that parses to the same filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    root: Option<Condition>,
}

/// What a filter asks of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Each of these; two or more, sorted, none of them an `All`.
    All(Vec<Self>),
    /// One of these at least; two or more, sorted, none of them an `Any`.
    Any(Vec<Self>),
    /// Not this one, which is neither a `Not` nor a test that can be turned round.
    Not(Box<Self>),
    /// What one field must be.
    Test(Test),
}

/// What one field of a task must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// In this state, or in any other.
    State {
        /// In it, and not in another.
        equal: bool,
        /// Which.
        state: State,
    },
    /// A task's own name; ids compare as bytes.
    Name(Comparison, TaskId),
    /// A text, compared as bytes.
    Text(TextField, Comparison, String),
    /// A whole number.
    Number(NumberField, Comparison, i64),
    /// A point in time.
    Time(TimeField, Comparison, Timestamp),
    /// The value of the label with this key, compared as bytes.
    Label(String, Comparison, String),
    /// There is a label with this key.
    HasLabel(String),
}

/// A field that holds text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextField {
    /// `kind`
    Kind,
    /// `queue`, by its effective name.
    Queue,
    /// `worker`
    Worker,
}

/// A field that holds a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NumberField {
    /// `priority`
    Priority,
    /// `attempt`
    Attempt,
}

/// A field that holds a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeField {
    /// `create_time`
    Create,
    /// `update_time`
    Update,
    /// `start_time`
    Start,
    /// `end_time`
    End,
    /// `schedule_time`
    Schedule,
}

/// How a field relates to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Filter {
    /// Reads a filter as ListTasksRequest.filter describes it.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT, which names the place in the text and the remedy.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let root = parse::parse(text).map_err(|wrong| Error::invalid("filter", wrong))?;
        Ok(Self { root: root.map(Condition::normal) })
    }

    /// The filter that asks for this.
    pub fn new(condition: Condition) -> Self {
        Self { root: Some(condition.normal()) }
    }

    /// What it asks for; nothing of a filter that matches every task.
    pub const fn condition(&self) -> Option<&Condition> {
        self.root.as_ref()
    }

    /// Whether `task` is one of those.
    pub fn matches(&self, task: &Task) -> bool {
        self.root.as_ref().is_none_or(|condition| condition.holds(task))
    }

    /// A label, as key and value, that every task has that matches; so that a list
    /// can be read along an index of labels.
    pub fn required_label(&self) -> Option<(&str, &str)> {
        self.required().find_map(|test| {
            let Test::Label(key, Comparison::Equal, value) = test else { return None };
            Some((&**key, &**value))
        })
    }

    /// Whether a task in this state can match, whatever else it is.
    pub fn can_match(&self, state: State) -> bool {
        self.root.as_ref().is_none_or(|condition| condition.possible(state).0)
    }

    /// The kind of every task that matches, where there is one such.
    pub fn required_kind(&self) -> Option<&str> {
        self.required_text(TextField::Kind)
    }

    /// The queue of every task that matches, where there is one such.
    pub fn required_queue(&self) -> Option<&str> {
        self.required_text(TextField::Queue)
    }

    fn required_text(&self, field: TextField) -> Option<&str> {
        self.required().find_map(|test| {
            let Test::Text(of, Comparison::Equal, value) = test else { return None };
            (*of == field).then_some(&**value)
        })
    }

    /// Whether only those can match that were changed after some time.
    pub fn requires_recent_change(&self) -> bool {
        use Comparison::{Equal, Greater, GreaterOrEqual};
        self.required().any(|test| {
            matches!(test, Test::Time(TimeField::Update, Equal | Greater | GreaterOrEqual, _))
        })
    }

    /// Whether only names from one range can match, as those with a common beginning.
    pub fn has_name_range(&self) -> bool {
        let bounded = |bounds: [Comparison; 2]| {
            self.required().any(|test| matches!(test, Test::Name(by, _) if bounds.contains(by)))
        };
        bounded([Comparison::Greater, Comparison::GreaterOrEqual])
            && bounded([Comparison::Less, Comparison::LessOrEqual])
    }

    /// What is asked of every task that matches, each for itself.
    fn required(&self) -> impl Iterator<Item = &Test> {
        let all = match &self.root {
            Some(Condition::All(each)) => each,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        all.iter().filter_map(|part| match part {
            Condition::Test(test) => Some(test),
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) => None,
        })
    }
}

impl Condition {
    fn holds(&self, task: &Task) -> bool {
        match self {
            Self::All(each) => each.iter().all(|part| part.holds(task)),
            Self::Any(each) => each.iter().any(|part| part.holds(task)),
            Self::Not(inner) => !inner.holds(task),
            Self::Test(test) => test.holds(task),
        }
    }

    /// Whether it can hold of a task in this state, and whether it can fail.
    fn possible(&self, state: State) -> (bool, bool) {
        match self {
            Self::All(each) => each
                .iter()
                .map(|part| part.possible(state))
                .fold((true, false), |(holds, fails), part| (holds && part.0, fails || part.1)),
            Self::Any(each) => each
                .iter()
                .map(|part| part.possible(state))
                .fold((false, true), |(holds, fails), part| (holds || part.0, fails && part.1)),
            Self::Not(inner) => {
                let (holds, fails) = inner.possible(state);
                (fails, holds)
            }
            Self::Test(Test::State { equal, state: other }) => {
                let holds = (state == *other) == *equal;
                (holds, !holds)
            }
            Self::Test(_) => (true, true),
        }
    }

    /// One form for all that trivially means the same.
    fn normal(self) -> Self {
        match self {
            Self::All(each) => joined(each, Self::All, |part| match part {
                Self::All(inner) => Ok(inner),
                Self::Any(_) | Self::Not(_) | Self::Test(_) => Err(part),
            }),
            Self::Any(each) => joined(each, Self::Any, |part| match part {
                Self::Any(inner) => Ok(inner),
                Self::All(_) | Self::Not(_) | Self::Test(_) => Err(part),
            }),
            Self::Not(inner) => match inner.normal() {
                Self::Not(twice) => *twice,
                Self::Test(test) => test.negated(),
                other @ (Self::All(_) | Self::Any(_)) => Self::Not(Box::new(other)),
            },
            Self::Test(_) => self,
        }
    }
}

fn joined(
    each: Vec<Condition>,
    join: impl Fn(Vec<Condition>) -> Condition,
    open: impl Fn(Condition) -> Result<Vec<Condition>, Condition>,
) -> Condition {
    let mut parts = Vec::with_capacity(each.len());
    for part in each {
        match open(part.normal()) {
            Ok(inner) => parts.extend(inner),
            Err(part) => parts.push(part),
        }
    }
    parts.sort();
    parts.dedup();
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

impl Test {
    /// Since `=` and `!=` are each other's opposite also where nothing is set, they
    /// can be turned round; the others cannot.
    fn negated(self) -> Condition {
        let turned = |comparison| match comparison {
            Comparison::Equal => Some(Comparison::NotEqual),
            Comparison::NotEqual => Some(Comparison::Equal),
            Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => None,
        };
        let test = match self {
            Self::State { equal, state } => Ok(Self::State { equal: !equal, state }),
            Self::Name(by, id) => match turned(by) {
                Some(by) => Ok(Self::Name(by, id)),
                None => Err(Self::Name(by, id)),
            },
            Self::Text(field, by, value) => match turned(by) {
                Some(by) => Ok(Self::Text(field, by, value)),
                None => Err(Self::Text(field, by, value)),
            },
            Self::Number(field, by, value) => match turned(by) {
                Some(by) => Ok(Self::Number(field, by, value)),
                None => Err(Self::Number(field, by, value)),
            },
            Self::Time(field, by, value) => match turned(by) {
                Some(by) => Ok(Self::Time(field, by, value)),
                None => Err(Self::Time(field, by, value)),
            },
            Self::Label(key, by, value) => match turned(by) {
                Some(by) => Ok(Self::Label(key, by, value)),
                None => Err(Self::Label(key, by, value)),
            },
            Self::HasLabel(_) => Err(self),
        };
        match test {
            Ok(test) => Condition::Test(test),
            Err(test) => Condition::Not(Box::new(Condition::Test(test))),
        }
    }

    fn holds(&self, task: &Task) -> bool {
        match self {
            Self::State { equal, state } => (task.state() == *state) == *equal,
            Self::Name(by, id) => by.holds(Some(&task.id), id),
            Self::Text(field, by, value) => {
                let present = match field {
                    TextField::Kind => Some(task.kind.as_str()),
                    TextField::Queue => Some(task.queue_name()),
                    TextField::Worker => task.worker.as_deref(),
                };
                by.holds(present, value.as_str())
            }
            Self::Number(field, by, value) => {
                let present = match field {
                    NumberField::Priority => i64::from(task.priority),
                    NumberField::Attempt => i64::from(task.attempt),
                };
                by.holds(Some(present), *value)
            }
            Self::Time(field, by, value) => {
                let present = match field {
                    TimeField::Create => Some(task.create_time),
                    TimeField::Update => Some(task.update_time),
                    TimeField::Start => task.start_time,
                    TimeField::End => task.end_time(),
                    TimeField::Schedule => task.schedule_time,
                };
                by.holds(present, *value)
            }
            Self::Label(key, by, value) => {
                by.holds(task.labels.get(key).map(String::as_str), value.as_str())
            }
            Self::HasLabel(key) => task.labels.contains_key(key),
        }
    }
}

impl Comparison {
    /// Whether what is present (or nothing) relates to `value` like this.
    fn holds<T: Ord>(self, present: Option<T>, value: T) -> bool {
        let Some(present) = present else { return self == Self::NotEqual };
        let ordering = present.cmp(&value);
        match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::NotEqual => ordering != Ordering::Equal,
            Self::Less => ordering == Ordering::Less,
            Self::LessOrEqual => ordering != Ordering::Greater,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
        }
    }
}
