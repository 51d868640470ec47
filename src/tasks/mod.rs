//! The only writer. Every change of a task is a command that comes through here:
//! queued, applied with all others that wait in one transaction, and answered
//! once that stands. Readers and watchers come through here too, so that the
//! mouths need to know nothing else.

mod assign;
mod batch;
mod command;
mod committer;
mod handout;
mod queue;
mod timers;
mod waiters;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

pub use command::{Answer, Create, LeaseRequest, Leased};
use futures_util::future::join_all;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{EXTERNAL, Error, Finish, KindDefaults, Name, Patch, Report, TaskId},
    hub::{Full, Hub, Snapshot},
    store::{Lane, ListQuery, Page, Reader, StoreError, Writer},
    watch::{Watch, WatchAll, WatchAllOptions, WatchOptions},
};
use command::{Command, Creation};

/// How often a waiting worker looks by itself: heals a wake-up that was lost.
const SLOW_LOOK: Duration = Duration::from_secs(20);

/// What the rules of this server are.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What a kind gives its tasks where it says nothing else.
    pub defaults: KindDefaults,
    /// What is configured of each kind.
    pub kinds: HashMap<Name, KindSettings>,
    /// Live leases that a queue may have at most.
    pub queue_concurrency: HashMap<Name, u64>,
    /// Accept kinds that nobody has ever served.
    pub accept_unknown: bool,
    /// How long ended tasks are kept that name nothing else.
    pub retention: Duration,
}

/// The rules of one kind.
#[derive(Clone, Debug, Default)]
pub struct KindSettings {
    /// What it gives its tasks.
    pub defaults: KindDefaults,
    /// Live leases that it may have at most.
    pub concurrency: Option<u64>,
    /// Served by this server itself: built in, a program, a handler.
    pub known: bool,
}

impl Settings {
    fn kind(&self, kind: &Name) -> &KindDefaults {
        self.kinds.get(kind).map_or(&self.defaults, |kind| &kind.defaults)
    }

    fn kind_concurrency(&self, kind: &Name) -> Option<u64> {
        self.kinds.get(kind).and_then(|kind| kind.concurrency)
    }

    fn is_limited(&self, lane: &Lane) -> bool {
        self.kind_concurrency(&lane.kind).is_some()
            || self.queue_concurrency.contains_key(&lane.queue)
    }
}

/// What the committer, the timers and all handles share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    queue: Arc<queue::Queue>,
    hub: Hub,
    waiters: waiters::Waiters,
    deadlines: timers::Deadlines,
    /// Kinds that remote workers have served.
    served: RwLock<HashSet<Name>>,
}

impl Shared {
    fn is_known(&self, kind: &Name) -> bool {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        kind.as_str() == EXTERNAL
            || self.settings.kinds.get(kind).is_some_and(|kind| kind.known)
            || served.contains(kind)
    }

    fn remember_served(&self, kinds: Vec<Name>) {
        if !kinds.is_empty() {
            self.served.write().unwrap_or_else(PoisonError::into_inner).extend(kinds);
        }
    }

    fn known_kinds(&self) -> Vec<String> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let configured = self.settings.kinds.iter().filter(|(_, kind)| kind.known);
        let mut names: Vec<String> =
            configured.map(|(name, _)| name).chain(&*served).map(ToString::to_string).collect();
        names.push(EXTERNAL.to_owned());
        names.sort_unstable();
        names.dedup();
        names
    }
}

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
        let shared = Arc::new(Shared {
            settings,
            queue: Arc::default(),
            hub,
            waiters: waiters::Waiters::default(),
            deadlines: timers::Deadlines::default(),
            served: RwLock::new(served.into_iter().collect()),
        });
        let committer = tokio::spawn(committer::run(writer, Arc::clone(&shared)));
        if reader.embedded() {
            timers::end_orphans(&shared, &reader).await?;
        }
        let stop_timers = CancellationToken::new();
        let timers =
            tokio::spawn(timers::run(Arc::clone(&shared), reader.clone(), stop_timers.clone()));
        let running = Mutex::new(vec![timers, committer]);
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
    /// ALREADY_EXISTS; INVALID_ARGUMENT for an unknown kind or a request id of
    /// another request; NOT_FOUND where the task of a repeated request is gone.
    pub async fn create(&self, create: Create) -> Result<Full, Error> {
        let mut created = self.create_batch(vec![create]).await?;
        created.pop().ok_or(Error::Internal)
    }

    /// Creates all of them or none. In their order.
    ///
    /// # Errors
    ///
    /// As for one.
    pub async fn create_batch(&self, creates: Vec<Create>) -> Result<Vec<Full>, Error> {
        for create in &creates {
            self.check_kind(create).await?;
        }
        let creations = self.ask(|reply| Command::Create { creates, reply }).await?;
        let mut all = Vec::with_capacity(creations.len());
        for creation in creations {
            all.push(match creation {
                Creation::New(full) => full,
                Creation::Existing(id) => self.get(&id, true).await?,
            });
        }
        Ok(all)
    }

    async fn check_kind(&self, create: &Create) -> Result<(), Error> {
        let kind = &create.new.kind;
        if self.shared.settings.accept_unknown || self.shared.is_known(kind) {
            return Ok(());
        }
        // A worker may have made itself known at another replica.
        if !self.reader.embedded() {
            let served = self.reader.served_kinds().await.map_err(|error| logged(&error))?;
            self.shared.remember_served(served);
            if self.shared.is_known(kind) {
                return Ok(());
            }
        }
        Err(Error::invalid(
            format!("{}task.kind", create.path),
            format!(
                "nothing has ever served the kind \"{kind}\": known are {}; start a worker for \
                 it, or set kinds.accept_unknown",
                self.shared.known_kinds().join(", ")
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
        let patch = Box::new(patch);
        self.ask(|reply| Command::Update { id, patch, reply }).await
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
        let waiter = self.shared.waiters.register(&request.kinds, &request.queues);
        loop {
            waiter.look();
            let asked = request.clone();
            let handout = self.ask(|reply| Command::Lease { request: asked, reply }).await?;
            let leased = handout.take();
            if !leased.is_empty() || Instant::now() >= until {
                return Ok(leased);
            }
            let slow_look = Instant::now() + SLOW_LOOK.mul_f64(rand::random_range(0.75..1.25));
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(until.min(slow_look)) => {}
                () = self.draining.cancelled() => return Ok(Vec::new()),
            }
            if Instant::now() >= until {
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
fn logged(error: &StoreError) -> Error {
    let public = error.public();
    let chain: Vec<String> =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect();
    tracing::error!(error = %chain.join(": "), "the database refused");
    public
}
