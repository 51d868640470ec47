//! One batch of commands applied to the tasks that they name, in memory: what
//! the commands find, what is to be written, and what each is answered. Nothing
//! here waits, and nothing is done that cannot be done again.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::{
    Settings,
    command::{Answer, Command, Create, Outcome},
    queue::Queue,
};
use crate::{
    domain::{
        self, Attempt, Context, Error, Event, Expiry, Name, Object, State, Task, TaskId, Timestamp,
    },
    hub::{Full, News, Snapshot},
    store::{Changes, Created, Loaded, RememberedRequest, Stored, Wanted},
};
use std::sync::Arc;

/// The tasks of one batch while its commands are applied.
pub(super) struct Batch<'a> {
    settings: &'a Settings,
    now: Timestamp,
    works: HashMap<TaskId, Work>,
    requests: HashMap<String, RememberedRequest>,
    /// In the order of their creation, so that rows are numbered in it.
    created: Vec<TaskId>,
    /// Kinds of which a remote worker spoke.
    seen: BTreeSet<Name>,
}

/// One task: what it was, and what it has become.
struct Work {
    before: Option<Stored>,
    after: Option<Arc<Task>>,
    input: Option<Object>,
    /// Boxed, as most have none.
    request: Option<Box<(String, [u8; 32])>>,
    /// Its lease that ended; boxed as well.
    ended: Option<Box<Attempt>>,
    /// What it was when it was deleted.
    last: Option<Arc<Task>>,
    /// What somebody is answered with.
    shown: Option<Arc<Snapshot>>,
}

impl Work {
    fn new(before: Option<Stored>, after: Option<Arc<Task>>, input: Option<Object>) -> Self {
        Self { before, after, input, request: None, ended: None, last: None, shown: None }
    }

    /// To answer somebody with it.
    fn full(&mut self) -> Full {
        let task = self.after.as_ref().or(self.before.as_ref().map(|before| &before.task));
        #[expect(clippy::expect_used, reason = "none but a new one has no state before")]
        let task = task.expect("a task is there, or comes to be");
        let shown = Self::snapshot(self.shown.take(), task);
        self.shown = Some(Arc::clone(&shown));
        Full { task: shown, input: self.input.clone() }
    }

    /// What is told of `task`, which this has become: the same to all.
    fn snapshot(shown: Option<Arc<Snapshot>>, task: &Arc<Task>) -> Arc<Snapshot> {
        shown
            .filter(|shown| Arc::ptr_eq(&shown.task, task))
            .unwrap_or_else(|| Arc::new(Snapshot::new(Arc::clone(task))))
    }
}

/// What the commands of a batch need to be loaded; `all` also looks for new ids.
pub(super) fn wanted(commands: &[Command], all: bool) -> Wanted {
    let mut wanted = Wanted::default();
    for command in commands {
        match command {
            Command::Create { creates, .. } => {
                for create in creates {
                    if all || !create.id_is_new {
                        wanted.ids.insert(create.new.id.clone());
                    }
                    if let Some((request, _)) = &create.request {
                        wanted.requests.insert(request.clone());
                    }
                }
            }
            Command::Update { id, patch, .. } => {
                wanted.ids.insert(id.clone());
                if patch.input.is_some() {
                    wanted.inputs.insert(id.clone());
                }
            }
            Command::Delete { id, .. }
            | Command::Report { id, .. }
            | Command::Finish { id, .. } => {
                wanted.ids.insert(id.clone());
            }
            Command::Expire { overdue, .. } => {
                wanted.ids.insert(overdue.id.clone());
                wanted.exact_time = true;
            }
            Command::MakeDue { .. } | Command::Purge { .. } => wanted.exact_time = true,
            Command::Lease { .. } | Command::PauseQueue { .. } => {}
        }
    }
    wanted
}

impl<'a> Batch<'a> {
    /// Of commands that name so many tasks.
    pub(super) fn new(settings: &'a Settings, loaded: Loaded, named: usize) -> Self {
        let Loaded { now, tasks, requests } = loaded;
        let mut works = HashMap::with_capacity(named);
        works.extend(tasks.into_iter().map(|(id, stored)| {
            let (after, input) = (Some(stored.task.clone()), stored.input.clone());
            (id, Work::new(Some(stored), after, input))
        }));
        Self { settings, now, works, requests, created: Vec::new(), seen: BTreeSet::new() }
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Applies one command. Those that find their own rows (timers that sweep, and
    /// leases) are applied by the committer instead.
    pub(super) fn apply(&mut self, command: &Command, queue: &Queue) -> Outcome {
        match command {
            Command::Create { creates, .. } => Outcome::Created(self.create(creates)),
            Command::Update { id, patch, .. } => {
                let event = Event::Update(patch.clone());
                Outcome::Updated(self.event(id, &event).map(|()| self.full(id)))
            }
            Command::Delete { id, allow_missing, .. } => {
                Outcome::Done(self.delete(id, *allow_missing))
            }
            Command::Report { id, report, .. } => {
                let event = Event::Report(report.clone());
                Outcome::Reported(self.held_event(id, &event).map(|()| self.answer(id)))
            }
            Command::Finish { id, finish, .. } => {
                Outcome::Done(self.held_event(id, &Event::Finish(finish.clone())))
            }
            Command::Expire { overdue, .. } => {
                // No lease ends whose report or outcome still waits.
                let spared =
                    overdue.cause == Expiry::Lease && queue.has_word(&overdue.id, overdue.token);
                if spared || !self.works.contains_key(&overdue.id) {
                    return Outcome::Done(Ok(()));
                }
                let event = Event::Expire { token: overdue.token, cause: overdue.cause };
                Outcome::Done(self.event(&overdue.id, &event))
            }
            Command::Lease { request, .. } => {
                if !request.by_runner {
                    self.seen.extend(request.kinds.iter().cloned());
                }
                Outcome::More(false)
            }
            Command::PauseQueue { .. } => Outcome::Done(Ok(())),
            Command::MakeDue { .. } | Command::Purge { .. } => Outcome::More(false),
        }
    }

    /// Kinds of which a remote worker asked for tasks, reported or ended one.
    pub(super) fn seen(&self) -> BTreeSet<Name> {
        self.seen.clone()
    }

    fn create(&mut self, creates: &[Create]) -> Result<Vec<Full>, Error> {
        // All or none: look at all of them before anything is changed.
        let mut ids = HashSet::new();
        let mut requests: HashMap<&str, (&[u8; 32], &TaskId, bool)> = HashMap::new();
        let mut existing: Vec<Option<TaskId>> = Vec::with_capacity(creates.len());
        for create in creates {
            if let Some((request, digest)) = &create.request {
                let known = self
                    .requests
                    .get(request)
                    .map(|known| (&known.digest, &known.task, known.gone))
                    .or_else(|| requests.get(request.as_str()).copied());
                if let Some((first, task, gone)) = known {
                    if first != digest {
                        return Err(Error::invalid(
                            format!("{}request_id", create.path),
                            "was used before with another request: choose a new one",
                        ));
                    }
                    if gone {
                        return Err(Error::no_task(task));
                    }
                    existing.push(Some(task.clone()));
                    continue;
                }
                requests.insert(request, (digest, &create.new.id, false));
            }
            if self.works.get(&create.new.id).is_some_and(|work| work.after.is_some()) {
                return Err(Error::AlreadyExists {
                    resource: format!("tasks/{}", create.new.id),
                    field: format!("{}task_id", create.path),
                });
            }
            if creates.len() > 1 && !ids.insert(&create.new.id) {
                return Err(Error::invalid(
                    format!("{}task_id", create.path),
                    "is that of another request of this batch: choose another one",
                ));
            }
            existing.push(None);
        }
        Ok(creates
            .iter()
            .zip(existing)
            .map(|(create, existing)| match existing {
                Some(id) => self.full(&id),
                None => self.insert(create),
            })
            .collect())
    }

    fn insert(&mut self, create: &Create) -> Full {
        let id = create.new.id.clone();
        let task = Arc::new(domain::create(&create.new, self.now));
        if let Some((request, digest)) = &create.request {
            let remembered = RememberedRequest { digest: *digest, task: id.clone(), gone: false };
            self.requests.insert(request.clone(), remembered);
        }
        self.created.push(id.clone());
        // Where one of this name was deleted, it keeps what that was.
        let work = self.works.entry(id).or_insert_with(|| Work::new(None, None, None));
        work.after = Some(task);
        work.input.clone_from(&create.new.input);
        work.request = create.request.clone().map(Box::new);
        work.full()
    }

    fn delete(&mut self, id: &TaskId, allow_missing: bool) -> Result<(), Error> {
        let Some(work) = self.works.get_mut(id) else {
            return if allow_missing { Ok(()) } else { Err(Error::no_task(id)) };
        };
        match &work.after {
            None if allow_missing => Ok(()),
            None => Err(Error::no_task(id)),
            Some(task) if task.state().is_terminal() => {
                work.last = work.after.take();
                // Its request id is forgotten with it.
                self.requests.retain(|_, known| known.task != *id);
                Ok(())
            }
            Some(task) => Err(Error::FailedPrecondition {
                reason: "NOT_ENDED",
                subject: format!("tasks/{id}"),
                description: format!(
                    "tasks/{id} is {}: cancel it, and delete it when it has ended",
                    task.state().name()
                ),
            }),
        }
    }

    /// An event of whoever shows a token: of a task that is gone, the lease is too.
    fn held_event(&mut self, id: &TaskId, event: &Event) -> Result<(), Error> {
        let task = self.works.get(id).and_then(|work| work.after.as_deref());
        if let Some(task) = task.filter(|t| t.lease().is_some_and(|lease| !lease.by_runner)) {
            self.seen.insert(task.kind.clone());
        }
        self.event(id, event).map_err(|error| {
            if matches!(error, Error::NotFound { .. }) { Error::lease_lost(id) } else { error }
        })
    }

    fn event(&mut self, id: &TaskId, event: &Event) -> Result<(), Error> {
        let work = self.works.get_mut(id).ok_or_else(|| Error::no_task(id))?;
        let task = work.after.as_ref().ok_or_else(|| Error::no_task(id))?;
        let context = Context {
            now: self.now,
            kind: self.settings.kind(&task.kind),
            jitter: rand::random(),
            input: work.input.as_ref(),
        };
        if let Some(next) = domain::apply(task, event, &context)? {
            work.ended = Attempt::ended(task, &next).map(Box::new).or(work.ended.take());
            work.after = Some(Arc::new(next));
        }
        Ok(())
    }

    fn full(&mut self, id: &TaskId) -> Full {
        #[expect(clippy::expect_used, reason = "asked for right after an event of this task")]
        self.works.get_mut(id).expect("a task that an event was applied to").full()
    }

    fn answer(&self, id: &TaskId) -> Answer {
        let task = self.works.get(id).and_then(|work| work.after.as_deref());
        let lease = task.and_then(Task::lease);
        Answer {
            wanted: task.map_or(State::Cancelling, Task::state),
            expire_time: lease.map_or(self.now, |lease| lease.expire_time),
            limit: lease.map_or(domain::TimeLimit::None, |lease| lease.limit),
        }
    }

    /// What is to be written, and what is to be told.
    pub(super) fn finish(self) -> (Changes, Vec<News>) {
        let mut changes = Changes::default();
        let mut works = self.works;
        let mut news = Vec::with_capacity(works.len());
        changes.created.reserve(self.created.len());
        changes.changed.reserve(works.len().saturating_sub(self.created.len()));
        for id in &self.created {
            let Some(Work { before, after: Some(task), input, request, last, shown, .. }) =
                works.remove(id)
            else {
                continue;
            };
            // Deleted and created again in one batch.
            if let Some(before) = before {
                news.extend(deleted(before, last, &mut changes));
            }
            news.push(News::State(Work::snapshot(shown, &task)));
            let request = request.map(|request| *request);
            changes.created.push(Created { task, input, request });
        }
        for (_, Work { before, after, ended, last, shown, .. }) in works {
            match (before, after) {
                (Some(before), Some(after)) if before.task != after => {
                    if before.task.revision != after.revision {
                        news.push(News::State(Work::snapshot(shown, &after)));
                    }
                    changes.attempts.extend(ended.map(|attempt| (before.row, *attempt)));
                    changes.changed.push((before, after));
                }
                (Some(before), None) => {
                    news.extend(deleted(before, last, &mut changes));
                }
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
        (changes, news)
    }
}

/// A task that ended in the very batch that deletes it has ended for its watchers first.
fn deleted(before: Stored, last: Option<Arc<Task>>, changes: &mut Changes) -> Vec<News> {
    let mut news = Vec::new();
    if let Some(last) = last.filter(|last| last.revision != before.task.revision) {
        news.push(News::State(Arc::new(Snapshot::new(last.clone()))));
        changes.ended.push((before.clone(), last));
    }
    news.push(News::Deleted(before.task.id.clone(), before.task.create_time));
    changes.deleted.push(before);
    news
}
