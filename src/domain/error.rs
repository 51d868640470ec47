//! What can be wrong with a request, by what its caller can do about it.

use std::time::Duration;

/// A refusal, or a fault. Messages are for callers: they name the thing and the
/// remedy. What only operators may know goes to the log instead.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong: change it.
    #[error("{}", violations(.0))]
    InvalidArgument(Vec<Violation>),
    /// There is no such thing.
    #[error("{resource} not found")]
    NotFound {
        /// Its full name, as `tasks/x`.
        resource: String,
    },
    /// There is such a thing already.
    #[error("{resource} exists already: choose another {field}, or none")]
    AlreadyExists {
        /// Its full name.
        resource: String,
        /// The field of the request that names it.
        field: String,
    },
    /// Not in its present state.
    #[error("{description}")]
    FailedPrecondition {
        /// Machine-readable, in UPPER_SNAKE_CASE.
        reason: &'static str,
        /// The full name of what is not as it must be.
        subject: String,
        /// What, and what to do.
        description: String,
    },
    /// Somebody was faster: read again, then decide.
    #[error("{message}")]
    Aborted {
        /// Machine-readable, in UPPER_SNAKE_CASE.
        reason: &'static str,
        /// What, and what to do.
        message: String,
    },
    /// Too much at once, or no room: wait.
    #[error("{message}")]
    ResourceExhausted {
        /// What has run out.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Not now: try again.
    #[error("{message}")]
    Unavailable {
        /// What is not there.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// There is no such method here.
    #[error("{0}")]
    Unimplemented(&'static str),
    /// A fault of ours. The chain is in the log.
    #[error("internal error; the server's log has the details")]
    Internal,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request, as `task.labels`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

fn violations(list: &[Violation]) -> String {
    let each: Vec<String> =
        list.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    each.join("; ")
}

impl Error {
    /// One field is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidArgument(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// There is no such task.
    pub fn no_task(id: &str) -> Self {
        Self::NotFound { resource: format!("tasks/{id}") }
    }

    /// The lease under this token is over.
    pub fn lease_lost(id: &str) -> Self {
        Self::Aborted {
            reason: "LEASE_LOST",
            message: format!("the lease of tasks/{id} under this token is over: stop its work"),
        }
    }
}
