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
        // What had only just come may not have been told yet: the timer may be late.
        let was_due = before.is_some_and(|before| before.is_due(before.update_time));
        if was_due || !task.is_due(now) {
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        domain::{Labels, NewTask, RetryPolicy, create},
        store::Stored,
    };

    #[test]
    fn what_the_timer_has_not_come_to_is_told_when_it_changes() {
        let name = |text| Name::new(text).expect("a name");
        let created = Timestamp::from_micros(0);
        let new = NewTask {
            id: name("a"),
            kind: name("work"),
            input: None,
            queue: None,
            priority: 0,
            labels: Labels::new(),
            schedule_time: Some(created.plus(Duration::from_secs(1))),
            retry_policy: RetryPolicy::default(),
            attempt_timeout: None,
            retention: None,
        };
        let before = create(&new, created);
        let changed_at = |before: &Task, now: Timestamp| {
            let after = Task { priority: 1, update_time: now, ..before.clone() };
            let stored = Stored { row: 1, task: Arc::new(before.clone()), input: None };
            let changed = vec![(stored, Arc::new(after.clone()))];
            let lanes = ready(&Changes { changed, ..Changes::default() }, now).len();
            (lanes, after)
        };
        let half = created.plus(Duration::from_millis(500));
        let two = created.plus(Duration::from_secs(2));
        assert_eq!(changed_at(&before, half).0, 0, "it is not due yet");
        // The row says from now on that it is due: no timer will find it.
        let (lanes, after) = changed_at(&before, two);
        assert_eq!(lanes, 1);
        let three = created.plus(Duration::from_secs(3));
        assert_eq!(changed_at(&after, three).0, 0, "it was told");
        // The clock has gone back since: it is due all the same.
        let retried = Task { ready_time: three, update_time: three, ..before };
        let failed = Task { status: Status::Failed { end_time: two }, ..retried.clone() };
        let stored = Stored { row: 1, task: Arc::new(failed), input: None };
        let changed = vec![(stored, Arc::new(retried))];
        assert_eq!(ready(&Changes { changed, ..Changes::default() }, two).len(), 1);
    }
}
