//! The engine under test: its commands called directly, on a real database.

use std::{collections::BTreeMap, time::Duration};

use taskwatch::{
    domain::{
        Error, Finish, KindDefaults, LaneLimits, Name, NewTask, Outcome, ProgressReport, Rate,
        Report, RetryPolicy, Token,
    },
    hub::Hub,
    store,
    tasks::{Create, KindSettings, LeaseRequest, Leased, Settings, Source, Tasks},
};

use super::db::Db;

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

pub fn settings() -> Settings {
    let known = |concurrency, rate| KindSettings {
        defaults: KindDefaults {
            initial_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            ..KindDefaults::default()
        },
        limits: LaneLimits { concurrency, rate },
        source: Some(Source::BuiltIn),
    };
    Settings {
        kinds: BTreeMap::from([
            (name("work"), known(None, None)),
            (name("few"), known(Some(2), None)),
            (name("slow"), known(None, Rate::per_second(20.0))),
        ]),
        queues: BTreeMap::from([(name("narrow"), LaneLimits { concurrency: Some(1), rate: None })]),
        retention: Duration::from_secs(3_600),
        ..Settings::default()
    }
}

pub async fn engine(db: &Db) -> Tasks {
    let (writer, reader) = store::open(db.url()).await.expect("opened");
    Tasks::start(writer, reader, Hub::default(), settings()).await.expect("started")
}

pub fn create(id: &str, kind: &str) -> Create {
    let new = NewTask {
        id: name(id),
        kind: name(kind),
        input: None,
        queue: None,
        priority: 0,
        labels: Default::default(),
        schedule_time: None,
        retry_policy: RetryPolicy::default(),
        attempt_timeout: None,
        retention: None,
    };
    Create { new, id_is_new: false, request: None, path: String::new() }
}

pub fn in_queue(id: &str, queue: &str, priority: i32) -> Create {
    let mut create = create(id, "work");
    create.new.queue = Some(name(queue));
    create.new.priority = priority;
    create
}

pub fn asks(kind: &str, max_tasks: usize, wait: Duration) -> LeaseRequest {
    LeaseRequest {
        worker: name("tester"),
        kinds: vec![name(kind)],
        queues: Vec::new(),
        max_tasks,
        duration: Duration::from_secs(30),
        wait,
        by_runner: false,
    }
}

pub async fn lease(tasks: &Tasks, kind: &str, max_tasks: usize) -> Vec<Leased> {
    tasks.lease(asks(kind, max_tasks, Duration::ZERO)).await.expect("leased")
}

pub fn token(leased: &Leased) -> Token {
    leased.task.lease().expect("a live lease").token
}

pub fn says(token: Token, percent: f64) -> Report {
    let progress = Some(ProgressReport { percent: Some(percent), ..ProgressReport::default() });
    Report { token, progress, checkpoint: None }
}

pub fn ends(token: Token, outcome: Outcome) -> Finish {
    Finish { report: Report { token, progress: None, checkpoint: None }, outcome }
}

pub fn ids(leased: &[Leased]) -> Vec<String> {
    leased.iter().map(|leased| leased.task.id.to_string()).collect()
}

pub fn is_lost<T: std::fmt::Debug>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Aborted { reason: "LEASE_LOST", .. }))
}
