//! Who gets what: due tasks picked, leased and dealt out to the workers that ask, queue by queue in
//! turn, and within a queue the highest priority first, then the earliest, then
//! the oldest.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hashbrown::HashSet;
use tokio::time::Instant;

use super::{Settings, command::LeaseRequest, fronts::Fronts, later::Again};
use crate::{
    domain::{self, Context, Error, Event, Grant, Name, Task, Timestamp},
    store::{Changes, Lane, LiveLeases, Picked, Rank, StoreError, Stored, Transaction},
};

/// Tasks that are looked at for one hand-out, over all lanes, and lanes at most.
const PICKED: u64 = 500;

/// What was handed out, and what a rate holds up.
pub(super) struct Dealt {
    /// For each request.
    pub(super) each: Vec<Changes>,
    /// For each request: whether it got nothing although there may be some, beyond what one
    /// hand-out looks at. It is to ask again.
    pub(super) more: Vec<bool>,
    pub(super) again: Vec<Again>,
}

/// What one hand-out may hold, so that it passes as one message.
const HANDOUT_BYTES: usize = 3 << 20;
/// Where a rate makes somebody wait, it is for so long at least: few wake-ups for many
/// tasks, and not one for each.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// How many more leases each kind and each queue may have, and be given now.
struct Headroom<'a> {
    settings: &'a Settings,
    now: Timestamp,
    kinds: BTreeMap<Name, u64>,
    queues: BTreeMap<Name, u64>,
    /// Up to when each rate is used up.
    used: BTreeMap<String, Timestamp>,
    taken: BTreeSet<String>,
}

impl<'a> Headroom<'a> {
    fn new(
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
    fn of(&self, lane: &Lane) -> u64 {
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
    fn later(&self, lane: &Lane) -> Option<(Duration, u64)> {
        if self.in_time(lane, self.now) > 0 {
            return None;
        }
        let rates = self.settings.rates(lane);
        let waits = rates.map(|(name, rate)| rate.wait(self.used.get(&name).copied(), self.now));
        let wait = waits.max()?.max(SHORTEST_WAIT);
        Some((wait, self.in_time(lane, self.now.plus(wait)).max(1)))
    }

    /// The rates of which something was taken, as they are to be remembered.
    fn used(mut self) -> BTreeMap<String, Timestamp> {
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
fn serves(request: &LeaseRequest, lane: &Lane) -> bool {
    request.kinds.contains(&lane.kind)
        && (request.queues.is_empty() || request.queues.contains(&lane.queue))
}

/// One pick for each lane serves all requests of the batch: of the lanes that have tasks
/// for them, or of these `only`.
pub(super) async fn hand_out(
    transaction: &mut Transaction<'_>,
    settings: &Settings,
    last_queue: &mut Option<Name>,
    fronts: &mut Fronts,
    requests: &[&LeaseRequest],
    only: Option<Vec<Lane>>,
    now: Timestamp,
) -> Result<Dealt, StoreError> {
    let lanes = match only {
        Some(lanes) => lanes,
        None => lanes_of(transaction, fronts, requests).await?,
    };
    let (lanes, cut) = in_turn(lanes, last_queue.as_ref());
    let share = (PICKED / lanes.len().max(1) as u64).max(1);
    // What limits holds over all replicas: they count one after the other.
    transaction.lock_limits(&settings.limit_names(&lanes)).await?;
    let limited = lanes.iter().any(|lane| settings.is_limited(lane));
    let live = if limited { transaction.live_leases().await? } else { Default::default() };
    let used = transaction.rates(&settings.rate_names(&lanes)).await?;
    let mut headroom = Headroom::new(settings, &live, used, now);
    let (mut picked, mut looked) = (Vec::new(), Vec::new());
    for lane in &lanes {
        let demand: usize = requests.iter().filter(|r| serves(r, lane)).map(|r| r.max_tasks).sum();
        let wanted = (demand as u64).min(headroom.of(lane));
        let limit = wanted.min(share);
        if limit > 0 {
            let from = fronts.of(lane);
            let begin = Instant::now();
            let tasks = transaction.pick(lane, limit, from).await?;
            if from.is_none() {
                fronts.looked_from_head(lane, begin.elapsed());
            }
            looked.push(Look::new(lane, &tasks, limit, wanted));
            picked.push((lane.clone(), tasks));
        }
    }
    let mut dealt = deal(requests, picked, &mut headroom, last_queue);
    // What may be held back is told of when a lease ends or a rate has room: who asked at once
    // would ask again and again.
    let beyond = cut.into_iter().filter(|lane| settings.is_free(lane));
    let full = looked.iter().filter(|look| look.is_cut).map(|look| look.lane.clone());
    let left: Vec<Lane> = full.chain(beyond).collect();
    let got_nothing = requests
        .iter()
        .zip(&dealt)
        .map(|(request, tasks)| tasks.is_empty() && left.iter().any(|lane| serves(request, lane)));
    let more: Vec<bool> = got_nothing.collect();
    if dealt.iter().all(Vec::is_empty)
        && let Some(last) = lanes.last().filter(|_| more.contains(&true))
    {
        // Else the same ones would be looked at again.
        *last_queue = Some(last.queue.clone());
    }
    let dealt_rows: HashSet<i64> = dealt.iter().flatten().map(|p| p.stored.row).collect();
    for Look { lane, ranks, short, .. } in looked {
        let left = ranks.iter().find(|rank| !dealt_rows.contains(&rank.row));
        let last = if short { None } else { ranks.last() };
        fronts.moved(&lane, left.or(last).copied());
    }
    let with_input = dealt.iter_mut().flatten().filter(|picked| picked.has_input);
    let mut with_input: Vec<&mut Stored> = with_input.map(|picked| &mut picked.stored).collect();
    transaction.read_inputs(&mut with_input).await?;
    let mut all = Changes::default();
    let mut each = Vec::with_capacity(dealt.len());
    for (request, tasks) in requests.iter().zip(dealt) {
        let mut changes = Changes::default();
        for Picked { stored, .. } in tasks {
            match granted(settings, request, &stored, now) {
                Ok(task) => {
                    all.changed.push((Stored { input: None, ..stored.clone() }, task.clone()));
                    changes.changed.push((stored, task));
                }
                Err(error) => {
                    tracing::error!(task = %stored.task.id, %error, "due, but not to be leased");
                }
            }
        }
        each.push(changes);
    }
    if !all.changed.is_empty() {
        transaction.write(&all, now).await?;
    }
    let again = lanes
        .into_iter()
        .filter_map(|lane| headroom.later(&lane).map(|(wait, tasks)| Again { lane, wait, tasks }));
    let again = again.collect();
    transaction.set_rates(&headroom.used()).await?;
    Ok(Dealt { each, more, again })
}

/// What a look into a lane found.
struct Look {
    lane: Lane,
    ranks: Vec<Rank>,
    /// There was no more.
    short: bool,
    /// There may be more, for those who asked.
    is_cut: bool,
}

impl Look {
    fn new(lane: &Lane, found: &[Picked], limit: u64, wanted: u64) -> Self {
        let ranks = found.iter().map(|Picked { stored, .. }| Rank::of(&stored.task, stored.row));
        let short = (found.len() as u64) < limit;
        let is_cut = !short && limit < wanted;
        Self { lane: lane.clone(), ranks: ranks.collect(), short, is_cut }
    }
}

/// The lanes that have tasks for any of these.
async fn lanes_of(
    transaction: &mut Transaction<'_>,
    fronts: &mut Fronts,
    requests: &[&LeaseRequest],
) -> Result<Vec<Lane>, StoreError> {
    let mut kinds: Vec<Name> = requests.iter().flat_map(|r| r.kinds.iter().cloned()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let queues: Vec<Name> = if requests.iter().any(|request| request.queues.is_empty()) {
        Vec::new()
    } else {
        requests.iter().flat_map(|request| request.queues.iter().cloned()).collect()
    };
    for kind in fronts.old(&kinds) {
        let begin = Instant::now();
        let lanes = transaction.lanes(kind).await?;
        fronts.read(kind.clone(), lanes, begin.elapsed());
    }
    Ok(fronts.lanes(&kinds, &queues))
}

/// The lanes whose queues are next in turn, no more than can be looked at, and the others.
fn in_turn(mut lanes: Vec<Lane>, last_queue: Option<&Name>) -> (Vec<Lane>, Vec<Lane>) {
    lanes.sort_by_key(|lane| (last_queue.is_some_and(|last| lane.queue <= *last), lane.clone()));
    lanes.dedup();
    let cut = lanes.split_off(lanes.len().min(usize::try_from(PICKED).unwrap_or(usize::MAX)));
    (lanes, cut)
}

fn granted(
    settings: &Settings,
    request: &LeaseRequest,
    stored: &Stored,
    now: Timestamp,
) -> Result<Arc<Task>, Error> {
    let grant = Grant {
        worker: request.worker.clone(),
        token: domain::Token(rand::random()),
        duration: request.duration,
        by_runner: request.by_runner,
    };
    let kind = settings.kind(&stored.task.kind);
    // Another replica's clock said that it is due: this one may be a little behind.
    let now = now.max(stored.task.ready_time);
    let context = Context { now, kind, jitter: 0.0, input: None };
    domain::apply(&stored.task, &Event::Lease(grant), &context)
        .map(|task| task.map_or_else(|| stored.task.clone(), Arc::new))
}

/// Deals the picked tasks out: for each request, in their order, those that it
/// gets. `last_queue` is the queue that was served last; it moves on.
fn deal(
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
