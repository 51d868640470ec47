//! What is said to this process, and meant for the command.

use std::fs;

use futures_util::future::select_all;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Signals, from when it was made.
#[derive(Debug)]
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Those that are ignored stay so, as `nohup` has it: a command that is started later
    /// ignores them too.
    pub(super) fn new() -> Self {
        let passed = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
            (Signal::QUIT, SignalKind::quit()),
        ];
        let ignored = ignored().unwrap_or(0);
        let passed = passed.into_iter().filter(|(name, _)| ignored >> (name.as_raw() - 1) & 1 == 0);
        Self(passed.filter_map(|(name, kind)| Some((name, signal(kind).ok()?))).collect())
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        if self.0.is_empty() {
            std::future::pending::<()>().await;
        }
        let each = self.0.iter_mut().map(|(name, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *name
            })
        });
        select_all(each).await.0
    }
}

/// A bit for each signal that this process ignores, the lowest for the first one:
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>. None where the system
/// does not tell.
fn ignored() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
