//! One run of a program: its environment, its process group, its pipes. When it is
//! dropped, or its server dies, the whole group is killed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    process::Stdio,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group, test_kill_process_group},
};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep},
};

use super::guard::Guard;
use crate::config::ProgramConfig;

/// Waits until the guard knows the group, then becomes the program. What it reads
/// first it says last where it could not: a program never learns that word. (bash
/// runs no trap after a failed exec, unless it is told to outlive it.)
const STARTER: &str = r#"read -r TASKWATCH_WORD || exit 1
trap 'echo "$TASKWATCH_WORD" >&2' EXIT
[ -z "$BASH_VERSION" ] || shopt -s execfail
exec "$@""#;

/// Variables of the server that every program gets.
pub(super) const PASSED: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"];

/// One string that the system takes as a variable or an argument, its end included.
const LONGEST_STRING: usize = 128 << 10;

/// More than any pipe holds.
const PIPE_BYTES: usize = 4 << 20;

/// Members of the group that nobody reaps stay in it; they are not waited for longer.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// What a program finds in its environment about its run.
pub(super) struct Run<'a> {
    pub(super) task: &'a str,
    pub(super) attempt: u32,
    /// JSON.
    pub(super) input: &'a str,
    /// JSON.
    pub(super) checkpoint: Option<&'a str>,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    group: Pid,
    guard: Guard,
    gone: bool,
    /// What its standard error ends with when the command could not be started.
    word: String,
}

impl Process {
    /// Starts `command` in a group of its own. It comes to life when the returned
    /// pipe is given what [`Process::first_line`] says.
    pub(super) fn start(
        command: &[String],
        config: &ProgramConfig,
        run: &Run<'_>,
    ) -> io::Result<(Self, ChildStdin)> {
        Self::start_by("/bin/sh", command, config, run)
    }

    pub(super) fn start_by(
        shell: &str,
        command: &[String],
        config: &ProgramConfig,
        run: &Run<'_>,
    ) -> io::Result<(Self, ChildStdin)> {
        let guard = Guard::start()?;
        let mut starter = Command::new(shell);
        starter
            .args(["-c", STARTER, "sh"])
            .args(command)
            .env_clear()
            .envs(environment(config, run))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(dir) = &config.working_dir {
            starter.current_dir(dir);
        }
        let mut child = starter.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let ((Some(stdin), Some(stdout), Some(stderr)), Some(group)) = (pipes, group) else {
            // It has no first line yet, and ends by itself.
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let word = format!("{:032x}", rand::random::<u128>());
        let process = Self { child, stdout, stderr, group, guard, gone: false, word };
        process.guard.guard(group)?;
        Ok((process, stdin))
    }

    /// To be written to its standard input before all else.
    pub(super) fn first_line(&self) -> String {
        format!("{}\n", self.word)
    }

    /// Why the command could not be started, where `stderr` says that.
    pub(super) fn not_started<'a>(&self, stderr: &'a str) -> Option<&'a str> {
        let said = stderr.trim_end().strip_suffix(&self.word)?.trim_end();
        let last = said.lines().next_back().unwrap_or_default();
        // The shell's own name and line say nothing to the reader.
        Some(last.rsplit_once(": ").map_or(last, |(_, reason)| reason))
    }

    /// To every member of the group; one that is gone needs none.
    pub(super) fn signal(&self, signal: Signal) {
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(group = ?self.group, %error, "cannot signal a group"),
        }
    }

    /// Kills what is left of the group, after the program itself has exited.
    pub(super) async fn clear(&mut self) {
        self.signal(Signal::KILL);
        let end = Instant::now() + LAST_BREATH;
        let mut pause = Duration::from_millis(1);
        while test_kill_process_group(self.group).is_ok() && Instant::now() < end {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.gone = true;
        self.guard.dismiss();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.gone {
            self.signal(Signal::KILL);
            self.guard.dismiss();
        }
    }
}

/// What stands in a pipe right now. Whoever else holds it open is not waited for.
pub(super) fn left_in(pipe: &impl AsFd, mut each: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    let mut taken = 0;
    while taken < PIPE_BYTES {
        // The pipe does not block: it is one of tokio's.
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                each(&buffer[..read]);
                taken += read;
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn environment(config: &ProgramConfig, run: &Run<'_>) -> Vec<(OsString, OsString)> {
    let passes = |name: &OsStr| {
        let usual = name.to_str().is_some_and(|n| PASSED.contains(&n) || n.starts_with("LC_"));
        usual || config.pass_env.iter().any(|passed| passed == name)
    };
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| passes(name))
        .chain(config.env.iter().map(|(name, value)| (name.into(), value.into())))
        .collect();
    let mut set = |name: &str, value: &str| {
        if name.len() + value.len() + "=\0".len() <= LONGEST_STRING {
            variables.push((name.into(), value.into()));
            return true;
        }
        false
    };
    set("TASKWATCH_INPUT", run.input);
    set("TASKWATCH_TASK", run.task);
    set("TASKWATCH_ATTEMPT", &run.attempt.to_string());
    if let Some(checkpoint) = run.checkpoint
        && !set("TASKWATCH_CHECKPOINT", checkpoint)
    {
        tracing::warn!(task = run.task, "the checkpoint is too long for a variable: left out");
    }
    variables
}
