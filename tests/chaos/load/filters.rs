//! Who watches all tasks that match a filter, begins anew at another replica whenever the
//! stream is cut, and so always knows which those are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use taskwatch::proto::{Frame, WatchTasksRequest};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::{super::support::PATIENCE, Load, PAUSE};

const SILENCE: Duration = Duration::from_secs(4);

/// What is known of each that matches: its revision.
type Known = BTreeMap<String, i64>;

#[derive(Clone)]
pub struct Filter {
    pub filter: &'static str,
    /// None until the stream has told all.
    known: Arc<Mutex<Option<Known>>>,
    /// What went wrong: that cannot be told from the history.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Filter {
    /// Watched until all is done.
    pub fn watch(load: &Load, filter: &'static str) -> Self {
        let new = Self { filter, known: Arc::default(), wrong: Arc::default() };
        let (watching, mut caller) = (new.clone(), load.caller("filter"));
        load.following.spawn(async move {
            let done = caller.load.done.clone();
            while !done.is_cancelled() {
                let server = caller.any();
                let request = WatchTasksRequest {
                    filter: filter.to_owned(),
                    heartbeat_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                    ..Default::default()
                };
                let mut tasks = caller.tasks(server);
                if let Ok(Ok(stream)) = timeout(SILENCE, tasks.watch_tasks(request)).await {
                    tokio::select! {
                        () = watching.follow(stream.into_inner()) => {}
                        () = done.cancelled() => return,
                    }
                }
                *watching.known.lock().expect("what is known") = None;
                sleep(PAUSE).await;
            }
        });
        new
    }

    async fn follow(&self, mut stream: Streaming<Frame>) {
        let (mut known, mut synced) = (Known::new(), false);
        while let Ok(Ok(Some(frame))) = timeout(SILENCE, stream.message()).await {
            let event = frame.event().expect("a good frame");
            if let Some(task) = event.task {
                let before = known.insert(task.name.clone(), task.revision);
                if before.is_some_and(|before| before >= task.revision) {
                    let (name, revision) = (task.name, task.revision);
                    let wrong =
                        format!("{}: {name} went from {before:?} to {revision}", self.filter);
                    self.wrong.lock().expect("what is wrong").push(wrong);
                }
            } else if let Some(name) = event.removed {
                known.remove(&name);
            }
            synced |= event.synced.is_some();
            if synced {
                *self.known.lock().expect("what is known") = Some(known.clone());
            }
        }
    }

    /// Waits until it knows just these; what it knows otherwise when patience ends.
    pub async fn agrees(&self, expected: &Known) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let known = self.known.lock().expect("what is known").clone();
            let mut wrong = self.wrong.lock().expect("what is wrong").clone();
            if known.as_ref() == Some(expected) {
                return wrong;
            }
            if begin.elapsed() > PATIENCE {
                let known = known.unwrap_or_default();
                let there = |of: &Known, entry: (&String, &i64)| of.get(entry.0) == Some(entry.1);
                let more: Vec<_> = known.iter().filter(|&e| !there(expected, e)).collect();
                let less: Vec<_> = expected.iter().filter(|&e| !there(&known, e)).collect();
                wrong.push(format!("{}: too much: {more:?}, missing: {less:?}", self.filter));
                return wrong;
            }
            sleep(PAUSE).await;
        }
    }
}
