//! Watches as streams of messages. Each published state is encoded once for each view, by
//! the first watcher that sends it; the others share its bytes.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::Status;

use super::{
    errors,
    message::{self, View},
    streams::Lasting,
};
use crate::{
    domain::{Error, Object},
    hub::Snapshot,
    proto::{Frame, WatchEvent},
    watch::{Watch, WatchAll, WatchAllEvent},
};

/// What the watch methods answer with.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// One task, until it has ended: then the stream ends with OK.
pub(super) fn one(watch: Watch, with_input: bool, lasting: Lasting) -> Frames {
    let view = View::of(with_input);
    Box::pin(stream::unfold(Some((watch, lasting)), move |state| async move {
        let (mut watch, lasting) = state?;
        match watch.next().await? {
            Ok(snapshot) => {
                let frame = frame(&snapshot, watch.input(), view);
                Some((Ok(frame), Some((watch, lasting))))
            }
            Err(error) => ended(error),
        }
    }))
}

/// Every task of a filter, until the caller leaves.
pub(super) fn all(watch: WatchAll, with_input: bool, lasting: Lasting) -> Frames {
    let view = View::of(with_input);
    Box::pin(stream::unfold(Some((watch, lasting)), move |state| async move {
        let (mut watch, lasting) = state?;
        let frame = match watch.next().await {
            Ok(WatchAllEvent::Task(snapshot, input)) => frame(&snapshot, input.as_ref(), view),
            Ok(WatchAllEvent::Removed(id)) => Frame::new(&WatchEvent {
                removed: Some(message::name(&id)),
                ..WatchEvent::default()
            }),
            Ok(WatchAllEvent::Synced) => {
                Frame::new(&WatchEvent { synced: Some(true), ..WatchEvent::default() })
            }
            Err(error) => return ended(error),
        };
        Some((Ok(frame), Some((watch, lasting))))
    }))
}

/// The error, and nothing behind it.
fn ended<S>(error: Error) -> Option<(Result<Frame, Status>, Option<S>)> {
    Some((Err(errors::status(error)), None))
}

fn frame(snapshot: &Snapshot, input: Option<&Object>, view: View) -> Frame {
    let encode = || {
        let task = Some(message::task(&snapshot.task, input, view));
        Frame::new(&WatchEvent { task, ..WatchEvent::default() }).encoded()
    };
    Frame::from_encoded(match view {
        View::Full => snapshot.full(encode),
        View::Basic | View::Brief => snapshot.basic(encode),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{self, Labels, Name, NewTask, RetryPolicy, Timestamp};

    #[test]
    fn a_state_is_encoded_once_for_each_view() {
        let name = |text: &str| Name::new(text).expect("well formed");
        let input = Object::from_json(&serde_json::Map::from_iter([("a".into(), 1.into())]));
        let new = NewTask {
            id: name("a"),
            kind: name("demo"),
            input: None,
            queue: None,
            priority: 0,
            labels: Labels::new(),
            schedule_time: None,
            retry_policy: RetryPolicy::default(),
            attempt_timeout: None,
            retention: None,
        };
        let snapshot = Snapshot::new(domain::create(&new, Timestamp::from_micros(0)));
        let first = frame(&snapshot, None, View::Basic).encoded();
        let again = frame(&snapshot, None, View::Basic).encoded();
        assert_eq!(first.as_ptr(), again.as_ptr(), "the very same bytes");
        let full = frame(&snapshot, Some(&input), View::Full).event().expect("its own bytes");
        assert!(full.task.expect("a state").input.is_some());
        let basic = Frame::from_encoded(first).event().expect("its own bytes");
        assert_eq!((basic.removed, basic.synced), (None, None));
        assert_eq!(basic.task.expect("a state").input, None);
    }
}
