//! What a handler has said and the store does not have yet: one place an attempt,
//! never a queue. The newest progress and the newest checkpoint stand in it, each
//! by itself, so that a report without a checkpoint loses none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::{Object, ProgressReport};

/// A report without its token.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parcel {
    pub(super) progress: Option<ProgressReport>,
    pub(super) checkpoint: Option<Object>,
}

impl Parcel {
    fn over(self, older: Self) -> Self {
        Self {
            progress: self.progress.or(older.progress),
            checkpoint: self.checkpoint.or(older.checkpoint),
        }
    }

    fn is_empty(&self) -> bool {
        self.progress.is_none() && self.checkpoint.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    // Held for a few moves, never across an await.
    places: Mutex<Places>,
    filled: Notify,
    /// How many of the things said are durable.
    durable: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Places {
    waiting: Parcel,
    /// On its way: not known to be durable, so a last word takes it along again.
    sent: Parcel,
    said: u64,
    said_when_sent: u64,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { places: Mutex::default(), filled: Notify::new(), durable: watch::Sender::new(0) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of what waits; what `parcel` lacks stays.
    pub(super) fn put(&self, parcel: Parcel) {
        {
            let mut places = self.places();
            places.waiting = parcel.over(std::mem::take(&mut places.waiting));
            places.said += 1;
        }
        self.filled.notify_one();
    }

    /// Waits until there is something to send, and takes it.
    pub(super) async fn take(&self) -> Parcel {
        loop {
            {
                let mut places = self.places();
                if !places.waiting.is_empty() {
                    places.said_when_sent = places.said;
                    places.sent = std::mem::take(&mut places.waiting);
                    return places.sent.clone();
                }
            }
            self.filled.notified().await;
        }
    }

    /// What was taken is durable.
    pub(super) fn delivered(&self) {
        let said = {
            let mut places = self.places();
            places.sent = Parcel::default();
            places.said_when_sent
        };
        self.durable.send_replace(said);
    }

    /// What was taken has to be sent again, but for what has become newer.
    pub(super) fn returned(&self) {
        let mut places = self.places();
        let sent = std::mem::take(&mut places.sent);
        places.waiting = std::mem::take(&mut places.waiting).over(sent);
    }

    /// All that is not known to be durable, for the last word.
    pub(super) fn rest(&self) -> Parcel {
        let places = self.places();
        places.waiting.clone().over(places.sent.clone())
    }

    /// Waits until all that was said before is durable.
    pub(super) async fn flushed(&self) {
        let said = self.places().said;
        let mut durable = self.durable.subscribe();
        // An error would mean that the outbox is gone, and it is borrowed here.
        let _gone = durable.wait_for(|durable| *durable >= said).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Parcel {
        let progress = ProgressReport { message: text.into(), ..ProgressReport::default() };
        Parcel { progress: Some(progress), checkpoint: None }
    }

    fn checkpoint(step: i64) -> Parcel {
        let json = serde_json::json!({ "step": step });
        let object = Object::from_json(&json.as_object().cloned().unwrap_or_default());
        Parcel { progress: None, checkpoint: Some(object) }
    }

    #[tokio::test]
    async fn the_newest_of_each_is_sent() {
        let outbox = Outbox::new();
        outbox.put(checkpoint(1));
        for n in 0..10_000 {
            outbox.put(message(&n.to_string()));
        }
        let sent = outbox.take().await;
        assert_eq!(sent, message("9999").over(checkpoint(1)));
        assert_eq!(outbox.rest(), sent);
        outbox.delivered();
        outbox.flushed().await;
        assert!(outbox.rest().is_empty());
    }

    #[tokio::test]
    async fn what_comes_back_gives_way_to_what_is_newer() {
        let outbox = Outbox::new();
        outbox.put(message("old").over(checkpoint(1)));
        outbox.take().await;
        outbox.put(message("new"));
        assert_eq!(outbox.rest(), message("new").over(checkpoint(1)));
        outbox.returned();
        assert_eq!(outbox.take().await, message("new").over(checkpoint(1)));
    }
}
