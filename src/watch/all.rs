//! All tasks that a filter matches: those that exist, then what changes.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{pace::Heartbeat, until};
use crate::{
    domain::{
        Cursor, Error, Filter, Object, Order, Task, TaskId, Timestamp,
        limits::{PAGE_BYTES, PAGE_SIZE},
    },
    hub::{Hub, Listener, Next, Snapshot},
    store::{ListQuery, Reader},
};

/// How a filter is to be watched.
#[derive(Clone, Debug, Default)]
pub struct WatchAllOptions {
    /// Which tasks.
    pub filter: Filter,
    /// With the inputs.
    pub with_input: bool,
    /// No two states of one task closer than this, the terminal one aside.
    pub min_interval: Duration,
    /// `synced` again after this long without anything; jittered by a tenth.
    pub heartbeat_interval: Option<Duration>,
}

/// A watch of all tasks that a filter matches.
#[derive(Debug)]
pub struct WatchAll {
    listener: Listener,
    reader: Reader,
    options: WatchAllOptions,
    /// Where the next page begins.
    cursor: Option<Cursor>,
    synced: bool,
    heartbeat: Heartbeat,
    /// Taken from the hub and not yet given: its input is being read.
    in_hand: Option<Arc<Snapshot>>,
}

/// What a [`WatchAll`] tells.
#[derive(Clone, Debug)]
pub enum WatchAllEvent {
    /// A task's newest state, with its input where that was asked for.
    Task(Arc<Snapshot>, Option<Object>),
    /// Deleted, or no longer matched.
    Removed(TaskId),
    /// All that matched at the beginning has been sent.
    Synced,
}

impl WatchAll {
    /// Begins to watch. The store is read when the first event is asked for.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE while the server drains.
    pub async fn begin(
        hub: &Hub,
        reader: &Reader,
        options: WatchAllOptions,
    ) -> Result<Self, Error> {
        Ok(Self {
            listener: hub.listen(&options.filter, options.min_interval)?,
            reader: reader.clone(),
            heartbeat: Heartbeat::new(options.heartbeat_interval, Instant::now()),
            options,
            cursor: None,
            synced: false,
            in_hand: None,
        })
    }

    /// What comes next. Never `None`: it ends only with an error. Cancel-safe.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where more tasks match than can be watched at once;
    /// UNAVAILABLE when the server drains or the store is away.
    pub async fn next(&mut self) -> Result<WatchAllEvent, Error> {
        loop {
            if let Some(snapshot) = self.in_hand.clone() {
                let input = self.input(&snapshot).await?;
                self.in_hand = None;
                return Ok(self.told(WatchAllEvent::Task(snapshot, input)));
            }
            let now = Instant::now();
            match self.listener.next(now)? {
                Next::Task(snapshot) => self.in_hand = Some(snapshot),
                Next::Removed(id) => return Ok(self.told(WatchAllEvent::Removed(id))),
                Next::Synced => {
                    self.synced = true;
                    return Ok(self.told(WatchAllEvent::Synced));
                }
                Next::ReadPage => self.read_page().await?,
                Next::Wait(held) => {
                    let beats = self.heartbeat.due().is_some_and(|due| due <= now);
                    if self.synced && beats {
                        return Ok(self.told(WatchAllEvent::Synced));
                    }
                    let due = self.heartbeat.due();
                    let first = held.into_iter().chain(due).min();
                    tokio::select! {
                        () = self.listener.woken() => {}
                        () = until(first) => {}
                    }
                }
            }
        }
    }

    fn told(&mut self, event: WatchAllEvent) -> WatchAllEvent {
        self.heartbeat.restart(Instant::now());
        event
    }

    async fn input(&self, snapshot: &Snapshot) -> Result<Option<Object>, Error> {
        if !self.options.with_input {
            return Ok(None);
        }
        let Task { id, create_time, .. } = &*snapshot.task;
        let stored = self.reader.task(id, true).await.map_err(|error| error.public())?;
        // Where it was deleted meanwhile, or another has its name, the hub will say so.
        let same = stored.filter(|stored| stored.task.create_time == *create_time);
        Ok(same.and_then(|stored| stored.input))
    }

    /// Newest task first: what is created meanwhile comes through the hub, so that
    /// the list has an end.
    async fn read_page(&mut self) -> Result<(), Error> {
        self.listener.begin_page();
        let query = ListQuery {
            filter: self.options.filter.clone(),
            order: Order::default(),
            after: self.cursor.clone(),
            limit: PAGE_SIZE,
            max_bytes: PAGE_BYTES,
            with_input: false,
        };
        let page = self.reader.list(&query).await.map_err(|error| error.public())?;
        let snapshots: Vec<_> =
            page.tasks.into_iter().map(|stored| Arc::new(Snapshot::new(stored.task))).collect();
        let passed = page.next.as_ref().and_then(|next| *next.keys.first()?);
        if self.listener.page(&snapshots, passed.map(Timestamp::from_micros)) {
            self.cursor = page.next;
        }
        Ok(())
    }
}
