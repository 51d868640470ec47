//! What went while somebody was reading the store: of two who publish, the slower one
//! must not bring back what the faster one has told to be gone.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::{Hub, Version};
use crate::domain::TaskId;

/// What went, as long as anybody reads who may not know of it yet.
#[derive(Debug, Default)]
pub(super) struct Recent {
    versions: HashMap<TaskId, (Version, u64)>,
    by_time: VecDeque<(u64, TaskId)>,
}

/// When what is published now goes, by the hub's own clock, and when the oldest read
/// that is still under way began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    now: u64,
    oldest: u64,
}

impl Recent {
    /// It went with this version. False where that is too much to be kept.
    pub(super) fn note(&mut self, id: &TaskId, version: Version, time: Time, most: usize) -> bool {
        while self.by_time.front().is_some_and(|(noted, _)| *noted < time.oldest) {
            let Some((noted, id)) = self.by_time.pop_front() else { break };
            if self.versions.get(&id).is_some_and(|(_, last)| *last == noted) {
                self.versions.remove(&id);
            }
        }
        let known = self.versions.get(id).map(|(version, _)| *version);
        self.versions.insert(id.clone(), (known.map_or(version, |v| v.max(version)), time.now));
        self.by_time.push_back((time.now, id.clone()));
        self.by_time.len() <= most
    }

    /// Whether this state is of before.
    pub(super) fn is_past(&self, id: &TaskId, version: Version) -> bool {
        self.versions.get(id).is_some_and(|(gone, _)| *gone >= version)
    }

    /// Nobody reads any more.
    pub(super) fn clear(&mut self) {
        if !self.by_time.is_empty() {
            *self = Self::default();
        }
    }
}

/// The reads that are under way, by when they began.
#[derive(Debug, Default)]
pub(super) struct Readings {
    clock: u64,
    open: BTreeSet<u64>,
}

impl Readings {
    pub(super) const fn now(&self) -> u64 {
        self.clock
    }

    pub(super) fn time(&self) -> Option<Time> {
        Some(Time { now: self.clock, oldest: *self.open.first()? })
    }
}

/// A read of the store, or a commit, whose states are about to be published: from here
/// on the hub remembers what goes. Over when it is dropped.
#[derive(Debug)]
pub struct Reading {
    hub: Hub,
    began: u64,
}

impl Hub {
    /// To be called before the store is read, where others publish meanwhile.
    pub fn begin(&self) -> Reading {
        let mut entries = self.shared.lock();
        let readings = &mut entries.readings;
        readings.clock += 1;
        let began = readings.clock;
        readings.open.insert(began);
        Reading { hub: self.clone(), began }
    }
}

impl Reading {
    pub(super) const fn began(&self) -> u64 {
        self.began
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut entries = self.hub.shared.lock();
        entries.readings.open.remove(&self.began);
        if entries.readings.open.is_empty() {
            entries.gone.clear();
        }
    }
}
