//! The one loop that writes: takes all commands that wait, applies them in one
//! transaction, and only when that stands publishes what changed, answers the
//! callers and wakes waiting workers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    assign::hand_out,
    batch::{Batch, wanted},
    command::{Command, LeaseRequest, Leased, Outcome},
    committed::{Committed, publish},
    fronts::Fronts,
    handout::Handout,
    notice::{gone, notice, steered},
    wakes::{deadline, freed, lane_of, ready},
};
use crate::{
    domain::{Error, Name, Timestamp},
    hub::{News, Snapshot},
    store::{Changes, Gone, StoreError, Stored, Transaction, Writer},
};

/// How often a batch that lost a race is tried again before its commands are
/// applied one by one.
const TRIES: u32 = 10;
/// The longest pause before the second try; each later one may be so much longer.
const BACK_OFF: Duration = Duration::from_millis(5);
/// How long callers wait for a database that went away, and how often it is tried.
const WAITED_FOR: Duration = Duration::from_secs(3);
const TRIED_EVERY: Duration = Duration::from_millis(100);
/// How often those are refused who come while the database does not answer.
const REFUSE_EVERY: Duration = Duration::from_millis(250);

/// What goes from one batch to the next.
struct Course {
    /// The queue that was served last.
    last_queue: Option<Name>,
    /// Which lanes have something, and where their lines begin.
    fronts: Fronts,
    /// Since when the database is away.
    away: Option<Instant>,
}

/// What a transaction failed of.
enum Failed {
    Store(StoreError),
    /// It may stand all the same.
    Unknown {
        told: Timestamp,
        committed: Box<Committed>,
    },
    Panicked,
}

impl Failed {
    const fn hits_all(&self) -> bool {
        match self {
            Self::Store(error) => error.hits_all(),
            Self::Unknown { .. } => true,
            Self::Panicked => false,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Writes until the queue is closed and empty.
pub(super) async fn run(mut writer: Writer, shared: Arc<Shared>) {
    let fronts = Fronts::new(shared.replicated);
    let mut course = Course { last_queue: None, fronts, away: None };
    while let Some(commands) = shared.queue.next_batch().await {
        shared.awake.begin(commands.len());
        let is_report = |command: &&Command| matches!(command, Command::Report { .. });
        let answered = commands.len() - commands.iter().filter(is_report).count();
        let batch = commit(&mut writer, &shared, &mut course, commands);
        if AssertUnwindSafe(batch).catch_unwind().await.is_err() {
            // Its callers are answered by the loss of their replies.
            tracing::error!("a batch panicked outside of what it applies; going on with the next");
            course.fronts.forget();
        }
        shared.awake.end();
        shared.queue.gather(answered).await;
    }
    if let Err(error) = writer.close().await {
        tracing::warn!(%error, "the database could not be closed");
    }
}

async fn commit(
    writer: &mut Writer,
    shared: &Arc<Shared>,
    course: &mut Course,
    commands: Vec<Command>,
) {
    let mut tries = 0;
    let failure = loop {
        let began = Instant::now();
        let failure = match attempt(writer, shared, course, &commands, tries > 0).await {
            Ok(committed) => {
                course.away = None;
                return publish(shared, commands, committed);
            }
            Err(failure) => failure,
        };
        tries += 1;
        course.fronts.forget();
        if failure.hits_all() {
            shared.outages.note();
        }
        match &failure {
            // Those who got into each other's way do not meet again.
            Failed::Store(StoreError::Conflict) if tries < TRIES => {
                sleep(BACK_OFF.mul_f64(f64::from(tries) * rand::random::<f64>())).await;
            }
            Failed::Store(StoreError::Unavailable(why)) if shared.replicated => {
                // The attempt may have waited for it as well.
                let away = course.away.get_or_insert(began);
                if away.elapsed() >= WAITED_FOR {
                    break failure;
                }
                tracing::debug!(%why, "the database is away: trying again");
                sleep(TRIED_EVERY).await;
            }
            Failed::Store(_) | Failed::Unknown { .. } | Failed::Panicked => break failure,
        }
    };
    let alone = commands.len() == 1;
    match failure {
        Failed::Unknown { told, committed } => {
            let public = super::logged(&StoreError::Unknown { told });
            commands.into_iter().for_each(|command| command.refuse(public.clone()));
            settle(writer, shared, told, *committed).await;
        }
        Failed::Store(error) if alone || error.hits_all() => {
            let public = super::logged(&error);
            commands.into_iter().for_each(|command| command.refuse(public.clone()));
            if course.away.is_some() {
                // They came meanwhile, and would wait as long again.
                shared.queue.refuse_all(&public);
            }
        }
        Failed::Panicked if alone => {
            commands.into_iter().for_each(|command| command.refuse(Error::Internal));
        }
        // Only the bad one is refused.
        Failed::Store(_) | Failed::Panicked => {
            for command in commands {
                Box::pin(commit(writer, shared, course, vec![command])).await;
            }
        }
    }
}

/// Nobody knows yet whether this stands, and until that is known nothing can be built
/// on it. If it does, all are told but those who asked: they were told to look.
async fn settle(writer: &Writer, shared: &Arc<Shared>, told: Timestamp, mut committed: Committed) {
    let mut became = pin!(writer.became(told));
    let stands = loop {
        tokio::select! {
            stands = &mut became => break stands,
            () = sleep(REFUSE_EVERY) => {
                shared.outages.note();
                let public = StoreError::Unavailable("it does not answer".into()).public();
                shared.queue.refuse_all(&public);
            }
        }
    };
    tracing::warn!(stands, "found out what became of a commit");
    // Whatever was told meanwhile by others, or not told by itself.
    shared.reread.notify_one();
    if stands {
        for outcome in committed.outcomes.drain(..) {
            if let Outcome::Leased { leased, more } = outcome {
                drop(Handout::new(leased, more, Arc::clone(&shared.queue)));
            }
        }
        publish(shared, Vec::new(), committed);
    }
}

async fn attempt(
    writer: &mut Writer,
    shared: &Arc<Shared>,
    course: &mut Course,
    commands: &[Command],
    again: bool,
) -> Result<Committed, Failed> {
    let reading = shared.replicated.then(|| shared.hub.begin());
    let mut transaction = writer.begin().await?;
    let applied = apply(&mut transaction, shared, course, commands, again).await;
    let committed = match applied {
        Ok(committed) => Committed { _reading: reading, ..committed },
        Err(failure) => {
            if !failure.hits_all() {
                transaction.rollback().await?;
            }
            return Err(failure);
        }
    };
    match transaction.commit(shared.queue.has_more()).await {
        Ok(()) => Ok(committed),
        Err(StoreError::Unknown { told }) => {
            Err(Failed::Unknown { told, committed: Box::new(committed) })
        }
        Err(error) => Err(error.into()),
    }
}

/// All that a transaction does but its commit.
async fn apply(
    transaction: &mut Transaction<'_>,
    shared: &Arc<Shared>,
    Course { last_queue, fronts, .. }: &mut Course,
    commands: &[Command],
    again: bool,
) -> Result<Committed, Failed> {
    let settings = &shared.settings;
    let wanted = wanted(commands, again);
    let loaded = transaction.load(&wanted).await?;
    let applied = catch_unwind(AssertUnwindSafe(|| {
        let mut batch = Batch::new(settings, loaded, commands.iter().map(Command::rows).sum());
        let now = batch.now();
        let outcomes: Vec<Outcome> =
            commands.iter().map(|command| batch.apply(command, &shared.queue)).collect();
        (now, outcomes, batch.seen(), batch.finish())
    }));
    let Ok((now, mut outcomes, seen, (mut changes, mut news))) = applied else {
        tracing::error!("applying a command panicked");
        return Err(Failed::Panicked);
    };
    let served = shared.kinds.to_write(seen, now);
    changes.served.clone_from(&served);
    let mut wakes = ready(&changes, now);
    let freed = freed(&changes);
    let mut deadline = deadline(&changes, now);
    write(transaction, &changes, now).await?;
    let mut departed: Vec<Gone> = changes.deleted.iter().map(gone).collect();
    let mut resumed = Vec::new();
    for (command, outcome) in commands.iter().zip(&mut outcomes) {
        match command {
            Command::MakeDue { limit, .. } => {
                let due = transaction.make_due(now, *limit).await?;
                *outcome = Outcome::More(due.iter().map(|due| due.tasks).sum::<u64>() >= *limit);
                wakes.extend(due);
            }
            Command::Purge { limit, .. } => {
                let purged = transaction.purge(now, settings.retention, *limit).await?;
                *outcome = Outcome::More(purged.more);
                departed.extend(purged.tasks.iter().map(gone));
                news.extend(
                    purged.tasks.iter().map(|Stored { task, .. }| {
                        News::Deleted(task.id.clone(), task.create_time)
                    }),
                );
            }
            Command::PauseQueue { queue, paused, .. } => {
                if transaction.pause_queue(queue, *paused).await? && !paused {
                    resumed.push(queue.clone());
                }
            }
            Command::Create { .. }
            | Command::Update { .. }
            | Command::Delete { .. }
            | Command::Report { .. }
            | Command::Finish { .. }
            | Command::Expire { .. }
            | Command::Lease { .. } => {}
        }
    }
    let leases: Vec<(usize, &LeaseRequest)> = commands
        .iter()
        .enumerate()
        .filter_map(|(at, command)| match command {
            Command::Lease { request, .. } => Some((at, request)),
            Command::Create { .. }
            | Command::Update { .. }
            | Command::Delete { .. }
            | Command::Report { .. }
            | Command::Finish { .. }
            | Command::Expire { .. }
            | Command::MakeDue { .. }
            | Command::Purge { .. }
            | Command::PauseQueue { .. } => None,
        })
        .collect();
    fronts.came(&wakes);
    if !resumed.is_empty() {
        fronts.forget();
    }
    // Those who wait for what is ready now get it in this very transaction.
    let claims = shared.waiters.claim(&wakes);
    let mut offers = Vec::new();
    let mut again = Vec::new();
    if !leases.is_empty() || !claims.is_empty() {
        let requests: Vec<&LeaseRequest> = leases
            .iter()
            .map(|(_, request)| *request)
            .chain(claims.iter().map(|claim| &claim.request))
            .collect();
        // Who waits has looked in vain: for them there is no more than what is ready now.
        fronts.hear(shared.told.take());
        let only = leases.is_empty().then(|| wakes.iter().map(|due| due.lane.clone()).collect());
        let dealt =
            hand_out(transaction, settings, last_queue, fronts, &requests, only, now).await?;
        again = dealt.again;
        let mut replies = claims.into_iter().map(|claim| claim.reply);
        let places = leases.iter().map(|(at, _)| Some(*at)).chain(std::iter::repeat(None));
        for (place, (changes, more)) in places.zip(dealt.each.into_iter().zip(dealt.more)) {
            deadline = deadline.into_iter().chain(self::deadline(&changes, now)).min();
            news.extend(
                changes
                    .changed
                    .iter()
                    .map(|(_, task)| News::State(Arc::new(Snapshot::new(task.clone())))),
            );
            for lane in changes.changed.iter().map(|(_, task)| lane_of(task)) {
                if let Some(due) = wakes.iter_mut().find(|due| due.lane == lane) {
                    due.tasks = due.tasks.saturating_sub(1);
                }
            }
            let leased = changes
                .changed
                .into_iter()
                .map(|(before, task)| Leased { task, input: before.input })
                .collect();
            match place {
                Some(at) => outcomes[at] = Outcome::Leased { leased, more },
                None => offers.extend(replies.next().map(|reply| (reply, leased))),
            }
        }
    }
    let steered = steered(&changes);
    if shared.replicated
        && let Some(notice) = notice(settings, &news, departed, &wakes, &freed, &resumed, &steered)
    {
        transaction.notify(&notice, now);
    }
    Ok(Committed {
        outcomes,
        news,
        wakes,
        served: (served, now),
        offers,
        freed,
        resumed,
        again,
        deadline,
        steered,
        _reading: None,
    })
}

async fn write(
    transaction: &mut Transaction<'_>,
    changes: &Changes,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Changes { created, changed, attempts: _, deleted, ended: _, served } = changes;
    if created.is_empty() && changed.is_empty() && deleted.is_empty() && served.is_empty() {
        return Ok(());
    }
    transaction.write(changes, now).await
}
