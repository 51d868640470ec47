//! Tasks that are in memory, where nobody else can write the database: those that run, since
//! they are loaded with each report; some of those that wait, since they are handed out next;
//! and those that were read not long ago, since who polls reads them again. At most so many
//! bytes of each.
//!
//! What is here is what is committed. A task that is being committed is not here, so that
//! nobody reads an older state than a list may have shown; and what was read before a commit
//! is not kept after it: a reader registers, then reads, then tells.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};
use lru::LruCache;

use super::{Stored, TaskId, payloads::size};
use crate::domain::Task;

/// Of tasks that run.
const RUNNING_BYTES: usize = 128 << 20;
/// Of those that wait: a kind that nobody serves must not take much.
const WAITING_BYTES: usize = 4 << 20;
/// Of others that somebody reads. What is kept for long is no longer in the processor's
/// caches, and each task that takes its place waits for memory.
const READ_BYTES: usize = 16 << 20;
/// What one takes beside what is long in it.
const ENTRY_BYTES: usize = size_of::<Task>() + size_of::<Entry>();

/// Tasks in memory.
#[derive(Debug)]
pub(super) struct Known(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    running: Shelf,
    waiting: Shelf,
    read: Shelf,
    /// Those that are being committed, by the only one who does so.
    written: Option<Arc<Became>>,
    /// Those that are being read, by the number of the reading.
    readings: HashMap<u64, HashSet<TaskId>>,
    next_reading: u64,
}

/// What tasks become by a commit; none where they are gone.
pub(super) type Became = HashMap<TaskId, Option<Stored>>;

#[derive(Debug)]
struct Entry {
    stored: Stored,
    /// The input is there, or there is none.
    with_input: bool,
    /// Somebody reads it, and may do so again.
    is_read: bool,
    bytes: usize,
}

/// Tasks of so many bytes at most; those go first that were not asked for longest.
#[derive(Debug)]
struct Shelf {
    tasks: LruCache<TaskId, Entry>,
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
    became: Arc<Became>,
    /// What was here before, in the order of those.
    kept: Vec<Option<Entry>>,
}

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            running: Shelf::new(RUNNING_BYTES),
            waiting: Shelf::new(WAITING_BYTES),
            read: Shelf::new(READ_BYTES),
            written: None,
            readings: HashMap::new(),
            next_reading: 0,
        }))
    }
}

impl Known {
    /// A task, with its input where that is asked for.
    pub(super) fn get(&self, id: &TaskId, with_input: bool) -> Option<Stored> {
        self.lock().find(id, with_input).map(|entry| entry.shown(with_input))
    }

    /// The same for somebody who reads it.
    pub(super) fn read(&self, id: &TaskId, with_input: bool) -> Option<Stored> {
        let mut inner = self.lock();
        let entry = inner.find(id, with_input)?;
        entry.is_read = true;
        Some(entry.shown(with_input))
    }

    /// Before these are read.
    pub(super) fn reading(self: &Arc<Self>, ids: impl Iterator<Item = TaskId>) -> Reading {
        let mut inner = self.lock();
        let written = inner.written.as_ref();
        let ids = ids.filter(|id| !written.is_some_and(|written| written.contains_key(id)));
        let ids = ids.collect();
        let number = inner.next_reading;
        inner.next_reading += 1;
        inner.readings.insert(number, ids);
        Reading { known: Arc::clone(self), number }
    }

    /// Before these are committed.
    pub(super) fn writing(self: &Arc<Self>, became: Became) -> Writing {
        let mut inner = self.lock();
        let kept = became.keys().map(|id| inner.remove(id)).collect();
        for reading in inner.readings.values_mut() {
            reading.retain(|id| !became.contains_key(id));
        }
        let became = Arc::new(became);
        inner.written = Some(Arc::clone(&became));
        Writing { known: Arc::clone(self), became, kept }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn shown(&self, with_input: bool) -> Stored {
        let input = self.stored.input.clone().filter(|_| with_input);
        Stored { row: self.stored.row, task: Arc::clone(&self.stored.task), input }
    }
}

impl Shelf {
    fn new(most: usize) -> Self {
        Self { tasks: LruCache::unbounded(), bytes: 0, most }
    }

    fn remove(&mut self, id: &TaskId) -> Option<Entry> {
        let entry = self.tasks.pop(id)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn put(&mut self, stored: Stored, with_input: bool, is_read: bool) {
        // With an input, the checkpoint is counted.
        let checkpoint = stored.task.checkpoint.as_ref().filter(|_| stored.input.is_none());
        let checkpoint = checkpoint.map_or(0, |checkpoint| checkpoint.encoded().len());
        let bytes = ENTRY_BYTES + size(&stored) + checkpoint;
        self.tasks.put(stored.task.id.clone(), Entry { stored, with_input, is_read, bytes });
        self.bytes += bytes;
        while self.bytes > self.most
            && let Some((_, oldest)) = self.tasks.pop_lru()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

impl Inner {
    fn find(&mut self, id: &TaskId, with_input: bool) -> Option<&mut Entry> {
        let Self { running, waiting, read, .. } = self;
        let shelves = [running, waiting, read].into_iter();
        let entry = shelves.filter_map(|shelf| shelf.tasks.get_mut(id)).next()?;
        Some(entry).filter(|entry| entry.with_input || !with_input)
    }

    fn remove(&mut self, id: &TaskId) -> Option<Entry> {
        let Self { running, waiting, read, .. } = self;
        [running, waiting, read].into_iter().find_map(|shelf| shelf.remove(id))
    }

    /// Where somebody will ask for it.
    fn keep(&mut self, stored: Stored, with_input: bool, is_read: bool) {
        let task = &stored.task;
        if task.lease().is_some() {
            self.running.put(stored, with_input, is_read);
        } else if is_read {
            self.read.put(stored, with_input, is_read);
        } else if with_input && task.waits() {
            self.waiting.put(stored, with_input, is_read);
        }
    }
}

impl Reading {
    /// What was found; those with an input that were asked for with it.
    pub(super) fn found<'a>(&self, found: impl Iterator<Item = (&'a Stored, bool)>) {
        let mut inner = self.known.lock();
        for (stored, with_input) in found {
            let is_current = inner.readings.get(&self.number);
            if is_current.is_some_and(|ids| ids.contains(&stored.task.id)) {
                let before = inner.remove(&stored.task.id);
                let before = before.filter(|before| before.stored.row == stored.row);
                // Another one may have read it with its input, which stays as it is.
                let (input, with_input) = match before.filter(|before| before.with_input) {
                    Some(before) if !with_input => (before.stored.input, true),
                    _ => (stored.input.clone(), with_input),
                };
                inner.keep(Stored { input, ..stored.clone() }, with_input, true);
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
    /// It stands, and so do these new tasks, with their inputs.
    pub(super) fn stands(mut self, created: Vec<Stored>) {
        let mut inner = self.known.lock();
        for (after, before) in self.became.values().zip(self.kept.drain(..)) {
            let Some(after) = after else { continue };
            // Another one may have had the same id.
            let before = before.filter(|before| before.stored.row == after.row);
            let (input, with_input, is_read) = before.map_or((None, false, false), |before| {
                (before.stored.input, before.with_input, before.is_read)
            });
            inner.keep(Stored { input, ..after.clone() }, with_input, is_read);
        }
        for stored in created {
            // It may have been read already.
            let before = inner.remove(&stored.task.id);
            inner.keep(stored, true, before.is_some_and(|before| before.is_read));
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.known.lock().written = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        self, Context, Event, Grant, Labels, Name, NewTask, Patch, RetryPolicy, State, Timestamp,
    };

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
        let task = Task { revision, ..domain::create(&new, Timestamp::from_micros(0)) };
        Stored { row: 1, task: Arc::new(task), input: None }
    }

    fn ids() -> impl Iterator<Item = TaskId> {
        std::iter::once(stored(1).task.id.clone())
    }

    fn becomes(after: Option<Stored>) -> Became {
        ids().map(|id| (id, after.clone())).collect()
    }

    fn revision(known: &Known) -> Option<i64> {
        known.get(&stored(1).task.id, false).map(|stored| stored.task.revision)
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_kept_after_it() {
        let (known, old) = (Arc::<Known>::default(), stored(1));
        known.reading(ids()).found([(&old, false)].into_iter());
        assert_eq!(revision(&known), Some(1));
        let reading = known.reading(ids());
        let writing = known.writing(becomes(Some(stored(2))));
        assert_eq!(revision(&known), None, "it is being committed");
        let meanwhile = known.reading(ids());
        writing.stands(Vec::new());
        reading.found([(&old, false)].into_iter());
        meanwhile.found([(&old, false)].into_iter());
        assert_eq!(revision(&known), Some(2));
        drop(known.writing(becomes(Some(stored(3)))));
        assert_eq!(revision(&known), None, "nobody knows what became of it");
        known.reading(ids()).found([(&old, false)].into_iter());
        assert_eq!(revision(&known), Some(1), "what is read after it is kept");
        assert!(known.get(&old.task.id, true).is_none());
    }

    #[test]
    fn what_waits_is_kept_until_it_is_written() {
        let (known, new) = (Arc::<Known>::default(), stored(1));
        let writing = known.writing(Became::new());
        // Committed, and read before that is told.
        known.reading(ids()).found([(&new, false)].into_iter());
        writing.stands(vec![new.clone()]);
        assert!(known.get(&new.task.id, true).is_some(), "with its input");
        drop(known.writing(becomes(None)));
        assert_eq!(revision(&known), None);
        let inner = known.lock();
        assert_eq!((inner.waiting.bytes, inner.running.bytes, inner.read.bytes), (0, 0, 0));
    }

    #[test]
    fn of_those_that_have_ended_only_what_was_read_is_kept() {
        let apply = |before: &Stored, revision, event| {
            let context = Context {
                now: Timestamp::from_micros(0),
                kind: &domain::KindDefaults::default(),
                jitter: 0.0,
                input: None,
            };
            let after = domain::apply(&before.task, &event, &context).expect("applied");
            let task = Task { revision, ..after.expect("changed") };
            Stored { task: Arc::new(task), ..before.clone() }
        };
        let grant = Grant {
            worker: Name::new("w").expect("a name"),
            token: domain::Token([0; 16]),
            duration: std::time::Duration::from_secs(1),
            by_runner: false,
        };
        let runs = apply(&stored(1), 2, Event::Lease(grant));
        let cancels = Patch { state: Some(State::Cancelled), ..Patch::default() };
        let ended = apply(&stored(1), 3, Event::Update(Box::new(cancels)));
        for is_read in [false, true] {
            let known = Arc::<Known>::default();
            known.writing(becomes(Some(runs.clone()))).stands(Vec::new());
            assert_eq!(revision(&known), Some(2));
            if is_read {
                known.read(&runs.task.id, false).expect("in memory");
            }
            known.writing(becomes(Some(ended.clone()))).stands(Vec::new());
            assert_eq!(revision(&known), is_read.then_some(3));
        }
    }

    #[test]
    fn an_input_is_not_that_of_another_task_of_its_id() {
        let (known, old) = (Arc::<Known>::default(), stored(1));
        known.writing(Became::new()).stands(vec![old.clone()]);
        known.read(&old.task.id, true).expect("with its input");
        known.writing(becomes(Some(Stored { row: 2, ..stored(2) }))).stands(Vec::new());
        assert!(known.get(&old.task.id, true).is_none());
    }

    #[test]
    fn there_are_not_too_many() {
        let mut shelf = Shelf::new(2 * (ENTRY_BYTES + size(&stored(1))));
        for id in ["a", "b", "c"] {
            let mut task = (*stored(1).task).clone();
            task.id = Name::new(id).expect("a name");
            shelf.put(Stored { task: Arc::new(task), ..stored(1) }, true, false);
        }
        assert_eq!(shelf.tasks.len(), 2);
        assert!(shelf.bytes <= shelf.most);
        assert!(shelf.remove(&Name::new("a").expect("a name")).is_none());
    }
}
