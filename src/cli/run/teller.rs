//! Tells the server how the command fares, and learns what is wanted of it. The
//! command waits for none of this: what the server has not been told is told when it
//! is there again, the newest only.

use std::time::Duration;

use prost::Message;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status};

use super::news::{Ended, Told, Wanted};
use crate::{
    cli::{args::Server, explain, out},
    client::{Event, WatchOptions},
    domain::Value,
    proto::{CreateTaskRequest, Progress, Task, TaskView, UpdateTaskRequest, task::State},
    runner::Seen,
};

/// No two reports closer than this: faster than anyone reads.
const PACE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Teller {
    server: Server,
    name: String,
    quiet: bool,
    /// What ends a line where the terminal is raw.
    newline: &'static str,
    cut: bool,
}

impl Teller {
    pub(super) fn new(server: Server, name: String, quiet: bool, newline: &'static str) -> Self {
        Self { server, name, quiet, newline, cut: false }
    }

    /// Creates the task and tells of it until it has ended.
    pub(super) async fn tell(
        mut self,
        request: CreateTaskRequest,
        mut told: watch::Receiver<Told>,
        wanted: watch::Sender<Wanted>,
    ) {
        if let Err(status) = self.live(request, &mut told, wanted).await {
            let why = explain::sentence(&status, &self.server.address);
            self.say(&format!("error: nobody can watch this: {why}"));
        }
    }

    async fn live(
        &mut self,
        request: CreateTaskRequest,
        told: &mut watch::Receiver<Told>,
        wanted: watch::Sender<Wanted>,
    ) -> Result<(), Status> {
        let client = self.server.client.clone();
        self.until_taken(async || client.create(request.clone()).await.map(drop)).await?;
        self.say(&format!("{}; watch it with: taskwatch watch {}", self.name, request.task_id));
        let running = self.task(State::Running);
        self.until_taken(async || update(&client, running.clone(), &["state"]).await).await?;
        let listener = listen(self.server.clone(), self.name.clone(), wanted);
        let ended = tokio::select! {
            ended = self.report(told) => ended?,
            // It has no end but with this.
            () = listener => return Ok(()),
        };
        self.end(&ended).await
    }

    /// Tells what is new, until the command has ended.
    async fn report(&mut self, told: &mut watch::Receiver<Told>) -> Result<Ended, Status> {
        let client = self.server.client.clone();
        let mut last = Seen::default();
        loop {
            let next = Instant::now() + PACE;
            let Told { seen, ended } = told.borrow_and_update().clone();
            if seen != last {
                last.clone_from(&seen);
                let progress =
                    Progress { percent: seen.percent, message: seen.line, ..Progress::default() };
                let task = Task { progress: Some(progress), ..self.task(State::Unspecified) };
                let paths = ["progress.percent", "progress.message"];
                match self.until_taken(async || update(&client, task.clone(), &paths).await).await {
                    // It was cancelled meanwhile; the command will hear of it.
                    Err(status) if status.code() == Code::FailedPrecondition => {}
                    answer => answer?,
                }
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
            sleep_until(next).await;
            if told.changed().await.is_err() {
                return Err(Status::cancelled("the command is not watched any more"));
            }
        }
    }

    /// Tells how the command ended.
    async fn end(&mut self, ended: &Ended) -> Result<(), Status> {
        let client = self.server.client.clone();
        if ended.was_stopped() {
            let cancelled = self.task(State::Cancelled);
            return self
                .until_taken(async || update(&client, cancelled.clone(), &["state"]).await)
                .await;
        }
        let ending = if ended.is_success() {
            let result = Value::from_json(&json!({"exit_status": 0}));
            let result = prost_types::Value::decode(result.encoded().clone()).ok();
            (Task { result, ..self.task(State::Succeeded) }, ["state", "result"])
        } else {
            let message = ended.to_string();
            let error =
                tonic_types::Status { code: Code::Unknown.into(), message, details: vec![] };
            (Task { error: Some(error), ..self.task(State::Failed) }, ["state", "error"])
        };
        let (name, running) = (self.name.clone(), self.task(State::Running));
        self.until_taken(async || {
            let refused = match update(&client, ending.0.clone(), &ending.1).await {
                Err(status) if status.code() == Code::FailedPrecondition => status,
                answer => return answer,
            };
            let task = client.get(&name, TaskView::Basic).await?;
            if task.end_time.is_some() {
                // By a cancel; or it was this very word, whose answer was lost.
                return Ok(());
            }
            if task.state != i32::from(State::Paused) {
                return Err(refused);
            }
            // Ended while it was stopped: it has to run to have an end.
            update(&client, running.clone(), &["state"]).await?;
            update(&client, ending.0.clone(), &ending.1).await
        })
        .await
    }

    fn task(&self, state: State) -> Task {
        Task { name: self.name.clone(), state: state.into(), ..Task::default() }
    }

    /// Calls until there is an answer that will stay the same.
    async fn until_taken(
        &mut self,
        call: impl AsyncFn() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut pause = FIRST_PAUSE;
        loop {
            let status = match call().await {
                Err(status) if explain::may_pass(&status) => status,
                answer => {
                    if std::mem::take(&mut self.cut) {
                        self.say("the server is there again");
                    }
                    return answer;
                }
            };
            if !std::mem::replace(&mut self.cut, true) {
                let why = explain::sentence(&status, &self.server.address);
                self.say(&format!(
                    "{why}\nthe command runs on; the server is told when it is back"
                ));
            }
            sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says something beside the command's output.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            out::say(text.replace('\n', self.newline) + self.newline.trim_end_matches('\n'));
        }
    }
}

async fn update(client: &crate::client::Client, task: Task, paths: &[&str]) -> Result<(), Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    client.update(UpdateTaskRequest { task: Some(task), update_mask }).await.map(drop)
}

/// Hears what others ask for; a task that was deleted is wanted no more, but its
/// command is not stopped for that.
async fn listen(server: Server, name: String, wanted: watch::Sender<Wanted>) {
    let mut watch = server.client.watch(&name, WatchOptions::default());
    while let Ok(Some(event)) = watch.event().await {
        let Event::State(task) = event else { continue };
        let now = match State::try_from(task.state) {
            Ok(State::Cancelling | State::Cancelled) => Wanted::Stop,
            Ok(State::Paused) => Wanted::Pause,
            Ok(
                State::Unspecified
                | State::Queued
                | State::Running
                | State::Succeeded
                | State::Failed,
            )
            | Err(_) => Wanted::Run,
        };
        // Who was told to stop is not told otherwise.
        wanted.send_if_modified(|wanted| {
            let news = *wanted != now && *wanted != Wanted::Stop;
            if news {
                *wanted = now;
            }
            news
        });
    }
    std::future::pending().await
}
