//! One watched filter: the ids that match, and what each of its listeners has yet to
//! be told. Each change is matched once, however many listen.
//!
//! While a listener reads its first list page by page (newest task first), a change
//! of a task that its list has yet to come to is left to the list, so that a slow
//! reader keeps no more than a page. What happens while a page is being read counts
//! against that page, which may be older.

use std::sync::{Arc, Mutex};

use hashbrown::{HashMap, HashSet};
use tokio::sync::Notify;

use super::{
    News, Snapshot, Version, lock,
    queue::{Pending, Queue},
    recent::{Recent, Time},
};
use crate::domain::{Error, Filter, TaskId, Timestamp, limits::WATCHED_IDS};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) filter: Filter,
    /// By the hub's clock of reads.
    pub(super) born: u64,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Nothing is told any more but this.
    pub(super) over: Option<Error>,
    /// The tasks that match.
    pub(super) known: HashMap<TaskId, Known>,
    pub(super) listeners: HashMap<u64, Told>,
    pub(super) next_key: u64,
    /// What no longer matched, or was deleted, while somebody reads.
    gone: Recent,
}

#[derive(Debug)]
pub(super) struct Known {
    /// The newest state that every listener was sent, or has waiting, or will list.
    version: Version,
    /// That state, while some listener has yet to be sent it.
    pub(super) newest: Option<Arc<Snapshot>>,
    /// How many have.
    pub(super) waiting: usize,
}

/// One listener, as its entry knows it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) queue: Queue,
    /// None when the first list is over: then it was sent, or has waiting, all
    /// that is known but `unlisted`.
    pub(super) listing: Option<Listing>,
    /// What its list did not bring, since it no longer matched by then; the news of
    /// that are yet to come.
    pub(super) unlisted: HashSet<TaskId>,
    /// What waited when the first list was over and had never been sent: when that has
    /// been, all is that matched at first. None before that time, and after.
    pub(super) owed: Option<HashSet<TaskId>>,
    pub(super) wake: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) sent: HashSet<TaskId>,
    /// The creation of the last task on the last page.
    pub(super) passed: Option<Timestamp>,
    pub(super) reading: Option<Reading>,
}

/// What ceased to match while a page is being read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) gone: HashMap<TaskId, Version>,
    /// That was too much: the page must be read again.
    pub(super) overflow: bool,
}

impl Entry {
    pub(super) fn new(filter: Filter, born: u64) -> Self {
        Self { filter, born, state: Mutex::default() }
    }

    /// `time` where others read the store meanwhile, whose news must not come late.
    pub(super) fn publish(&self, news: &[News], time: Option<Time>) {
        if time.is_none() {
            lock(&self.state).gone.clear();
        }
        for one in news {
            match one {
                News::State(snapshot) => {
                    // Matched outside the lock, which listeners want as well.
                    let matches = self.filter.matches(&snapshot.task);
                    let (id, version) = (&snapshot.task.id, snapshot.version());
                    let mut state = lock(&self.state);
                    if !matches {
                        state.goes(id, version, time);
                    } else if !state.gone.is_past(id, version) {
                        state.observe(snapshot);
                    }
                }
                News::Deleted(id, created) => {
                    lock(&self.state).goes(id, Version::gone(*created), time);
                }
            }
        }
    }

    pub(super) fn known(&self) -> Vec<(TaskId, Timestamp)> {
        let state = lock(&self.state);
        state.known.iter().map(|(id, known)| (id.clone(), known.version.created())).collect()
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

    /// No longer matches, or is no more; remembered while others read.
    fn goes(&mut self, id: &TaskId, version: Version, time: Option<Time>) {
        self.forget(id, version);
        if let Some(time) = time
            && !self.gone.note(id, version, time, WATCHED_IDS)
        {
            self.gone = Recent::default();
            self.end(&super::draining());
        }
    }

    /// A state that matches, from a commit or from somebody's list.
    pub(super) fn observe(&mut self, snapshot: &Arc<Snapshot>) {
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
    pub(super) fn taken(&mut self, id: &TaskId) -> Option<Arc<Snapshot>> {
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

    pub(super) fn end_list<'a>(&mut self, known: impl Iterator<Item = &'a TaskId>) {
        let told = |id: &TaskId| self.was_sent(id, true) || self.queue.get(id).is_some();
        self.unlisted = known.filter(|id| !told(id)).cloned().collect();
        self.owed = Some(self.queue.fresh().cloned().collect());
        self.listing = None;
    }

    /// It is being told of this.
    pub(super) fn take(&mut self, id: &TaskId) {
        self.queue.remove(id);
        if let Some(owed) = &mut self.owed {
            owed.remove(id);
        }
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
                self.take(id);
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

    pub(super) fn was_sent(&self, id: &TaskId, was_known: bool) -> bool {
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
