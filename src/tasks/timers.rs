//! What happens by itself when its time has come: leases end, attempts run out of
//! time, waiting tasks become due, ended ones are removed. Timers only say what
//! they saw; the committer looks again, under the token that was seen.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Shared, command::Command};
use crate::{
    clock,
    domain::{Error, Expiry, Timestamp},
    store::{Reader, StoreError},
};

/// What is done at once.
const SWEEP: u64 = 500;
/// The longest time between two looks: heals a hint that was missed.
const SLOWEST: Duration = Duration::from_secs(1);
/// The shortest: many deadlines close together are seen in one look.
const FASTEST: Duration = Duration::from_millis(10);
/// What was to happen longer ago than this is looked for only now and then. Of all that has
/// ended an index keeps an entry until PostgreSQL has cleared it away, which any long
/// transaction puts off, and who looked at all of them each time would be slowed down.
const PAST: Duration = Duration::from_secs(10);
const ALL_PAST_EVERY: Duration = Duration::from_secs(60);
/// How often retention is looked after.
const PURGE_EVERY: Duration = Duration::from_secs(30);
/// Workers have this long to report after the server was not there for them.
const AMNESTY: Duration = Duration::from_secs(10);
/// A look that comes so much too late was a stall.
const STALL: Duration = Duration::from_secs(3);

/// When the timers look next, and what comes up meanwhile.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    known: Mutex<Known>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The next look; none while they look.
    look: Option<Timestamp>,
    /// The earliest of what came up since the last one began.
    hinted: Option<Timestamp>,
}

impl Deadlines {
    /// Something is to be done at `time`.
    pub(super) fn hint(&self, time: Timestamp) {
        let mut known = self.lock();
        known.hinted = known.hinted.into_iter().chain([time]).min();
        if let Some(look) = &mut known.look
            && time < *look
        {
            *look = time;
            self.earlier.notify_one();
        }
    }

    /// The timers begin to look: what they find need not be told.
    fn look(&self) {
        *self.lock() = Known::default();
    }

    /// How long they need not look again that looked at `now`, and found that there is
    /// something to do at `next`.
    fn wait(&self, now: Timestamp, next: Option<Timestamp>) -> Duration {
        let mut known = self.lock();
        let next = next.into_iter().chain(known.hinted).min();
        let wait = next.map_or(SLOWEST, |next| {
            // While leases are spared, their end is no reason to look all the time.
            let wait = next.since(now);
            if wait.is_zero() { SLOWEST / 10 } else { wait }
        });
        let wait = wait.clamp(FASTEST, SLOWEST);
        known.look = Some(now.plus(wait));
        wait
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the leases of runners that died with their process. To be called before
/// any runner of this process starts, where no other process can have one.
pub(super) async fn end_orphans(shared: &Shared, reader: &Reader) -> Result<(), Error> {
    loop {
        let orphans = reader.runner_leases(SWEEP).await.map_err(|e| super::logged(&e))?;
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::info!(tasks = orphans.len(), "ending the attempts that the last process ran");
        let replies = orphans.into_iter().map(|overdue| {
            let (reply, answer) = oneshot::channel();
            shared.queue.push(Command::Expire { overdue, reply });
            answer
        });
        for answer in join_all(replies).await {
            answer.unwrap_or(Err(Error::Internal))?;
        }
    }
}

/// When the database last did not do what it was asked, so that no worker could report.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Option<Instant>>);

impl Outages {
    /// It does not work now.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, reader: Reader, stop: CancellationToken) {
    let mut spared_since = Instant::now();
    let mut last = (Instant::now(), clock::now());
    let mut wait = Duration::ZERO;
    let mut past = Past::default();
    loop {
        // A loop that comes late, or a clock that ran ahead of it, was a stall: of this
        // process, of the machine, or of the database.
        let present = (Instant::now(), clock::now());
        let (took, by_clock) = (present.0 - last.0, present.1.since(last.1));
        if took.max(by_clock) > wait + STALL {
            spared_since = present.0;
        }
        last = present;
        spared_since = shared.outages.last().map_or(spared_since, |last| last.max(spared_since));
        wait = match tick(&shared, &reader, &mut past, spared_since.elapsed() >= AMNESTY).await {
            Ok(wait) => wait.saturating_sub(present.0.elapsed()).max(FASTEST),
            Err(error) => {
                tracing::warn!(%error, "the timers cannot read the database");
                shared.outages.note();
                SLOWEST
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = shared.deadlines.earlier.notified() => sleep(FASTEST).await,
            () = stop.cancelled() => return,
        }
    }
}

/// Removes what was kept long enough, again and again until it is stopped.
pub(super) async fn purge(shared: Arc<Shared>, reader: Reader, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = sleep(PURGE_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = purge_all(&shared, &reader).await {
            tracing::warn!(%error, "ended tasks could not be removed");
        }
    }
}

/// Up to when everything was seen to.
#[derive(Default)]
struct Past {
    done: Option<Timestamp>,
    /// When it was last looked for from the beginning.
    all: Option<Instant>,
}

impl Past {
    /// From when on something may be left.
    fn since(&mut self) -> Timestamp {
        let is_known = self.all.is_some_and(|all| all.elapsed() < ALL_PAST_EVERY);
        match self.done.filter(|_| is_known) {
            Some(done) => done.minus(PAST),
            None => {
                (self.done, self.all) = (None, Some(Instant::now()));
                Timestamp::from_micros(i64::MIN)
            }
        }
    }
}

/// One look. Tells how long the next one can wait.
async fn tick(
    shared: &Shared,
    reader: &Reader,
    past: &mut Past,
    leases_end: bool,
) -> Result<Duration, StoreError> {
    shared.deadlines.look();
    let now = reader.now().await?;
    let since = past.since();
    let overdue = reader.overdue(since, now, SWEEP).await?;
    let more = overdue.len() as u64 >= SWEEP;
    let ends = overdue.into_iter().filter(|o| leases_end || o.cause != Expiry::Lease);
    let replies: Vec<_> = ends
        .map(|overdue| {
            let (reply, answer) = oneshot::channel();
            shared.queue.push(Command::Expire { overdue, reply });
            answer
        })
        .collect();
    // Refusals are the committer's to log; the next look sees them again.
    let ended = join_all(replies).await.iter().all(|reply| matches!(reply, Ok(Ok(()))));
    if ended && leases_end && !more {
        past.done = Some(now);
    }
    loop {
        let (reply, answer) = oneshot::channel();
        shared.queue.push(Command::MakeDue { limit: SWEEP, reply });
        if !matches!(answer.await, Ok(Ok(true))) {
            break;
        }
    }
    if more && leases_end {
        return Ok(FASTEST);
    }
    let next = reader.next_deadline(since, now.plus(SLOWEST)).await?;
    Ok(shared.deadlines.wait(now, next))
}

async fn purge_all(shared: &Shared, reader: &Reader) -> Result<(), StoreError> {
    let now = reader.now().await?;
    if !reader.has_expired(now, shared.settings.retention).await? {
        return Ok(());
    }
    loop {
        let (reply, answer) = oneshot::channel();
        shared.queue.push(Command::Purge { limit: SWEEP, reply });
        if !matches!(answer.await, Ok(Ok(true))) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn wakes(deadlines: &Deadlines) -> bool {
        deadlines.earlier.notified().now_or_never().is_some()
    }

    #[test]
    fn only_what_comes_before_the_next_look_is_a_reason_for_another() {
        let deadlines = Deadlines::default();
        deadlines.look();
        deadlines.hint(at(700));
        assert!(!wakes(&deadlines), "they look, and are told at the end");
        assert_eq!(deadlines.wait(at(0), Some(at(900))), Duration::from_millis(700));
        deadlines.hint(at(30_000));
        assert!(!wakes(&deadlines));
        deadlines.hint(at(500));
        assert!(wakes(&deadlines));
        deadlines.hint(at(600));
        assert!(!wakes(&deadlines), "they have been woken for an earlier one");
        deadlines.look();
        assert_eq!(deadlines.wait(at(0), None), SLOWEST);
        deadlines.hint(at(1_500));
        assert!(!wakes(&deadlines));
    }
}
