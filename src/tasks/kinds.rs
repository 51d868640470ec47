//! Which kinds are known, and when a worker of each was last seen.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use hashbrown::HashMap;

use super::Settings;
use crate::domain::{EXTERNAL, Name, Timestamp};

/// How often it is written down that a kind's workers are there.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// Kinds that remote workers have served, with the time that is written down.
#[derive(Debug)]
pub(super) struct Kinds(RwLock<HashMap<Name, Timestamp>>);

impl Kinds {
    pub(super) fn new(seen: Vec<(Name, Timestamp)>) -> Self {
        Self(RwLock::new(seen.into_iter().collect()))
    }

    /// Whether anything serves it, or ever has.
    pub(super) fn is_known(&self, settings: &Settings, kind: &Name) -> bool {
        kind.as_str() == EXTERNAL
            || settings.kinds.get(kind).is_some_and(|kind| kind.source.is_some())
            || self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(kind)
    }

    /// All that are known.
    pub(super) fn known(&self, settings: &Settings) -> BTreeSet<Name> {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = settings.kinds.iter().filter(|(_, kind)| kind.source.is_some());
        own.map(|(name, _)| name).chain(seen.keys()).cloned().chain(Name::new(EXTERNAL)).collect()
    }

    /// Of these, whose workers were seen at `now`, those of which it is to be written
    /// down.
    pub(super) fn to_write(&self, seen: BTreeSet<Name>, now: Timestamp) -> Vec<Name> {
        let written = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_old = |kind: &Name| {
            written.get(kind).is_none_or(|written| now.since(*written) >= WRITTEN_EVERY)
        };
        seen.into_iter().filter(is_old).collect()
    }

    /// It is written down.
    pub(super) fn wrote(&self, seen: impl IntoIterator<Item = (Name, Timestamp)>) {
        let mut seen = seen.into_iter().peekable();
        if seen.peek().is_some() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).extend(seen);
        }
    }
}
