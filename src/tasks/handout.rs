//! Tasks on their way to a worker. If the worker has gone before it has them, they are
//! given back at once, and the attempt does not count.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    command::{Command, Leased},
    queue::Queue,
};
use crate::domain::{Finish, Outcome, Report};

/// Leased tasks that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Handout {
    leased: Vec<Leased>,
    /// None of them, but there may be some: ask again.
    pub(super) more: bool,
    queue: Arc<Queue>,
}

impl Handout {
    pub(super) const fn new(leased: Vec<Leased>, more: bool, queue: Arc<Queue>) -> Self {
        Self { leased, more, queue }
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
