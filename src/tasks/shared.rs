//! What the committer, the timers, the feed and all handles share.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast};

use super::{
    Settings,
    awake::Awake,
    fronts::Told,
    kinds::Kinds,
    later::Later,
    queue::Queue,
    timers::{Deadlines, Outages},
    waiters::Waiters,
};
use crate::{
    domain::{Name, TaskId, Timestamp},
    hub::Hub,
    store::Lane,
};

/// How many tasks a runner may be behind with, before it looks after all of its own.
const STEERED: usize = 256;

/// What the committer, the timers and all handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) queue: Arc<Queue>,
    pub(super) awake: Awake,
    pub(super) hub: Hub,
    pub(super) waiters: Waiters,
    pub(super) deadlines: Deadlines,
    pub(super) kinds: Kinds,
    pub(super) later: Later,
    pub(super) outages: Outages,
    /// What other replicas made ready.
    pub(super) told: Told,
    /// Others may write the same database.
    pub(super) replicated: bool,
    /// All that is watched is to be read again.
    pub(super) reread: Notify,
    /// Tasks of which a runner is to learn at once what is wanted.
    pub(super) steered: broadcast::Sender<TaskId>,
}

impl Shared {
    /// Where remote workers have served these kinds before.
    pub(super) fn new(
        settings: Settings,
        hub: Hub,
        served: Vec<(Name, Timestamp)>,
        replicated: bool,
    ) -> Self {
        Self {
            settings,
            queue: Arc::default(),
            awake: Awake::default(),
            hub,
            waiters: Waiters::default(),
            deadlines: Deadlines::default(),
            kinds: Kinds::new(served),
            later: Later::default(),
            outages: Outages::default(),
            told: Told::default(),
            replicated,
            reread: Notify::new(),
            steered: broadcast::channel(STEERED).0,
        }
    }

    /// A lease has ended in this lane: where a limit holds, there is room now.
    pub(super) fn wake_freed(&self, lane: &Lane) {
        let [kind, queue] = self.settings.limits(lane);
        if kind.concurrency.is_some() {
            self.waiters.wake_kind(&lane.kind);
        }
        if queue.concurrency.is_some() {
            self.waiters.wake_queue(&lane.queue, 1);
        }
    }

    pub(super) fn steer(&self, id: TaskId) {
        // Without a runner nobody hears it.
        drop(self.steered.send(id));
    }
}
