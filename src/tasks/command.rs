//! What is asked of the committer, and what it answers: each command once
//! applied, and again where a transaction has to be repeated.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::handout::Handout;
use crate::{
    domain::{
        Error, Failure, Finish, Name, NewTask, Object, Patch, Report, State, Task, TaskId,
        TimeLimit, Timestamp,
    },
    hub::Full,
    store::Overdue,
};

/// A task to create.
#[derive(Clone, Debug)]
pub struct Create {
    /// The task.
    pub new: NewTask,
    /// Its id was chosen by the server, at random: nobody looks whether it is taken, unless
    /// the database says so.
    pub id_is_new: bool,
    /// The request id and a canonical digest of the request.
    pub request: Option<(String, [u8; 32])>,
    /// Where in the request it stands, for messages: "" or `requests[3].`.
    pub path: String,
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Who asks.
    pub worker: Name,
    /// Which kinds it serves.
    pub kinds: Vec<Name>,
    /// Of which queues; none means all.
    pub queues: Vec<Name>,
    /// At most so many tasks.
    pub max_tasks: usize,
    /// How long a lease lives without a report.
    pub duration: Duration,
    /// How long to wait where there is nothing to do.
    pub wait: Duration,
    /// See [`Lease::by_runner`](crate::domain::Lease::by_runner).
    pub by_runner: bool,
}

/// A task in a worker's hands.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task, RUNNING, with its live lease (token, expiry, time limit) inside.
    pub task: Arc<Task>,
    /// Its input.
    pub input: Option<Object>,
}

/// What a worker learns when it reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// RUNNING, PAUSED or CANCELLING.
    pub wanted: State,
    /// Until when the lease lives.
    pub expire_time: Timestamp,
    /// When the attempt must be over.
    pub limit: TimeLimit,
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One command. Its reply is answered after its commit and not before.
#[derive(Debug)]
pub(super) enum Command {
    Create {
        creates: Vec<Create>,
        reply: Reply<Vec<Full>>,
    },
    Update {
        id: TaskId,
        patch: Box<Patch>,
        reply: Reply<Full>,
    },
    Delete {
        id: TaskId,
        allow_missing: bool,
        reply: Reply<()>,
    },
    Report {
        id: TaskId,
        report: Report,
        replies: Vec<Reply<Answer>>,
    },
    Finish {
        id: TaskId,
        finish: Box<Finish>,
        reply: Reply<()>,
    },
    /// Holds a queue back, or lets it go on.
    PauseQueue {
        queue: Name,
        paused: bool,
        reply: Reply<()>,
    },
    Expire {
        overdue: Overdue,
        reply: Reply<()>,
    },
    /// Tasks whose `ready_time` has come may be handed out. Tells whether there
    /// may be more.
    MakeDue {
        limit: u64,
        reply: Reply<bool>,
    },
    /// Ended tasks that were kept long enough go. Tells whether there may be more.
    Purge {
        limit: u64,
        reply: Reply<bool>,
    },
    Lease {
        request: LeaseRequest,
        reply: Reply<Handout>,
    },
}

/// What a command is answered with, once its commit stands.
#[derive(Debug)]
pub(super) enum Outcome {
    Created(Result<Vec<Full>, Error>),
    Updated(Result<Full, Error>),
    Reported(Result<Answer, Error>),
    /// There may be `more` for whoever got none.
    Leased {
        leased: Vec<Leased>,
        more: bool,
    },
    More(bool),
    Done(Result<(), Error>),
}

impl Command {
    /// Rows that it may change; a lease finds its own.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Create { creates, .. } => creates.len().max(1),
            Self::MakeDue { .. } | Self::Purge { .. } => 50,
            Self::Update { .. }
            | Self::Delete { .. }
            | Self::Report { .. }
            | Self::Finish { .. }
            | Self::PauseQueue { .. }
            | Self::Expire { .. }
            | Self::Lease { .. } => 1,
        }
    }

    /// Bytes that it holds, roughly.
    pub(super) fn bytes(&self) -> usize {
        const BASE: usize = 256;
        let labels = |labels: &crate::domain::Labels| -> usize {
            labels.iter().map(|(key, value)| key.len() + value.len()).sum()
        };
        let report = |report: &Report| {
            let progress = report.progress.as_ref().map_or(0, |p| {
                p.message.len() + p.details.as_ref().map_or(0, |d| d.encoded().len())
            });
            progress + report.checkpoint.as_ref().map_or(0, |c| c.encoded().len())
        };
        let failure = |failure: &Failure| {
            failure.message.len() + failure.details.iter().map(|d| d.value.len()).sum::<usize>()
        };
        BASE + match self {
            Self::Create { creates, .. } => creates
                .iter()
                .map(|create| {
                    let input = create.new.input.as_ref().map_or(0, |i| i.encoded().len());
                    BASE + input + labels(&create.new.labels)
                })
                .sum(),
            Self::Update { patch, .. } => {
                let result = patch.result.as_ref().and_then(Option::as_ref);
                let input = patch.input.as_ref().and_then(Option::as_ref);
                let error = patch.error.as_ref().and_then(Option::as_ref);
                let details = patch.progress.details.as_ref().and_then(Option::as_ref);
                result.map_or(0, |result| result.encoded().len())
                    + input.map_or(0, |input| input.encoded().len())
                    + error.map_or(0, failure)
                    + details.map_or(0, |details| details.encoded().len())
                    + patch.labels.as_ref().map_or(0, labels)
            }
            Self::Report { report: said, .. } => report(said),
            Self::Finish { finish, .. } => {
                let outcome = match &finish.outcome {
                    crate::domain::Outcome::Succeeded(value) => value.encoded().len(),
                    crate::domain::Outcome::Failed { error, .. } => failure(error),
                    crate::domain::Outcome::Cancelled | crate::domain::Outcome::Released => 0,
                };
                report(&finish.report) + outcome
            }
            Self::Delete { .. }
            | Self::PauseQueue { .. }
            | Self::Expire { .. }
            | Self::MakeDue { .. }
            | Self::Purge { .. } => 0,
            Self::Lease { request, .. } => 64 * (request.kinds.len() + request.queues.len()),
        }
    }

    /// Refuses it.
    pub(super) fn refuse(self, error: Error) {
        // A caller that has gone is not waiting for the refusal.
        match self {
            Self::Create { reply, .. } => drop(reply.send(Err(error))),
            Self::Update { reply, .. } => drop(reply.send(Err(error))),
            Self::Report { replies, .. } => {
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
            Self::Delete { reply, .. }
            | Self::PauseQueue { reply, .. }
            | Self::Finish { reply, .. }
            | Self::Expire { reply, .. } => drop(reply.send(Err(error))),
            Self::MakeDue { reply, .. } | Self::Purge { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Lease { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
