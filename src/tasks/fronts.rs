//! Which lanes have something, and where the line of each begins, as far as this server
//! knows. The index of what is due keeps an entry for all that was handed out until
//! PostgreSQL has cleared it away, which any long transaction puts off; who looked from the
//! head each time would go through all of them. So the committer goes on from where it was.
//! What comes ahead of that place is told, by its own batches and by the other replicas';
//! what was not told is found from the head again, every now and then. SQLite clears away
//! at once, but a look for lanes is a way there and back: who writes alone makes it every
//! now and then too, where a kind has one queue.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::{
    domain::Name,
    store::{Due, Lane, Rank},
};

/// Where others write too, a look that takes no longer begins at the head every time.
const CHEAP: Duration = Duration::from_millis(2);
/// How often another one does, and which share of the time that may take.
const FROM_THE_HEAD_EVERY: Duration = Duration::from_millis(1_500);
const SHARE: u32 = 20;

/// Kinds that are remembered, and lanes of each: callers may name any.
const KINDS: usize = 1_000;
const LANES: usize = 10_000;
/// Who writes alone remembers one lane of a kind. Tasks that are cancelled or paused leave
/// theirs behind until it is looked at: many of those would hide the ones that have tasks.
const LANES_ALONE: usize = 1;

/// Who has handed out nothing for so long need not be told of everything.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What other replicas made ready, until the committer comes to it.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<(Tidings, Option<Instant>)>);

#[derive(Debug, Default)]
pub(super) struct Tidings {
    came: Vec<Due>,
    /// Something may be ready of which nobody said where.
    all: bool,
}

impl Told {
    /// These became ready.
    pub(super) fn came(&self, due: &[Due]) {
        self.lock().0.came.extend_from_slice(due);
    }

    /// Anything may have become ready anywhere.
    pub(super) fn anything(&self) {
        self.lock().0 = Tidings { came: Vec::new(), all: true };
    }

    /// All of it, once.
    pub(super) fn take(&self) -> Tidings {
        let mut told = self.lock();
        told.1 = Some(Instant::now());
        std::mem::take(&mut told.0)
    }

    /// Whether anybody goes by it.
    pub(super) fn is_taken(&self) -> bool {
        self.lock().1.is_some_and(|last| last.elapsed() < FORGOTTEN)
    }

    fn lock(&self) -> MutexGuard<'_, (Tidings, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lanes of each kind that have something, and from where on. To be forgotten where a
/// transaction fails that went by it.
#[derive(Debug)]
pub(super) struct Fronts {
    kinds: HashMap<Name, Kind>,
    /// Others write too.
    replicated: bool,
}

#[derive(Debug)]
struct Kind {
    /// None is the head.
    queues: BTreeMap<Name, Option<Rank>>,
    looked: Instant,
    took: Duration,
}

impl Kind {
    /// Whether a look is to begin at the head again.
    fn is_old(&self, replicated: bool) -> bool {
        let each_time =
            if replicated { self.took < CHEAP } else { self.queues.len() > LANES_ALONE };
        each_time || self.looked.elapsed() >= FROM_THE_HEAD_EVERY.max(self.took * SHARE)
    }
}

impl Fronts {
    pub(super) fn new(replicated: bool) -> Self {
        Self { kinds: HashMap::new(), replicated }
    }

    /// Nothing is known from now on.
    pub(super) fn forget(&mut self) {
        self.kinds.clear();
    }

    /// What others told.
    pub(super) fn hear(&mut self, told: Tidings) {
        if told.all {
            self.forget();
        }
        self.came(&told.came);
    }

    /// These became ready.
    pub(super) fn came(&mut self, ready: &[Due]) {
        for Due { lane, first, .. } in ready {
            // Of a kind that was never looked at, all of it is looked at first.
            let Some(kind) = self.kinds.get_mut(&lane.kind) else { continue };
            let front = kind.queues.entry(lane.queue.clone()).or_insert(Some(*first));
            *front = front.map(|front| front.min(*first));
            if kind.queues.len() > if self.replicated { LANES } else { LANES_ALONE } {
                self.kinds.remove(&lane.kind);
            }
        }
    }

    /// Of these kinds, those whose lanes are to be read (again).
    pub(super) fn old<'a>(&mut self, kinds: &'a [Name]) -> Vec<&'a Name> {
        if self.kinds.len() >= KINDS {
            self.forget();
        }
        let is_old = |kind: &&Name| {
            let known = self.kinds.get(*kind);
            known.is_none_or(|kind| kind.is_old(self.replicated))
        };
        kinds.iter().filter(is_old).collect()
    }

    /// These were read, all of one kind.
    pub(super) fn read(&mut self, kind: Name, lanes: Vec<Lane>, took: Duration) {
        let queues = lanes.into_iter().map(|lane| (lane.queue, None)).collect();
        self.kinds.insert(kind, Kind { queues, looked: Instant::now(), took });
    }

    /// The lanes of these kinds, and of these queues where there are some, that may have
    /// something.
    pub(super) fn lanes(&self, kinds: &[Name], queues: &[Name]) -> Vec<Lane> {
        let known = kinds.iter().filter_map(|kind| Some((kind, self.kinds.get(kind)?)));
        let lanes = known.flat_map(|(kind, known)| {
            let lane = |queue: &Name| Lane { kind: kind.clone(), queue: queue.clone() };
            known.queues.keys().map(lane).collect::<Vec<_>>()
        });
        lanes.filter(|lane| queues.is_empty() || queues.contains(&lane.queue)).collect()
    }

    /// From where on something may be due; none where it costs nothing to begin at the head.
    pub(super) fn of(&self, lane: &Lane) -> Option<Rank> {
        if !self.replicated {
            return None;
        }
        self.kinds.get(&lane.kind)?.queues.get(&lane.queue).copied().flatten()
    }

    /// It was looked at from the head, which took so long. Who writes alone begins there
    /// whenever something is handed out: that is no reason to look for lanes less often.
    pub(super) fn looked_from_head(&mut self, lane: &Lane, took: Duration) {
        if let Some(kind) = self.kinds.get_mut(&lane.kind).filter(|_| self.replicated) {
            kind.took += took;
        }
    }

    /// From here on there may be more; nothing, where there is no more.
    pub(super) fn moved(&mut self, lane: &Lane, to: Option<Rank>) {
        let Some(kind) = self.kinds.get_mut(&lane.kind) else { return };
        match to {
            Some(rank) => drop(kind.queues.insert(lane.queue.clone(), Some(rank))),
            None => drop(kind.queues.remove(&lane.queue)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use super::*;
    use crate::domain::Timestamp;

    fn due(queue: &str, priority: i32, time: i64) -> Due {
        let name = |text| Name::new(text).expect("a name");
        let lane = Lane { kind: name("work"), queue: name(queue) };
        let ready_time = Timestamp::from_micros(time);
        Due { lane, tasks: 1, first: Rank { priority: Reverse(priority), ready_time, row: 0 } }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_ahead_is_found_and_what_nobody_told_of_later() {
        let (first, urgent, other) = (due("a", 0, 5), due("a", 1, 9), due("b", 0, 7));
        let kind = first.lane.kind.clone();
        let is_old = |fronts: &mut Fronts| !fronts.old(std::slice::from_ref(&kind)).is_empty();
        let mut fronts = Fronts::new(true);
        fronts.came(std::slice::from_ref(&first));
        assert!(is_old(&mut fronts), "never looked at");
        fronts.read(kind.clone(), vec![first.lane.clone()], CHEAP / 2);
        assert!(is_old(&mut fronts), "it costs nothing to look again");
        fronts.looked_from_head(&first.lane, CHEAP);
        assert!(!is_old(&mut fronts));
        assert_eq!(fronts.of(&first.lane), None);
        fronts.moved(&first.lane, Some(first.first));
        // A later one changes nothing; a more urgent one is looked for again.
        fronts.came(&[due("a", 0, 6)]);
        assert_eq!(fronts.of(&first.lane), Some(first.first));
        fronts.hear(Tidings { came: vec![urgent.clone(), other.clone()], all: false });
        assert_eq!(fronts.of(&first.lane), Some(urgent.first));
        let lanes = fronts.lanes(std::slice::from_ref(&kind), &[]);
        assert_eq!(lanes, [first.lane.clone(), other.lane.clone()]);
        fronts.moved(&first.lane, None);
        let lanes = fronts.lanes(std::slice::from_ref(&kind), &[]);
        assert_eq!(lanes, [other.lane]);
        tokio::time::advance(FROM_THE_HEAD_EVERY).await;
        assert!(is_old(&mut fronts));
        // What takes long is done less often.
        fronts.read(kind.clone(), vec![], Duration::from_secs(1));
        tokio::time::advance(FROM_THE_HEAD_EVERY).await;
        assert!(!is_old(&mut fronts));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(is_old(&mut fronts));
        fronts.hear(Tidings { came: vec![], all: true });
        assert!(is_old(&mut fronts));
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_alone_looks_now_and_then() {
        let (lane, other) = (due("a", 0, 5), due("b", 0, 7));
        let kinds = [lane.lane.kind.clone()];
        let only = std::slice::from_ref(&lane.lane);
        let mut fronts = Fronts::new(false);
        assert_eq!(fronts.old(&kinds).len(), 1);
        fronts.read(kinds[0].clone(), only.to_vec(), CHEAP);
        tokio::time::advance(FROM_THE_HEAD_EVERY / 2).await;
        fronts.moved(&lane.lane, Some(lane.first));
        assert_eq!(fronts.old(&kinds).len(), 0);
        assert_eq!(fronts.lanes(&kinds, &[]), only);
        assert_eq!(fronts.of(&lane.lane), None, "no row is passed twice");
        fronts.moved(&lane.lane, None);
        assert_eq!(fronts.lanes(&kinds, &[]), []);
        fronts.came(std::slice::from_ref(&lane));
        assert_eq!(fronts.lanes(&kinds, &[]), only);
        fronts.looked_from_head(&lane.lane, FORGOTTEN);
        tokio::time::advance(FROM_THE_HEAD_EVERY).await;
        assert_eq!(fronts.old(&kinds).len(), 1, "however much is handed out");
        // Of several, some may have nothing any more.
        fronts.read(kinds[0].clone(), only.to_vec(), CHEAP);
        fronts.came(std::slice::from_ref(&other));
        assert_eq!(fronts.old(&kinds).len(), 1);
        fronts.read(kinds[0].clone(), vec![lane.lane.clone(), other.lane], CHEAP);
        assert_eq!(fronts.lanes(&kinds, &[]).len(), 2);
        assert_eq!(fronts.old(&kinds).len(), 1);
        fronts.read(kinds[0].clone(), vec![], CHEAP);
        assert_eq!(fronts.old(&kinds).len(), 0);
        // However many kinds are asked for.
        for n in 0..KINDS {
            fronts.read(Name::new(&format!("k{n}")).expect("a name"), vec![], CHEAP);
        }
        assert_eq!(fronts.old(&kinds).len(), 1);
    }
}
