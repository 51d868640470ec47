//! When a watcher of one task is to be sent something. Pure: told the time, the
//! newest state and nothing else.

use std::time::Duration;

use tokio::time::Instant;

use super::WatchOptions;
use crate::domain::{Task, limits::HEARTBEAT_MIN};

/// The pace of a watch.
#[derive(Debug)]
pub(super) struct Pace {
    /// The revision that was last sent, or that the watcher had seen before.
    seen: i64,
    /// When something was last sent; else nothing was.
    sent: Option<Instant>,
    min_interval: Duration,
    heartbeat: Heartbeat,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send the newest state, and call [`Pace::sent`].
    Send,
    /// Wait for a newer state, or until then.
    Wait(Option<Instant>),
}

impl Pace {
    /// `task` is what was there when the watch began.
    pub(super) fn new(options: &WatchOptions, task: &Task, now: Instant) -> Self {
        let reached = options.after_revision <= task.revision;
        Self {
            seen: if reached { options.after_revision } else { 0 },
            sent: None,
            min_interval: options.min_interval,
            heartbeat: Heartbeat::new(options.heartbeat_interval, now),
        }
    }

    pub(super) fn step(&self, task: &Task, now: Instant) -> Step {
        // Also where that revision was seen: the end is always told.
        if task.state().is_terminal() {
            return Step::Send;
        }
        let allowed = self.sent.map(|sent| sent + self.min_interval);
        let due = if task.revision > self.seen {
            Some(allowed.unwrap_or(now))
        } else {
            // A heartbeat is a message like any other.
            self.heartbeat.due().map(|due| allowed.map_or(due, |allowed| due.max(allowed)))
        };
        match due {
            Some(due) if due <= now => Step::Send,
            due => Step::Wait(due),
        }
    }

    pub(super) fn sent(&mut self, task: &Task, now: Instant) {
        self.seen = task.revision;
        self.sent = Some(now);
        self.heartbeat.restart(now);
    }
}

/// Breaks a silence, so that nobody on the way takes the stream for dead.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(interval: Option<Duration>, now: Instant) -> Self {
        let interval = interval.map(|interval| interval.max(HEARTBEAT_MIN));
        let mut heartbeat = Self { interval, due: None };
        heartbeat.restart(now);
        heartbeat
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something was sent. The next silence is a tenth longer or shorter, so that
    /// thousands of watches do not beat at once.
    pub(super) fn restart(&mut self, now: Instant) {
        self.due = self.interval.map(|interval| {
            let jittered = interval.mul_f64(rand::random_range(0.9..=1.1));
            now + jittered.max(HEARTBEAT_MIN)
        });
    }
}
