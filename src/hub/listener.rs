//! One listener of a filter: what it is to do next. Its reader asks at its own pace;
//! between two questions it keeps ids and no states.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};
use tokio::{sync::Notify, time::Instant};

use super::{
    Hub, Snapshot,
    filtered::{Entry, Listing, Reading, Told},
    lock,
    queue::{Pending, Queue},
};
use crate::domain::{Error, TaskId, Timestamp};

/// What a listener is to do next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Send this state.
    Task(Arc<Snapshot>),
    /// Send that this one is gone.
    Removed(TaskId),
    /// Send that all that matched at first has been sent.
    Synced,
    /// Read the next page of the first list.
    ReadPage,
    /// Wait until [`Listener::woken`], or until then.
    Wait(Option<Instant>),
}

/// Listens to one filter. Leaves the hub when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Hub,
    entry: Arc<Entry>,
    key: u64,
    wake: Arc<Notify>,
    /// The list's turn, and not that of the changes: neither starves the other.
    lists: bool,
    min_interval: Duration,
    /// From when on a task may be told of again; and the same by time.
    paces: HashMap<TaskId, Instant>,
    paces_by_time: BTreeSet<(Instant, TaskId)>,
}

impl Listener {
    /// Under the hub's lock.
    pub(super) fn join(hub: Hub, entry: Arc<Entry>, min_interval: Duration) -> Self {
        let wake = Arc::new(Notify::new());
        let key = {
            let mut state = lock(&entry.state);
            state.next_key += 1;
            let key = state.next_key;
            state.listeners.insert(
                key,
                Told {
                    queue: Queue::default(),
                    listing: Some(Listing::default()),
                    unlisted: HashSet::new(),
                    owed: None,
                    wake: Arc::clone(&wake),
                },
            );
            key
        };
        Self {
            hub,
            entry,
            key,
            wake,
            lists: true,
            min_interval,
            paces: HashMap::new(),
            paces_by_time: BTreeSet::new(),
        }
    }

    /// A page of the first list is about to be read (again).
    pub(crate) fn begin_page(&self) {
        let mut state = lock(&self.entry.state);
        if let Some(listing) = state.listeners.get_mut(&self.key).and_then(|t| t.listing.as_mut()) {
            listing.reading = Some(Reading::default());
        }
    }

    /// The page that was read, newest task first, and the time of creation that it went
    /// back to; none where it was the last one. False where it must be read again.
    pub(crate) fn page(&self, tasks: &[Arc<Snapshot>], passed: Option<Timestamp>) -> bool {
        let mut state = lock(&self.entry.state);
        let state = &mut *state;
        let Some(listing) = state.listeners.get_mut(&self.key).and_then(|t| t.listing.as_mut())
        else {
            return true;
        };
        let reading = listing.reading.take().unwrap_or_default();
        if reading.overflow {
            return false;
        }
        for snapshot in tasks {
            let id = &snapshot.task.id;
            if reading.gone.get(id).is_some_and(|gone| *gone >= snapshot.version()) {
                continue;
            }
            state.observe(snapshot);
            let (Some(told), Some(known)) =
                (state.listeners.get_mut(&self.key), state.known.get_mut(id))
            else {
                // Too many match.
                return true;
            };
            if told.queue.get(id).is_none() && !told.was_sent(id, true) {
                told.queue.list(id);
                known.waiting += 1;
                known.newest.get_or_insert_with(|| Arc::clone(snapshot));
            }
        }
        if let Some(told) = state.listeners.get_mut(&self.key) {
            match (passed, &mut told.listing) {
                (None, _) => told.end_list(state.known.keys()),
                (Some(_), Some(listing)) => listing.passed = passed,
                (Some(_), None) => {}
            }
        }
        true
    }

    /// What to do next.
    pub(crate) fn next(&mut self, now: Instant) -> Result<Next, Error> {
        let entry = Arc::clone(&self.entry);
        let mut state = lock(&entry.state);
        if let Some(error) = &state.over {
            return Err(error.clone());
        }
        let Some(told) = state.listeners.get_mut(&self.key) else { return Err(Error::Internal) };
        while self.paces_by_time.first().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, id)) = self.paces_by_time.pop_first() {
                self.paces.remove(&id);
                told.queue.release(&id);
            }
        }
        loop {
            let Some(told) = state.listeners.get_mut(&self.key) else {
                return Err(Error::Internal);
            };
            if told.owed.as_ref().is_some_and(HashSet::is_empty) {
                told.owed = None;
                return Ok(Next::Synced);
            }
            let listing = told.listing.is_some();
            let (listed, changed) = (told.queue.first_listed(), told.queue.first_changed());
            let first = match (self.lists, listing) {
                // The list's turn: where nothing of it waits, the next page is read.
                (true, true) => listed,
                (true, false) => listed.or(changed),
                (false, _) => changed.or(listed),
            };
            self.lists = !self.lists;
            let Some(id) = first else {
                if listing {
                    return Ok(Next::ReadPage);
                }
                let held = told.queue.holds_some().then(|| self.paces_by_time.first()).flatten();
                return Ok(Next::Wait(held.map(|(time, _)| *time)));
            };
            match told.queue.get(&id) {
                // Its pace stays: where it comes back, that is no closer than others.
                Some(Pending::Removed) => {
                    told.queue.remove(&id);
                    return Ok(Next::Removed(id));
                }
                Some(Pending::Replaced) => {
                    told.queue.set(&id, Pending::Fresh);
                    return Ok(Next::Removed(id));
                }
                Some(Pending::Fresh | Pending::Again) | None => {}
            }
            let ends = state.known.get(&id).and_then(|known| known.newest.as_ref());
            let ends = ends.is_some_and(|newest| newest.task.state().is_terminal());
            let Some(told) = state.listeners.get_mut(&self.key) else {
                return Err(Error::Internal);
            };
            if !ends && self.paces.contains_key(&id) {
                told.queue.hold(&id);
                continue;
            }
            told.take(&id);
            if let Some(listing) = &mut told.listing {
                listing.sent.insert(id.clone());
            }
            if let Some(snapshot) = state.taken(&id) {
                self.pace(&id, ends, now);
                return Ok(Next::Task(snapshot));
            }
        }
    }

    /// Waits until there may be something new. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn pace(&mut self, id: &TaskId, ended: bool, now: Instant) {
        self.unpace(id);
        // After the end there is nothing to hold back; a retry by hand is news.
        if !ended && !self.min_interval.is_zero() {
            let time = now + self.min_interval;
            self.paces.insert(id.clone(), time);
            self.paces_by_time.insert((time, id.clone()));
        }
    }

    fn unpace(&mut self, id: &TaskId) {
        if let Some(time) = self.paces.remove(id) {
            self.paces_by_time.remove(&(time, id.clone()));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut entries = self.hub.shared.lock();
        let mut state = lock(&self.entry.state);
        if let Some(told) = state.listeners.remove(&self.key) {
            for id in told.queue.states() {
                state.taken(id);
            }
        }
        let filter = &self.entry.filter;
        if state.listeners.is_empty()
            && entries.filters.get(filter).is_some_and(|entry| Arc::ptr_eq(entry, &self.entry))
        {
            entries.filters.remove(filter);
            entries.note(&self.hub.shared.watched);
        }
    }
}
