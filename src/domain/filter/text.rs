//! The canonical text of a filter: it parses to the same filter again, so that page
//! tokens can be bound to it.

use std::fmt::{self, Display, Formatter};

use super::{
    Comparison, Condition, Filter, NumberField, Test, TextField, TimeField, lex::is_plain_word,
};

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.condition().map_or(Ok(()), |condition| condition.fmt(f))
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(each) => join(f, each, " AND "),
            Self::Any(each) => join(f, each, " OR "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                operand(f, inner)
            }
            Self::Test(test) => test.fmt(f),
        }
    }
}

fn join(f: &mut Formatter<'_>, each: &[Condition], between: &str) -> fmt::Result {
    for (at, part) in each.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        operand(f, part)?;
    }
    Ok(())
}

/// Always in parentheses where it joins others: who reads it need not know which
/// of AND and OR binds tighter.
fn operand(f: &mut Formatter<'_>, part: &Condition) -> fmt::Result {
    match part {
        Condition::All(_) | Condition::Any(_) => write!(f, "({part})"),
        Condition::Not(_) | Condition::Test(_) => part.fmt(f),
    }
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = |equal: bool| if equal { Comparison::Equal } else { Comparison::NotEqual };
        match self {
            Self::State { equal, state } => write!(f, "state {} {}", sign(*equal), state.name()),
            Self::Name(by, id) => write!(f, "name {by} \"tasks/{id}\""),
            Self::Text(field, by, value) => write!(f, "{} {by} {}", field.name(), Quoted(value)),
            Self::Number(field, by, value) => write!(f, "{} {by} {value}", field.name()),
            Self::Time(field, by, value) => write!(f, "{} {by} \"{value}\"", field.name()),
            Self::Label(key, by, value) => write!(f, "labels.{} {by} {}", Key(key), Quoted(value)),
            Self::HasLabel(key) => write!(f, "labels:{}", Key(key)),
        }
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

struct Key<'a>(&'a str);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain_word(self.0) { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl TextField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Queue => "queue",
            Self::Worker => "worker",
        }
    }
}

impl NumberField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Attempt => "attempt",
        }
    }
}

impl TimeField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create_time",
            Self::Update => "update_time",
            Self::Start => "start_time",
            Self::End => "end_time",
            Self::Schedule => "schedule_time",
        }
    }
}
