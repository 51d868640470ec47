//! One task followed to its end, whatever happens to the connection.
//!
//! A stream that ended without a terminal state was cut, whatever its status: it
//! is opened again with the newest revision that was seen, until the terminal state
//! has come or the server says that asking again cannot help.

use std::time::Duration;

use tonic::{Status, transport::Channel};

use super::frames::{Frames, is_final};
use crate::proto::{Task, TaskView, WatchTaskRequest, task_service_client::TaskServiceClient};

/// What is watched, and how closely.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// The newest revision that was seen already; 0 for none.
    pub after_revision: i64,
    /// How much of the task is sent.
    pub view: TaskView,
    /// No two states closer than this; none where it is zero.
    pub min_interval: Duration,
    /// The server says something at least this often (1 s at least). A stream that
    /// is silent for three times as long was cut.
    pub heartbeat_interval: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            after_revision: 0,
            view: TaskView::Basic,
            min_interval: Duration::ZERO,
            heartbeat_interval: Duration::from_secs(15),
        }
    }
}

/// What a watcher learns.
#[derive(Clone, Debug)]
pub enum Event {
    /// The task's newest state.
    State(Box<Task>),
    /// The stream was cut; the next call opens it again.
    Cut(Status),
}

/// A task that is being followed.
#[derive(Debug)]
pub struct Watch {
    service: TaskServiceClient<Channel>,
    name: String,
    options: WatchOptions,
    frames: Frames,
    ended: bool,
}

impl Watch {
    pub(super) fn new(
        service: TaskServiceClient<Channel>,
        name: String,
        options: WatchOptions,
    ) -> Self {
        let frames = Frames::new(&options);
        Self { service, name, options, frames, ended: false }
    }

    /// The next state; `None` once the terminal one was given.
    ///
    /// # Errors
    ///
    /// What asking again cannot heal: NOT_FOUND, INVALID_ARGUMENT, PERMISSION_DENIED
    /// and the like. A cut is none.
    pub async fn next(&mut self) -> Result<Option<Task>, Status> {
        loop {
            match self.event().await? {
                Some(Event::State(task)) => return Ok(Some(*task)),
                Some(Event::Cut(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// As [`next`](Self::next), for those who want to know of each cut. Dropped while
    /// it waits, it loses no state, but the wait after a cut begins anew.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    pub async fn event(&mut self) -> Result<Option<Event>, Status> {
        if self.ended {
            return Ok(None);
        }
        match self.state().await {
            Ok(task) => {
                self.ended = task.end_time.is_some();
                self.options.after_revision = task.revision;
                Ok(Some(Event::State(Box::new(task))))
            }
            Err(status) if is_final(status.code()) => {
                self.ended = true;
                Err(status)
            }
            Err(status) => {
                self.frames.cut();
                Ok(Some(Event::Cut(status)))
            }
        }
    }

    /// The next state that is news, or why the stream is over.
    async fn state(&mut self) -> Result<Task, Status> {
        loop {
            let (service, request) = (&mut self.service, self.options.request(&self.name));
            let event = self.frames.next(|| service.watch_task(request)).await?;
            // A heartbeat says what is known already. Where the server counts from
            // less (an older backup, a task made anew), what it says is news.
            let known = self.options.after_revision;
            if let Some(task) = event.task.filter(|t| t.revision != known || t.end_time.is_some()) {
                return Ok(task);
            }
        }
    }
}

impl WatchOptions {
    fn request(&self, name: &str) -> WatchTaskRequest {
        WatchTaskRequest {
            name: name.to_owned(),
            after_revision: self.after_revision,
            view: self.view.into(),
            min_interval: wire(self.min_interval),
            heartbeat_interval: wire(self.heartbeat_interval),
        }
    }
}

/// An interval as it is asked for; at most an hour by the server's limits.
pub(super) fn wire(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok().filter(|_| !span.is_zero())
}
