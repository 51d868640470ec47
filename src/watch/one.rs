//! One task followed to its end.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    pace::{Pace, Step},
    until,
};
use crate::{
    domain::{Error, Object, Task, TaskId},
    hub::{Follower, Hub, Latest, Snapshot, draining},
    store::Reader,
};

/// How a task is to be watched.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// The newest revision that the watcher has seen.
    pub after_revision: i64,
    /// With the input.
    pub with_input: bool,
    /// No two states closer than this, the terminal one aside.
    pub min_interval: Duration,
    /// The present state again after this long without any; jittered by a tenth.
    pub heartbeat_interval: Option<Duration>,
}

/// A watch of one task.
#[derive(Debug)]
pub struct Watch {
    follower: Follower,
    input: Option<Object>,
    pace: Pace,
    over: bool,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// NOT_FOUND; UNAVAILABLE while the server drains or the store is away.
    pub async fn begin(
        hub: &Hub,
        reader: &Reader,
        id: TaskId,
        options: WatchOptions,
    ) -> Result<Self, Error> {
        let follower = hub.follow(&id)?;
        let stored = reader.task(&id, options.with_input).await.map_err(|error| error.public())?;
        let stored = stored.ok_or_else(|| Error::no_task(&id))?;
        let input = if options.with_input { stored.input } else { None };
        Ok(Self::over(follower, stored.task, input, &options))
    }

    /// A watch by one who has registered, and then read `task`.
    pub(super) fn over(
        follower: Follower,
        task: impl Into<Arc<Task>>,
        input: Option<Object>,
        options: &WatchOptions,
    ) -> Self {
        let task = task.into();
        let pace = Pace::new(options, &task, Instant::now());
        follower.offer(&Arc::new(Snapshot::new(task)));
        Self { follower, input, pace, over: false }
    }

    /// Its input, where `with_input` was asked for. It never changes.
    pub const fn input(&self) -> Option<&Object> {
        self.input.as_ref()
    }

    /// The next state to send. `None` after the terminal state: the stream ends
    /// with OK. Cancel-safe.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE when the server drains; NOT_FOUND when the task was deleted. The
    /// next call gives `None`.
    pub async fn next(&mut self) -> Option<Result<Arc<Snapshot>, Error>> {
        if self.over {
            return None;
        }
        loop {
            let wait = match self.follower.latest() {
                // Its end comes first, for those who have not seen it.
                Latest::Deleted(Some(ended)) => {
                    self.over = true;
                    return Some(Ok(ended));
                }
                Latest::Deleted(None) => {
                    self.over = true;
                    return Some(Err(Error::no_task(self.follower.id())));
                }
                Latest::State(snapshot) => {
                    let now = Instant::now();
                    match self.pace.step(&snapshot.task, now) {
                        Step::Send => {
                            self.pace.sent(&snapshot.task, now);
                            self.over = snapshot.task.state().is_terminal();
                            return Some(Ok(snapshot));
                        }
                        Step::Wait(until) => until,
                    }
                }
                // Closed, or deleted, before it could tell what it had read.
                Latest::Unknown => None,
            };
            tokio::select! {
                goes_on = self.follower.changed() => if !goes_on {
                    self.over = true;
                    return Some(Err(draining()));
                },
                () = until(wait) => {}
            }
        }
    }
}
