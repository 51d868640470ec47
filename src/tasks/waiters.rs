//! Workers that wait for tasks. They hold no command and cost nothing until there is
//! something for them. Then the committer leases it to them in the transaction that
//! made it ready, where it can, and else wakes as many as there are tasks.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::{LeaseRequest, handout::Handout};
use crate::{
    domain::Name,
    store::{Due, Lane},
};

/// Everybody who waits. A std Mutex is right: it is never held across an await.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiters(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    all: HashMap<u64, Entry>,
    /// First come, first woken. May name waiters that have gone or been woken.
    by_kind: HashMap<Name, VecDeque<u64>>,
}

#[derive(Debug)]
struct Entry {
    request: LeaseRequest,
    /// For what it was woken; none while it waits.
    woken: Option<Wake>,
    /// Where it waits, having looked in vain. Dropped, it looks again.
    offer: Option<oneshot::Sender<Handout>>,
}

/// A waiting worker for whom the committer asks.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) request: LeaseRequest,
    /// Without a word it looks by itself.
    pub(super) reply: oneshot::Sender<Handout>,
}

/// What somebody was woken for, and passes on where it leaves before it looked.
#[derive(Clone, Debug)]
enum Wake {
    Nothing,
    Lane(Lane),
    /// Any of its own.
    Anything,
}

/// One who waits, registered until it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    all: Waiters,
}

impl Waiters {
    /// Registers a worker. To be done before it looks for tasks, or what comes in
    /// between is missed.
    pub(super) fn register(&self, request: &LeaseRequest) -> Waiter {
        let mut waiting = self.lock();
        waiting.next += 1;
        let number = waiting.next;
        let entry = Entry { request: request.clone(), woken: Some(Wake::Nothing), offer: None };
        waiting.all.insert(number, entry);
        waiting.arm(number);
        Waiter { number, all: self.clone() }
    }

    /// Those who wait for what has become ready, as many as there are tasks for.
    pub(super) fn claim(&self, ready: &[Due]) -> Vec<Claim> {
        let mut waiting = self.lock();
        let mut claims = Vec::new();
        for Due { lane, tasks, .. } in ready {
            let mut tasks = *tasks;
            waiting.call(&lane.kind, |entry| {
                let queues = &entry.request.queues;
                if tasks == 0 {
                    return Call::Enough;
                }
                if !queues.is_empty() && !queues.contains(&lane.queue) {
                    return Call::Pass;
                }
                let Some(reply) = entry.offer.take() else { return Call::Pass };
                tasks = tasks.saturating_sub(entry.request.max_tasks as u64);
                entry.woken = Some(Wake::Lane(lane.clone()));
                claims.push(Claim { request: entry.request.clone(), reply });
                Call::Taken
            });
        }
        claims
    }

    /// There are `tasks` for workers of this lane.
    pub(super) fn wake(&self, lane: &Lane, tasks: u64) {
        self.lock().wake(lane, tasks);
    }

    /// There may be tasks for those who serve this queue: for so many of each kind.
    pub(super) fn wake_queue(&self, queue: &Name, workers: u64) {
        let mut waiting = self.lock();
        let kinds: Vec<Name> = waiting.by_kind.keys().cloned().collect();
        for kind in kinds {
            waiting.wake(&Lane { kind, queue: queue.clone() }, workers);
        }
    }

    /// There may be tasks of this kind in any queue: for one worker of them all, and
    /// for all who serve some of them only.
    pub(super) fn wake_kind(&self, kind: &Name) {
        let mut waiting = self.lock();
        let some: BTreeSet<Name> = waiting
            .all
            .values()
            .filter(|entry| entry.request.kinds.contains(kind))
            .flat_map(|entry| entry.request.queues.iter().cloned())
            .collect();
        if some.is_empty() {
            waiting.wake_some(kind, 1, &Wake::Anything, |_| true);
        }
        for queue in some {
            waiting.wake(&Lane { kind: kind.clone(), queue }, 1);
        }
    }

    /// Whether anybody waits.
    pub(super) fn any(&self) -> bool {
        !self.lock().all.is_empty()
    }

    /// There may be tasks for anybody.
    pub(super) fn wake_all(&self) {
        let kinds: Vec<Name> = self.lock().by_kind.keys().cloned().collect();
        kinds.iter().for_each(|kind| self.wake_kind(kind));
    }

    /// Who waits, by the kinds that they serve.
    pub(super) fn present(&self) -> BTreeSet<(Name, Name)> {
        let waiting = self.lock();
        let workers = waiting.all.values();
        workers
            .flat_map(|Entry { request, .. }| {
                request.kinds.iter().map(|kind| (kind.clone(), request.worker.clone()))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of one who is called.
enum Call {
    /// It is not meant, and stays in its place.
    Pass,
    /// It waits no longer.
    Taken,
    /// No more are called.
    Enough,
}

impl Waiting {
    fn arm(&mut self, number: u64) {
        let Some(entry) = self.all.get_mut(&number) else { return };
        if entry.woken.take().is_none() {
            return;
        }
        for kind in &entry.request.kinds {
            self.by_kind.entry(kind.clone()).or_default().push_back(number);
        }
    }

    fn pass_on(&mut self, entry: &Entry) {
        match &entry.woken {
            None | Some(Wake::Nothing) => {}
            Some(Wake::Lane(lane)) => self.wake(lane, 1),
            Some(Wake::Anything) => {
                for kind in &entry.request.kinds {
                    if entry.request.queues.is_empty() {
                        self.wake_some(kind, 1, &Wake::Anything, |_| true);
                    }
                    for queue in &entry.request.queues {
                        self.wake(&Lane { kind: kind.clone(), queue: queue.clone() }, 1);
                    }
                }
            }
        }
    }

    fn wake(&mut self, lane: &Lane, tasks: u64) {
        self.wake_some(&lane.kind, tasks, &Wake::Lane(lane.clone()), |queues| {
            queues.is_empty() || queues.contains(&lane.queue)
        });
    }

    fn wake_some(
        &mut self,
        kind: &Name,
        mut tasks: u64,
        wake: &Wake,
        serves: impl Fn(&[Name]) -> bool,
    ) {
        self.call(kind, |entry| {
            if tasks == 0 {
                return Call::Enough;
            }
            if !serves(&entry.request.queues) {
                return Call::Pass;
            }
            tasks -= 1;
            entry.woken = Some(wake.clone());
            entry.offer = None;
            Call::Taken
        });
    }

    /// Calls those who wait for a kind, one after the other.
    fn call(&mut self, kind: &Name, mut each: impl FnMut(&mut Entry) -> Call) {
        let Some(line) = self.by_kind.get_mut(kind) else { return };
        let mut passed = Vec::new();
        while let Some(number) = line.pop_front() {
            let waits = |entry: &&mut Entry| entry.woken.is_none();
            let Some(entry) = self.all.get_mut(&number).filter(waits) else { continue };
            match each(entry) {
                Call::Taken => {}
                Call::Pass => passed.push(number),
                Call::Enough => {
                    passed.push(number);
                    break;
                }
            }
        }
        for number in passed.into_iter().rev() {
            line.push_front(number);
        }
        if line.is_empty() {
            self.by_kind.remove(kind);
        }
    }
}

impl Waiter {
    /// It has looked in vain: where it waits now for what it is offered. None where it
    /// has to look again already.
    pub(super) fn wait(&self) -> Option<oneshot::Receiver<Handout>> {
        let mut waiting = self.all.lock();
        let entry = waiting.all.get_mut(&self.number).filter(|entry| entry.woken.is_none())?;
        let (sender, receiver) = oneshot::channel();
        entry.offer = Some(sender);
        Some(receiver)
    }

    /// It waits no longer. Gives what was about to be offered to it.
    pub(super) async fn leave(&self, offer: oneshot::Receiver<Handout>) -> Option<Handout> {
        let waited = self.all.lock().all.get_mut(&self.number).and_then(|entry| entry.offer.take());
        if waited.is_some() { None } else { offer.await.ok() }
    }

    /// It has what it was woken for.
    pub(super) fn served(&self) {
        if let Some(entry) = self.all.lock().all.get_mut(&self.number) {
            entry.woken = Some(Wake::Nothing);
        }
    }

    /// It looked, and was not answered: somebody else looks instead.
    pub(super) fn pass_on(&self) {
        let mut waiting = self.all.lock();
        if let Some(entry) = waiting.all.get_mut(&self.number) {
            entry.woken = Some(Wake::Anything);
            entry.offer = None;
        }
    }

    /// It is about to look for tasks: whatever comes from now on wakes it again.
    pub(super) fn look(&self) {
        self.all.lock().arm(self.number);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.all.lock();
        let Some(entry) = waiting.all.remove(&self.number) else { return };
        // Woken and gone before it looked: somebody else takes its place.
        waiting.pass_on(&entry);
        for kind in &entry.request.kinds {
            // The queue of those who wait must not fill up with those who left.
            let empty = waiting.by_kind.get_mut(kind).is_some_and(|line| {
                if line.front() == Some(&self.number) {
                    line.pop_front();
                }
                line.is_empty()
            });
            if empty {
                waiting.by_kind.remove(kind);
            }
        }
        let gone: Vec<Name> = waiting
            .by_kind
            .iter()
            .filter(|(_, line)| line.len() > 64 && line.len() > 2 * waiting.all.len())
            .map(|(kind, _)| kind.clone())
            .collect();
        for kind in gone {
            let Waiting { all, by_kind, .. } = &mut *waiting;
            if let Some(line) = by_kind.get_mut(&kind) {
                line.retain(|number| all.get(number).is_some_and(|entry| entry.woken.is_none()));
            }
        }
    }
}

#[cfg(test)]
#[path = "waiters_tests.rs"]
mod tests;
