//! How a command ends: its status, and what it says to standard error then.

use std::{fmt, io, io::Write, process::ExitCode};

/// How a command ended that did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done; a task that was followed SUCCEEDED.
    Done,
    /// A task that was followed FAILED.
    Failed,
    /// A task that was followed was CANCELLED.
    Cancelled,
    /// Ctrl-C ended it: 128 and SIGINT, as shells have it.
    Interrupted,
}

/// Why a command could not do what it was asked to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It failed, or was refused.
    Failed(String),
    /// It was asked for in the wrong way.
    Usage(String),
    /// The server is not there.
    Unreachable(String),
    /// Whoever read standard output has gone (`| head -1`): nothing is wrong.
    Closed,
}

impl Fault {
    pub(super) fn failed(message: impl fmt::Display) -> Self {
        Self::Failed(message.to_string())
    }

    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }
}

impl From<io::Error> for Fault {
    /// What standard output says.
    #[expect(clippy::wildcard_enum_match_arm, reason = "not our own enum, and open")]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Tells a fault, and gives the status.
pub(super) fn end(ended: Result<Exit, Fault>) -> ExitCode {
    let (status, message) = match ended {
        Ok(Exit::Done) | Err(Fault::Closed) => (0, None),
        Ok(Exit::Failed) => (1, None),
        Ok(Exit::Cancelled) => (3, None),
        Ok(Exit::Interrupted) => (130, None),
        Err(Fault::Failed(message)) => (1, Some(message)),
        Err(Fault::Usage(message)) => (2, Some(message)),
        Err(Fault::Unreachable(message)) => (4, Some(message)),
    };
    if let Some(message) = message {
        // Nobody is left to hear that standard error is closed.
        drop(writeln!(io::stderr(), "error: {message}"));
    }
    ExitCode::from(status)
}
