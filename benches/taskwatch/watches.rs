//! Watches: many of one task, at full load and at an easy one, and of many tasks.

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use taskwatch::proto::{
    BatchCreateTasksRequest, Frame, Progress, ReportTasksRequest, Task,
    worker_service_client::WorkerServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tonic::Streaming;

use crate::{
    CONFIG,
    baseline::Process,
    calls::{asks, says},
    load::{ROUND, alternate, connections, creates},
    report::{Figure, Goal},
    support::{Client, Server, client, create, task, update, watch},
};

/// Watchers on one connection.
const A_CONNECTION: usize = 1_000;
const READY_MADE: &str = "a server that streams one ready-made frame to all";

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One task, with its owner and its watchers.
struct Crowd {
    owner: Client,
    name: String,
    received: Arc<AtomicU64>,
    ages: Arc<Mutex<Vec<Duration>>>,
    /// Whether the watchers look at what they get.
    looks: Arc<AtomicBool>,
    _watchers: JoinSet<()>,
}

pub(crate) async fn streams(address: &str, names: &[String]) -> Vec<Streaming<Frame>> {
    let mut opened = Vec::with_capacity(names.len());
    for names in names.chunks(A_CONNECTION) {
        let client = client(address);
        let mut opening = JoinSet::new();
        for name in names {
            let (mut client, request) = (client.clone(), watch(name));
            opening.spawn(async move {
                let mut stream = client.watch_task(request).await.expect("watched").into_inner();
                stream.message().await.expect("a stream").expect("the present state");
                stream
            });
        }
        opened.extend(opening.join_all().await);
    }
    opened
}

impl Crowd {
    async fn of(address: &str, watchers: usize) -> Self {
        let mut owner = client(address);
        let name = owner.create_task(create("external", json!(null))).await.expect("created");
        let name = name.into_inner().name;
        let (received, ages) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let looks = Arc::new(AtomicBool::new(false));
        let mut reading = JoinSet::new();
        for mut stream in streams(address, &vec![name.clone(); watchers]).await {
            let received: Arc<AtomicU64> = Arc::clone(&received);
            let (ages, looks) = (Arc::clone(&ages), Arc::clone(&looks));
            reading.spawn(async move {
                while let Ok(Some(frame)) = stream.message().await {
                    received.fetch_add(1, Ordering::Relaxed);
                    if looks.load(Ordering::Relaxed) {
                        note(&frame, &ages);
                    }
                }
            });
        }
        Self { owner, name, received, ages, looks, _watchers: reading }
    }

    /// Offers so many updates a second for one round.
    async fn update(&self, a_second: u64) {
        let begin = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(a_second).expect("few"));
        let mut updating = JoinSet::new();
        while begin.elapsed() < ROUND {
            ticks.tick().await;
            let mut owner = self.owner.clone();
            let progress =
                Progress { message: BEGAN.elapsed().as_nanos().to_string(), ..Default::default() };
            let task =
                Task { name: self.name.clone(), progress: Some(progress), ..task("", json!(null)) };
            // One that is not answered yet holds up none that follows.
            updating.spawn(async move {
                owner.update_task(update(task, &["progress.message"])).await.expect("updated");
            });
        }
        updating.join_all().await;
    }

    /// Messages a second.
    async fn received(&self, a_second: u64) -> f64 {
        let (begin, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        self.update(a_second).await;
        let received = self.received.load(Ordering::Relaxed) - before;
        let rate = received as f64 / begin.elapsed().as_secs_f64();
        sleep(Duration::from_millis(500)).await;
        rate
    }

    /// The age, in milliseconds, of what ninety-nine of a hundred receive.
    async fn p99(&self, a_second: u64) -> f64 {
        self.looks.store(true, Ordering::Relaxed);
        self.update(a_second).await;
        sleep(Duration::from_secs(1)).await;
        self.looks.store(false, Ordering::Relaxed);
        let mut ages = std::mem::take(&mut *self.ages.lock().expect("unharmed"));
        ages.sort_unstable();
        ages.get(ages.len() * 99 / 100).expect("some were received").as_secs_f64() * 1e3
    }
}

fn note(frame: &Frame, ages: &Mutex<Vec<Duration>>) {
    let task = frame.event().expect("a frame").task.expect("a task");
    let said = task.progress.and_then(|progress| progress.message.parse().ok());
    if let Some(said) = said {
        let age = BEGAN.elapsed().saturating_sub(Duration::from_nanos(said));
        ages.lock().expect("unharmed").push(age);
    }
}

async fn crowds(watchers: usize) -> (Server, Process, [Crowd; 2]) {
    let (ours, bare) = (Server::configured(CONFIG).await, Process::bare());
    let crowds =
        [Crowd::of(&ours.address, watchers).await, Crowd::of(&bare.address, watchers).await];
    (ours, bare, crowds)
}

pub(crate) async fn fanout() -> Vec<Figure> {
    let (_ours, _bare, crowds) = crowds(5_000).await;
    let [ours, bare] = alternate(async |which| crowds[which].received(200).await).await;
    vec![Figure {
        key: "fanout".to_owned(),
        what: "5,000 watchers of one task that is updated 200 times a second".to_owned(),
        unit: "messages/s",
        ours,
        against: READY_MADE,
        baseline: bare,
        goal: Goal::RatioAtLeast(0.9),
    }]
}

async fn ages(key: &str, watchers: usize, goal: Goal) -> Vec<Figure> {
    let (_ours, _bare, crowds) = crowds(watchers).await;
    let [ours, bare] = alternate(async |which| crowds[which].p99(50).await).await;
    vec![Figure {
        key: key.to_owned(),
        what: format!("{watchers} watchers, 50 updates a second: p99 from report to receipt"),
        unit: "ms",
        ours,
        against: READY_MADE,
        baseline: bare,
        goal,
    }]
}

pub(crate) async fn age() -> Vec<Figure> {
    ages("age", 1_000, Goal::RatioAtMost(1.5)).await
}

pub(crate) async fn overload() -> Vec<Figure> {
    ages("overload", 10_000, Goal::AtMost(1_000.0)).await
}

const RUNNING: usize = 10_000;
/// As many as one batch of the server hands out.
const A_CALL: usize = 500;

/// Creates while many tasks run, report and are watched, beside creates without.
pub(crate) async fn reports() -> Vec<Figure> {
    let server = Server::configured(CONFIG).await;
    let mut worker = WorkerServiceClient::connect(server.url()).await.expect("connected");
    let (on, reported) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut background = JoinSet::new();
    for _ in 0..RUNNING / A_CALL {
        let requests = vec![create("work", json!(null)); A_CALL];
        let batch = BatchCreateTasksRequest { requests };
        server.client().batch_create_tasks(batch).await.expect("created");
        let mut request = asks("bench", A_CALL, 5);
        request.lease_duration = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        let leases = worker.lease_tasks(request).await.expect("leased").into_inner().leases;
        assert_eq!(leases.len(), A_CALL, "all are handed out at once");
        let names: Vec<String> =
            leases.iter().map(|lease| lease.task.as_ref().expect("a task").name.clone()).collect();
        for mut stream in streams(&server.address, &names).await {
            background.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
        }
        let (on, reported, mut worker) = (on.clone(), reported.clone(), worker.clone());
        background.spawn(async move {
            let mut ticks = interval(Duration::from_millis(100));
            for units in 1.. {
                ticks.tick().await;
                if on.load(Ordering::Relaxed) {
                    let reports = leases.iter().map(|lease| says(lease, units)).collect();
                    worker.report_tasks(ReportTasksRequest { reports }).await.expect("reported");
                    reported.fetch_add(A_CALL as u64, Ordering::Relaxed);
                }
            }
        });
    }
    let clients = connections(&server.address);
    let mut answered = Vec::new();
    let [with, without] = alternate(async |which| {
        on.store(which == 0, Ordering::Relaxed);
        let (begin, before) = (Instant::now(), reported.load(Ordering::Relaxed));
        let rate = creates(&clients).await;
        if which == 0 {
            let reported = reported.load(Ordering::Relaxed) - before;
            answered.push(reported as f64 / begin.elapsed().as_secs_f64());
        }
        on.store(false, Ordering::Relaxed);
        sleep(Duration::from_millis(500)).await;
        rate
    })
    .await;
    let what = "10,000 running tasks that report 10 times a second, each watched";
    vec![
        Figure {
            key: "reports-creates".to_owned(),
            what: format!("CreateTask beside {what}"),
            unit: "tasks/s",
            ours: with,
            against: "the same without reports",
            baseline: without,
            goal: Goal::RatioAtLeast(0.5),
        },
        Figure {
            key: "reports-answered".to_owned(),
            what: format!("reports answered of {what}, 100,000/s offered"),
            unit: "reports/s",
            ours: answered,
            against: "",
            baseline: Vec::new(),
            goal: Goal::None,
        },
    ]
}
