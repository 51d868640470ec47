//! The runner over the real engine and a real database: what a task goes through
//! from its creation to its end, and what is left of it when the server stops.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may")]

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value as Json, json};
use taskwatch::{
    config::{Config, KindConfig, ProgramConfig, RunnerConfig},
    domain::{
        Code, KindDefaults, LaneLimits, Name, NewTask, Object, Patch, RetryPolicy, State, Task,
        TaskId,
    },
    hub::Hub,
    runner::{HandlerError, Handlers, Job, Progress, Runner},
    store,
    tasks::{Create, KindSettings, Settings, Source, Tasks},
};
use tempfile::TempDir;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn defaults() -> KindDefaults {
    let zero = Duration::ZERO;
    KindDefaults { initial_backoff: zero, max_backoff: zero, ..KindDefaults::default() }
}

fn config(command: &[&str]) -> Config {
    let program = ProgramConfig {
        command: command.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        working_dir: None,
        progress_pattern: None,
        stop_grace: Duration::from_secs(5),
    };
    let kind =
        KindConfig { defaults: defaults(), limits: LaneLimits::default(), program: Some(program) };
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        database: String::new(),
        grace: Duration::from_secs(10),
        retention: Duration::from_secs(3_600),
        retry: defaults(),
        runner: RunnerConfig {
            concurrency: 8,
            lease: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        },
        accept_unknown: false,
        kinds: BTreeMap::from([(name("program"), kind)]),
        queues: BTreeMap::new(),
        ..Config::default()
    }
}

/// An engine and its runner.
struct House {
    tasks: Tasks,
    runner: Runner,
    _folder: TempDir,
}

impl House {
    async fn new(handlers: Handlers) -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}/tasks.db", folder.path().display());
        let (writer, reader) = store::open(&url).await.unwrap();
        let known = KindSettings {
            defaults: defaults(),
            limits: LaneLimits::default(),
            source: Some(Source::BuiltIn),
        };
        let settings = Settings {
            defaults: defaults(),
            kinds: handlers.kinds().map(|kind| (kind.clone(), known.clone())).collect(),
            queues: BTreeMap::new(),
            accept_unknown: false,
            retention: Duration::from_secs(3_600),
        };
        let tasks = Tasks::start(writer, reader, Hub::default(), settings).await.unwrap();
        let runner = Runner::start(tasks.clone(), handlers, config(&["true"]).runner);
        Self { tasks, runner, _folder: folder }
    }

    async fn create(&self, id: &str, kind: &str, input: Json, timeout: Option<Duration>) {
        let new = NewTask {
            id: name(id),
            kind: name(kind),
            input: Some(Object::from_json(input.as_object().unwrap())),
            queue: None,
            priority: 0,
            labels: BTreeMap::new(),
            schedule_time: None,
            retry_policy: RetryPolicy { max_attempts: Some(2), ..RetryPolicy::default() },
            attempt_timeout: timeout,
            retention: None,
        };
        let create = Create { new, id_is_new: false, request: None, path: String::new() };
        self.tasks.create(create).await.unwrap();
    }

    async fn ask(&self, id: &str, state: State) {
        let patch = Patch { state: Some(state), ..Patch::default() };
        self.tasks.update(name(id), patch).await.unwrap();
    }

    async fn task(&self, id: &TaskId) -> Task {
        Task::clone(&self.tasks.get(id, false).await.unwrap().task.task)
    }

    async fn until(&self, id: &str, holds: impl Fn(&Task) -> bool) -> Task {
        let id = name(id);
        let wait = async {
            loop {
                let task = self.task(&id).await;
                if holds(&task) {
                    return task;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it comes to that")
    }

    async fn end(&self, id: &str) -> Task {
        self.until(id, |task| task.state().is_terminal()).await
    }
}

fn step(task: &Task) -> Option<i64> {
    task.checkpoint.as_ref()?.to_json().get("step")?.as_i64()
}

#[tokio::test]
async fn the_demo_a_program_and_a_handler_run_to_their_ends() {
    let script =
        r#"echo '{{"percent": 50, "checkpoint": {{"step": 1}}}}'; echo "{{\"result\": $1}}""#;
    let config = config(&["sh", "-c", script, "sh", "{input.n}"]);
    let handler = |job: Job| async move {
        job.report(Progress::units(1, 2, "halves").message("half way"));
        job.flush().await;
        Ok::<_, HandlerError>(json!(job.input().len()))
    };
    let handlers = Handlers::builtin(&config).unwrap().with("handler", handler).unwrap();
    let house = House::new(handlers).await;
    house.create("d", "demo", json!({"steps": 3, "step_seconds": 0.01}), None).await;
    house.create("p", "program", json!({"n": 7}), None).await;
    house.create("h", "handler", json!({"a": 1, "b": 2}), None).await;
    for (id, result, percent) in
        [("d", json!({"steps": 3}), 100.0), ("p", json!(7), 50.0), ("h", json!(2), 50.0)]
    {
        let task = house.end(id).await;
        assert_eq!(task.state(), State::Succeeded, "{id}: {:?}", task.error);
        assert_eq!(task.result().unwrap().to_json(), result);
        assert_eq!(task.progress.clone().unwrap().report.percent, Some(percent));
        assert!(task.worker.unwrap().starts_with("runner-"));
    }
}

#[tokio::test]
async fn a_silent_program_is_cancelled_and_one_that_takes_too_long_is_stopped() {
    let handlers = Handlers::builtin(&config(&["sleep", "1000"])).unwrap();
    let house = House::new(handlers).await;
    house.create("c", "program", json!({}), None).await;
    house.create("t", "program", json!({}), Some(Duration::from_millis(300))).await;
    house.until("c", |task| task.state() == State::Running).await;
    house.ask("c", State::Cancelled).await;
    assert_eq!(house.end("c").await.state(), State::Cancelled);
    let late = house.end("t").await;
    assert_eq!((late.state(), late.attempt), (State::Failed, 2));
    assert_eq!(late.error.unwrap().code, Code::DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_paused_demo_stands_and_goes_on() {
    let house = House::new(Handlers::builtin(&config(&["true"])).unwrap()).await;
    house.create("d", "demo", json!({"steps": 1_000, "step_seconds": 0.02}), None).await;
    house.until("d", |task| step(task) > Some(2)).await;
    house.ask("d", State::Paused).await;
    // It may make a few steps until it has heard of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stood = step(&house.task(&name("d")).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(step(&house.task(&name("d")).await), stood);
    house.ask("d", State::Running).await;
    house.until("d", |task| step(task) > stood).await;
    house.ask("d", State::Cancelled).await;
    assert_eq!(house.end("d").await.state(), State::Cancelled);
}

#[tokio::test]
async fn a_server_that_stops_gets_its_tasks_back_with_the_attempt_not_counted() {
    let handlers = Handlers::builtin(&config(&["sleep", "1000"])).unwrap();
    let house = House::new(handlers).await;
    house.create("d", "demo", json!({"steps": 1_000, "step_seconds": 0.02}), None).await;
    house.create("p", "program", json!({}), None).await;
    house.until("d", |task| step(task) > Some(2)).await;
    house.until("p", |task| task.state() == State::Running).await;
    house.tasks.drain();
    house.runner.stop(Duration::from_secs(10)).await;
    for id in ["d", "p"] {
        let task = house.task(&name(id)).await;
        assert_eq!((task.state(), task.attempt), (State::Queued, 1), "{id}");
    }
    assert!(step(&house.task(&name("d")).await) > Some(2));
    house.tasks.stop().await;
}
