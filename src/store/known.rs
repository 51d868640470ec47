//! Tasks that are in memory, where nobody else can write the database: those that run, since
//! they are loaded with each report, and those that were read not long ago, since who polls
//! reads them again; and some of those that are due, since they are handed out next. At most
//! so many bytes of them.
//!
//! What is here is what is committed. A task that is being committed is not here, so that
//! nobody reads an older state than a list may have shown; and what was read before a commit
//! is not kept after it: a reader registers, then reads, then tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use lru::LruCache;

use super::{Stored, TaskId, payloads::size};

/// Of all tasks that are kept, but for those that are due.
const BYTES: usize = 32 << 20;
/// Of those: a kind that nobody serves must not take the place of all that run.
const DUE_BYTES: usize = 1 << 20;

/// Tasks in memory.
#[derive(Debug)]
pub(super) struct Known(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    tasks: Shelf,
    due: Shelf,
    /// Those that are being committed.
    written: HashSet<TaskId>,
    /// Those that are being read, by the number of the reading.
    readings: HashMap<u64, HashSet<TaskId>>,
    next_reading: u64,
}

#[derive(Debug)]
struct Task {
    stored: Stored,
    /// The input is there, or there is none.
    with_input: bool,
    bytes: usize,
}

/// Tasks of so many bytes at most; those go first that were not asked for longest.
#[derive(Debug)]
struct Shelf {
    tasks: LruCache<TaskId, Task>,
    bytes: usize,
    most: usize,
}

/// From before a read until what was found is told.
#[derive(Debug)]
pub(super) struct Reading {
    known: Arc<Known>,
    number: u64,
}

/// From before a commit until it stands or not.
#[derive(Debug)]
pub(super) struct Writing {
    known: Arc<Known>,
    ids: Vec<TaskId>,
    /// Those that were here before.
    kept: HashMap<TaskId, Task>,
}

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            tasks: Shelf::new(BYTES),
            due: Shelf::new(DUE_BYTES),
            written: HashSet::new(),
            readings: HashMap::new(),
            next_reading: 0,
        }))
    }
}

impl Known {
    /// A task, with its input where that is asked for.
    pub(super) fn get(&self, id: &TaskId, with_input: bool) -> Option<Stored> {
        let mut inner = self.lock();
        let Inner { tasks, due, .. } = &mut *inner;
        let task = tasks.tasks.get(id).or_else(|| due.tasks.get(id));
        let task = task.filter(|task| task.with_input || !with_input)?;
        let input = task.stored.input.clone().filter(|_| with_input);
        Some(Stored { row: task.stored.row, task: Arc::clone(&task.stored.task), input })
    }

    /// Before these are read.
    pub(super) fn read(self: &Arc<Self>, ids: impl Iterator<Item = TaskId>) -> Reading {
        let mut inner = self.lock();
        let ids = ids.filter(|id| !inner.written.contains(id)).collect();
        let number = inner.next_reading;
        inner.next_reading += 1;
        inner.readings.insert(number, ids);
        Reading { known: Arc::clone(self), number }
    }

    /// Before these are committed.
    pub(super) fn write(self: &Arc<Self>, ids: Vec<TaskId>) -> Writing {
        let mut inner = self.lock();
        let mut kept = HashMap::with_capacity(ids.len());
        for id in &ids {
            if let Some(task) = inner.remove(id) {
                kept.insert(id.clone(), task);
            }
            for reading in inner.readings.values_mut() {
                reading.remove(id);
            }
        }
        inner.written.extend(ids.iter().cloned());
        Writing { known: Arc::clone(self), ids, kept }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn new(most: usize) -> Self {
        Self { tasks: LruCache::unbounded(), bytes: 0, most }
    }

    fn remove(&mut self, id: &TaskId) -> Option<Task> {
        let task = self.tasks.pop(id)?;
        self.bytes -= task.bytes;
        Some(task)
    }

    fn put(&mut self, stored: Stored, with_input: bool) {
        let checkpoint = stored.task.checkpoint.as_ref().map_or(0, |c| c.encoded().len());
        let bytes = size(&stored) + checkpoint;
        self.tasks.put(stored.task.id.clone(), Task { stored, with_input, bytes });
        self.bytes += bytes;
        while self.bytes > self.most
            && let Some((_, oldest)) = self.tasks.pop_lru()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

impl Inner {
    fn remove(&mut self, id: &TaskId) -> Option<Task> {
        self.tasks.remove(id).or_else(|| self.due.remove(id))
    }

    fn keep(&mut self, stored: Stored, with_input: bool) {
        self.remove(&stored.task.id);
        self.tasks.put(stored, with_input);
    }

    /// A new task, which is due; it may have been read already.
    fn keep_due(&mut self, stored: Stored) {
        self.remove(&stored.task.id);
        self.due.put(stored, true);
    }
}

impl Reading {
    /// What was found; those with an input that were asked for with it.
    pub(super) fn found<'a>(&self, found: impl Iterator<Item = (&'a Stored, bool)>) {
        let mut inner = self.known.lock();
        for (stored, with_input) in found {
            let is_current = inner.readings.get(&self.number);
            if is_current.is_some_and(|ids| ids.contains(&stored.task.id)) {
                inner.keep(stored.clone(), with_input);
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.known.lock().readings.remove(&self.number);
    }
}

impl Writing {
    /// It stands: what these have become, of which those are kept that run, or were here
    /// before; and new ones that are due.
    pub(super) fn stands(mut self, became: impl Iterator<Item = Stored>, due: Vec<Stored>) {
        let mut inner = self.known.lock();
        for stored in became {
            // Another one may have had the same id.
            let before = self.kept.remove(&stored.task.id);
            let before = before.filter(|before| before.stored.row == stored.row);
            if before.is_some() || stored.task.lease().is_some() {
                let with_input = before.as_ref().is_some_and(|before| before.with_input);
                let input = before.and_then(|before| before.stored.input);
                inner.keep(Stored { input, ..stored }, with_input);
            }
        }
        due.into_iter().for_each(|stored| inner.keep_due(stored));
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut inner = self.known.lock();
        for id in &self.ids {
            inner.written.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{self, Labels, Name, NewTask, RetryPolicy, Timestamp};

    fn stored(revision: i64) -> Stored {
        let new = NewTask {
            id: Name::new("a").expect("a name"),
            kind: Name::new("demo").expect("a name"),
            input: None,
            queue: None,
            priority: 0,
            labels: Labels::new(),
            schedule_time: None,
            retry_policy: RetryPolicy::default(),
            attempt_timeout: None,
            retention: None,
        };
        let task = domain::Task { revision, ..domain::create(&new, Timestamp::from_micros(0)) };
        Stored { row: 1, task: Arc::new(task), input: None }
    }

    fn revision(known: &Known) -> Option<i64> {
        known.get(&stored(1).task.id, false).map(|stored| stored.task.revision)
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_kept_after_it() {
        let (known, old) = (Arc::<Known>::default(), stored(1));
        let ids = || vec![old.task.id.clone()];
        known.read(ids().into_iter()).found([(&old, false)].into_iter());
        assert_eq!(revision(&known), Some(1));
        let reading = known.read(ids().into_iter());
        let writing = known.write(ids());
        assert_eq!(revision(&known), None, "it is being committed");
        let meanwhile = known.read(ids().into_iter());
        writing.stands([stored(2)].into_iter(), Vec::new());
        reading.found([(&old, false)].into_iter());
        meanwhile.found([(&old, false)].into_iter());
        assert_eq!(revision(&known), Some(2));
        drop(known.write(ids()));
        assert_eq!(revision(&known), None, "nobody knows what became of it");
        assert!(known.get(&old.task.id, true).is_none());
    }

    #[test]
    fn what_is_due_is_kept_until_it_is_written() {
        let (known, new) = (Arc::<Known>::default(), stored(1));
        let ids = || vec![new.task.id.clone()];
        let writing = known.write(Vec::new());
        // Committed, and read before that is told.
        known.read(ids().into_iter()).found([(&new, false)].into_iter());
        writing.stands(std::iter::empty(), vec![new.clone()]);
        assert!(known.get(&new.task.id, true).is_some(), "with its input");
        drop(known.write(ids()));
        assert_eq!(revision(&known), None);
        let inner = known.lock();
        assert_eq!((inner.tasks.bytes, inner.due.bytes), (0, 0));
    }

    #[test]
    fn an_input_is_not_that_of_another_task_of_its_id() {
        let (known, old) = (Arc::<Known>::default(), stored(1));
        known.write(Vec::new()).stands(std::iter::empty(), vec![old.clone()]);
        let new = Stored { row: 2, ..stored(2) };
        let writing = known.write(vec![old.task.id.clone()]);
        writing.stands([new].into_iter(), Vec::new());
        assert!(known.get(&old.task.id, true).is_none());
    }

    #[test]
    fn there_are_not_too_many() {
        let mut shelf = Shelf::new(2 * size(&stored(1)));
        for id in ["a", "b", "c"] {
            let mut task = (*stored(1).task).clone();
            task.id = Name::new(id).expect("a name");
            shelf.put(Stored { task: Arc::new(task), ..stored(1) }, true);
        }
        assert_eq!(shelf.tasks.len(), 2);
        assert!(shelf.bytes <= shelf.most);
        assert!(shelf.remove(&Name::new("a").expect("a name")).is_none());
    }
}
