//! Keeps the leases of all attempts alive, and brings what is wanted of them: at once
//! where something else is wanted, and in one call for all of them a little more often
//! than twice a second. It promises that a cancel or a pause is acted on within a second,
//! also where the work is silent.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::HashMap;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::{attempt::Attempt, board::Board};
use crate::domain::{Report, Token, limits};

const ROUND: Duration = Duration::from_millis(400);

/// The attempts that run, by the tokens of their leases.
#[derive(Debug, Default)]
pub(super) struct Running {
    // Held for a lookup or a copy, never across an await.
    attempts: Mutex<HashMap<Token, Arc<Attempt>>>,
    changed: Notify,
}

/// An attempt's place among those that run, until it is dropped: also by a panic.
#[derive(Debug)]
pub(super) struct Seat {
    running: Arc<Running>,
    token: Token,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.running.attempts().remove(&self.token);
        self.running.changed.notify_waiters();
    }
}

impl Running {
    fn attempts(&self) -> MutexGuard<'_, HashMap<Token, Arc<Attempt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(self: &Arc<Self>, attempt: Arc<Attempt>) -> Seat {
        let token = attempt.token;
        self.attempts().insert(token, attempt);
        self.changed.notify_waiters();
        Seat { running: self.clone(), token }
    }

    pub(super) fn all(&self) -> Vec<Arc<Attempt>> {
        self.attempts().values().cloned().collect()
    }

    /// Waits until none runs.
    pub(super) async fn empty(&self) {
        self.until(HashMap::is_empty).await;
    }

    async fn until(&self, holds: impl Fn(&HashMap<Token, Arc<Attempt>>) -> bool) {
        loop {
            // Registered before the look, or a change between the two would be missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(&self.attempts()) {
                return;
            }
            changed.await;
        }
    }
}

/// Goes round for good.
pub(super) async fn keep(board: Arc<dyn Board>, running: Arc<Running>) {
    let mut steered = board.steered();
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => running.until(|attempts| !attempts.is_empty()).await,
            // Too far behind with these, it goes round all.
            Ok(id) = steered.recv() => {
                let of_it = running.all().into_iter().filter(|attempt| attempt.id == id);
                let of_it: Vec<_> = of_it.collect();
                if !of_it.is_empty() {
                    round(board.as_ref(), &of_it).await;
                }
                continue;
            }
        }
        for some in running.all().chunks(limits::BATCH) {
            round(board.as_ref(), some).await;
        }
    }
}

async fn round(board: &dyn Board, attempts: &[Arc<Attempt>]) {
    let reports = attempts
        .iter()
        .map(|attempt| {
            let report = Report { token: attempt.token, progress: None, checkpoint: None };
            (attempt.id.clone(), report)
        })
        .collect();
    let answers = board.report(reports).await;
    for (attempt, answer) in attempts.iter().zip(&answers) {
        attempt.hear(answer);
    }
}
