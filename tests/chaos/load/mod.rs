//! The clients: who creates, owns, works, meddles and watches, each at any replica, and
//! each with every call and every answer in the history.

mod creators;
mod filters;
mod owners;
mod watchers;
mod workers;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use taskwatch::proto::{
    Attempt, GetTaskRequest, ListAttemptsRequest, ListTasksRequest, Task, UpdateTaskRequest,
    task::State, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

pub use filters::Filter;

use super::{
    history::{Answer, History, Miss, Seen, What, state},
    support::PATIENCE,
};

/// How long a call may take, from the client's side and from the server's.
const CALL: Duration = Duration::from_secs(4);
/// A replica that did not answer is left alone for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// All clients, and what they share.
#[derive(Clone)]
pub struct Load {
    pub history: History,
    channels: Arc<Vec<Channel>>,
    seed: u64,
    clients: Arc<AtomicU64>,
    /// Tasks that are known to be there.
    names: Arc<Mutex<Vec<String>>>,
    /// No more tasks, and no more meddling.
    pub enough: CancellationToken,
    /// Nothing is left to be run.
    pub done: CancellationToken,
    /// Those who end with the load.
    pub going: TaskTracker,
    /// Those who end with what they follow.
    pub following: TaskTracker,
}

/// One client.
pub struct Caller {
    pub name: String,
    pub load: Load,
    pub random: StdRng,
}

impl Load {
    pub fn new(addresses: &[String], seed: u64) -> Self {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
            endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy()
        };
        Self {
            history: History::new(),
            channels: Arc::new(addresses.iter().map(channel).collect()),
            seed,
            clients: Arc::default(),
            names: Arc::default(),
            enough: CancellationToken::new(),
            done: CancellationToken::new(),
            going: TaskTracker::new(),
            following: TaskTracker::new(),
        }
    }

    /// Everybody begins; `tasks` are created at most.
    pub fn begin(&self, tasks: usize) {
        for _ in 0..creators::CREATORS {
            self.going.spawn(creators::create(self.caller("creator"), tasks / creators::CREATORS));
        }
        for _ in 0..2 {
            self.going.spawn(owners::meddle(self.caller("meddler")));
            self.going.spawn(owners::read(self.caller("reader")));
        }
        for _ in 0..workers::WORKERS {
            self.following.spawn(workers::work(self.caller("worker")));
        }
    }

    pub fn caller(&self, role: &str) -> Caller {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let random = StdRng::seed_from_u64(self.seed ^ (number << 32));
        Caller { name: format!("{role}-{number}"), load: self.clone(), random }
    }

    /// Waits until every task has ended; wakes those that were left paused, and gives an
    /// owner to those that were queued again when theirs had left. What has not ended in time.
    pub async fn settle(&self) -> Vec<String> {
        let mut caller = self.caller("settler");
        let begin = Instant::now();
        let mut owned = HashSet::new();
        loop {
            let live = "state = QUEUED OR state = RUNNING OR state = PAUSED OR state = CANCELLING";
            let left = caller.list(0, live).await;
            if left.is_empty() || begin.elapsed() > 2 * PATIENCE {
                return left.iter().map(|task| format!("{task:?}")).collect();
            }
            for task in left.iter().filter(|task| task.state() == State::Paused) {
                drop(caller.ask_for(&task.name, State::Running, 0).await);
            }
            for task in left.into_iter().filter(|task| task.kind == "external") {
                if owned.insert(task.name.clone()) {
                    self.following.spawn(owners::own(self.caller("owner"), task.name));
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn known(&self, name: &str) {
        self.names.lock().expect("the names").push(name.to_owned());
    }

    /// One of the newest.
    fn any_name(&self, random: &mut StdRng) -> Option<String> {
        let names = self.names.lock().expect("the names");
        names[names.len().saturating_sub(60)..].choose(random).cloned()
    }
}

impl Caller {
    fn any(&mut self) -> usize {
        self.random.random_range(0..self.load.channels.len())
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.random.random_range(millis))).await;
    }

    fn tasks(&self, server: usize) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.load.channels[server].clone())
            .max_decoding_message_size(8 << 20)
    }

    fn workers(&self, server: usize) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.load.channels[server].clone())
    }

    fn add(&self, server: usize, begin: u64, what: What) {
        self.load.history.add(&self.name, server, begin, what);
    }

    /// Updates once, at any replica.
    async fn update(&mut self, asks: &'static str, task: Task, paths: &[&str]) -> Answer<Task> {
        let (server, begin) = (self.any(), self.load.history.now());
        let (name, guard) = (task.name.clone(), task.revision);
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let request = timed(UpdateTaskRequest { task: Some(task), update_mask });
        let answer = ask(self.tasks(server).update_task(request)).await;
        let seen = answer.as_ref().map(Seen::from).map_err(Clone::clone);
        self.add(server, begin, What::Update { name, asks, guard, answer: seen });
        answer
    }

    async fn ask_for(&mut self, name: &str, to: State, guard: i64) -> Answer<Task> {
        let task =
            Task { name: name.to_owned(), state: to.into(), revision: guard, ..Default::default() };
        self.update(state(to.into()), task, &["state"]).await
    }

    async fn get(&mut self, name: &str) -> Answer<Task> {
        let (server, begin) = (self.any(), self.load.history.now());
        let request = timed(GetTaskRequest { name: name.to_owned(), view: 0 });
        let answer = ask(self.tasks(server).get_task(request)).await;
        let seen = answer.as_ref().map(Seen::from).map_err(Clone::clone);
        self.add(server, begin, What::Read { name: name.to_owned(), answer: seen });
        answer
    }

    /// All tasks that match, by one replica. Made again until it answers.
    pub async fn list(&mut self, server: usize, filter: &str) -> Vec<Task> {
        let (mut tasks, mut token) = (Vec::new(), String::new());
        loop {
            let request = timed(ListTasksRequest {
                page_size: 500,
                page_token: token.clone(),
                filter: filter.to_owned(),
                order_by: "create_time".to_owned(),
                ..Default::default()
            });
            match ask(self.tasks(server).list_tasks(request)).await {
                Ok(page) => {
                    tasks.extend(page.tasks);
                    token = page.next_page_token;
                    if token.is_empty() {
                        return tasks;
                    }
                }
                Err(Miss::Lost(_)) => sleep(PAUSE).await,
                Err(Miss::Refused(why)) => panic!("a list was refused: {why}"),
            }
        }
    }

    /// All attempts of a task, by any replica.
    pub async fn attempts(&mut self, name: &str) -> Vec<Attempt> {
        loop {
            let server = self.any();
            let request = timed(ListAttemptsRequest {
                name: name.to_owned(),
                page_size: 100,
                ..Default::default()
            });
            match ask(self.tasks(server).list_attempts(request)).await {
                Ok(page) => return page.attempts,
                Err(Miss::Lost(_)) => sleep(PAUSE).await,
                Err(Miss::Refused(why)) => panic!("a list was refused: {why}"),
            }
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    within(message, CALL)
}

fn within<T>(message: T, time: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

/// Waits for an answer, also of a server that was stopped in the middle of one.
async fn ask<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Answer<T> {
    ask_within(call, CALL).await
}

async fn ask_within<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
    time: Duration,
) -> Answer<T> {
    match timeout(time + Duration::from_secs(1), call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Miss::from(&status)),
        Err(_) => Err(Miss::Lost("no answer in time".to_owned())),
    }
}
