//! The command itself: started, its output passed on, stopped where that is wanted.

use std::{
    io::{self, IsTerminal},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{FusedFuture, LocalBoxFuture},
};
use pty_process::Pty;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    news::{Ended, Told, Wanted},
    signals::Signals,
    terminal::{self, Raw},
};
use crate::runner::{Glance, Seen};

const READ_BYTES: usize = 16 << 10;
/// What is still in the pipes when the command has ended is read as long as it comes
/// without such a pause; whoever else holds them is not waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A command that could not be started.
pub(super) struct NotStarted {
    /// As a shell gives it.
    pub(super) status: u8,
    pub(super) why: String,
}

/// A command that runs.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    streams: Streams,
    raw: Option<Raw>,
}

enum Streams {
    Terminal(Pty),
    Pipes { stdin: Option<ChildStdin>, stdout: Option<ChildStdout>, stderr: Option<ChildStderr> },
}

/// Starts it: on a pseudo-terminal where standard output is a terminal, else on pipes.
pub(super) fn start(command: &[String]) -> Result<Running, NotStarted> {
    let started = if io::stdout().is_terminal() { on_terminal(command) } else { on_pipes(command) };
    started.map_err(|error| {
        let found = error.kind() != io::ErrorKind::NotFound;
        let status = if found { NOT_EXECUTABLE } else { NOT_FOUND };
        NotStarted { status, why: error.to_string() }
    })
}

fn on_terminal(command: &[String]) -> io::Result<Running> {
    let (pty, pts) = terminal::open()?;
    let (name, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut process = pty_process::Command::new(name).args(arguments);
    // What leads elsewhere than to the terminal still leads there.
    if !io::stdin().is_terminal() {
        process = process.stdin(Stdio::inherit());
    }
    if !io::stderr().is_terminal() {
        process = process.stderr(Stdio::inherit());
    }
    let child = process.spawn(pts).map_err(|error| match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(error) => error.into(),
        lasting @ (pty_process::Error::TokioAsyncFd(_) | pty_process::Error::Unsplit(..)) => {
            io::Error::other(lasting.to_string())
        }
    })?;
    let raw = Raw::enter();
    Ok(Running { group: group(&child), child, streams: Streams::Terminal(pty), raw })
}

fn on_pipes(command: &[String]) -> io::Result<Running> {
    let (name, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut process = tokio::process::Command::new(name);
    // In the background of a terminal it could not read from there: its input is
    // passed on.
    let typed = io::stdin().is_terminal();
    process.args(arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    process.stdin(if typed { Stdio::piped() } else { Stdio::inherit() });
    let mut child = process.spawn()?;
    let streams = Streams::Pipes {
        stdin: child.stdin.take(),
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
    };
    Ok(Running { group: group(&child), child, streams, raw: None })
}

/// It leads a process group of its own, whose number is its own.
fn group(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

impl Running {
    /// What ends a line that is said beside its output.
    pub(super) fn newline(&self) -> &'static str {
        if self.raw.is_some() { "\r\n" } else { "\n" }
    }

    /// Passes its output on and does what is wanted, until it has ended.
    pub(super) async fn attend(
        self,
        stop_grace: Duration,
        signals: &mut Signals,
        told: &watch::Sender<Told>,
        wanted: watch::Receiver<Wanted>,
    ) -> Ended {
        let Self { child, group, streams, raw } = self;
        let exited = CancellationToken::new();
        let passing: LocalBoxFuture<'_, ()> = match streams {
            Streams::Terminal(pty) => {
                let size = terminal::Resizer::of(&pty);
                let (output, mut input) = pty.into_split();
                let passed = pass_on(Some(output), tokio::io::stdout(), told, &exited);
                let typed = raw.is_some();
                let beside = async move {
                    let typing = async {
                        if typed {
                            copy(tokio::io::stdin(), &mut input).await;
                        }
                        // Where it is closed, the command has no terminal any more.
                        std::future::pending::<()>().await;
                    };
                    tokio::join!(typing, size.follow())
                };
                Box::pin(until(passed, beside))
            }
            Streams::Pipes { stdin, stdout, stderr } => {
                let out = pass_on(stdout, tokio::io::stdout(), told, &exited);
                let err = pass_on(stderr, tokio::io::stderr(), told, &exited);
                let typing = async {
                    if let Some(stdin) = stdin {
                        copy(tokio::io::stdin(), stdin).await;
                    }
                };
                let both = async {
                    tokio::join!(out, err);
                };
                Box::pin(until(both, typing))
            }
        };
        let mut passing = passing.fuse();
        let steering = Steering { child, group, stop_grace, wanted, told_to_stop: false };
        let exit = steering.until_exit(signals, &exited);
        let (status, stopped) = until(exit, &mut passing).await;
        if !passing.is_terminated() {
            // Who is told to stop now does not wait for what others write to its output.
            tokio::select! {
                () = passing => {}
                _ = signals.next() => {}
            }
        }
        drop(raw);
        let last_line = told.borrow().seen.line.clone();
        Ended { status: status.map_err(|error| error.to_string()), stopped, last_line }
    }
}

/// Does the second thing beside the first one, and no longer.
pub(super) async fn until<T>(first: impl Future<Output = T>, second: impl Future) -> T {
    let forever = async {
        second.await;
        std::future::pending().await
    };
    tokio::select! {
        done = first => done,
        done = forever => done,
    }
}

/// What is done with the command while it runs.
struct Steering {
    child: Child,
    group: Option<Pid>,
    stop_grace: Duration,
    wanted: watch::Receiver<Wanted>,
    told_to_stop: bool,
}

impl Steering {
    async fn until_exit(
        mut self,
        signals: &mut Signals,
        exited: &CancellationToken,
    ) -> (io::Result<ExitStatus>, bool) {
        let (mut kill_at, mut heard) = (None, true);
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status,
                signal = signals.next() => self.send(signal),
                changed = self.wanted.changed(), if heard => {
                    heard = changed.is_ok();
                    let wanted = *self.wanted.borrow_and_update();
                    match wanted {
                        Wanted::Run => self.send(Signal::CONT),
                        Wanted::Pause => self.send(Signal::STOP),
                        Wanted::Stop if self.told_to_stop => {}
                        Wanted::Stop => {
                            self.told_to_stop = true;
                            kill_at = Some(Instant::now() + self.stop_grace);
                            self.send(Signal::TERM);
                            // Who is stopped has to go on to hear it.
                            self.send(Signal::CONT);
                        }
                    }
                }
                () = reached(kill_at) => {
                    kill_at = None;
                    self.send(Signal::KILL);
                }
            }
        };
        if self.told_to_stop {
            // Whoever it started does not go on without it.
            self.send(Signal::KILL);
        }
        exited.cancel();
        (status, self.told_to_stop)
    }

    /// That it has gone already is what was wanted.
    fn send(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _gone = kill_process_group(group, signal);
        }
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Passes output on as it is, glancing at it, until it is over or nobody takes it.
async fn pass_on(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    told: &watch::Sender<Told>,
    exited: &CancellationToken,
) {
    let Some(mut from) = from else { return };
    let (mut glance, mut buffer) = (Glance::new(), vec![0; READ_BYTES]);
    loop {
        let read = if exited.is_cancelled() {
            timeout(LAST_WORDS, from.read(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            tokio::select! {
                read = from.read(&mut buffer) => read,
                () = exited.cancelled() => continue,
            }
        };
        // A terminal that nobody holds any more gives an error for an end.
        let Ok(read @ 1..) = read else { return };
        let seen = glance.feed(&buffer[..read]);
        told.send_if_modified(|told| {
            let percent = seen.percent.or(told.seen.percent);
            let new = Seen { percent, line: seen.line.clone() };
            let changed = told.seen != new;
            told.seen = new;
            changed
        });
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Copies what is typed; at its end the command's input ends.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    // A command that does not read its input is no fault.
    let _not_read = tokio::io::copy(&mut from, &mut to).await;
}
