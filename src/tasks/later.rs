//! Lanes that a rate holds up: when it has something left for them, as many waiting
//! workers are woken as it has tasks for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::waiters::Waiters;
use crate::store::Lane;

/// A lane to be looked at again.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub(super) lane: Lane,
    pub(super) wait: Duration,
    /// How many tasks may be handed out then.
    pub(super) tasks: u64,
}

/// All that wait for their rates, each once.
#[derive(Debug, Default)]
pub(super) struct Later {
    lanes: Mutex<BTreeMap<Lane, (Instant, u64)>>,
    earlier: Notify,
}

impl Later {
    pub(super) fn add(&self, again: Vec<Again>) {
        if again.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.extend(again.into_iter().map(|a| (a.lane, (now + a.wait, a.tasks))));
        self.earlier.notify_one();
    }

    /// Wakes whoever waits, when it is time; never ends.
    pub(super) async fn run(&self, waiters: &Waiters) {
        loop {
            let next = {
                let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
                lanes.values().map(|(time, _)| *time).min()
            };
            let Some(next) = next else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.earlier.notified() => continue,
            }
            let now = Instant::now();
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|lane, (time, tasks)| {
                let waits = *time > now;
                if !waits {
                    waiters.wake(lane, *tasks);
                }
                waits
            });
        }
    }
}
