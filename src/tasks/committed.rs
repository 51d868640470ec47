//! What a commit means, once it stands: the news, the answers, the leases and the wake-ups.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::oneshot;

use super::{
    Shared,
    command::{Command, Leased, Outcome},
    handout::Handout,
    later::Again,
};
use crate::{
    domain::{Error, Name, TaskId, Timestamp},
    hub::{News, Reading},
    store::{Due, Lane},
};

/// What stands once a transaction is committed.
pub(super) struct Committed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) news: Vec<News>,
    pub(super) wakes: Vec<Due>,
    /// Kinds of which it was written down that a worker was seen, and when.
    pub(super) served: (Vec<Name>, Timestamp),
    /// For those who waited.
    pub(super) offers: Vec<(oneshot::Sender<Handout>, Vec<Leased>)>,
    /// Lanes in which leases have ended.
    pub(super) freed: BTreeSet<Lane>,
    /// Queues that go on.
    pub(super) resumed: Vec<Name>,
    pub(super) again: Vec<Again>,
    pub(super) deadline: Option<Timestamp>,
    /// Of these a runner is to learn at once what is wanted.
    pub(super) steered: Vec<TaskId>,
    /// Where others publish too: what they told since this began is newer.
    pub(super) _reading: Option<Reading>,
}

/// After the commit, and only then: the news, the answers, the waiting workers.
pub(super) fn publish(shared: &Arc<Shared>, commands: Vec<Command>, committed: Committed) {
    let Committed {
        outcomes,
        news,
        wakes,
        served: (kinds, time),
        offers,
        freed,
        resumed,
        again,
        deadline,
        steered,
        _reading,
    } = committed;
    shared.hub.publish(&news);
    shared.kinds.wrote(kinds.into_iter().map(|kind| (kind, time)));
    for (command, outcome) in commands.into_iter().zip(outcomes) {
        answer(shared, command, outcome);
    }
    for (reply, leased) in offers {
        // A worker that has gone by now drops it, which gives its tasks back.
        drop(reply.send(Handout::new(leased, false, Arc::clone(&shared.queue))));
    }
    for Due { lane, tasks, .. } in wakes {
        shared.waiters.wake(&lane, tasks);
    }
    freed.iter().for_each(|lane| shared.wake_freed(lane));
    resumed.iter().for_each(|queue| shared.waiters.wake_queue(queue, u64::MAX));
    steered.into_iter().for_each(|id| shared.steer(id));
    shared.later.add(again);
    if let Some(deadline) = deadline {
        shared.deadlines.hint(deadline);
    }
}

/// Callers that have gone miss their answer; what they asked for stands.
fn answer(shared: &Arc<Shared>, command: Command, outcome: Outcome) {
    match (command, outcome) {
        (Command::Create { reply, .. }, Outcome::Created(result)) => drop(reply.send(result)),
        (Command::Update { reply, .. }, Outcome::Updated(result)) => drop(reply.send(result)),
        (Command::Report { replies, .. }, Outcome::Reported(result)) => {
            replies.into_iter().for_each(|reply| drop(reply.send(result.clone())));
        }
        (
            Command::Delete { reply, .. }
            | Command::PauseQueue { reply, .. }
            | Command::Finish { reply, .. }
            | Command::Expire { reply, .. },
            Outcome::Done(result),
        ) => drop(reply.send(result)),
        (Command::MakeDue { reply, .. } | Command::Purge { reply, .. }, Outcome::More(more)) => {
            drop(reply.send(Ok(more)))
        }
        (Command::Lease { reply, .. }, Outcome::Leased { leased, more }) => {
            // A handout that is dropped on the way gives its tasks back.
            drop(reply.send(Ok(Handout::new(leased, more, Arc::clone(&shared.queue)))));
        }
        (command, outcome) => {
            tracing::error!(?outcome, "an outcome of another command");
            command.refuse(Error::Internal);
        }
    }
}
