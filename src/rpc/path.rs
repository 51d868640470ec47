//! Where in a request something stands, and what is wrong there.
//!
//! Readers note every violation and go on, so that a caller learns of all of them
//! at once. A path costs nothing until something is wrong: it is a chain on the
//! stack, written out only then.

use std::{cell::RefCell, fmt};

use tonic::Status;

use super::errors;
use crate::domain::{Error, Violation};

/// Characters of a caller's own text that are shown back.
const SHOWN_CHARS: usize = 63;
/// Violations that are noted; more than are ever told. A message can hold a million.
const NOTED: usize = 100;

/// What is wrong with one request.
#[derive(Debug, Default)]
pub(super) struct Findings(RefCell<Vec<Violation>>);

impl Findings {
    /// The request itself, whose path is empty.
    pub(super) fn root(&self) -> At<'_> {
        At { parent: None, step: Step::Field(""), findings: &self.0 }
    }

    /// What was read, unless something was wrong with it.
    pub(super) fn judge<T>(self, read: Option<T>) -> Result<T, Error> {
        let found = self.0.into_inner();
        match read {
            Some(read) if found.is_empty() => Ok(read),
            // A reader that gives nothing has said why.
            Some(_) | None => Err(Error::InvalidArgument(found)),
        }
    }
}

/// A place in a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    findings: &'a RefCell<Vec<Violation>>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    /// A field of the message that stands here.
    pub(super) fn field(&'a self, name: &'a str) -> Self {
        self.step(Step::Field(name))
    }

    /// An element of the list that stands here.
    pub(super) fn index(&'a self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// An entry of the map that stands here.
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        self.step(Step::Key(key))
    }

    fn step(&'a self, step: Step<'a>) -> Self {
        Self { parent: Some(self), step, findings: self.findings }
    }

    /// Notes that what stands here is wrong, and why.
    pub(super) fn refuse(&self, description: impl Into<String>) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < NOTED {
            let (field, description) = (self.to_string(), description.into());
            findings.push(Violation { field, description });
        }
    }

    /// Notes what a parser found wrong with the text that stands here.
    pub(super) fn take<T>(&self, parsed: Result<T, Error>) -> Option<T> {
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(Error::InvalidArgument(found)) => {
                // The parser may know the field's name but not where it stands.
                for Violation { field: _, description } in found {
                    self.refuse(description);
                }
                None
            }
            Err(other) => {
                self.refuse(other.to_string());
                None
            }
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Field(name) if parent.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{}]", shown(key)),
        }
    }
}

/// Reads a request: notes all that is wrong with it, then judges.
pub(super) fn checked<T>(read: impl FnOnce(&At<'_>) -> Option<T>) -> Result<T, Status> {
    let findings = Findings::default();
    let read = read(&findings.root());
    findings.judge(read).map_err(errors::status)
}

/// A caller's own text, quoted and cut, as it may stand in a message.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_request() {
        let findings = Findings::default();
        let root = findings.root();
        let requests = root.field("requests");
        let third = requests.index(3);
        let task = third.field("task");
        let labels = task.field("labels");
        labels.key("a\"b").refuse("x");
        task.field("kind").refuse("y");
        labels.key(&"ä".repeat(70)).refuse("z");
        let Err(Error::InvalidArgument(found)) = findings.judge(Some(())) else {
            panic!("must be refused")
        };
        let fields: Vec<&str> = found.iter().map(|v| v.field.as_str()).collect();
        let long = format!("requests[3].task.labels[\"{}…\"]", "ä".repeat(63));
        assert_eq!(fields, ["requests[3].task.labels[\"a\\\"b\"]", "requests[3].task.kind", &long]);
    }

    #[test]
    fn a_parser_s_findings_stand_where_its_text_stood() {
        let findings = Findings::default();
        let root = findings.root();
        let filter = root.field("filter");
        assert_eq!(filter.take(Ok(7)), Some(7));
        assert_eq!(filter.take::<u8>(Err(Error::invalid("", "unexpected end"))), None);
        let error = findings.judge::<()>(None);
        assert_eq!(error, Err(Error::invalid("filter", "unexpected end")));
    }
}
