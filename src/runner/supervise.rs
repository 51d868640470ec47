//! One attempt from its lease to its outcome: runs the handler, sends what it says,
//! ends it when its time is up, its lease is lost or the server stops, and says the
//! last word until it is heard. It promises that the work has stopped before the
//! outcome is said, but for a handler that blocks its thread.

use std::{
    any::Any, ops::ControlFlow, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Handler, Job,
    attempt::Attempt,
    board::{Board, means_later, means_lost},
    bounds,
    handler::{outcome, stopped},
    outbox::Parcel,
};
use crate::domain::{Code, Failure, Finish, Outcome, Report, limits};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the store is asked whether the time of an attempt is really up.
const LIMIT_ASKED_FOR: Duration = Duration::from_secs(1);

/// Runs `attempt` to its end.
pub(super) async fn run(
    board: Arc<dyn Board>,
    attempt: Arc<Attempt>,
    handler: Arc<dyn Handler>,
    stop_grace: Duration,
) {
    let grace = handler.stop_grace().unwrap_or(stop_grace);
    let pump = AbortOnDropHandle::new(tokio::spawn(pump(board.clone(), attempt.clone())));
    let ended = work(&board, &attempt, handler.as_ref(), grace).await;
    // What the pump had on its way goes along with the outcome.
    drop(pump);
    match ended {
        // In a box of its own, or every task that runs would hold the room for its end.
        Some(outcome) => Box::pin(finish(board.as_ref(), &attempt, outcome)).await,
        None => tracing::warn!(
            task = %attempt.id,
            attempt = attempt.number,
            "the lease was lost: its work was killed"
        ),
    }
}

/// How the attempt ended; `None` where its lease was lost.
async fn work(
    board: &Arc<dyn Board>,
    attempt: &Arc<Attempt>,
    handler: &dyn Handler,
    grace: Duration,
) -> Option<Outcome> {
    let job = Job::new(attempt.clone());
    let mut work = pin!(AssertUnwindSafe(async { handler.run(job).await }).catch_unwind());
    // The limit that the store was last asked about, and whoever asks.
    let (mut asked, mut _asking) = (None, None);
    loop {
        let control = attempt.control();
        if control.lost {
            return None;
        }
        let limit = control.limit.filter(|_| control.limit != asked);
        // One timer for all of them: it is a good part of what a running task takes.
        let next = limit.into_iter().chain(control.abandon_at).fold(control.expires, Instant::min);
        tokio::select! {
            biased;
            () = attempt.until(|now| *now != control) => {}
            ended = &mut work => return Some(match ended {
                Ok(ended) => outcome(ended, attempt.control().wanted()),
                Err(panic) => panicked(attempt, panic.as_ref()),
            }),
            () = sleep_until(next) => {
                if next == control.expires {
                    tracing::warn!(task = %attempt.id, "the lease could not be kept alive");
                    attempt.lose();
                } else if limit == Some(next) {
                    asked = limit;
                    let asking = time_out(Arc::clone(board), Arc::clone(attempt), grace);
                    _asking = Some(AbortOnDropHandle::new(tokio::spawn(asking)));
                } else {
                    let wanted = control.wanted();
                    tracing::warn!(task = %attempt.id, ?wanted, "did not stop when it was told to");
                    return Some(stopped(wanted));
                }
            }
        }
    }
}

/// The time of an attempt seems to be up. A pause or a longer timeout may be on its way
/// here: the store knows.
async fn time_out(board: Arc<dyn Board>, attempt: Arc<Attempt>, grace: Duration) {
    let silent = vec![(attempt.id.clone(), report(&attempt, Parcel::default()))];
    if let Ok(mut answers) = timeout(LIMIT_ASKED_FOR, board.report(silent)).await
        && let Some(answer) = answers.pop()
    {
        attempt.hear(&answer);
    }
    if attempt.control().limit.is_some_and(|limit| limit <= Instant::now()) {
        attempt.time_out(grace);
    }
}

fn panicked(attempt: &Attempt, panic: &(dyn Any + Send)) -> Outcome {
    let what = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(task = %attempt.id, kind = %attempt.kind, panic = what, "a handler panicked");
    let message =
        bounds::text(&format!("the handler panicked: {what}"), limits::ERROR_MESSAGE_CHARS);
    Outcome::Failed { error: Failure::new(Code::INTERNAL, message), permanent: false }
}

fn report(attempt: &Attempt, Parcel { progress, checkpoint }: Parcel) -> Report {
    Report { token: attempt.token, progress, checkpoint }
}

/// Sends the newest word of the handler, and waits until it is taken before the
/// next one. In a task of its own: a handler may be slow to come to an await.
async fn pump(board: Arc<dyn Board>, attempt: Arc<Attempt>) {
    loop {
        let parcel = attempt.outbox.take().await;
        // In a box: it mostly waits for the next one.
        if Box::pin(send(board.as_ref(), &attempt, parcel)).await.is_break() {
            return;
        }
    }
}

async fn send(board: &dyn Board, attempt: &Attempt, parcel: Parcel) -> ControlFlow<()> {
    let reports = vec![(attempt.id.clone(), report(attempt, parcel))];
    let Some(answer) = board.report(reports).await.pop() else {
        return ControlFlow::Continue(());
    };
    attempt.hear(&answer);
    match answer {
        Ok(_) => attempt.outbox.delivered(),
        Err(error) if means_lost(&error) => return ControlFlow::Break(()),
        Err(error) if means_later(&error) => {
            attempt.outbox.returned();
            sleep(LONGEST_PAUSE / 4).await;
        }
        Err(error) => {
            tracing::error!(task = %attempt.id, %error, "a report was refused: left out");
            attempt.outbox.delivered();
        }
    }
    ControlFlow::Continue(())
}

/// Says the last word until it is heard, or the store says that the lease is lost.
async fn finish(board: &dyn Board, attempt: &Attempt, mut outcome: Outcome) {
    let mut parcel = attempt.outbox.rest();
    let mut pause = FIRST_PAUSE;
    loop {
        let finish = Finish { report: report(attempt, parcel.clone()), outcome: outcome.clone() };
        let answer = board.finish(vec![(attempt.id.clone(), finish)]).await.pop();
        match answer {
            Some(Ok(())) => {
                tracing::debug!(task = %attempt.id, outcome = name(&outcome), "attempt ended");
                return;
            }
            Some(Err(error)) if means_lost(&error) => {
                tracing::warn!(task = %attempt.id, %error, "an outcome came too late");
                return;
            }
            Some(Err(error)) if means_later(&error) => {
                tracing::warn!(task = %attempt.id, %error, "an outcome waits");
                // Its token stands until the end of its lease is committed: only the store
                // knows whether it is too late.
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Some(Err(error)) => {
                tracing::error!(task = %attempt.id, %error, "an outcome was refused");
                let refused = refused(&error.to_string());
                if outcome == refused {
                    return;
                }
                // Better a task that says why than one whose lease runs out.
                (outcome, parcel) = (refused, Parcel::default());
            }
            None => return,
        }
    }
}

fn refused(why: &str) -> Outcome {
    let message = format!("its outcome was refused: {why}");
    let message = bounds::text(&message, limits::ERROR_MESSAGE_CHARS);
    Outcome::Failed { error: Failure::new(Code::INTERNAL, message), permanent: true }
}

const fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded(_) => "succeeded",
        Outcome::Failed { permanent: true, .. } => "failed",
        Outcome::Failed { permanent: false, .. } => "failed, may be retried",
        Outcome::Cancelled => "cancelled",
        Outcome::Released => "released",
    }
}
