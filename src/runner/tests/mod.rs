//! The runner against tasks that live in memory, under the real state table. Time
//! is paused: it moves on by itself when everybody waits.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod memory;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

pub(super) use self::memory::attempt;
use self::memory::{Memory, Seam, new_task};
use super::{Handlers, Job, Progress, Runner, Wanted, handler::HandlerError};
use crate::{
    config::RunnerConfig,
    domain::{Code, Error, Event, Expiry, State, Task},
};

type Ended = Result<Json, HandlerError>;

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
