//! The terminal of whoever runs a command: given over to the command, and given back
//! as it was.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

use pty_process::{Pts, Pty};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::signal::unix::{SignalKind, signal};

/// Standard input, raw: every key goes to the command. As it was when dropped.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Only where standard input is a terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is no remedy, and nobody to tell.
        let _not_restored = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// A pseudo-terminal of the size of the one outside, and like it in all else.
pub(super) fn open() -> io::Result<(Pty, Pts)> {
    let failed = |error: pty_process::Error| io::Error::other(error.to_string());
    let (pty, pts) = pty_process::open().map_err(failed)?;
    if let Ok(mut inside) = tcgetattr(io::stdout()) {
        // Nobody could continue who was stopped by a key.
        inside.special_codes[SpecialCodeIndex::VSUSP] = 0;
        // Of little harm where it cannot be.
        let _as_it_was = tcsetattr(&pty, OptionalActions::Now, &inside);
    }
    Resizer::of(&pty).resize();
    Ok((pty, pts))
}

/// Keeps the terminal inside as large as the one outside.
#[derive(Debug)]
pub(super) struct Resizer {
    inside: Option<OwnedFd>,
}

impl Resizer {
    pub(super) fn of(pty: &Pty) -> Self {
        // A command that draws wrongly is no reason to stop it.
        Self { inside: pty.as_fd().try_clone_to_owned().ok() }
    }

    fn resize(&self) {
        if let (Some(inside), Ok(size)) = (&self.inside, tcgetwinsize(io::stdout())) {
            let _as_it_was = tcsetwinsize(inside, size);
        }
    }

    /// For as long as it is asked to.
    pub(super) async fn follow(self) {
        let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
        while resized.recv().await.is_some() {
            self.resize();
        }
    }
}
