//! The runner against tasks that live in memory, under the real state table. Time
//! is paused: it moves on by itself when everybody waits.
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
use serde_json::{Value as Json, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    Handlers, Job, Progress, Runner, Wanted, attempt::Attempt, board::Board, handler::HandlerError,
};
use crate::{
    config::RunnerConfig,
    domain::{
        Code, Context, Error, Event, Expiry, Finish, Grant, KindDefaults, Lease, Name, NewTask,
        Object, Patch, Report, RetryPolicy, State, Task, TaskId, Timestamp, Token, apply, create,
    },
    tasks::{Answer, LeaseRequest, Leased},
};

type Ended = Result<Json, HandlerError>;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn object(json: &Json) -> Object {
    Object::from_json(json.as_object().unwrap())
}

fn new_task(id: &str, kind: &str, input: &Json) -> NewTask {
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
pub(super) fn attempt(input: &Json, checkpoint: Option<&Json>) -> Arc<Attempt> {
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
    Arc::new(Attempt::new(Leased { task, input: Some(object(input)) }).unwrap())
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
struct Memory {
    began: Instant,
    tasks: Mutex<HashMap<TaskId, (Task, Object)>>,
    fault: Mutex<Option<Error>>,
    news: Notify,
    reports: AtomicUsize,
    tokens: AtomicUsize,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            tasks: Mutex::default(),
            fault: Mutex::default(),
            news: Notify::new(),
            reports: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> Timestamp {
        // Another clock than the runner's machine has.
        Timestamp::from_micros(0).plus(self.began.elapsed())
    }

    fn create(&self, new: &NewTask) {
        let task = create(new, self.now());
        let input = new.input.clone().unwrap_or_default();
        self.tasks.lock().unwrap().insert(new.id.clone(), (task, input));
        self.news.notify_waiters();
    }

    fn demo(&self, id: &str, input: &Json) {
        self.create(&new_task(id, "demo", input));
    }

    fn event(&self, id: &str, event: &Event) -> Result<Task, Error> {
        let mut tasks = self.tasks.lock().unwrap();
        let (task, _) = tasks.get_mut(id).ok_or_else(|| Error::no_task(id))?;
        if let Some(next) = apply(task, event, &context(self.now()))? {
            *task = next;
            self.news.notify_waiters();
        }
        Ok(task.clone())
    }

    fn ask(&self, id: &str, state: State) {
        let patch = Patch { state: Some(state), ..Patch::default() };
        self.event(id, &Event::Update(Box::new(patch))).unwrap();
    }

    fn fail(&self, fault: Option<Error>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Option<Error> {
        self.fault.lock().unwrap().clone()
    }

    fn task(&self, id: &str) -> Task {
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
                Leased { task: self.event(&id, &Event::Lease(grant)).unwrap(), input: Some(input) }
            })
            .collect()
    }

    /// Waits for a state of `id` that `holds`.
    async fn until(&self, id: &str, holds: impl Fn(&Task) -> bool) -> Task {
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

    async fn until_state(&self, id: &str, state: State) -> Task {
        self.until(id, |task| task.state() == state).await
    }
}

/// The seam, over memory.
struct Seam(Arc<Memory>);

impl Board for Seam {
    fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Vec<Leased>, Error>> {
        Box::pin(async move {
            let end = Instant::now() + request.wait;
            loop {
                let news = self.0.news.notified();
                if let Some(fault) = self.0.fault() {
                    return Err(fault);
                }
                let leases = self.0.lease_now(&request);
                if !leases.is_empty() || Instant::now() >= end {
                    return Ok(leases);
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

fn config(concurrency: usize) -> RunnerConfig {
    RunnerConfig { concurrency, lease: Duration::from_secs(30), stop_grace: Duration::from_secs(5) }
}

fn runner(memory: &Arc<Memory>, handlers: Handlers) -> Runner {
    Runner::on(Arc::new(Seam(memory.clone())), handlers, config(8))
}

fn with_demo() -> Handlers {
    Handlers::none().with("demo", super::demo::run).unwrap()
}

fn unavailable() -> Option<Error> {
    Some(Error::Unavailable { message: "gone for now".into(), retry_after: None })
}

fn step(task: &Task) -> Option<Json> {
    task.checkpoint.as_ref().and_then(|saved| saved.to_json().get("step").cloned())
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Serves `stubborn`: reports once, and never ends or listens.
fn stubborn() -> (Handlers, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let handler = move |job: Job| {
        let held = Dropped(count.clone());
        async move {
            let _held = held;
            job.report(Progress::doing("nothing"));
            std::future::pending::<Ended>().await
        }
    };
    (Handlers::none().with("stubborn", handler).unwrap(), dropped)
}

#[tokio::test(start_paused = true)]
async fn the_demo_runs_to_its_end() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    memory.demo("a", &json!({}));
    let task = memory.until_state("a", State::Succeeded).await;
    assert_eq!(task.result().unwrap().to_json(), json!({"steps": 10}));
    let report = task.progress.clone().unwrap().report;
    assert_eq!((report.percent, report.unit.as_str()), (Some(100.0), "steps"));
    assert_eq!(report.message, "step 10 of 10");
    assert_eq!(step(&task), Some(json!(10)));
    assert!(task.end_time().unwrap().since(task.start_time.unwrap()) >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_demo_refuses_what_makes_no_sense() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    for (n, (key, value)) in [
        ("steps", json!(0)),
        ("steps", json!(2.5)),
        ("steps", json!("3")),
        ("steps", json!(1e12)),
        ("step_seconds", json!(-1)),
        ("step_seconds", json!("1")),
        ("step_seconds", json!(1e9)),
        ("fail_at", json!(11)),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("t{n}");
        memory.demo(&id, &json!({ key: value }));
        let task = memory.until_state(&id, State::Failed).await;
        let error = task.error.unwrap();
        assert_eq!(error.code, Code::INVALID_ARGUMENT);
        assert!(error.message.contains(key), "{}", error.message);
    }
}

#[tokio::test(start_paused = true)]
async fn the_demo_goes_on_from_its_checkpoint_and_fails_where_it_is_told() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    memory.demo("a", &json!({"steps": 4, "step_seconds": 1, "fail_at": 3}));
    let first = memory.until("a", |task| task.attempt == 2).await;
    assert_eq!(step(&first), Some(json!(2)));
    let second = memory.until("a", |task| task.attempt == 3).await;
    assert_eq!(step(&second), Some(json!(2)));
    // One second of work, where the first attempt had three.
    let worked = second.update_time.since(second.start_time.unwrap());
    assert!(worked < Duration::from_millis(1_500), "{worked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_the_work_and_a_cancel_ends_it_within_the_step() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    memory.demo("a", &json!({"steps": 3, "step_seconds": 100}));
    memory.until_state("a", State::Running).await;
    sleep(Duration::from_secs(50)).await;
    memory.ask("a", State::Paused);
    sleep(Duration::from_secs(1_000)).await;
    assert_eq!(step(&memory.task("a")), None);
    memory.ask("a", State::Running);
    let task = memory.until("a", |task| step(task).is_some()).await;
    let spent = memory.now().since(task.start_time.unwrap());
    assert!((1_099..1_102).contains(&spent.as_secs()), "{spent:?}");
    let asked = memory.now();
    memory.ask("a", State::Cancelled);
    let task = memory.until_state("a", State::Cancelled).await;
    assert!(task.end_time().unwrap().since(asked) < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may() {
    let memory = Memory::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (now.clone(), most.clone());
    let handler = move |_: Job| {
        let (running, peak) = (running.clone(), peak.clone());
        async move {
            peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, SeqCst);
            Ok(Json::Null)
        }
    };
    let handlers = Handlers::none().with("k", handler).unwrap();
    for n in 0..10 {
        memory.create(&new_task(&format!("t{n}"), "k", &json!({})));
    }
    let _runner = Runner::on(Arc::new(Seam(memory.clone())), handlers, config(3));
    for n in 0..10 {
        memory.until_state(&format!("t{n}"), State::Succeeded).await;
    }
    assert_eq!((most.load(SeqCst), now.load(SeqCst)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failed_attempt() {
    let memory = Memory::new();
    let handler = |job: Job| async move {
        assert_ne!(job.attempt(), 1, "broken");
        Ok::<_, HandlerError>(Json::Null)
    };
    let _runner = runner(&memory, Handlers::none().with("k", handler).unwrap());
    memory.create(&new_task("a", "k", &json!({})));
    let task = memory.until("a", |task| task.attempt == 2).await;
    let error = task.error.unwrap();
    assert_eq!(error.code, Code::INTERNAL);
    assert!(error.message.contains("broken"), "{}", error.message);
    memory.until_state("a", State::Succeeded).await;
}

#[tokio::test(start_paused = true)]
async fn reports_never_queue_and_the_last_ones_count() {
    let memory = Memory::new();
    let handler = |job: Job| async move {
        job.save_checkpoint(&json!({"step": 1}))?;
        for n in 0..10_000 {
            job.report(Progress::units(n + 1, 10_000, "rows"));
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        job.flush().await;
        job.save_checkpoint(&json!({"step": 2}))?;
        job.report(Progress::percent(50.0).message("the last word"));
        Ok::<_, HandlerError>(json!(1))
    };
    let _runner = runner(&memory, Handlers::none().with("k", handler).unwrap());
    memory.create(&new_task("a", "k", &json!({})));
    let task = memory.until_state("a", State::Succeeded).await;
    assert_eq!(step(&task), Some(json!(2)));
    assert_eq!(task.progress.unwrap().report.message, "the last word");
    assert!(memory.reports.load(SeqCst) < 1_000);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_timeout_but_time_paused_does_not_count() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    let mut new = new_task("a", "demo", &json!({"steps": 2, "step_seconds": 3_600}));
    new.attempt_timeout = Some(Duration::from_secs(60));
    memory.create(&new);
    memory.until_state("a", State::Running).await;
    memory.ask("a", State::Paused);
    sleep(Duration::from_secs(500)).await;
    memory.ask("a", State::Running);
    let task = memory.until("a", |task| task.attempt == 2).await;
    assert_eq!(task.error.unwrap().code, Code::DEADLINE_EXCEEDED);
    let spent = task.update_time.since(task.start_time.unwrap());
    assert!((559..563).contains(&spent.as_secs()), "{spent:?}");
}

#[tokio::test(start_paused = true)]
async fn work_that_ignores_its_timeout_is_dropped() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let _runner = runner(&memory, handlers);
    let mut new = new_task("a", "stubborn", &json!({}));
    new.attempt_timeout = Some(Duration::from_secs(10));
    memory.create(&new);
    let task = memory.until("a", |task| task.attempt == 2).await;
    assert_eq!(task.error.unwrap().code, Code::DEADLINE_EXCEEDED);
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn work_whose_lease_is_lost_is_dropped_at_once() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let _runner = runner(&memory, handlers);
    memory.create(&new_task("a", "stubborn", &json!({})));
    let task = memory.until("a", |task| task.progress.is_some()).await;
    let token = task.lease().unwrap().token;
    memory.event("a", &Event::Expire { token, cause: Expiry::Orphaned }).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(dropped.load(SeqCst), 1);
    assert_eq!(memory.task("a").attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_within_the_lease_costs_nothing() {
    let memory = Memory::new();
    let _runner = runner(&memory, with_demo());
    memory.demo("a", &json!({"steps": 2, "step_seconds": 20}));
    memory.until("a", |task| step(task) == Some(json!(1))).await;
    // Over the end of the work, so that the outcome has to wait, too.
    sleep(Duration::from_secs(10)).await;
    memory.fail(unavailable());
    sleep(Duration::from_secs(15)).await;
    memory.fail(None);
    let task = memory.until_state("a", State::Succeeded).await;
    assert_eq!((task.attempt, step(&task)), (1, Some(json!(2))));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_kept_alive_is_lost() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let _runner = runner(&memory, handlers);
    memory.create(&new_task("a", "stubborn", &json!({})));
    memory.until("a", |task| task.progress.is_some()).await;
    memory.fail(unavailable());
    sleep(Duration::from_secs(15)).await;
    assert_eq!(dropped.load(SeqCst), 0);
    sleep(Duration::from_secs(16)).await;
    assert_eq!(dropped.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_job_keeps_its_lease() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let _runner = runner(&memory, handlers);
    memory.create(&new_task("a", "stubborn", &json!({})));
    memory.until("a", |task| task.progress.is_some()).await;
    sleep(Duration::from_secs(3_000)).await;
    assert_eq!(dropped.load(SeqCst), 0);
    assert!(memory.task("a").lease().unwrap().expire_time > memory.now());
}

#[tokio::test(start_paused = true)]
async fn who_stops_gives_everything_back() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let runner = runner(&memory, handlers.with("demo", super::demo::run).unwrap());
    memory.create(&new_task("a", "stubborn", &json!({})));
    memory.demo("b", &json!({"steps": 100, "step_seconds": 1}));
    memory.until("b", |task| step(task) == Some(json!(3))).await;
    let asked = Instant::now();
    runner.stop(Duration::from_secs(10)).await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(dropped.load(SeqCst), 1);
    for id in ["a", "b"] {
        let task = memory.task(id);
        assert_eq!((task.state(), task.attempt), (State::Queued, 1));
    }
    assert_eq!(step(&memory.task("b")), Some(json!(3)));
    // It leases no more.
    memory.demo("c", &json!({}));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(memory.task("c").state(), State::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_job_hears_why_it_is_to_stop() {
    let memory = Memory::new();
    let handler = |job: Job| async move {
        job.cancelled().await;
        Ok::<_, HandlerError>(json!(format!("{:?}", job.wanted())))
    };
    let runner = runner(&memory, Handlers::none().with("k", handler).unwrap());
    let mut late = new_task("late", "k", &json!({}));
    late.attempt_timeout = Some(Duration::from_secs(5));
    memory.create(&late);
    for id in ["cancelled", "drained"] {
        memory.create(&new_task(id, "k", &json!({})));
        memory.until_state(id, State::Running).await;
    }
    memory.ask("cancelled", State::Cancelled);
    let result = async |id| {
        let task = memory.until_state(id, State::Succeeded).await;
        task.result().unwrap().to_json()
    };
    // What it did all the same is taken.
    assert_eq!(result("cancelled").await, json!(format!("{:?}", Wanted::Cancel)));
    assert_eq!(result("late").await, json!(format!("{:?}", Wanted::TimeOut)));
    runner.stop(Duration::from_secs(10)).await;
    assert_eq!(result("drained").await, json!(format!("{:?}", Wanted::Release)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_does_not_hold_up_the_end() {
    let memory = Memory::new();
    let (handlers, dropped) = stubborn();
    let runner = runner(&memory, handlers);
    memory.create(&new_task("a", "stubborn", &json!({})));
    memory.until("a", |task| task.progress.is_some()).await;
    memory.fail(unavailable());
    let asked = Instant::now();
    runner.stop(Duration::from_secs(4)).await;
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(dropped.load(SeqCst), 1);
}

#[test]
fn every_process_is_a_new_worker() {
    let (one, two) = (super::fresh_name(), super::fresh_name());
    assert_ne!(one, two);
    assert!(one.starts_with("runner-"));
}
