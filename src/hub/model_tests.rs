//! Histories made at random: commits, publications that lag behind them, lists that
//! are read page by page in between, and listeners of any pace. However they fall,
//! each listener ends up with the truth, and is told nothing wrong on the way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    Hub, Listener, News, Next, Snapshot,
    tests::{failed, id, running, state},
};
use crate::domain::{Filter, Task, TaskId};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const PAGE: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Creates it, or changes it so that it matches or does not.
    Commit {
        task: usize,
        matches: bool,
    },
    Delete {
        task: usize,
    },
    Publish,
    /// The listener does what comes next for it; a page is read in three steps.
    Turn {
        listener: usize,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let task = 0..NAMES.len();
    prop_oneof![
        4 => (task.clone(), any::<bool>())
            .prop_map(|(task, matches)| Step::Commit { task, matches }),
        1 => task.prop_map(|task| Step::Delete { task }),
        4 => Just(Step::Publish),
        6 => (0..2_usize).prop_map(|listener| Step::Turn { listener }),
    ]
}

#[derive(Default)]
struct Store {
    tasks: BTreeMap<TaskId, Task>,
    /// Committed and not yet published.
    lag: VecDeque<News>,
    created: i64,
}

impl Store {
    fn apply(&mut self, step: &Step, hub: &Hub) {
        match step {
            Step::Commit { task, matches } => {
                let name = NAMES[*task];
                let (created, revision) = match self.tasks.get(&id(name)) {
                    Some(task) => (task.create_time.micros(), task.revision + 1),
                    None => {
                        self.created += 1;
                        (self.created, 1)
                    }
                };
                let make = if *matches { running } else { failed };
                let task = make(name, created, revision);
                self.lag.push_back(state(task.clone()));
                self.tasks.insert(task.id.clone(), task);
            }
            Step::Delete { task } => {
                let id = id(NAMES[*task]);
                if let Some(task) = self.tasks.remove(&id) {
                    self.lag.push_back(News::Deleted(id, task.create_time));
                }
            }
            Step::Publish => hub.publish(&self.lag.pop_front().into_iter().collect::<Vec<_>>()),
            Step::Turn { .. } => {}
        }
    }

    fn matching(&self) -> BTreeMap<TaskId, i64> {
        let filter = Filter::parse("state = RUNNING").unwrap_or_default();
        let matching = self.tasks.values().filter(|task| filter.matches(task));
        matching.map(|task| (task.id.clone(), task.revision)).collect()
    }

    /// Newest first, older than `after`.
    fn page(&self, after: i64) -> (Vec<Arc<Snapshot>>, bool) {
        let matching = self.matching();
        let mut tasks: Vec<_> = self.tasks.values().collect();
        tasks.retain(|task| matching.contains_key(&task.id) && task.create_time.micros() < after);
        tasks.sort_by_key(|task| std::cmp::Reverse(task.create_time));
        let last = tasks.len() <= PAGE;
        tasks.truncate(PAGE);
        (tasks.into_iter().map(|task| Arc::new(Snapshot::new(task.clone()))).collect(), last)
    }
}

enum Reading {
    No,
    Begun,
    Read(Vec<Arc<Snapshot>>, bool),
}

struct Client {
    listener: Listener,
    view: BTreeMap<TaskId, i64>,
    reading: Reading,
    cursor: i64,
    synced: bool,
}

impl Client {
    fn new(hub: &Hub) -> Self {
        let filter = Filter::parse("state = RUNNING").unwrap_or_default();
        let listener = hub.listen(&filter, Duration::ZERO).expect("the hub is open");
        Self {
            listener,
            view: BTreeMap::new(),
            reading: Reading::No,
            cursor: i64::MAX,
            synced: false,
        }
    }

    /// False when it has nothing to do.
    fn turn(&mut self, store: &Store) -> Result<bool, TestCaseError> {
        match std::mem::replace(&mut self.reading, Reading::No) {
            Reading::Begun => {
                let (page, last) = store.page(self.cursor);
                self.reading = Reading::Read(page, last);
                return Ok(true);
            }
            Reading::Read(page, last) => {
                if self
                    .listener
                    .page(&page, page.last().map(|end| end.task.create_time).filter(|_| !last))
                    && let Some(end) = page.last()
                {
                    self.cursor = end.task.create_time.micros();
                }
                return Ok(true);
            }
            Reading::No => {}
        }
        match self.listener.next(Instant::now()) {
            Ok(Next::Task(snapshot)) => {
                let Task { id, revision, .. } = &*snapshot.task;
                let last = self.view.insert(id.clone(), *revision);
                prop_assert!(last.is_none_or(|last| last < *revision), "{id} {last:?} {revision}");
            }
            Ok(Next::Removed(id)) => {
                prop_assert!(self.view.remove(&id).is_some(), "{id} had not been sent");
            }
            Ok(Next::Synced) => {
                prop_assert!(!self.synced, "synced twice");
                self.synced = true;
            }
            Ok(Next::ReadPage) => {
                self.listener.begin_page();
                self.reading = Reading::Begun;
            }
            Ok(Next::Wait(_)) => {
                prop_assert!(self.synced, "waits before it is synced");
                return Ok(false);
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_listener_ends_up_with_the_truth(
        before in prop::collection::vec(any_step(), 0..20),
        during in prop::collection::vec(any_step(), 0..60),
    ) {
        let hub = Hub::default();
        let mut store = Store::default();
        for step in &before {
            store.apply(step, &hub);
        }
        let mut clients = [Client::new(&hub), Client::new(&hub)];
        for step in &during {
            store.apply(step, &hub);
            if let Step::Turn { listener } = step {
                clients[*listener].turn(&store)?;
            }
        }
        while !store.lag.is_empty() {
            store.apply(&Step::Publish, &hub);
        }
        for mut client in clients {
            while client.turn(&store)? {}
            prop_assert_eq!(client.view, store.matching());
        }
        prop_assert!(hub.shared.lock().filters.is_empty());
    }
}
