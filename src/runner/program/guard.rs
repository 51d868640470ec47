//! Sees to it that a program does not outlive this server, however that ends: a
//! process of its own outside the program's group holds the other end of a pipe.
//! When the pipe ends without a word, the server has died, and the guard kills the
//! group.
//!
//! A death signal of the kernel's would not do: it reaches only the program itself
//! and not what that has started, and it fires when the thread that spawned it ends.

use std::{io, process::Stdio};

use rustix::{io::Errno, process::Pid};
use tokio::process::{Child, ChildStdin, Command};

/// Told the group, it waits for a word that it is no longer needed.
const SCRIPT: &str = r#"trap "" INT TERM HUP
read -r group || exit 0
read -r word && exit 0
kill -s KILL -- "-$group""#;

#[derive(Debug)]
pub(super) struct Guard {
    /// Reaped by the runtime once it has ended.
    _process: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts a guard, which guards nothing yet.
    pub(super) fn start() -> io::Result<Self> {
        let mut process = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "taskwatch-guard"])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { _process: process, pipe })
    }

    /// From now on the group dies with this server.
    pub(super) fn guard(&self, group: Pid) -> io::Result<()> {
        self.say(&format!("{}\n", group.as_raw_nonzero()))
    }

    /// The group is gone.
    pub(super) fn dismiss(&self) {
        if let Err(error) = self.say("done\n") {
            tracing::debug!(%error, "a guard was gone before its group");
        }
    }

    /// A few bytes in an empty pipe: it neither blocks nor is it cut short.
    fn say(&self, word: &str) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.pipe, word.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
