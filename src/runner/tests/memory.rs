//! Tasks that live in memory, under the real state table, in the place of the
//! engine: so that time can be paused and the store can be made to fail.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{
    domain::{
        Context, Error, Event, Finish, Grant, KindDefaults, Lease, Name, NewTask, Object, Patch,
        Report, RetryPolicy, State, Task, TaskId, Timestamp, Token, apply, create,
    },
    runner::{
        attempt::Attempt,
        board::{Assignment, Board},
    },
    tasks::{Answer, LeaseRequest, Leased},
};

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn object(json: &Json) -> Object {
    Object::from_json(json.as_object().unwrap())
}

pub(super) fn new_task(id: &str, kind: &str, input: &Json) -> NewTask {
    NewTask {
        id: name(id),
        kind: name(kind),
        input: Some(object(input)),
        queue: None,
        priority: 0,
        labels: BTreeMap::new(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    }
}

/// An attempt in the hands of a test instead of a runner's.
pub(in crate::runner) fn attempt(input: &Json, checkpoint: Option<&Json>) -> Arc<Attempt> {
    let now = crate::clock::now();
    let mut task = create(&new_task("t", "k", input), now);
    task.checkpoint = checkpoint.map(object);
    let lease = Event::Lease(Grant {
        worker: name("w"),
        token: Token([7; 16]),
        duration: Duration::from_secs(30),
        by_runner: true,
    });
    let task = apply(&task, &lease, &context(now)).unwrap().unwrap();
    let leased = Leased { task: task.into(), input: Some(object(input)) };
    Arc::new(Attempt::new(Assignment::of(leased).unwrap()))
}

fn context(now: Timestamp) -> Context<'static> {
    const KIND: KindDefaults = KindDefaults {
        max_attempts: 5,
        initial_backoff: Duration::from_secs(1_000),
        max_backoff: Duration::from_secs(1_000),
        backoff_multiplier: 1.0,
        attempt_timeout: None,
    };
    Context { now, kind: &KIND, jitter: 1.0, input: None }
}

/// Tasks in memory, whose store can be made to fail.
pub(super) struct Memory {
    began: Instant,
    tasks: Mutex<HashMap<TaskId, (Task, Object)>>,
    fault: Mutex<Option<Error>>,
    news: Notify,
    pub(super) reports: AtomicUsize,
    tokens: AtomicUsize,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            tasks: Mutex::default(),
            fault: Mutex::default(),
            news: Notify::new(),
            reports: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        // Another clock than the runner's machine has.
        Timestamp::from_micros(0).plus(self.began.elapsed())
    }

    pub(super) fn create(&self, new: &NewTask) {
        let task = create(new, self.now());
        let input = new.input.clone().unwrap_or_default();
        self.tasks.lock().unwrap().insert(new.id.clone(), (task, input));
        self.news.notify_waiters();
    }

    pub(super) fn demo(&self, id: &str, input: &Json) {
        self.create(&new_task(id, "demo", input));
    }

    pub(super) fn event(&self, id: &str, event: &Event) -> Result<Task, Error> {
        let mut tasks = self.tasks.lock().unwrap();
        let (task, _) = tasks.get_mut(id).ok_or_else(|| Error::no_task(id))?;
        if let Some(next) = apply(task, event, &context(self.now()))? {
            *task = next;
            self.news.notify_waiters();
        }
        Ok(task.clone())
    }

    pub(super) fn ask(&self, id: &str, state: State) {
        let patch = Patch { state: Some(state), ..Patch::default() };
        self.event(id, &Event::Update(Box::new(patch))).unwrap();
    }

    pub(super) fn fail(&self, fault: Option<Error>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Option<Error> {
        self.fault.lock().unwrap().clone()
    }

    pub(super) fn task(&self, id: &str) -> Task {
        self.tasks.lock().unwrap()[id].0.clone()
    }

    fn lease_now(&self, request: &LeaseRequest) -> Vec<Leased> {
        let ready: Vec<(TaskId, Object)> = {
            let tasks = self.tasks.lock().unwrap();
            tasks
                .values()
                .filter(|(task, _)| {
                    task.state() == State::Queued
                        && task.ready_time <= self.now()
                        && request.kinds.contains(&task.kind)
                })
                .take(request.max_tasks)
                .map(|(task, input)| (task.id.clone(), input.clone()))
                .collect()
        };
        ready
            .into_iter()
            .map(|(id, input)| {
                let number = self.tokens.fetch_add(1, SeqCst) as u128;
                let grant = Grant {
                    worker: request.worker.clone(),
                    token: Token(number.to_be_bytes()),
                    duration: request.duration,
                    by_runner: request.by_runner,
                };
                Leased {
                    task: self.event(&id, &Event::Lease(grant)).unwrap().into(),
                    input: Some(input),
                }
            })
            .collect()
    }

    /// Waits for a state of `id` that `holds`.
    pub(super) async fn until(&self, id: &str, holds: impl Fn(&Task) -> bool) -> Task {
        let wait = async {
            loop {
                let news = self.news.notified();
                let task = self.task(id);
                if holds(&task) {
                    return task;
                }
                let _news = timeout(Duration::from_millis(50), news).await;
            }
        };
        timeout(Duration::from_secs(100_000), wait).await.expect("it comes to that")
    }

    pub(super) async fn until_state(&self, id: &str, state: State) -> Task {
        self.until(id, |task| task.state() == state).await
    }
}

/// The seam, over memory.
pub(super) struct Seam(pub(super) Arc<Memory>);

impl Board for Seam {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Assignment>, Error>> {
        Box::pin(async move {
            let end = Instant::now() + request.wait;
            loop {
                let news = self.0.news.notified();
                if let Some(fault) = self.0.fault() {
                    return Err(fault);
                }
                let leases = self.0.lease_now(&request);
                if !leases.is_empty() || Instant::now() >= end {
                    return Ok(leases.into_iter().filter_map(Assignment::of).collect());
                }
                let _news = timeout(Duration::from_millis(100), news).await;
            }
        })
    }

    fn report(&self, reports: Vec<(TaskId, Report)>) -> BoxFuture<'_, Vec<Result<Answer, Error>>> {
        let taken = |(id, report): (TaskId, Report)| {
            if report.progress.is_some() {
                self.0.reports.fetch_add(1, SeqCst);
            }
            if let Some(fault) = self.0.fault() {
                return Err(fault);
            }
            let task = self.0.event(&id, &Event::Report(report))?;
            let &Lease { expire_time, limit, .. } = task.lease().unwrap();
            Ok(Answer { wanted: task.state(), expire_time, limit })
        };
        let answers = reports.into_iter().map(taken).collect();
        Box::pin(async move {
            tokio::task::yield_now().await;
            answers
        })
    }

    fn finish(&self, outcomes: Vec<(TaskId, Finish)>) -> BoxFuture<'_, Vec<Result<(), Error>>> {
        let taken = |(id, finish): (TaskId, Finish)| match self.0.fault() {
            Some(fault) => Err(fault),
            None => self.0.event(&id, &Event::Finish(Box::new(finish))).map(|_| ()),
        };
        let answers = outcomes.into_iter().map(taken).collect();
        Box::pin(async move { answers })
    }
}
