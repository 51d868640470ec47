//! What is known and what is looked at: pure, so that drawing it and steering it can
//! be tested without a terminal.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cli::{
        pace::Pace,
        text::{state, time},
    },
    proto::{Attempt, Kind, Queue, Task, task::State},
};

/// How long a task that has ended stays to be seen.
const SETTLED: Duration = Duration::from_secs(10);

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Tasks,
    Kinds,
    Queues,
    Workers,
}

impl Pane {
    pub(super) const ALL: [Self; 4] = [Self::Tasks, Self::Kinds, Self::Queues, Self::Workers];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Tasks => "Tasks",
            Self::Kinds => "Kinds",
            Self::Queues => "Queues",
            Self::Workers => "Workers",
        }
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What tasks are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Started,
    Name,
    Kind,
    State,
    Percent,
    Worker,
}

impl Column {
    const ALL: [Self; 6] =
        [Self::Started, Self::Name, Self::Kind, Self::State, Self::Percent, Self::Worker];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Name => "name",
            Self::Kind => "kind",
            Self::State => "state",
            Self::Percent => "percent",
            Self::Worker => "worker",
        }
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// A task with its pace; once it has ended or gone, with the time when it leaves.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) task: Task,
    pub(super) pace: Pace,
    pub(super) leaves_at: Option<Instant>,
}

/// A worker, by what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) tasks: usize,
    pub(super) kinds: BTreeSet<String>,
}

/// One task in full.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    pub(super) task: Task,
    pub(super) attempts: Vec<Attempt>,
    pub(super) scroll: u16,
}

/// A question that waits for y or n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) call: Call,
}

/// Something that the server is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Cancel(String),
    Pause(String),
    Resume(String),
    Retry(String),
    PauseQueue(String, bool),
    /// Reads a task in full.
    Open(String),
}

/// All of it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) server: String,
    pub(super) pane: Pane,
    pub(super) tasks: BTreeMap<String, Shown>,
    pub(super) kinds: Vec<Kind>,
    pub(super) queues: Vec<Queue>,
    pub(super) sort: (Column, bool),
    /// What is looked for; `typing` while it is written.
    pub(super) search: String,
    pub(super) typing: bool,
    /// The name of the row that is chosen, in each pane.
    chosen: BTreeMap<&'static str, String>,
    pub(super) detail: Option<Detail>,
    pub(super) question: Option<Question>,
    pub(super) help: bool,
    /// What was said last, and until when it stands.
    pub(super) note: Option<(String, Instant)>,
    pub(super) connected: bool,
}

impl Model {
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            pane: Pane::Tasks,
            tasks: BTreeMap::new(),
            kinds: Vec::new(),
            queues: Vec::new(),
            sort: (Column::Started, false),
            search: String::new(),
            typing: false,
            chosen: BTreeMap::new(),
            detail: None,
            question: None,
            help: false,
            note: None,
            connected: false,
        }
    }

    /// Takes a task's newest state.
    pub(super) fn see(&mut self, task: Task) {
        if let Some(detail) = self.detail.as_mut().filter(|d| d.task.name == task.name) {
            // What a watch leaves out stays as it was read.
            let (input, checkpoint) = (detail.task.input.take(), detail.task.checkpoint.take());
            detail.task = Task { input, checkpoint, ..task.clone() };
        }
        let leaves_at = task.end_time.is_some().then(|| Instant::now() + SETTLED);
        let mut pace = self.tasks.remove(&task.name).map(|shown| shown.pace).unwrap_or_default();
        pace.see(&task);
        self.tasks.insert(task.name.clone(), Shown { task, pace, leaves_at });
    }

    /// A task is gone, for good.
    pub(super) fn forget(&mut self, name: &str) {
        self.tasks.remove(name);
    }

    /// What time alone changes.
    pub(super) fn tick(&mut self) {
        let now = Instant::now();
        self.tasks.retain(|_, shown| shown.leaves_at.is_none_or(|at| at > now));
        self.note.take_if(|(_, until)| *until <= now);
    }

    /// Says something at the foot, for a while.
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.note = Some((text.into(), Instant::now() + SETTLED / 2));
    }

    /// The tasks that are looked for, in order.
    pub(super) fn visible(&self) -> Vec<&Shown> {
        let (column, reverse) = self.sort;
        let mut rows: Vec<&Shown> = self.tasks.values().filter(|s| self.is_found(s)).collect();
        rows.sort_by(|a, b| {
            let order = compare(column, &a.task, &b.task);
            let order = if reverse { order.reverse() } else { order };
            order.then_with(|| a.task.name.cmp(&b.task.name))
        });
        rows
    }

    fn is_found(&self, Shown { task, .. }: &Shown) -> bool {
        let message = task.progress.as_ref().map_or("", |progress| &*progress.message);
        let state = state(task);
        let places = [&*task.name, &*task.kind, &*state, &*task.worker, &*task.queue, message];
        let search = self.search.to_lowercase();
        places.iter().any(|place| place.to_lowercase().contains(&search))
    }

    /// Who runs what is known here.
    pub(super) fn workers(&self) -> Vec<Worker> {
        let mut workers: BTreeMap<&str, Worker> = BTreeMap::new();
        let held = self.tasks.values().filter(|s| s.leaves_at.is_none());
        for Shown { task, .. } in held.filter(|s| !s.task.worker.is_empty()) {
            let worker = workers.entry(&task.worker).or_default();
            worker.name.clone_from(&task.worker);
            worker.tasks += 1;
            worker.kinds.insert(task.kind.clone());
        }
        workers.into_values().collect()
    }

    /// The names of the rows of the pane, from above.
    fn rows(&self) -> Vec<String> {
        match self.pane {
            Pane::Tasks => self.visible().iter().map(|shown| shown.task.name.clone()).collect(),
            Pane::Kinds => self.kinds.iter().map(|kind| kind.kind.clone()).collect(),
            Pane::Queues => self.queues.iter().map(|queue| queue.name.clone()).collect(),
            Pane::Workers => self.workers().into_iter().map(|worker| worker.name).collect(),
        }
    }

    /// Where the chosen row stands; the first one, where none was chosen or it has gone.
    pub(super) fn position(&self) -> Option<usize> {
        let rows = self.rows();
        let chosen = self.chosen.get(self.pane.title());
        let at = chosen.and_then(|chosen| rows.iter().position(|row| row == chosen));
        at.or((!rows.is_empty()).then_some(0))
    }

    /// The name of the chosen row.
    pub(super) fn chosen(&self) -> Option<String> {
        self.position().and_then(|at| self.rows().into_iter().nth(at))
    }

    /// Chooses another row, so many below.
    pub(super) fn step(&mut self, by: isize) {
        let rows = self.rows();
        let Some(at) = self.position() else { return };
        let at = at.saturating_add_signed(by).min(rows.len() - 1);
        self.chosen.insert(self.pane.title(), rows[at].clone());
    }

    /// How many are in a state.
    pub(super) fn count(&self, state: State) -> usize {
        self.tasks.values().filter(|shown| shown.task.state == i32::from(state)).count()
    }
}

/// The newest first, the furthest first, and all else by its name.
fn compare(column: Column, a: &Task, b: &Task) -> Ordering {
    let percent = |task: &Task| task.progress.as_ref().and_then(|p| p.percent).unwrap_or(-1.0);
    let started = |task: &Task| time(task.start_time.as_ref());
    match column {
        Column::Started => started(b).cmp(&started(a)),
        Column::Name => a.name.cmp(&b.name),
        Column::Kind => a.kind.cmp(&b.kind),
        Column::State => state(a).cmp(&state(b)),
        Column::Percent => percent(b).total_cmp(&percent(a)),
        Column::Worker => a.worker.cmp(&b.worker),
    }
}
