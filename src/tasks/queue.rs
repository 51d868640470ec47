//! The commands that wait for the writer: bounded in number and bytes, with one
//! place for the reports of each lease, and a share for every class of command.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use hashbrown::{HashMap, hash_map::Entry};
use tokio::{sync::Notify, task::yield_now};

use super::command::Command;
use crate::domain::{Error, Report, TaskId, Token};

/// A batch takes at most so many rows, but at least one command.
const BATCH_ROWS: usize = 500;
/// Of these at most so many are reports while others wait: what runs may wait to be told how
/// far it is, a newer report takes the older one's place, and who creates a task waits.
const BATCH_REPORTS: usize = BATCH_ROWS / 5;
/// A batch takes at most so many bytes, but at least one command.
const BATCH_BYTES: usize = 4 << 20;
/// A batch of so many commands answers callers of whom many call again at once.
const GATHERED_AFTER: usize = 16;
/// One in so many of those who were answered and those who wait is enough for the next batch:
/// the database works while the others come.
const ENOUGH: usize = 2;
/// So many looks that bring nobody are the last ones, and so many in all.
const IN_VAIN: u32 = 2;
const LOOKS: u32 = 32;
/// Creates are refused when this many commands wait, all others but reports,
/// outcomes and timers when twice as many do.
const WAITING_COMMANDS: usize = 20_000;
/// Creates are refused at three quarters of this, the others at all of it.
const WAITING_BYTES: usize = 64 << 20;
/// What the refused are told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// In the order in which a batch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Reports,
    Outcomes,
    Updates,
    Creates,
    Timers,
    Leases,
}

const CLASSES: [Class; 6] =
    [Class::Reports, Class::Outcomes, Class::Updates, Class::Creates, Class::Timers, Class::Leases];

/// The queue. A std Mutex is right: it is held for a few moves of memory and
/// never across an await.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// All but reports, by class.
    commands: [VecDeque<Command>; 6],
    /// The reports of a lease, and the leases in the order they first reported.
    reports: HashMap<(TaskId, Token), Command>,
    reported: VecDeque<(TaskId, Token)>,
    /// How many outcomes wait under each token.
    finishing: HashMap<(TaskId, Token), usize>,
    count: usize,
    bytes: usize,
    /// The class that the next batch begins with, so that a large command of any
    /// class has its turn.
    first: usize,
    closed: bool,
}

impl Queue {
    /// Queues a command, or refuses it at once.
    pub(super) fn push(&self, command: Command) {
        let refusal = {
            let mut waiting = self.lock();
            match waiting.refusal(class(&command)) {
                None => {
                    let is_first = waiting.count == 0;
                    waiting.push(command);
                    drop(waiting);
                    // Who takes the first one takes the others as well.
                    if is_first {
                        self.arrived.notify_one();
                    }
                    return;
                }
                Some(error) => error,
            }
        };
        command.refuse(refusal);
    }

    /// What is to be committed next, in the order in which it is to be applied.
    /// Waits for a first command, but not for more. `None` when the queue was
    /// closed and is empty.
    pub(super) async fn next_batch(&self) -> Option<Vec<Command>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut waiting = self.lock();
                if waiting.count > 0 {
                    return Some(waiting.take());
                }
                if waiting.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Lets those come along whom a batch of so many commands has just answered and who call
    /// again: as long as what is ready in the runtime brings some, and until enough wait. Each
    /// batch costs a flush, and a way to the database and back. Reports do not count: they wait
    /// for those who wait.
    pub(super) async fn gather(&self, answered: usize) {
        if answered < GATHERED_AFTER {
            return;
        }
        let mut waiting = self.callers();
        let enough = (answered + waiting) / ENOUGH;
        let mut in_vain = 0;
        for _ in 0..LOOKS {
            if waiting >= enough || in_vain == IN_VAIN {
                return;
            }
            yield_now().await;
            let now = self.callers();
            in_vain = if now > waiting { 0 } else { in_vain + 1 };
            waiting = now;
        }
    }

    /// How many commands wait that are no reports.
    fn callers(&self) -> usize {
        let waiting = self.lock();
        waiting.count - waiting.reports.len()
    }

    /// Whether there is another batch.
    pub(super) fn has_more(&self) -> bool {
        self.lock().count > 0
    }

    /// Whether a report or an outcome under this token still waits.
    pub(super) fn has_word(&self, id: &TaskId, token: Token) -> bool {
        let (waiting, key) = (self.lock(), (id.clone(), token));
        waiting.reports.contains_key(&key) || waiting.finishing.contains_key(&key)
    }

    /// Refuses all that wait.
    pub(super) fn refuse_all(&self, error: &Error) {
        loop {
            let batch = {
                let mut waiting = self.lock();
                if waiting.count == 0 { Vec::new() } else { waiting.take() }
            };
            if batch.is_empty() {
                return;
            }
            batch.into_iter().for_each(|command| command.refuse(error.clone()));
        }
    }

    /// Takes no more commands.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, command: Command) {
        let Command::Report { id, report, replies } = command else {
            self.count += 1;
            self.bytes += command.bytes();
            if let Command::Finish { id, finish, .. } = &command {
                *self.finishing.entry((id.clone(), finish.report.token)).or_default() += 1;
            }
            self.commands[class(&command) as usize].push_back(command);
            return;
        };
        // One place a lease: a newer report takes that of the older one.
        let key = (id.clone(), report.token);
        let newest = match self.reports.remove(&key) {
            Some(Command::Report { id, report: older, replies: mut all }) => {
                self.bytes = self.bytes.saturating_sub(report_bytes(&older));
                all.extend(replies);
                Command::Report { id, report: merged(older, report), replies: all }
            }
            _ => {
                self.count += 1;
                self.bytes += 256;
                self.reported.push_back(key.clone());
                Command::Report { id, report, replies }
            }
        };
        self.bytes += newest.bytes().saturating_sub(256);
        self.reports.insert(key, newest);
    }

    fn refusal(&self, class: Class) -> Option<Error> {
        if self.closed {
            return Some(Error::Unavailable {
                message: "the server is stopping: try another one, or again soon".into(),
                retry_after: Some(RETRY_AFTER),
            });
        }
        let (count, bytes) = match class {
            Class::Outcomes | Class::Reports | Class::Timers => return None,
            Class::Creates => (WAITING_COMMANDS, WAITING_BYTES / 4 * 3),
            Class::Updates | Class::Leases => (2 * WAITING_COMMANDS, WAITING_BYTES),
        };
        (self.count >= count || self.bytes >= bytes).then(|| Error::ResourceExhausted {
            message: "too many requests wait for the database: slow down and try again".into(),
            retry_after: Some(RETRY_AFTER),
        })
    }

    /// Takes from each class in turn, one command at a time, until the batch is
    /// full: whatever waits most, the others have their share.
    fn take(&mut self) -> Vec<Command> {
        let mut taken =
            self.commands.each_ref().map(|all| Vec::with_capacity(all.len().min(BATCH_ROWS)));
        let (mut rows, mut bytes, mut reports) = (0, 0, 0);
        let mut open = [true; 6];
        let others_wait = self.count > self.reports.len();
        self.first = (self.first + 1) % CLASSES.len();
        while open.contains(&true) {
            for offset in 0..CLASSES.len() {
                let class = (self.first + offset) % CLASSES.len();
                if !open[class] {
                    continue;
                }
                let Some((more_rows, more_bytes)) = self.size_of_next(class) else {
                    open[class] = false;
                    continue;
                };
                let is_report = CLASSES[class] == Class::Reports;
                let share = is_report && others_wait && reports >= BATCH_REPORTS;
                let fits = rows + more_rows <= BATCH_ROWS && bytes + more_bytes <= BATCH_BYTES;
                let fits = fits && !share;
                if rows > 0 && !fits {
                    open[class] = false;
                    continue;
                }
                reports += usize::from(is_report);
                rows += more_rows;
                bytes += more_bytes;
                taken[class].extend(self.pop(class));
                // An outcome takes along the report of its lease, which is applied before it.
                if let Some(Command::Finish { id, finish, .. }) = taken[class].last() {
                    let own = self.pop_report(&(id.clone(), finish.report.token));
                    taken[Class::Reports as usize].extend(own);
                }
            }
        }
        let mut batch = Vec::with_capacity(taken.iter().map(Vec::len).sum());
        taken.into_iter().for_each(|class| batch.extend(class));
        batch
    }

    fn size_of_next(&mut self, class: usize) -> Option<(usize, usize)> {
        let command = if CLASSES[class] == Class::Reports {
            // Those that an outcome took along have left their key behind.
            while self.reported.front().is_some_and(|key| !self.reports.contains_key(key)) {
                self.reported.pop_front();
            }
            self.reports.get(self.reported.front()?)?
        } else {
            self.commands[class].front()?
        };
        Some((command.rows(), command.bytes()))
    }

    fn pop(&mut self, class: usize) -> Option<Command> {
        if CLASSES[class] == Class::Reports {
            let key = self.reported.pop_front()?;
            return self.pop_report(&key);
        }
        let command = self.commands[class].pop_front()?;
        if let Command::Finish { id, finish, .. } = &command
            && let Entry::Occupied(mut waiting) =
                self.finishing.entry((id.clone(), finish.report.token))
        {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(command.bytes());
        Some(command)
    }

    fn pop_report(&mut self, key: &(TaskId, Token)) -> Option<Command> {
        let command = self.reports.remove(key)?;
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(command.bytes());
        Some(command)
    }
}

fn class(command: &Command) -> Class {
    match command {
        Command::Finish { .. } => Class::Outcomes,
        Command::Report { .. } => Class::Reports,
        Command::Update { .. } | Command::Delete { .. } | Command::PauseQueue { .. } => {
            Class::Updates
        }
        Command::Create { .. } => Class::Creates,
        Command::Expire { .. } | Command::MakeDue { .. } | Command::Purge { .. } => Class::Timers,
        Command::Lease { .. } => Class::Leases,
    }
}

/// The newer report, with a checkpoint that only the older one had.
fn merged(older: Report, newer: Report) -> Report {
    Report {
        token: newer.token,
        progress: newer.progress.or(older.progress),
        checkpoint: newer.checkpoint.or(older.checkpoint),
    }
}

fn report_bytes(report: &Report) -> usize {
    let progress = report
        .progress
        .as_ref()
        .map_or(0, |p| p.message.len() + p.details.as_ref().map_or(0, |d| d.encoded().len()));
    progress + report.checkpoint.as_ref().map_or(0, |c| c.encoded().len())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
