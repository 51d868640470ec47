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
    /// The status of a command that was run.
    Command(u8),
}

impl Exit {
    /// The worse one of two, where several tasks were followed: a failure is worse than
    /// a cancel.
    pub(super) fn or_worse(self, other: Self) -> Self {
        let badness = |exit| match exit {
            Self::Done => 0,
            Self::Cancelled => 1,
            Self::Failed => 2,
            Self::Interrupted | Self::Command(_) => 3,
        };
        if badness(other) > badness(self) { other } else { self }
    }
}

/// Why a command could not do what it was asked to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It failed, or was refused.
    Failed(String),
    /// It was refused, since what it is about is not there.
    Missing(String),
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

    /// Says it to whoever sits there, and gives the status that it ends with.
    pub(super) fn tell(self) -> u8 {
        let (status, message) = match self {
            Self::Closed => return 0,
            Self::Failed(message) | Self::Missing(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::Unreachable(message) => (4, message),
        };
        // Nobody is left to hear that standard error is closed.
        drop(writeln!(io::stderr(), "error: {message}"));
        status
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
    let status = match ended {
        Ok(Exit::Done) => 0,
        Ok(Exit::Failed) => 1,
        Ok(Exit::Cancelled) => 3,
        Ok(Exit::Interrupted) => 130,
        Ok(Exit::Command(status)) => status,
        Err(fault) => fault.tell(),
    };
    ExitCode::from(status)
}
