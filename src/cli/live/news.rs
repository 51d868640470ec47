//! What is learned of the tasks that are watched, from as many streams as it takes.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::Status;

use super::What;
use crate::{
    cli::args::Server,
    client::{Change, Event, WatchOptions},
    proto::Task,
};

/// A slow terminal holds the streams up, not the memory; they skip states then.
const WAITING: usize = 64;

/// Something new.
pub(super) enum News {
    /// A task's newest state.
    State(Box<Task>),
    /// A task was deleted or matches no longer.
    Gone(String),
    /// All that matched at first was told.
    Synced,
    /// A stream was cut, and is opened again.
    Cut(Status),
    /// A task, or all of them, cannot be watched.
    Refused(Option<String>, Status),
}

/// Watches until the receiver is dropped.
pub(super) fn of(server: &Server, what: What, min_interval: Duration) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let options = WatchOptions { min_interval, ..WatchOptions::default() };
    match what {
        What::Filter(filter) => {
            let mut watch = server.client.watch_all(&filter, &options);
            tokio::spawn(async move {
                loop {
                    let news = match watch.event().await {
                        Ok(Change::Task(task)) => News::State(task),
                        Ok(Change::Removed(name)) => News::Gone(name),
                        Ok(Change::Synced) => News::Synced,
                        Ok(Change::Cut(status)) => News::Cut(status),
                        Err(status) => News::Refused(None, status),
                    };
                    let last = matches!(news, News::Refused(..));
                    if sender.send(news).await.is_err() || last {
                        return;
                    }
                }
            });
        }
        What::Names(names) => {
            for name in names {
                let mut watch = server.client.watch(&name, options.clone());
                let sender = sender.clone();
                tokio::spawn(async move {
                    loop {
                        let news = match watch.event().await {
                            Ok(Some(Event::State(task))) => News::State(task),
                            Ok(Some(Event::Cut(status))) => News::Cut(status),
                            Ok(None) => return,
                            Err(status) => News::Refused(Some(name.clone()), status),
                        };
                        let last = matches!(news, News::Refused(..));
                        if sender.send(news).await.is_err() || last {
                            return;
                        }
                    }
                });
            }
        }
    }
    receiver
}
