//! All tasks that match a filter, whatever happens to the connection.
//!
//! A watch that was cut starts anew: what the server does not send again before its
//! `synced` mark has gone meanwhile, and is given as removed.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use tonic::{Status, transport::Channel};

use super::{
    WatchOptions,
    frames::{Frames, is_final},
    watch::wire,
};
use crate::proto::{Task, WatchEvent, WatchTasksRequest, task_service_client::TaskServiceClient};

/// What a watcher of many tasks learns.
#[derive(Clone, Debug)]
pub enum Change {
    /// A task's newest state.
    Task(Box<Task>),
    /// A task, by its name, was deleted or matches no longer.
    Removed(String),
    /// All that matched when the watch began, or began again, was given.
    Synced,
    /// The stream was cut; the next call opens it again.
    Cut(Status),
}

/// Tasks that are being followed. It has no end.
#[derive(Debug)]
pub struct WatchAll {
    service: TaskServiceClient<Channel>,
    request: WatchTasksRequest,
    frames: Frames,
    /// What was given and not removed, with the number of the stream it came by last.
    known: HashMap<String, u64>,
    stream: u64,
    /// Whether this stream has given its mark; those that follow are heartbeats.
    synced: bool,
    /// What is to be given before the next frame is read.
    due: VecDeque<Change>,
}

impl WatchAll {
    pub(super) fn new(
        service: TaskServiceClient<Channel>,
        filter: String,
        options: &WatchOptions,
    ) -> Self {
        let request = WatchTasksRequest {
            filter,
            view: options.view.into(),
            min_interval: wire(options.min_interval),
            heartbeat_interval: wire(options.heartbeat_interval),
        };
        let frames = Frames::new(options);
        let (known, due) = (HashMap::new(), VecDeque::new());
        Self { service, request, frames, known, stream: 0, synced: false, due }
    }

    /// The next change. Dropped while it waits, it loses none, but the wait after a
    /// cut begins anew.
    ///
    /// # Errors
    ///
    /// What asking again cannot heal: INVALID_ARGUMENT, PERMISSION_DENIED and the
    /// like. A cut is none.
    pub async fn event(&mut self) -> Result<Change, Status> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Ok(change);
            }
            let (service, request) = (&mut self.service, self.request.clone());
            match self.frames.next(|| service.watch_tasks(request)).await {
                Ok(event) => self.take(event),
                Err(status) if is_final(status.code()) => return Err(status),
                Err(status) => {
                    self.frames.cut();
                    self.stream += 1;
                    self.synced = false;
                    return Ok(Change::Cut(status));
                }
            }
        }
    }

    fn take(&mut self, event: WatchEvent) {
        if let Some(task) = event.task {
            self.known.insert(task.name.clone(), self.stream);
            self.due.push_back(Change::Task(Box::new(task)));
        } else if let Some(name) = event.removed {
            self.known.remove(&name);
            self.due.push_back(Change::Removed(name));
        } else if event.synced.is_some() && !mem::replace(&mut self.synced, true) {
            let now = self.stream;
            let gone: Vec<String> =
                self.known.extract_if(|_, stream| *stream != now).map(|(name, _)| name).collect();
            self.due.extend(gone.into_iter().map(Change::Removed));
            self.due.push_back(Change::Synced);
        }
    }
}
