//! Who gets what: due tasks dealt out to the workers that ask, queue by queue in
//! turn, and within a queue the highest priority first, then the earliest, then
//! the oldest.

use std::collections::{BTreeMap, VecDeque};

use super::{Settings, command::LeaseRequest};
use crate::{
    domain::{Name, Object},
    store::{Lane, LiveLeases, Stored},
};

/// What one hand-out may hold, so that it passes as one message.
const HANDOUT_BYTES: usize = 3 << 20;

/// How many more leases each kind and each queue may have.
pub(super) struct Headroom<'a> {
    settings: &'a Settings,
    kinds: BTreeMap<Name, u64>,
    queues: BTreeMap<Name, u64>,
}

impl<'a> Headroom<'a> {
    pub(super) fn new(settings: &'a Settings, live: &LiveLeases) -> Self {
        let (mut kinds, mut queues) = (BTreeMap::new(), BTreeMap::new());
        for (lane, leases) in live {
            *kinds.entry(lane.kind.clone()).or_insert(0) += leases;
            *queues.entry(lane.queue.clone()).or_insert(0) += leases;
        }
        Self { settings, kinds, queues }
    }

    /// How many more tasks of this lane may be handed out.
    pub(super) fn of(&self, lane: &Lane) -> u64 {
        let left = |limit: Option<u64>, used: Option<&u64>| {
            limit.map_or(u64::MAX, |limit| limit.saturating_sub(used.copied().unwrap_or(0)))
        };
        let kind = left(self.settings.kind_concurrency(&lane.kind), self.kinds.get(&lane.kind));
        let queue = left(
            self.settings.queue_concurrency.get(&lane.queue).copied(),
            self.queues.get(&lane.queue),
        );
        kind.min(queue)
    }

    fn take(&mut self, lane: &Lane) {
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
    picked: Vec<(Lane, Vec<Stored>)>,
    headroom: &mut Headroom<'_>,
    last_queue: &mut Option<Name>,
) -> Vec<Vec<Stored>> {
    let mut dealt: Vec<(Vec<Stored>, usize)> = requests.iter().map(|_| (Vec::new(), 0)).collect();
    let mut queues: BTreeMap<Name, VecDeque<(Lane, Stored)>> = BTreeMap::new();
    for (lane, tasks) in picked {
        let line = queues.entry(lane.queue.clone()).or_default();
        line.extend(tasks.into_iter().map(|task| (lane.clone(), task)));
    }
    for line in queues.values_mut() {
        line.make_contiguous().sort_by_key(|(_, stored)| {
            (std::cmp::Reverse(stored.task.priority), stored.task.ready_time, stored.row)
        });
    }
    while let Some(queue) = next_queue(&queues, last_queue.as_ref()) {
        *last_queue = Some(queue.clone());
        let Some(line) = queues.get_mut(&queue) else { continue };
        let Some((lane, stored)) = line.pop_front() else {
            queues.remove(&queue);
            continue;
        };
        let bytes = stored.input.as_ref().map_or(0, |input: &Object| input.encoded().len())
            + stored.task.checkpoint.as_ref().map_or(0, |c| c.encoded().len())
            + 2_048;
        let taker = requests.iter().zip(&dealt).position(|(request, (tasks, size))| {
            tasks.len() < request.max_tasks
                && (tasks.is_empty() || size + bytes <= HANDOUT_BYTES)
                && serves(request, &lane)
        });
        if let Some(taker) = taker.filter(|_| headroom.of(&lane) > 0) {
            headroom.take(&lane);
            dealt[taker].1 += bytes;
            dealt[taker].0.push(stored);
        }
        if line.is_empty() {
            queues.remove(&queue);
        }
    }
    dealt.into_iter().map(|(tasks, _)| tasks).collect()
}

/// The one behind the last, in turn.
fn next_queue<T>(queues: &BTreeMap<Name, T>, last: Option<&Name>) -> Option<Name> {
    use std::ops::Bound::{Excluded, Unbounded};
    let behind = last.and_then(|last| queues.range((Excluded(last.clone()), Unbounded)).next());
    behind.or_else(|| queues.iter().next()).map(|(queue, _)| queue.clone())
}
