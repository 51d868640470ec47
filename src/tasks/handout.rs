//! Tasks on their way to workers: picked and leased in one transaction for all who
//! ask. If a worker has gone before it has them, they are given back at once, and
//! the attempt does not count.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Settings,
    assign::{Headroom, deal, serves},
    command::{Command, LeaseRequest, Leased},
    later::Again,
    queue::Queue,
};
use crate::{
    domain::{self, Context, Error, Event, Finish, Grant, Name, Outcome, Report, Task, Timestamp},
    store::{Changes, Lane, Picked, StoreError, Stored, Transaction},
};

/// Tasks that are looked at for one hand-out, over all lanes, and lanes at most.
const PICKED: u64 = 500;

/// What was handed out, and what a rate holds up.
pub(super) struct Dealt {
    /// For each request.
    pub(super) each: Vec<Changes>,
    pub(super) again: Vec<Again>,
}

/// One pick for each lane serves all requests of the batch: of the lanes that have tasks
/// for them, or of these `only`.
pub(super) async fn hand_out(
    transaction: &mut Transaction<'_>,
    settings: &Settings,
    last_queue: &mut Option<Name>,
    requests: &[&LeaseRequest],
    only: Option<Vec<Lane>>,
    now: Timestamp,
) -> Result<Dealt, StoreError> {
    let lanes = match only {
        Some(lanes) => lanes,
        None => lanes_of(transaction, requests).await?,
    };
    let lanes = in_turn(lanes, last_queue.as_ref());
    let share = (PICKED / lanes.len().max(1) as u64).max(1);
    let limited = lanes.iter().any(|lane| settings.is_limited(lane));
    let live = if limited { transaction.live_leases().await? } else { Default::default() };
    let used = transaction.rates(&settings.rate_names(&lanes)).await?;
    let mut headroom = Headroom::new(settings, &live, used, now);
    let mut picked = Vec::new();
    for lane in &lanes {
        let demand: usize = requests.iter().filter(|r| serves(r, lane)).map(|r| r.max_tasks).sum();
        let limit = (demand as u64).min(headroom.of(lane)).min(share);
        if limit > 0 {
            let tasks = transaction.pick(lane, limit).await?;
            picked.push((lane.clone(), tasks));
        }
    }
    let mut dealt = deal(requests, picked, &mut headroom, last_queue);
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
    Ok(Dealt { each, again })
}

/// The lanes that have tasks for any of these.
async fn lanes_of(
    transaction: &mut Transaction<'_>,
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
    transaction.lanes(&kinds, &queues).await
}

/// The lanes whose queues are next in turn, no more than can be looked at.
fn in_turn(mut lanes: Vec<Lane>, last_queue: Option<&Name>) -> Vec<Lane> {
    lanes.sort_by_key(|lane| (last_queue.is_some_and(|last| lane.queue <= *last), lane.clone()));
    lanes.truncate(usize::try_from(PICKED).unwrap_or(usize::MAX));
    lanes
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
    let context = Context { now, kind, jitter: 0.0, input: None };
    domain::apply(&stored.task, &Event::Lease(grant), &context)
        .map(|task| task.map_or_else(|| stored.task.clone(), Arc::new))
}

/// Leased tasks that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Handout {
    leased: Vec<Leased>,
    queue: Arc<Queue>,
}

impl Handout {
    pub(super) const fn new(leased: Vec<Leased>, queue: Arc<Queue>) -> Self {
        Self { leased, queue }
    }

    /// The tasks, now in the worker's hands.
    pub(super) fn take(mut self) -> Vec<Leased> {
        std::mem::take(&mut self.leased)
    }
}

impl Drop for Handout {
    fn drop(&mut self) {
        for Leased { task, .. } in self.leased.drain(..) {
            let Some(lease) = task.lease() else { continue };
            let report = Report { token: lease.token, progress: None, checkpoint: None };
            let finish = Finish { report, outcome: Outcome::Released };
            self.queue.push(Command::Finish {
                id: task.id.clone(),
                finish: Box::new(finish),
                reply: oneshot::channel().0,
            });
        }
    }
}
