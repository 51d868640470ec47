//! What is known of kinds and of queues: how much waits and runs, and who serves it.

use std::collections::BTreeMap;

use super::{Shared, Source, Tasks, command::Command, logged};
use crate::{
    domain::{Error, Name, Timestamp},
    store::{Census, Count},
};

/// One known kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCensus {
    /// Its name.
    pub kind: Name,
    /// What of this server serves it; none where remote workers do.
    pub source: Option<Source>,
    /// Its live tasks.
    pub count: Count,
    /// Workers that wait for it here, or hold its tasks anywhere.
    pub workers: u64,
    /// When one was last seen: now, while there are some. Exact to 10 s.
    pub last_worker_time: Option<Timestamp>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCensus {
    /// Its name.
    pub queue: Name,
    /// Whether nothing of it is handed out.
    pub paused: bool,
    /// Its live tasks.
    pub count: Count,
}

impl Tasks {
    /// Every kind that is known, or has live tasks, by name.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the database is away.
    pub async fn kinds(&self) -> Result<Vec<KindCensus>, Error> {
        let (census, now) = self.census().await?;
        let Shared { settings, kinds: known, waiters, .. } = &*self.shared;
        let mut kinds: BTreeMap<Name, Count> =
            known.known(settings).into_iter().map(|kind| (kind, Count::default())).collect();
        // Also those of which only another replica has seen a worker.
        kinds.extend(census.seen.keys().map(|kind| (kind.clone(), Count::default())));
        for (lane, count) in &census.lanes {
            add(kinds.entry(lane.kind.clone()).or_default(), count);
        }
        let mut present = waiters.present();
        present.extend(census.holders);
        let kinds = kinds.into_iter().map(|(kind, count)| {
            let workers = present.iter().filter(|(served, _)| *served == kind).count() as u64;
            let seen = census.seen.get(&kind).copied();
            KindCensus {
                source: settings.kinds.get(&kind).and_then(|kind| kind.source),
                last_worker_time: if workers > 0 { Some(now) } else { seen },
                kind,
                count,
                workers,
            }
        });
        Ok(kinds.collect())
    }

    /// Every queue that has live tasks, a limit or a pause, by name.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the database is away.
    pub async fn queues(&self) -> Result<Vec<QueueCensus>, Error> {
        let (census, _) = self.census().await?;
        let limited = self.shared.settings.queues.keys();
        let mut queues: BTreeMap<Name, Count> =
            limited.chain(&census.paused).map(|queue| (queue.clone(), Count::default())).collect();
        for (lane, count) in &census.lanes {
            add(queues.entry(lane.queue.clone()).or_default(), count);
        }
        let queues = queues.into_iter().map(|(queue, count)| QueueCensus {
            paused: census.paused.contains(&queue),
            queue,
            count,
        });
        Ok(queues.collect())
    }

    /// Holds a queue back, so that nothing of it is handed out, or lets it go on; where
    /// `paused` is none it is only looked at. What runs goes on.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the database is away.
    pub async fn update_queue(
        &self,
        queue: Name,
        paused: Option<bool>,
    ) -> Result<QueueCensus, Error> {
        if let Some(paused) = paused {
            let queue = queue.clone();
            self.ask(|reply| Command::PauseQueue { queue, paused, reply }).await?;
        }
        let found = self.queues().await?.into_iter().find(|found| found.queue == queue);
        let idle = QueueCensus { queue, paused: false, count: Count::default() };
        Ok(found.unwrap_or(idle))
    }

    async fn census(&self) -> Result<(Census, Timestamp), Error> {
        let census = self.reader.census().await.map_err(|error| logged(&error))?;
        let now = self.reader.now().await.map_err(|error| logged(&error))?;
        Ok((census, now))
    }
}

fn add(sum: &mut Count, count: &Count) {
    sum.queued += count.queued;
    sum.running += count.running;
}
