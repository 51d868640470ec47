//! The only writer. Every change of a task is a command that comes through here:
//! queued, applied with all others that wait in one transaction, and answered
//! once that stands. Readers and watchers come through here too, so that the
//! mouths need to know nothing else.

mod assign;
mod awake;
mod batch;
mod census;
mod command;
mod committed;
mod committer;
mod feed;
mod fronts;
mod handout;
mod kinds;
mod later;
mod notice;
mod queue;
mod settings;
mod shared;
mod timers;
mod waiters;
mod wakes;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use census::{KindCensus, QueueCensus};
pub use command::{Answer, Create, LeaseRequest, Leased};
use futures_util::future::join_all;
pub use settings::{KindSettings, Settings, Source};
use tokio::{
    sync::{broadcast, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Error, Finish, Name, Patch, Report, TaskId, limits},
    hub::{Full, Hub, Snapshot},
    store::{AttemptPage, ListQuery, Page, Reader, StoreError, Writer},
    watch::{Watch, WatchAll, WatchAllOptions, WatchOptions},
};
use awake::Awake;
use command::Command;
use handout::Handout;
use shared::Shared;

/// How often a waiting worker looks by itself: heals a wake-up that was lost.
const SLOW_LOOK: Duration = Duration::from_secs(20);

/// The way to tasks, for every mouth. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
    reader: Reader,
    draining: CancellationToken,
    background: Arc<Background>,
}

/// What runs behind the handles.
#[derive(Debug)]
struct Background {
    stop_timers: CancellationToken,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    /// Starts the committer and its timers. On an embedded database the attempts
    /// that the process before ran in itself are ended first.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn start(
        writer: Writer,
        reader: Reader,
        hub: Hub,
        settings: Settings,
    ) -> Result<Self, Error> {
        let served = reader.served_kinds().await.map_err(|error| logged(&error))?;
        let feed = writer.feed().await.map_err(|error| logged(&error))?;
        let shared = Arc::new(Shared::new(settings, hub, served, feed.is_some()));
        let committer = tokio::spawn(committer::run(writer, Arc::clone(&shared)));
        if reader.embedded() {
            timers::end_orphans(&shared, &reader).await?;
        }
        let stop_timers = CancellationToken::new();
        let timers =
            tokio::spawn(timers::run(Arc::clone(&shared), reader.clone(), stop_timers.clone()));
        let waker = tokio::spawn({
            let (shared, stop) = (Arc::clone(&shared), stop_timers.clone());
            async move {
                stop.run_until_cancelled(shared.later.run(&shared.waiters)).await.unwrap_or(())
            }
        });
        let purger =
            tokio::spawn(timers::purge(Arc::clone(&shared), reader.clone(), stop_timers.clone()));
        let mut running = vec![timers, purger, waker, committer];
        for _ in 0..Awake::keepers() {
            let (shared, stop) = (Arc::clone(&shared), stop_timers.clone());
            running.push(tokio::spawn(async move {
                stop.run_until_cancelled(shared.awake.keep()).await;
            }));
        }
        if let Some(feed) = feed {
            running.push(tokio::spawn(feed::run(Arc::clone(&shared), feed, stop_timers.clone())));
        }
        let running = Mutex::new(running);
        let background = Arc::new(Background { stop_timers, running });
        Ok(Self { shared, reader, draining: CancellationToken::new(), background })
    }

    /// Queues what `command` makes with a reply, and waits for it.
    async fn ask<T>(&self, command: impl FnOnce(command::Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(command(reply));
        // Without an answer the committer itself is gone.
        answer.await.unwrap_or(Err(Error::Internal))
    }

    /// Creates a task; durable when it returns. A repeated request gives the task
    /// that the first one created, as it is now.
    ///
    /// # Errors
    ///
    /// ALREADY_EXISTS; INVALID_ARGUMENT for an unknown kind, a request id of another
    /// request, or an id twice in a batch; NOT_FOUND where the task of a repeated request is gone.
    pub fn create(&self, create: Create) -> impl Future<Output = Result<Full, Error>> + Send {
        let created = self.create_batch(vec![create]);
        async { created.await?.pop().ok_or(Error::Internal) }
    }

    /// Creates all of them or none. In their order.
    ///
    /// # Errors
    ///
    /// As for one.
    pub async fn create_batch(&self, creates: Vec<Create>) -> Result<Vec<Full>, Error> {
        let Shared { settings, kinds, .. } = &*self.shared;
        for create in &creates {
            if !settings.accept_unknown && !kinds.is_known(settings, &create.new.kind) {
                // Seldom, and larger than all that every create keeps while it waits.
                Box::pin(self.check_kind(create)).await?;
            }
        }
        self.ask(|reply| Command::Create { creates, reply }).await
    }

    /// Of one that is not known here.
    async fn check_kind(&self, create: &Create) -> Result<(), Error> {
        let kind = &create.new.kind;
        let Shared { settings, kinds, .. } = &*self.shared;
        // A worker may have made itself known at another replica.
        if !self.reader.embedded() {
            let served = self.reader.served_kinds().await.map_err(|error| logged(&error))?;
            kinds.wrote(served);
            if kinds.is_known(settings, kind) {
                return Ok(());
            }
        }
        let known = kinds.known(settings);
        let near = known.iter().find(|known| strsim::damerau_levenshtein(known, kind) <= 2);
        let known_are = near
            .map_or("known are".to_owned(), |near| format!("did you mean \"{near}\"? Known are"));
        Err(Error::invalid(
            format!("{}task.kind", create.path),
            format!(
                "nothing has ever served the kind \"{kind}\": {known_are} {}; start a \
                 worker for it, or set kinds.accept_unknown",
                known.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
            ),
        ))
    }

    /// Changes a task.
    ///
    /// # Errors
    ///
    /// NOT_FOUND; ABORTED where `revision` does not hold; FAILED_PRECONDITION
    /// where the state table does not allow it; INVALID_ARGUMENT for what can
    /// never be changed.
    pub async fn update(&self, id: TaskId, patch: Patch) -> Result<Full, Error> {
        // Read before: it never changes, the committer has no need of it, and what stands
        // must not look refused because it could not be read.
        let input = self.reader.input(&id).await.map_err(|error| logged(&error))?;
        let patch = Box::new(patch);
        let updated = self.ask(|reply| Command::Update { id, patch, reply }).await?;
        Ok(Full { input, ..updated })
    }

    /// Removes an ended task.
    ///
    /// # Errors
    ///
    /// NOT_FOUND, unless that is allowed; FAILED_PRECONDITION while it lives.
    pub async fn delete(&self, id: TaskId, allow_missing: bool) -> Result<(), Error> {
        self.ask(|reply| Command::Delete { id, allow_missing, reply }).await
    }

    /// Hands out tasks; waits for some where there are none. Empty when the wait is
    /// over, and when the server begins to drain while it waits.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE while the server drains or its database is away.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, Error> {
        if self.draining.is_cancelled() {
            return Err(draining());
        }
        let until = Instant::now() + request.wait;
        let waiter = self.shared.waiters.register(&request);
        loop {
            waiter.look();
            let asked = request.clone();
            let handout = self.ask(|reply| Command::Lease { request: asked, reply }).await;
            let handout = handout.inspect_err(|_| waiter.pass_on())?;
            if handout.more {
                continue;
            }
            let leased = handout.take();
            if !leased.is_empty() || Instant::now() >= until {
                return Ok(leased);
            }
            let Some(mut offer) = waiter.wait() else { continue };
            let slow_look = Instant::now() + SLOW_LOOK.mul_f64(rand::random_range(0.75..1.25));
            let offered = tokio::select! {
                offered = &mut offer => offered.ok(),
                () = tokio::time::sleep_until(until.min(slow_look)) => waiter.leave(offer).await,
                () = self.draining.cancelled() => waiter.leave(offer).await,
            };
            let leased = offered.map(Handout::take).unwrap_or_default();
            if !leased.is_empty() {
                waiter.served();
                return Ok(leased);
            }
            if Instant::now() >= until || self.draining.is_cancelled() {
                // Whoever was woken for nothing passes it on.
                return Ok(Vec::new());
            }
        }
    }

    /// Takes reports, each by itself, in their order.
    pub async fn report(&self, reports: Vec<(TaskId, Report)>) -> Vec<Result<Answer, Error>> {
        let answers = reports.into_iter().map(|(id, report)| {
            let (reply, answer) = oneshot::channel();
            self.shared.queue.push(Command::Report { id, report, replies: vec![reply] });
            answer
        });
        let answers: Vec<_> = answers.collect();
        join_all(answers).await.into_iter().map(|a| a.unwrap_or(Err(Error::Internal))).collect()
    }

    /// Tells of tasks in the hands of runners of which something else is wanted from now
    /// on, whichever replica was asked: a report is answered with what.
    pub fn steered(&self) -> broadcast::Receiver<TaskId> {
        self.shared.steered.subscribe()
    }

    /// Takes outcomes, each by itself, in their order.
    pub async fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> Vec<Result<(), Error>> {
        let answers = outcomes.into_iter().map(|(id, finish)| {
            let (reply, answer) = oneshot::channel();
            self.shared.queue.push(Command::Finish { id, finish: Box::new(finish), reply });
            answer
        });
        let answers: Vec<_> = answers.collect();
        join_all(answers).await.into_iter().map(|a| a.unwrap_or(Err(Error::Internal))).collect()
    }

    /// Reads one task, with its input where that is asked for.
    ///
    /// # Errors
    ///
    /// NOT_FOUND; UNAVAILABLE where the database is away.
    pub async fn get(&self, id: &TaskId, with_input: bool) -> Result<Full, Error> {
        let stored = self.reader.task(id, with_input).await.map_err(|error| logged(&error))?;
        let stored = stored.ok_or_else(|| Error::no_task(id))?;
        Ok(Full { task: Arc::new(Snapshot::new(stored.task)), input: stored.input })
    }

    /// The attempts of a task behind the one numbered `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// NOT_FOUND; UNAVAILABLE where the database is away.
    pub async fn attempts(
        &self,
        id: &TaskId,
        after: i64,
        limit: usize,
    ) -> Result<AttemptPage, Error> {
        let page = self.reader.attempts(id, after, limit, limits::PAGE_BYTES).await;
        let page = page.map_err(|error| logged(&error))?;
        page.ok_or_else(|| Error::no_task(id))
    }

    /// Reads a page of tasks.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the database is away.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, Error> {
        self.reader.list(query).await.map_err(|error| logged(&error))
    }

    /// Watches one task.
    ///
    /// # Errors
    ///
    /// See [`Watch::begin`].
    pub async fn watch(&self, id: TaskId, options: WatchOptions) -> Result<Watch, Error> {
        if self.draining.is_cancelled() {
            return Err(draining());
        }
        Watch::begin(&self.shared.hub, &self.reader, id, options).await
    }

    /// Watches a filter.
    ///
    /// # Errors
    ///
    /// See [`WatchAll::begin`].
    pub async fn watch_all(&self, options: WatchAllOptions) -> Result<WatchAll, Error> {
        if self.draining.is_cancelled() {
            return Err(draining());
        }
        WatchAll::begin(&self.shared.hub, &self.reader, options).await
    }

    /// Begins to drain: new leases and watches are UNAVAILABLE, waiting leases
    /// answer empty, open watches end with UNAVAILABLE. All else is served on.
    pub fn drain(&self) {
        self.draining.cancel();
        self.shared.hub.close();
    }

    /// Stops when all that is queued is committed, and waits for it.
    pub async fn stop(&self) {
        self.background.stop_timers.cancel();
        self.shared.queue.close();
        let running = {
            let mut running =
                self.background.running.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        for handle in running {
            if let Err(error) = handle.await {
                tracing::error!(%error, "a background task of the store failed");
            }
        }
    }
}

fn draining() -> Error {
    Error::Unavailable {
        message: "the server is stopping: try another one, or again soon".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

/// What the caller is told of a fault of the store; the chain goes to the log.
fn logged(store: &StoreError) -> Error {
    let public = store.public();
    let chain: Vec<String> =
        std::iter::successors(Some(store as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect();
    let error = chain.join(": ");
    if matches!(store, StoreError::Unavailable(_)) {
        tracing::warn!(%error, "callers are told to try again");
    } else {
        tracing::error!(%error, "the database refused");
    }
    public
}
