//! The worker inside the server. It leases tasks, runs them with its handlers and
//! says how they ended, through the same calls that remote workers make; it knows
//! neither the store nor any other mouth.
//!
//! - [`Runner`]: leases as much as there is room for, and gives back when it stops.
//! - [`Handlers`]: which kinds it serves: `demo`, programs, and yours.
//! - [`Handler`], [`Job`], [`Progress`], [`HandlerError`]: to write one.

mod attempt;
mod board;
mod bounds;
mod controls;
mod demo;
mod handler;
mod handlers;
mod job;
mod latest;
mod outbox;
mod program;
mod progress;
mod supervise;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use attempt::Wanted;
pub use handler::{Handler, HandlerError};
pub use handlers::Handlers;
pub use job::Job;
pub(crate) use program::glance::{Glance, Seen};
pub use program::template::Template;
pub use progress::Progress;

pub(crate) use self::board::{Assignment, Board};
use self::{attempt::Attempt, controls::Running};
use crate::{
    config::RunnerConfig,
    domain::{Finish, Name, Outcome, Report, limits},
    tasks::{LeaseRequest, Tasks},
};

/// How long one call waits for tasks.
const LONG_POLL: Duration = Duration::from_secs(30);
/// Between two calls that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The worker of this process. Dropping it kills what still runs.
#[derive(Debug)]
pub struct Runner {
    inner: Arc<Inner>,
}

struct Inner {
    board: Arc<dyn Board>,
    handlers: Handlers,
    config: RunnerConfig,
    worker: Name,
    running: Arc<Running>,
    /// No new leases.
    stopping: CancellationToken,
    /// A lease that is waited for is waited for no longer.
    polled: CancellationToken,
    /// Nothing goes on.
    over: CancellationToken,
    leasing: TaskTracker,
    attempts: TaskTracker,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("worker", &self.worker)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Begins to lease and to run. Must be called within a tokio runtime. With a
    /// concurrency of 0 or without handlers it never leases.
    pub fn start(tasks: Tasks, handlers: Handlers, config: RunnerConfig) -> Self {
        Self::on(Arc::new(tasks), handlers, config)
    }

    /// The same, with tasks from elsewhere.
    pub(crate) fn on(board: Arc<dyn Board>, handlers: Handlers, config: RunnerConfig) -> Self {
        let inner = Arc::new(Inner {
            board,
            handlers,
            config,
            worker: fresh_name(),
            running: Arc::default(),
            stopping: CancellationToken::new(),
            polled: CancellationToken::new(),
            over: CancellationToken::new(),
            leasing: TaskTracker::new(),
            attempts: TaskTracker::new(),
        });
        let keep = controls::keep(inner.board.clone(), inner.running.clone());
        let over = inner.over.clone();
        inner.attempts.spawn(async move { over.run_until_cancelled(keep).await });
        if inner.config.concurrency > 0 && inner.handlers.kinds().next().is_some() {
            inner.leasing.spawn(inner.clone().lease());
        }
        Self { inner }
    }

    /// Its name as a worker, new with every process.
    pub fn worker(&self) -> &Name {
        &self.inner.worker
    }

    /// Leases no more, tells every job to give its task back, and returns when all
    /// have, within `grace`. A program is stopped as for a cancel; what still runs
    /// when three quarters of the grace have gone is killed and given back all the
    /// same; what has not ended by then is logged.
    pub async fn stop(&self, grace: Duration) {
        self.inner.stop(grace).await;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.inner.end();
    }
}

impl Inner {
    /// Leases whenever there is room.
    async fn lease(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(self.config.concurrency));
        let mut pause = FIRST_PAUSE;
        while !self.stopping.is_cancelled() {
            let waited = self.stopping.run_until_cancelled(some_room(&room)).await;
            let Some(Some(permits)) = waited else { return };
            let lease = self.board.lease(self.request(permits.num_permits()));
            let Some(leased) = self.polled.run_until_cancelled(lease).await else { return };
            match leased {
                Ok(leases) => {
                    pause = FIRST_PAUSE;
                    self.take(leases, permits).await;
                }
                Err(error) => {
                    drop(permits);
                    // A server that drains says so before it stops its runner.
                    let waited = self.stopping.run_until_cancelled(sleep(pause)).await;
                    if waited.is_some() {
                        tracing::warn!(%error, "the runner could not lease tasks");
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn request(&self, max_tasks: usize) -> LeaseRequest {
        LeaseRequest {
            worker: self.worker.clone(),
            kinds: self.handlers.kinds().cloned().collect(),
            queues: Vec::new(),
            max_tasks,
            duration: self.config.lease,
            wait: LONG_POLL,
            by_runner: true,
        }
    }

    async fn take(self: &Arc<Self>, leases: Vec<Assignment>, mut permits: OwnedSemaphorePermit) {
        if self.stopping.is_cancelled() {
            return self.give_back(leases).await;
        }
        for assigned in leases {
            let Some(handler) = self.handlers.get(&assigned.kind).cloned() else {
                tracing::error!(task = %assigned.id, "was leased, but nothing here runs its kind");
                continue;
            };
            let permit = permits.split(1);
            let attempt = Arc::new(Attempt::new(assigned));
            let seat = self.running.add(attempt.clone());
            let (board, stop_grace) = (self.board.clone(), self.config.stop_grace);
            self.attempts.spawn(async move {
                let _held_to_the_end = (seat, permit);
                tracing::debug!(task = %attempt.id, attempt = attempt.number, "attempt begins");
                supervise::run(board, attempt, handler, stop_grace).await;
            });
        }
    }

    /// Leases that came while the runner stopped.
    async fn give_back(&self, leases: Vec<Assignment>) {
        let outcomes: Vec<_> = leases
            .into_iter()
            .map(|Assignment { id, token, .. }| {
                let report = Report { token, progress: None, checkpoint: None };
                (id, Finish { report, outcome: Outcome::Released })
            })
            .collect();
        if outcomes.is_empty() {
            return;
        }
        for error in self.board.finish(outcomes).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a lease could not be given back");
        }
    }

    async fn stop(&self, grace: Duration) {
        let start = Instant::now();
        // Those that are killed need a moment to fall.
        let end = start + grace * 15 / 16;
        self.stopping.cancel();
        self.release(start, grace);
        // A server that drains answers it at once; else it goes with its caller.
        self.leasing.close();
        if timeout(FIRST_PAUSE.min(grace / 4), self.leasing.wait()).await.is_err() {
            self.polled.cancel();
        }
        let ended = timeout_at(end, async {
            self.leasing.wait().await;
            // What had been leased just before is an attempt by now.
            self.release(start, grace);
            self.running.empty().await;
        })
        .await;
        if ended.is_err() {
            for attempt in self.running.all() {
                tracing::warn!(
                    task = %attempt.id,
                    kind = %attempt.kind,
                    "did not end within the grace: it is killed, and its lease will run out"
                );
            }
        }
        self.end();
        self.attempts.close();
        // One that blocks its thread does not fall at all.
        let _late = timeout_at(start + grace, self.attempts.wait()).await;
    }

    fn release(&self, start: Instant, grace: Duration) {
        for attempt in self.running.all() {
            attempt.release(start + grace * 3 / 4, start + grace * 7 / 8);
        }
    }

    /// Kills what runs, without a word to anybody.
    fn end(&self) {
        self.stopping.cancel();
        self.polled.cancel();
        self.over.cancel();
        for attempt in self.running.all() {
            attempt.lose();
        }
    }
}

/// Waits until there is room for one task, and takes all that there is.
async fn some_room(room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let mut permits = room.clone().acquire_owned().await.ok()?;
    let more = room.available_permits().min(limits::BATCH - 1);
    if let Ok(more) = room.clone().try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
        permits.merge(more);
    }
    Some(permits)
}

/// `runner-HOST-PID-RANDOM`: a new worker with every process, so that nobody takes
/// its leases for those of the one before.
fn fresh_name() -> Name {
    let host = rustix::system::uname();
    let host: String = host
        .nodename()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '-' })
        .take(64)
        .collect();
    let random: u32 = rand::random();
    let name = format!("runner-{host}-{}-{random:08x}", std::process::id());
    Name::new(&name).unwrap_or_else(|| unreachable!("{name} keeps to the rule"))
}
