//! What TaskService shows of attempts, kinds and queues.

use tonic::Status;

use super::{
    errors,
    message::{failure, time},
    page_token::Listing,
    path::{At, checked, shown},
    read,
};
use crate::{
    domain::{Attempt, Cursor, Name, limits},
    proto::{self, kind::Source as ProtoSource, task::State},
    tasks::{KindCensus, QueueCensus, Source, Tasks},
};

/// What an update of a queue may name besides `paused`, to no effect.
const OUTPUT_ONLY: &[&str] = &["name", "queued_tasks", "running_tasks"];

/// ListAttempts.
pub(super) async fn attempts(
    tasks: &Tasks,
    request: proto::ListAttemptsRequest,
) -> Result<proto::ListAttemptsResponse, Status> {
    let proto::ListAttemptsRequest { name, page_size, page_token } = request;
    let (id, listing, after, limit) = checked(|at| {
        let id = read::task_name(&at.field("name"), &name);
        let limit = read::page_size(&at.field("page_size"), page_size, limits::DEFAULT_PAGE_SIZE);
        let id = id?;
        let listing = Listing::of_attempts(&id);
        let after = if page_token.is_empty() {
            Some(0)
        } else {
            listing.cursor(&page_token).map(|cursor| cursor.row)
        };
        if after.is_none() {
            at.field("page_token").refuse(
                "is not one of this task: send the token as it was given, or begin with the \
                 first page",
            );
        }
        Some((id, listing, after?, limit.min(limits::ATTEMPTS_PAGE)))
    })?;
    let page = tasks.attempts(&id, after, limit).await.map_err(errors::status)?;
    let next = page.next.map(|row| listing.token(&Cursor { keys: Vec::new(), row }));
    Ok(proto::ListAttemptsResponse {
        attempts: page.attempts.into_iter().map(attempt).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

fn attempt(attempt: Attempt) -> proto::Attempt {
    let Attempt { number, worker, start_time, end } = attempt;
    proto::Attempt {
        attempt: i32::try_from(number).unwrap_or(i32::MAX),
        worker: worker.map(|worker| worker.to_string()).unwrap_or_default(),
        start_time: Some(time(start_time)),
        end_time: end.as_ref().map(|end| time(end.time)),
        end_state: end.as_ref().map_or(State::Unspecified.into(), |end| end.state.number()),
        error: end.and_then(|end| end.error).as_ref().map(failure),
    }
}

/// One kind.
pub(super) fn kind(census: KindCensus) -> proto::Kind {
    let KindCensus { kind, source, count, workers, last_worker_time } = census;
    let source = match source {
        Some(Source::BuiltIn) => ProtoSource::BuiltIn,
        Some(Source::Program) => ProtoSource::Program,
        None => ProtoSource::Workers,
    };
    proto::Kind {
        kind: kind.to_string(),
        source: source.into(),
        queued_tasks: number(count.queued),
        running_tasks: number(count.running),
        workers: i32::try_from(workers).unwrap_or(i32::MAX),
        last_worker_time: last_worker_time.map(time),
    }
}

/// One queue.
pub(super) fn queue(census: QueueCensus) -> proto::Queue {
    let QueueCensus { queue, paused, count } = census;
    proto::Queue {
        name: format!("queues/{queue}"),
        paused,
        queued_tasks: number(count.queued),
        running_tasks: number(count.running),
    }
}

/// Which queue is meant, and what is asked of it.
pub(super) fn queue_update(
    at: &At<'_>,
    request: proto::UpdateQueueRequest,
) -> Option<(Name, Option<bool>)> {
    let proto::UpdateQueueRequest { queue, update_mask } = request;
    let Some(queue) = queue else {
        at.field("queue").refuse("is required, with its name at least");
        return None;
    };
    let name = read::queue_name(&at.field("queue").field("name"), &queue.name);
    let paths = update_mask.unwrap_or_default().paths;
    for path in &paths {
        if !["*", "paused"].contains(&path.as_str()) && !OUTPUT_ONLY.contains(&path.as_str()) {
            let why = format!("names {}, which cannot be set: only paused can", shown(path));
            at.field("update_mask").refuse(why);
        }
    }
    let meant = paths.is_empty() || paths.iter().any(|path| path == "*" || path == "paused");
    Some((name?, meant.then_some(queue.paused)))
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
