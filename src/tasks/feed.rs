//! What other replicas commit, brought to those who watch and wait here. A notification
//! brings it at once; a slow read finds what was not notified; after a long silence
//! all that is watched is read again. States come from the store alone, and the hub takes
//! none that is older than what it has.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hashbrown::{HashMap, HashSet};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::Shared;
use crate::{
    domain::{Filter, Order, TaskId, Timestamp, limits},
    hub::{News, Snapshot},
    store::{Feed, Gone, Heard, ListQuery, Mark, Notice, StoreError, Stored},
};

/// How often what was committed elsewhere is looked for, whatever was notified.
const SLOW_READ: Duration = Duration::from_millis(1_500);
/// After this long without a look all that is watched is read again. Batches are there for
/// longer, also those whose commit took its time.
const BLIND: Duration = Duration::from_secs(30);
/// How often the way of the notifications is tried, and how long silence is believed.
const BEAT_EVERY: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(10);
/// How often what was kept for other replicas is cleared away.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// Between two attempts to listen.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Batches, and tasks, that are read at once.
const AT_ONCE: usize = 1_000;

/// What a listener passes on.
enum Word {
    /// It listens from now on: what was before, it may have missed.
    Listens,
    Batch(i64),
}

/// Goes on until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, feed: Feed, stop: CancellationToken) {
    let feed = Arc::new(feed);
    let (words, heard) = mpsc::unbounded_channel();
    let _listening = AbortOnDropHandle::new(tokio::spawn(listen(Arc::clone(&feed), words)));
    let _tending = AbortOnDropHandle::new(tokio::spawn(tend(Arc::clone(&feed))));
    let reader = Follow { shared, feed, mark: None, seen: HashSet::new() };
    stop.run_until_cancelled(reader.run(heard)).await.unwrap_or(());
}

/// Listens on one connection after the other.
async fn listen(feed: Arc<Feed>, words: mpsc::UnboundedSender<Word>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let failed = match feed.listen().await {
            Err(error) => error,
            Ok(mut ear) => {
                if words.send(Word::Listens).is_err() {
                    return;
                }
                pause = FIRST_PAUSE;
                loop {
                    match ear.hear(SILENCE).await {
                        Ok(Heard::Batch(number)) => drop(words.send(Word::Batch(number))),
                        Ok(Heard::Nothing) => {}
                        Err(error) => break error,
                    }
                }
            }
        };
        tracing::warn!(error = %failed, "not listening to the other replicas: trying again");
        sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Beats, and clears away. Where the database is away, the slow read says so.
async fn tend(feed: Arc<Feed>) {
    let (mut beats, mut trims) = (interval(BEAT_EVERY), interval(TRIM_EVERY));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    trims.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            _ = beats.tick() => feed.beat().await,
            _ = trims.tick() => feed.trim().await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "the other replicas could not be tended to");
        }
    }
}

struct Follow {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    /// None until it has looked once.
    mark: Option<Mark>,
    /// Batches behind the mark that were brought already.
    seen: HashSet<i64>,
}

impl Follow {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Word>) {
        let mut looks = interval(SLOW_READ);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut words = Vec::new();
        let shared = Arc::clone(&self.shared);
        loop {
            let brought = tokio::select! {
                1.. = heard.recv_many(&mut words, AT_ONCE) => {
                    let numbers: Vec<i64> = words.iter().filter_map(|word| match word {
                        Word::Batch(number) => Some(*number),
                        Word::Listens => None,
                    }).collect();
                    let listens = words.iter().any(|word| matches!(word, Word::Listens));
                    words.clear();
                    match self.bring(&numbers).await {
                        Ok(()) if listens => self.look().await,
                        brought => brought,
                    }
                }
                () = shared.reread.notified() => {
                    self.mark = None;
                    self.look().await
                }
                _ = looks.tick() => self.look().await,
            };
            if let Err(error) = brought {
                // The next look brings it.
                tracing::warn!(%error, "what other replicas committed could not be read");
            }
        }
    }

    /// Brings all that was committed since the last look and not brought yet.
    async fn look(&mut self) -> Result<(), StoreError> {
        let mark = self.feed.mark().await?;
        let before = self
            .mark
            .filter(|before| before.xid <= mark.xid && mark.time.since(before.time) < BLIND);
        match before {
            Some(before) => {
                let numbers = self.feed.since(before).await?;
                for some in numbers.chunks(AT_ONCE) {
                    self.bring(some).await?;
                }
                // What is not behind the old mark is never told again.
                let numbers: HashSet<i64> = numbers.into_iter().collect();
                self.seen.retain(|number| numbers.contains(number));
            }
            None => {
                self.seen.clear();
                self.bring_all().await?;
            }
        }
        self.mark = Some(mark);
        Ok(())
    }

    /// Brings these batches, but for those that were brought.
    async fn bring(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        let new = numbers.iter().copied().filter(|number| !self.seen.contains(number));
        let new: Vec<i64> = new.collect();
        let Shared { hub, waiters, steered, told, .. } = &*self.shared;
        let is_wanted =
            hub.is_watched() || waiters.any() || steered.receiver_count() > 0 || told.is_taken();
        if !is_wanted && !new.is_empty() {
            told.anything();
        } else if !new.is_empty() {
            let reading = hub.begin();
            let notices = self.feed.notices(&new).await?;
            hub.publish_read(&self.news(&notices).await?, &reading);
            notices.into_iter().for_each(|notice| self.wake(notice));
        }
        self.seen.extend(new);
        Ok(())
    }

    /// What these have changed, as far as somebody watches it.
    async fn news(&self, notices: &[Notice]) -> Result<Vec<News>, StoreError> {
        let hub = &self.shared.hub;
        if !hub.is_watched() {
            return Ok(Vec::new());
        }
        let gone: Vec<&Gone> = notices.iter().flat_map(|notice| &notice.gone).collect();
        let ids = hub.wanted(gone.iter().map(|gone| gone.id.clone()).collect());
        let ids: HashSet<TaskId> = ids.into_iter().collect();
        let gone: Vec<&Gone> = gone.into_iter().filter(|gone| ids.contains(&gone.id)).collect();
        // Their ends come before their deletions, and both before what bears the name now.
        let rows: Vec<i64> = gone.iter().map(|gone| gone.row).collect();
        let mut news: Vec<News> = self.feed.departed(&rows).await?.into_iter().map(state).collect();
        news.extend(gone.iter().map(|gone| News::Deleted(gone.id.clone(), gone.create_time)));
        let changed: BTreeSet<&TaskId> =
            notices.iter().flat_map(|notice| &notice.changed).collect();
        let changed = hub.wanted(changed.into_iter().cloned().collect());
        for some in changed.chunks(AT_ONCE) {
            news.extend(self.feed.tasks(some).await?.into_iter().map(state));
        }
        Ok(news)
    }

    fn wake(&self, notice: Notice) {
        let Shared { waiters, told, .. } = &*self.shared;
        told.came(&notice.ready);
        if !notice.resumed.is_empty() {
            told.anything();
        }
        notice.ready.iter().for_each(|due| waiters.wake(&due.lane, due.tasks));
        notice.freed.iter().for_each(|lane| self.shared.wake_freed(lane));
        notice.resumed.iter().for_each(|queue| waiters.wake_queue(queue, u64::MAX));
        notice.steered.into_iter().for_each(|id| self.shared.steer(id));
    }

    /// Reads all that is watched: nobody knows what has happened meanwhile.
    async fn bring_all(&self) -> Result<(), StoreError> {
        let hub = &self.shared.hub;
        self.shared.told.anything();
        self.shared.waiters.wake_all();
        let reading = hub.begin();
        let (tasks, filters) = hub.watched();
        for some in tasks.chunks(AT_ONCE) {
            hub.publish_read(&self.again(some).await?, &reading);
        }
        drop(reading);
        for filter in filters {
            self.list_again(filter).await?;
        }
        Ok(())
    }

    /// The present states of these, and which of them are no more.
    async fn again(&self, tasks: &[(TaskId, Option<Timestamp>)]) -> Result<Vec<News>, StoreError> {
        let ids: Vec<TaskId> = tasks.iter().map(|(id, _)| id.clone()).collect();
        let found = self.feed.tasks(&ids).await?;
        let there: HashSet<(TaskId, Timestamp)> =
            found.iter().map(|stored| (stored.task.id.clone(), stored.task.create_time)).collect();
        let gone = tasks.iter().filter_map(|(id, created)| Some((id.clone(), (*created)?)));
        let gone = gone.filter(|known| !there.contains(known));
        let gone = gone.map(|(id, created)| News::Deleted(id, created));
        Ok(gone.chain(found.into_iter().map(state)).collect())
    }

    async fn list_again(&self, filter: Filter) -> Result<(), StoreError> {
        let hub = &self.shared.hub;
        let mut known: HashMap<_, _> = hub.known(&filter).into_iter().collect();
        let mut query = ListQuery {
            filter,
            order: Order::default(),
            after: None,
            limit: limits::PAGE_SIZE,
            max_bytes: limits::PAGE_BYTES,
            with_input: false,
        };
        loop {
            let reading = hub.begin();
            let page = self.feed.reader().list(&query).await?;
            for stored in &page.tasks {
                if known.get(&stored.task.id) == Some(&stored.task.create_time) {
                    known.remove(&stored.task.id);
                }
            }
            let news: Vec<News> = page.tasks.into_iter().map(state).collect();
            hub.publish_read(&news, &reading);
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        // What was not listed no longer matches, or is no more.
        let rest: Vec<_> = known.into_iter().map(|(id, created)| (id, Some(created))).collect();
        for some in rest.chunks(AT_ONCE) {
            let reading = hub.begin();
            hub.publish_read(&self.again(some).await?, &reading);
        }
        Ok(())
    }
}

fn state(stored: Stored) -> News {
    News::State(Arc::new(Snapshot::new(stored.task)))
}
