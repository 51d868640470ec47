//! What a commit of this replica is to the others: what they may show, hand out or tell
//! a runner of theirs. Nothing where there is nothing that they want to know.

use std::collections::BTreeSet;

use super::Settings;
use crate::{
    domain::{Name, Task, TaskId},
    hub::News,
    store::{Changes, Due, Gone, Lane, Notice, Stored},
};

/// What others are told; none where that is nothing.
pub(super) fn notice(
    settings: &Settings,
    news: &[News],
    gone: Vec<Gone>,
    wakes: &[Due],
    freed: &BTreeSet<Lane>,
    resumed: &[Name],
    steered: &[TaskId],
) -> Option<Notice> {
    let states = news.iter().filter_map(|one| match one {
        News::State(snapshot) => Some(snapshot.task.id.clone()),
        News::Deleted(..) => None,
    });
    let changed: BTreeSet<TaskId> = states.collect();
    let notice = Notice {
        changed: changed.into_iter().collect(),
        gone,
        ready: wakes.iter().filter(|due| due.tasks > 0).cloned().collect(),
        freed: freed.iter().filter(|lane| settings.is_limited(lane)).cloned().collect(),
        resumed: resumed.to_vec(),
        steered: steered.to_vec(),
    };
    (notice != Notice::default()).then_some(notice)
}

/// As others are told of what is no more.
pub(super) fn gone(stored: &Stored) -> Gone {
    let Task { id, create_time, .. } = &*stored.task;
    Gone { id: id.clone(), create_time: *create_time, row: stored.row }
}

/// Tasks in the hands of runners of which something else is wanted now.
pub(super) fn steered(changes: &Changes) -> Vec<TaskId> {
    let changed = changes.changed.iter().filter(|(before, after)| {
        let (Some(held), Some(lease)) = (before.task.lease(), after.lease()) else { return false };
        lease.by_runner
            && held.token == lease.token
            && (before.task.state() != after.state() || held.limit != lease.limit)
    });
    changed.map(|(_, after)| after.id.clone()).collect()
}
