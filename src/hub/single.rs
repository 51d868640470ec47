//! One watched task: a `tokio::sync::watch` channel that holds its newest state.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Hub, Snapshot};
use crate::domain::{TaskId, Timestamp};

/// What is known of a watched task.
#[derive(Clone, Debug, Default)]
pub(crate) enum Latest {
    /// Nothing yet: nobody has read it.
    #[default]
    Unknown,
    /// Its newest state.
    State(Arc<Snapshot>),
    /// It was deleted; with its terminal state, where that was told.
    Deleted(Option<Arc<Snapshot>>),
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    sender: watch::Sender<Latest>,
    /// Counted under the hub's lock; the channel's own count may lag behind it.
    followers: usize,
    /// Before anything was known: the task of that creation, or an earlier one, is gone.
    departed: Option<Timestamp>,
}

impl Entry {
    /// Takes a state unless a newer one, or the same, is there.
    pub(super) fn offer(&self, snapshot: &Arc<Snapshot>) {
        if !self.has_departed(snapshot) {
            offer(&self.sender, snapshot);
        }
    }

    /// When the task was created, where that is known.
    pub(super) fn created(&self) -> Option<Timestamp> {
        match &*self.sender.borrow() {
            Latest::State(known) => Some(known.task.create_time),
            Latest::Unknown | Latest::Deleted(_) => None,
        }
    }

    /// The task that was created then is gone. Whether it is the one that is followed; while
    /// nobody has read that one, it is not known.
    pub(super) fn departs(&mut self, created: Timestamp) -> bool {
        let known = self.created();
        if known.is_none() {
            self.departed = self.departed.max(Some(created));
        }
        known.is_some_and(|known| known <= created)
    }

    fn has_departed(&self, snapshot: &Snapshot) -> bool {
        self.departed.is_some_and(|departed| snapshot.task.create_time <= departed)
    }

    /// The task is gone, and with it this entry.
    pub(super) fn delete(self) {
        self.sender.send_modify(|latest| {
            let last = match std::mem::take(latest) {
                Latest::State(last) => Some(last),
                Latest::Unknown | Latest::Deleted(_) => None,
            };
            *latest = Latest::Deleted(last.filter(|last| last.task.state().is_terminal()));
        });
    }

    pub(super) fn join(&mut self, hub: Hub, id: TaskId) -> Follower {
        self.followers += 1;
        Follower { hub, id, receiver: self.sender.subscribe() }
    }
}

fn offer(sender: &watch::Sender<Latest>, snapshot: &Arc<Snapshot>) {
    sender.send_if_modified(|latest| {
        let newer = match latest {
            Latest::Unknown => true,
            // Another task of the same name is not theirs who follow this one: its
            // deletion is about to be told.
            Latest::State(known) => {
                let (known, offered) = (known.version(), snapshot.version());
                known < offered && !known.is_of_another(offered)
            }
            Latest::Deleted(_) => false,
        };
        if newer {
            *latest = Latest::State(Arc::clone(snapshot));
        }
        newer
    });
}

/// Follows one task. Leaves the hub when it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    hub: Hub,
    id: TaskId,
    receiver: watch::Receiver<Latest>,
}

impl Follower {
    /// Which task.
    pub(crate) const fn id(&self) -> &TaskId {
        &self.id
    }

    /// Tells what was read from the store, so that all followers share one state
    /// and one encoding of it.
    pub(crate) fn offer(&self, snapshot: &Arc<Snapshot>) {
        let mut entries = self.hub.shared.lock();
        let Some(entry) = entries.tasks.get(&self.id) else { return };
        if !same(&entry.sender, &self.receiver) {
            return;
        }
        offer(&entry.sender, snapshot);
        // Read just before its deletion was told.
        if entry.has_departed(snapshot)
            && let Some(entry) = entries.tasks.remove(&self.id)
        {
            entry.delete();
            entries.note(&self.hub.shared.watched);
        }
    }

    /// What is known now.
    pub(crate) fn latest(&mut self) -> Latest {
        self.receiver.borrow_and_update().clone()
    }

    /// Waits until something else is known than when [`Follower::latest`] last told.
    /// False when nothing more will come: the hub was closed. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut entries = self.hub.shared.lock();
        let Some(entry) = entries.tasks.get_mut(&self.id) else { return };
        // After a deletion another entry may stand under this id.
        if !same(&entry.sender, &self.receiver) {
            return;
        }
        entry.followers -= 1;
        if entry.followers == 0 {
            entries.tasks.remove(&self.id);
            entries.note(&self.hub.shared.watched);
        }
    }
}

fn same(sender: &watch::Sender<Latest>, receiver: &watch::Receiver<Latest>) -> bool {
    sender.subscribe().same_channel(receiver)
}
