//! What goes between a command and the server: how it fares, and what is wanted of it.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

use crate::runner::Seen;

/// All that there is to tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) seen: Seen,
    pub(super) ended: Option<Ended>,
}

/// What others want of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Run,
    Pause,
    Stop,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) status: Result<ExitStatus, String>,
    /// It was told to stop, since the task was cancelled.
    pub(super) stopped: bool,
    pub(super) last_line: String,
}

impl Ended {
    /// By a cancel, and it did not succeed for all that.
    pub(super) fn was_stopped(&self) -> bool {
        self.stopped && !self.is_success()
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    /// As a shell gives it.
    pub(super) fn status(&self) -> u8 {
        let Ok(status) = &self.status else { return 1 };
        let signalled = status.signal().map(|signal| 128 + signal);
        status.code().or(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Err(why) => write!(f, "its end could not be seen: {why}")?,
            Ok(status) => match (status.code(), status.signal()) {
                (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
                (code, _) => write!(f, "exit status {}", code.unwrap_or_default())?,
            },
        }
        if self.last_line.is_empty() { Ok(()) } else { write!(f, ": {}", self.last_line) }
    }
}
