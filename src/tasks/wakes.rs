//! What a commit means for those who wait: which lanes have something now, where a
//! limit has room again, and when the timers are needed next.

use std::{collections::BTreeSet, sync::LazyLock};

use crate::{
    domain::{self, Name, Status, Task, Timestamp},
    store::{Changes, Due, Lane, Rank},
};

/// Where it waits to be handed out.
pub(super) fn lane_of(task: &Task) -> Lane {
    #[expect(clippy::expect_used, reason = "it is a name")]
    static DEFAULT: LazyLock<Name> =
        LazyLock::new(|| Name::new(domain::DEFAULT_QUEUE).expect("a name"));
    let queue = task.queue.as_ref().unwrap_or(&DEFAULT).clone();
    Lane { kind: task.kind.clone(), queue }
}

/// Lanes in which tasks can be handed out from now on.
pub(super) fn ready(changes: &Changes, now: Timestamp) -> Vec<Due> {
    let created = changes.created.iter().map(|created| (None, &*created.task));
    let changed = changes.changed.iter().map(|(before, after)| (Some(&*before.task), &**after));
    let mut lanes: Vec<Due> = Vec::new();
    for (before, task) in created.chain(changed) {
        let is_ready = |task: &Task| task.status == Status::Queued && task.ready_time <= now;
        let comes = is_ready(task) && !before.is_some_and(is_ready) && !task.is_external();
        if !comes {
            continue;
        }
        let (lane, first) = (lane_of(task), Rank::of(task, i64::MIN));
        match lanes.iter_mut().find(|due| due.lane == lane) {
            Some(due) => (due.tasks, due.first) = (due.tasks + 1, due.first.min(first)),
            None => lanes.push(Due { lane, tasks: 1, first }),
        }
    }
    lanes
}

/// Lanes in which leases have ended: where a limit holds, there is room now.
pub(super) fn freed(changes: &Changes) -> BTreeSet<Lane> {
    let changed = changes.changed.iter();
    changed
        .filter(|(before, after)| before.task.lease().is_some() && after.lease().is_none())
        .map(|(_, after)| lane_of(after))
        .collect()
}

/// When the timers have something to do for these at the earliest.
pub(super) fn deadline(changes: &Changes, now: Timestamp) -> Option<Timestamp> {
    let created = changes.created.iter().map(|created| &created.task);
    let tasks = created.chain(changes.changed.iter().map(|(_, after)| after));
    tasks
        .filter_map(|task| match (&task.status, task.lease()) {
            (Status::Queued, _) => (task.ready_time > now).then_some(task.ready_time),
            (_, Some(lease)) => Some(match lease.limit {
                domain::TimeLimit::At(end) if !lease.by_runner => lease.expire_time.min(end),
                domain::TimeLimit::None | domain::TimeLimit::At(_) | domain::TimeLimit::Left(_) => {
                    lease.expire_time
                }
            }),
            (_, None) => None,
        })
        .min()
}
