//! Who gets what: due tasks dealt out to the workers that ask, queue by queue in
//! turn, and within a queue the highest priority first, then the earliest, then
//! the oldest.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{Settings, command::LeaseRequest};
use crate::{
    domain::{Name, Timestamp},
    store::{Lane, LiveLeases, Picked},
};

/// What one hand-out may hold, so that it passes as one message.
const HANDOUT_BYTES: usize = 3 << 20;
/// Where a rate makes somebody wait, it is for so long at least: few wake-ups for many
/// tasks, and not one for each.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// How many more leases each kind and each queue may have, and be given now.
pub(super) struct Headroom<'a> {
    settings: &'a Settings,
    now: Timestamp,
    kinds: BTreeMap<Name, u64>,
    queues: BTreeMap<Name, u64>,
    /// Up to when each rate is used up.
    used: BTreeMap<String, Timestamp>,
    taken: BTreeSet<String>,
}

impl<'a> Headroom<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        live: &LiveLeases,
        used: BTreeMap<String, Timestamp>,
        now: Timestamp,
    ) -> Self {
        let (mut kinds, mut queues) = (BTreeMap::new(), BTreeMap::new());
        for (lane, leases) in live {
            *kinds.entry(lane.kind.clone()).or_insert(0) += leases;
            *queues.entry(lane.queue.clone()).or_insert(0) += leases;
        }
        Self { settings, now, kinds, queues, used, taken: BTreeSet::new() }
    }

    /// How many more tasks of this lane may be handed out.
    pub(super) fn of(&self, lane: &Lane) -> u64 {
        let left = |limit: Option<u64>, used: Option<&u64>| {
            limit.map_or(u64::MAX, |limit| limit.saturating_sub(used.copied().unwrap_or(0)))
        };
        let [kind, queue] = self.settings.limits(lane);
        let kind = left(kind.concurrency, self.kinds.get(&lane.kind));
        let queue = left(queue.concurrency, self.queues.get(&lane.queue));
        kind.min(queue).min(self.in_time(lane, self.now))
    }

    /// How many the rates allow at `time`.
    fn in_time(&self, lane: &Lane, time: Timestamp) -> u64 {
        let rates = self.settings.rates(lane);
        let available =
            rates.map(|(name, rate)| rate.available(self.used.get(&name).copied(), time));
        available.min().unwrap_or(u64::MAX)
    }

    /// Where a rate has nothing left for a lane: how long until it has, and how much then.
    pub(super) fn later(&self, lane: &Lane) -> Option<(Duration, u64)> {
        if self.in_time(lane, self.now) > 0 {
            return None;
        }
        let rates = self.settings.rates(lane);
        let waits = rates.map(|(name, rate)| rate.wait(self.used.get(&name).copied(), self.now));
        let wait = waits.max()?.max(SHORTEST_WAIT);
        Some((wait, self.in_time(lane, self.now.plus(wait)).max(1)))
    }

    /// The rates of which something was taken, as they are to be remembered.
    pub(super) fn used(mut self) -> BTreeMap<String, Timestamp> {
        self.used.retain(|name, _| self.taken.contains(name));
        self.used
    }

    fn take(&mut self, lane: &Lane) {
        for (name, rate) in self.settings.rates(lane) {
            let used = rate.take(self.used.get(&name).copied(), self.now, 1);
            self.used.insert(name.clone(), used);
            self.taken.insert(name);
        }
        *self.kinds.entry(lane.kind.clone()).or_insert(0) += 1;
        *self.queues.entry(lane.queue.clone()).or_insert(0) += 1;
    }
}

/// Whether this worker serves this lane.
pub(super) fn serves(request: &LeaseRequest, lane: &Lane) -> bool {
    request.kinds.contains(&lane.kind)
        && (request.queues.is_empty() || request.queues.contains(&lane.queue))
}

/// Deals the picked tasks out: for each request, in their order, those that it
/// gets. `last_queue` is the queue that was served last; it moves on.
pub(super) fn deal(
    requests: &[&LeaseRequest],
    picked: Vec<(Lane, Vec<Picked>)>,
    headroom: &mut Headroom<'_>,
    last_queue: &mut Option<Name>,
) -> Vec<Vec<Picked>> {
    let mut hands: Vec<Hand<'_>> = requests.iter().map(|request| Hand::new(request)).collect();
    let mut queues: BTreeMap<Name, VecDeque<(Lane, Picked)>> = BTreeMap::new();
    for (lane, tasks) in picked {
        let line = queues.entry(lane.queue.clone()).or_default();
        line.extend(tasks.into_iter().map(|task| (lane.clone(), task)));
    }
    for line in queues.values_mut() {
        line.make_contiguous().sort_by_key(|(_, Picked { stored, .. })| {
            (std::cmp::Reverse(stored.task.priority), stored.task.ready_time, stored.row)
        });
    }
    let mut turn = last_queue.clone();
    while let Some(queue) = next_queue(&queues, turn.as_ref())
        && hands.iter().any(Hand::is_open)
    {
        turn = Some(queue.clone());
        let Some(line) = queues.get_mut(&queue) else { continue };
        // The first of the line that anyone may have; it is this queue's turn only once.
        while let Some((lane, picked)) = line.pop_front() {
            if headroom.of(&lane) == 0 {
                continue;
            }
            let taker = hands.iter().position(|hand| hand.may_have(&lane, picked.bytes));
            for hand in hands.iter_mut().take(taker.unwrap_or(usize::MAX)) {
                hand.full |= hand.is_open() && serves(hand.request, &lane);
            }
            let Some(taker) = taker else { continue };
            headroom.take(&lane);
            hands[taker].bytes += picked.bytes;
            hands[taker].tasks.push(picked);
            *last_queue = Some(queue.clone());
            break;
        }
        if line.is_empty() {
            queues.remove(&queue);
        }
    }
    hands.into_iter().map(|hand| hand.tasks).collect()
}

/// What one request has been dealt so far.
struct Hand<'a> {
    request: &'a LeaseRequest,
    tasks: Vec<Picked>,
    bytes: usize,
    /// A task that it may have did not fit: a smaller one must not overtake it.
    full: bool,
}

impl<'a> Hand<'a> {
    const fn new(request: &'a LeaseRequest) -> Self {
        Self { request, tasks: Vec::new(), bytes: 0, full: false }
    }

    const fn is_open(&self) -> bool {
        !self.full && self.tasks.len() < self.request.max_tasks
    }

    fn may_have(&self, lane: &Lane, bytes: usize) -> bool {
        let fits = self.tasks.is_empty() || self.bytes + bytes <= HANDOUT_BYTES;
        fits && self.is_open() && serves(self.request, lane)
    }
}

/// The one behind the last, in turn.
fn next_queue<T>(queues: &BTreeMap<Name, T>, last: Option<&Name>) -> Option<Name> {
    use std::ops::Bound::{Excluded, Unbounded};
    let behind = last.and_then(|last| queues.range((Excluded(last.clone()), Unbounded)).next());
    behind.or_else(|| queues.iter().next()).map(|(queue, _)| queue.clone())
}
