//! What a handler has said and the store does not have yet: one place an attempt,
//! never a queue. The newest progress and the newest checkpoint stand in it, each
//! by itself, so that a report without a checkpoint loses none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::latest::Latest;
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

    fn placed(self) -> Place {
        (!self.is_empty()).then(|| Box::new(self))
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    // Held for a few moves, never across an await.
    places: Mutex<Places>,
    filled: Notify,
    /// How many of the things said are durable.
    durable: Latest<u64>,
}

/// Mostly empty, and a parcel is large.
type Place = Option<Box<Parcel>>;

#[derive(Debug, Default)]
struct Places {
    waiting: Place,
    /// On its way: not known to be durable, so a last word takes it along again.
    sent: Place,
    said: u64,
    said_when_sent: u64,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { places: Mutex::default(), filled: Notify::new(), durable: Latest::new(0) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of what waits; what `parcel` lacks stays.
    pub(super) fn put(&self, parcel: Parcel) {
        {
            let mut places = self.places();
            places.waiting = parcel.over(opened(places.waiting.take())).placed();
            places.said += 1;
        }
        self.filled.notify_one();
    }

    /// Waits until there is something to send, and takes it.
    pub(super) async fn take(&self) -> Parcel {
        loop {
            {
                let mut places = self.places();
                if let Some(parcel) = places.waiting.take() {
                    places.said_when_sent = places.said;
                    places.sent = Some(parcel.clone());
                    return *parcel;
                }
            }
            self.filled.notified().await;
        }
    }

    /// What was taken is durable.
    pub(super) fn delivered(&self) {
        let said = {
            let mut places = self.places();
            places.sent = None;
            places.said_when_sent
        };
        self.durable.change(|durable| *durable = said);
    }

    /// What was taken has to be sent again, but for what has become newer.
    pub(super) fn returned(&self) {
        let mut places = self.places();
        let sent = opened(places.sent.take());
        places.waiting = opened(places.waiting.take()).over(sent).placed();
    }

    /// All that is not known to be durable, for the last word.
    pub(super) fn rest(&self) -> Parcel {
        let places = self.places();
        opened(places.waiting.clone()).over(opened(places.sent.clone()))
    }

    /// Waits until all that was said before is durable.
    pub(super) async fn flushed(&self) {
        let said = self.places().said;
        self.durable.until(|durable| *durable >= said).await;
    }
}

fn opened(place: Place) -> Parcel {
    place.map_or_else(Parcel::default, |parcel| *parcel)
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
