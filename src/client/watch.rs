//! One task followed to its end, whatever happens to the connection.
//!
//! A stream that ended without a terminal state was cut, whatever its status: it
//! is opened again with the newest revision that was seen, after a backoff with
//! jitter, until the terminal state has come or the server says that asking again
//! cannot help.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::proto::{
    Frame, Task, TaskView, WatchTaskRequest, task_service_client::TaskServiceClient,
};

/// The first wait after a cut, before jitter; doubled with each one that follows.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait, before jitter.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

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
    stream: Option<Streaming<Frame>>,
    /// Cuts since the last message.
    cuts: u32,
    ended: bool,
}

impl Watch {
    pub(super) fn new(
        service: TaskServiceClient<Channel>,
        name: String,
        options: WatchOptions,
    ) -> Self {
        Self { service, name, options, stream: None, cuts: 0, ended: false }
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
                self.stream = None;
                self.cuts = self.cuts.saturating_add(1);
                Ok(Some(Event::Cut(status)))
            }
        }
    }

    /// The next state that is news, or why the stream is over.
    async fn state(&mut self) -> Result<Task, Status> {
        // The server holds heartbeats back, too, until the interval is over.
        let heartbeat = self.options.heartbeat_interval.max(Duration::from_secs(1));
        let patience = (3 * heartbeat).max(self.options.min_interval + 2 * heartbeat);
        let silent = |_| Status::unavailable("the server has gone silent");
        if self.stream.is_none() {
            sleep(backoff(self.cuts, rand::random())).await;
            let call = self.service.watch_task(self.request());
            self.stream = Some(timeout(patience, call).await.map_err(silent)??.into_inner());
        }
        let cut = || Status::unavailable("the stream ended before the task did");
        let stream = self.stream.as_mut().ok_or_else(cut)?;
        loop {
            let frame = timeout(patience, stream.message()).await.map_err(silent)??;
            let event = frame.ok_or_else(cut)?.event();
            let task = event.map_err(|error| Status::internal(error.to_string()))?.task;
            self.cuts = 0;
            // A heartbeat says what is known already. Where the server counts from
            // less (an older backup, a task made anew), what it says is news.
            let known = self.options.after_revision;
            if let Some(task) = task.filter(|t| t.revision != known || t.end_time.is_some()) {
                return Ok(task);
            }
        }
    }

    fn request(&self) -> WatchTaskRequest {
        let WatchOptions { after_revision, view, min_interval, heartbeat_interval } = self.options;
        // Both are at most an hour by the server's limits, so that neither overflows.
        let wire =
            |span: Duration| prost_types::Duration::try_from(span).ok().filter(|_| !span.is_zero());
        WatchTaskRequest {
            name: self.name.clone(),
            after_revision,
            view: view.into(),
            min_interval: wire(min_interval),
            heartbeat_interval: wire(heartbeat_interval),
        }
    }
}

/// Whether asking again cannot help.
fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// How long to wait after so many cuts: at least half of the backoff, so that a
/// server that refuses at once is not stormed; the other half by chance (`jitter`, 0
/// to 1), so that many watchers do not come back at one time.
fn backoff(cuts: u32, jitter: f64) -> Duration {
    let Some(doublings) = cuts.checked_sub(1) else { return Duration::ZERO };
    let whole = FIRST_BACKOFF.saturating_mul(1 << doublings.min(16)).min(LONGEST_BACKOFF);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound_with_jitter() {
        let most: Vec<u128> = (0..9).map(|n| backoff(n, 1.0).as_millis()).collect();
        assert_eq!(most, [0, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX, 0.0), LONGEST_BACKOFF / 2);
    }
}
