//! One watched filter: the ids that match, and what each of its listeners has yet to
//! be told. Each change is matched once, however many listen.
//!
//! While a listener reads its first list page by page (newest task first), a change
//! of a task that its list has yet to come to is left to the list, so that a slow
//! reader keeps no more than a page. What happens while a page is being read counts
//! against that page, which may be older.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Hub, News, Snapshot, Version, lock,
    queue::{Pending, Queue},
};
use crate::domain::{Error, Filter, TaskId, Timestamp, limits::WATCHED_IDS};

#[derive(Debug)]
pub(super) struct Entry {
    filter: Filter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is told any more but this.
    over: Option<Error>,
    /// The tasks that match.
    known: HashMap<TaskId, Known>,
    listeners: HashMap<u64, Told>,
    next_key: u64,
}

#[derive(Debug)]
struct Known {
    /// The newest state that every listener was sent, or has waiting, or will list.
    version: Version,
    /// That state, while some listener has yet to be sent it.
    newest: Option<Arc<Snapshot>>,
    /// How many have.
    waiting: usize,
}

/// One listener, as its entry knows it.
#[derive(Debug)]
struct Told {
    queue: Queue,
    /// None when the first list is over: then it was sent, or has waiting, all
    /// that is known but `unlisted`.
    listing: Option<Listing>,
    /// What its list did not bring, since it no longer matched by then; the news of
    /// that are yet to come.
    unlisted: HashSet<TaskId>,
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Listing {
    sent: HashSet<TaskId>,
    /// The creation of the last task on the last page.
    passed: Option<Timestamp>,
    reading: Option<Reading>,
}

/// What ceased to match while a page is being read.
#[derive(Debug, Default)]
struct Reading {
    gone: HashMap<TaskId, Version>,
    /// That was too much: the page must be read again.
    overflow: bool,
}

impl Entry {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, state: Mutex::default() }
    }

    pub(super) fn publish(&self, news: &[News]) {
        for one in news {
            match one {
                News::State(snapshot) => {
                    // Matched outside the lock, which listeners want as well.
                    let matches = self.filter.matches(&snapshot.task);
                    let mut state = lock(&self.state);
                    if matches {
                        state.observe(snapshot);
                    } else {
                        state.forget(&snapshot.task.id, snapshot.version());
                    }
                }
                News::Deleted(id) => lock(&self.state).forget(id, Version::GONE),
            }
        }
    }

    pub(super) fn end(&self, error: &Error) {
        lock(&self.state).end(error);
    }

    #[cfg(test)]
    pub(super) fn states_held(&self) -> usize {
        lock(&self.state).known.values().filter(|known| known.newest.is_some()).count()
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).over.is_some()
    }
}

impl State {
    fn end(&mut self, error: &Error) {
        self.over = Some(error.clone());
        self.known = HashMap::new();
        for told in self.listeners.values_mut() {
            told.queue = Queue::default();
            told.listing = None;
            told.wake.notify_one();
        }
    }

    /// A state that matches, from a commit or from somebody's list.
    fn observe(&mut self, snapshot: &Arc<Snapshot>) {
        let (id, version) = (&snapshot.task.id, snapshot.version());
        let known = self.known.get(id);
        if self.over.is_some() || known.is_some_and(|known| known.version >= version) {
            return;
        }
        // Read before its deletion was told: another task of the same name.
        if known.is_some_and(|known| known.version.is_of_another(version)) {
            self.forget(id, version);
        }
        let was_known = self.known.contains_key(id);
        let mut waiting = 0;
        for told in self.listeners.values_mut() {
            if told.observe(snapshot, was_known) {
                waiting += 1;
                told.wake.notify_one();
            }
        }
        let newest = (waiting > 0).then(|| Arc::clone(snapshot));
        self.known.insert(id.clone(), Known { version, newest, waiting });
        if self.known.len() > WATCHED_IDS {
            self.end(&Error::ResourceExhausted {
                message: format!(
                    "more than {WATCHED_IDS} tasks match this filter at a time: watch a narrower one"
                ),
                retry_after: None,
            });
        }
    }

    /// A task that no longer matches, or is no more.
    fn forget(&mut self, id: &TaskId, version: Version) {
        let known = self.known.get(id);
        if self.over.is_some() || known.is_some_and(|known| known.version >= version) {
            return;
        }
        let was_known = self.known.remove(id).is_some();
        for told in self.listeners.values_mut() {
            if let Some(reading) = told.listing.as_mut().and_then(|list| list.reading.as_mut()) {
                reading.overflow |= reading.gone.len() >= WATCHED_IDS;
                if !reading.overflow {
                    reading.gone.insert(id.clone(), version);
                }
            }
            if was_known && told.forget(id) {
                told.wake.notify_one();
            }
        }
    }

    /// One listener has been sent the newest state of `id`, or has gone.
    fn taken(&mut self, id: &TaskId) -> Option<Arc<Snapshot>> {
        let known = self.known.get_mut(id)?;
        known.waiting = known.waiting.saturating_sub(1);
        if known.waiting == 0 { known.newest.take() } else { known.newest.clone() }
    }
}

impl Told {
    /// Whether it is to be told of this state.
    fn observe(&mut self, snapshot: &Snapshot, was_known: bool) -> bool {
        let id = &snapshot.task.id;
        if let Some(reading) = self.listing.as_mut().and_then(|list| list.reading.as_mut()) {
            reading.gone.remove(id);
        }
        match self.queue.get(id) {
            Some(Pending::Removed) => self.queue.set(id, Pending::Replaced),
            Some(Pending::Fresh | Pending::Again | Pending::Replaced) => {
                if snapshot.task.state().is_terminal() {
                    self.queue.release(id);
                }
            }
            None if self.was_sent(id, was_known) => self.queue.set(id, Pending::Again),
            None if self.will_list(snapshot.task.create_time) => return false,
            None => {
                self.unlisted.remove(id);
                self.queue.set(id, Pending::Fresh);
            }
        }
        true
    }

    fn end_list<'a>(&mut self, known: impl Iterator<Item = &'a TaskId>) {
        let told = |id: &TaskId| self.was_sent(id, true) || self.queue.get(id).is_some();
        self.unlisted = known.filter(|id| !told(id)).cloned().collect();
        self.listing = None;
    }

    /// Whether it is to be told that this is gone.
    fn forget(&mut self, id: &TaskId) -> bool {
        let sent = self.was_sent(id, true);
        if let Some(listing) = &mut self.listing {
            listing.sent.remove(id);
        }
        self.unlisted.remove(id);
        match self.queue.get(id) {
            Some(Pending::Fresh) => {
                self.queue.remove(id);
                return false;
            }
            Some(Pending::Again | Pending::Replaced) => {
                self.queue.release(id);
                self.queue.set(id, Pending::Removed);
            }
            Some(Pending::Removed) => {}
            None if sent => self.queue.set(id, Pending::Removed),
            None => return false,
        }
        true
    }

    fn was_sent(&self, id: &TaskId, was_known: bool) -> bool {
        match &self.listing {
            Some(listing) => listing.sent.contains(id),
            None => was_known && !self.unlisted.contains(id),
        }
    }

    fn will_list(&self, create_time: Timestamp) -> bool {
        self.listing.as_ref().is_some_and(|listing| {
            listing.reading.is_none() && listing.passed.is_none_or(|passed| create_time < passed)
        })
    }
}

/// What a listener is to do next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Send this state.
    Task(Arc<Snapshot>),
    /// Send that this one is gone.
    Removed(TaskId),
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

    /// The page that was read, newest task first, and whether it was the last one.
    /// False where it must be read again.
    pub(crate) fn page(&self, tasks: &[Arc<Snapshot>], last: bool) -> bool {
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
            if last {
                told.end_list(state.known.keys());
            } else if let (Some(listing), Some(end)) = (&mut told.listing, tasks.last()) {
                listing.passed = Some(end.task.create_time);
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
            let listing = told.listing.is_some();
            let (listed, changed) = (told.queue.first_listed(), told.queue.first_changed());
            let first = if listing && self.lists { listed } else { changed.or(listed) };
            self.lists = !self.lists;
            let Some(id) = first else {
                if listing {
                    return Ok(Next::ReadPage);
                }
                let held = told.queue.holds_some().then(|| self.paces_by_time.first()).flatten();
                return Ok(Next::Wait(held.map(|(time, _)| *time)));
            };
            match told.queue.get(&id) {
                Some(Pending::Removed) => {
                    told.queue.remove(&id);
                    self.unpace(&id);
                    return Ok(Next::Removed(id));
                }
                Some(Pending::Replaced) => {
                    told.queue.set(&id, Pending::Fresh);
                    self.unpace(&id);
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
            told.queue.remove(&id);
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
