//! What one listener has yet to be told: ids and never states, each id once, in the
//! order in which they came. Knows no hub and no tasks.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::domain::TaskId;

/// What is to be told of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Its state, which the listener has not been sent at all.
    Fresh,
    /// Its state, newer than the one sent.
    Again,
    /// That it is gone.
    Removed,
    /// That it was gone, and then the state with which it is back.
    Replaced,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// On a page of the first list.
    Listed(u64),
    /// Among the changes.
    Changed(u64),
    /// Waits for its interval to be over.
    Held,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pending: HashMap<TaskId, (Pending, Place)>,
    listed: BTreeMap<u64, TaskId>,
    changed: BTreeMap<u64, TaskId>,
    ticket: u64,
}

impl Queue {
    pub(super) fn get(&self, id: &TaskId) -> Option<Pending> {
        self.pending.get(id).map(|(pending, _)| *pending)
    }

    /// Puts `id` at the end; where it waits already, it keeps its place.
    pub(super) fn set(&mut self, id: &TaskId, pending: Pending) {
        if let Some((known, _)) = self.pending.get_mut(id) {
            *known = pending;
            return;
        }
        self.ticket += 1;
        self.changed.insert(self.ticket, id.clone());
        self.pending.insert(id.clone(), (pending, Place::Changed(self.ticket)));
    }

    /// Puts the next task of the first list at the end of it.
    pub(super) fn list(&mut self, id: &TaskId) {
        self.ticket += 1;
        self.listed.insert(self.ticket, id.clone());
        self.pending.insert(id.clone(), (Pending::Fresh, Place::Listed(self.ticket)));
    }

    pub(super) fn remove(&mut self, id: &TaskId) -> Option<Pending> {
        let (pending, place) = self.pending.remove(id)?;
        match place {
            Place::Listed(ticket) => drop(self.listed.remove(&ticket)),
            Place::Changed(ticket) => drop(self.changed.remove(&ticket)),
            Place::Held => {}
        }
        Some(pending)
    }

    /// Holds `id` back until [`Queue::release`].
    pub(super) fn hold(&mut self, id: &TaskId) {
        if let Some(pending) = self.remove(id) {
            self.pending.insert(id.clone(), (pending, Place::Held));
        }
    }

    /// Puts what was held back at the end.
    pub(super) fn release(&mut self, id: &TaskId) {
        if let Some((pending, Place::Held)) = self.pending.get(id).copied() {
            self.pending.remove(id);
            self.set(id, pending);
        }
    }

    pub(super) fn first_listed(&self) -> Option<TaskId> {
        self.listed.first_key_value().map(|(_, id)| id.clone())
    }

    pub(super) fn first_changed(&self) -> Option<TaskId> {
        self.changed.first_key_value().map(|(_, id)| id.clone())
    }

    /// Every id of which nothing was ever told.
    pub(super) fn fresh(&self) -> impl Iterator<Item = &TaskId> {
        self.pending.iter().filter_map(|(id, (pending, _))| match pending {
            Pending::Fresh => Some(id),
            Pending::Again | Pending::Replaced | Pending::Removed => None,
        })
    }

    pub(super) fn holds_some(&self) -> bool {
        self.pending.len() > self.listed.len() + self.changed.len()
    }

    /// Every id that waits for its state to be told.
    pub(super) fn states(&self) -> impl Iterator<Item = &TaskId> {
        self.pending.iter().filter_map(|(id, (pending, _))| pending.has_state().then_some(id))
    }
}

impl Pending {
    pub(super) const fn has_state(self) -> bool {
        match self {
            Self::Fresh | Self::Again | Self::Replaced => true,
            Self::Removed => false,
        }
    }
}
