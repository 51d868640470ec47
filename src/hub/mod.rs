//! The news: who watches what, and what they are told. Knows neither the store
//! nor the wire; a state that nobody watches costs nothing here.
//!
//! There is an entry for each *watched* task and for each *watched* filter, made by
//! the first watcher and removed with the last one inside the lock. Publishing never
//! waits for a watcher: each has one place for each task, in which the newest state
//! stands.
//!
//! A read is news too: what a watcher has read from the store is told to all others
//! whose knowledge is older. So what comes late through [`Hub::publish`] is known to
//! be old, for everybody alike.

mod filtered;
#[cfg(test)]
mod filtered_tests;
mod listener;
#[cfg(test)]
mod model_tests;
mod queue;
mod recent;
mod single;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use filtered::Entry;
use hashbrown::HashMap;
pub(crate) use listener::{Listener, Next};
pub use recent::Reading;
use recent::{Readings, Recent};
pub(crate) use single::{Follower, Latest};
use snapshot::Version;
pub use snapshot::{Full, Snapshot};

use crate::domain::{Error, Filter, Task, TaskId, Timestamp, limits::WATCHED_IDS};

/// What a commit made of a task.
#[derive(Clone, Debug)]
pub enum News {
    /// Its newest state.
    State(Arc<Snapshot>),
    /// The task of this id that was created then was deleted.
    Deleted(TaskId, Timestamp),
}

/// Who watches what. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Somebody watches something; read without the lock for every change.
    watched: AtomicBool,
    /// One plain lock: it is held for a look into a map and a wake-up, by the
    /// committer once a batch and by a watcher when it comes and when it goes, and
    /// never across an await, a match or an encoding.
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    closed: bool,
    tasks: HashMap<TaskId, single::Entry>,
    filters: HashMap<Filter, Arc<Entry>>,
    readings: Readings,
    /// What was deleted while somebody reads.
    gone: Recent,
}

impl Hub {
    /// Tells everybody whom it concerns; called after a commit and in the order of
    /// commits. Whoever publishes beside another [begins](Hub::begin) before its read
    /// or its commit. Never blocks.
    pub fn publish(&self, news: &[News]) {
        self.tell(news, u64::MAX);
    }

    /// Tells what was read from the store since `reading` began. Who began to watch a
    /// filter after that reads later, and knows better.
    pub fn publish_read(&self, news: &[News], reading: &Reading) {
        self.tell(news, reading.began());
    }

    fn tell(&self, news: &[News], began: u64) {
        if !self.shared.watched.load(Ordering::Acquire) {
            return;
        }
        let mut filters: Vec<Arc<Entry>> = Vec::new();
        let time = {
            let mut entries = self.shared.lock();
            let time = entries.readings.time();
            for one in news {
                match one {
                    News::State(snapshot) => {
                        let id = &snapshot.task.id;
                        if let Some(entry) = entries.tasks.get(id)
                            && !entries.gone.is_past(id, snapshot.version())
                        {
                            entry.offer(snapshot);
                        }
                    }
                    // Whoever comes after this follows another task of that id.
                    News::Deleted(id, created) => {
                        if entries.tasks.get_mut(id).is_some_and(|entry| entry.departs(*created))
                            && let Some(entry) = entries.tasks.remove(id)
                        {
                            entry.delete();
                        }
                        if let Some(time) = time {
                            let version = Version::gone(*created);
                            entries.gone.note(id, version, time, WATCHED_IDS);
                        }
                    }
                }
            }
            filters.extend(entries.filters.values().filter(|entry| entry.born < began).cloned());
            entries.note(&self.shared.watched);
            time
        };
        for entry in filters {
            entry.publish(news, time);
        }
    }

    /// Whether anybody watches anything.
    pub fn is_watched(&self) -> bool {
        self.shared.watched.load(Ordering::Acquire)
    }

    /// Those of these tasks that somebody may want to hear of.
    pub fn wanted(&self, mut ids: Vec<TaskId>) -> Vec<TaskId> {
        let entries = self.shared.lock();
        if entries.filters.is_empty() {
            ids.retain(|id| entries.tasks.contains_key(id));
        }
        ids
    }

    /// All that is watched: single tasks, with their creation where that is known, and
    /// filters.
    pub fn watched(&self) -> (Vec<(TaskId, Option<Timestamp>)>, Vec<Filter>) {
        let entries = self.shared.lock();
        let tasks = entries.tasks.iter().map(|(id, entry)| (id.clone(), entry.created()));
        (tasks.collect(), entries.filters.keys().cloned().collect())
    }

    /// The tasks that match a watched filter as far as is known, with their creation.
    pub fn known(&self, filter: &Filter) -> Vec<(TaskId, Timestamp)> {
        let entry = self.shared.lock().filters.get(filter).cloned();
        entry.map(|entry| entry.known()).unwrap_or_default()
    }

    /// Whether somebody watches this task (or a filter, which might match it), so
    /// that it is worth making a snapshot.
    pub fn wants(&self, task: &Task) -> bool {
        if !self.shared.watched.load(Ordering::Acquire) {
            return false;
        }
        let entries = self.shared.lock();
        // Whether a filter matches is found out when it is published, once; and what
        // no longer matches is news as well.
        !entries.filters.is_empty() || entries.tasks.contains_key(&task.id)
    }

    /// The server drains: every open watch ends with UNAVAILABLE, new ones as well.
    pub fn close(&self) {
        let (tasks, filters) = {
            let mut entries = self.shared.lock();
            entries.closed = true;
            let taken = (std::mem::take(&mut entries.tasks), std::mem::take(&mut entries.filters));
            entries.note(&self.shared.watched);
            taken
        };
        // With its sender gone, a single task's watcher knows.
        drop(tasks);
        for entry in filters.into_values() {
            entry.end(&draining());
        }
    }

    /// Watches one task: from here on its news reach the follower.
    pub(crate) fn follow(&self, id: &TaskId) -> Result<Follower, Error> {
        let mut entries = self.shared.lock();
        if entries.closed {
            return Err(draining());
        }
        let entry = entries.tasks.entry(id.clone()).or_default();
        let follower = entry.join(self.clone(), id.clone());
        entries.note(&self.shared.watched);
        Ok(follower)
    }

    /// Watches a filter: from here on its news reach the listener.
    pub(crate) fn listen(
        &self,
        filter: &Filter,
        min_interval: std::time::Duration,
    ) -> Result<Listener, Error> {
        let mut entries = self.shared.lock();
        if entries.closed {
            return Err(draining());
        }
        // One that has grown too large tells nothing any more.
        let entry = match entries.filters.get(filter).filter(|entry| !entry.is_over()) {
            Some(entry) => Arc::clone(entry),
            None => Arc::new(Entry::new(filter.clone(), entries.readings.now())),
        };
        entries.filters.insert(filter.clone(), Arc::clone(&entry));
        let listener = Listener::join(self.clone(), entry, min_interval);
        entries.note(&self.shared.watched);
        Ok(listener)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

impl Entries {
    fn note(&self, watched: &AtomicBool) {
        let any = !self.tasks.is_empty() || !self.filters.is_empty();
        watched.store(any, Ordering::Release);
    }
}

/// Nothing that is done under these locks leaves half of it behind, so that a panic
/// elsewhere need not end every watch.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a watch is told that ends before its task does.
pub(crate) fn draining() -> Error {
    Error::Unavailable {
        message: "the server is stopping: watch again on another one, or when it is back, with \
                  after_revision to resume"
            .into(),
        retry_after: None,
    }
}
