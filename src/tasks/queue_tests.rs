//! The queue of commands by itself.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::*;
use crate::domain::{Finish, Name, Object, Outcome, Patch, ProgressReport};

fn id(text: &str) -> TaskId {
    Name::new(text).expect("a good name")
}

fn said(percent: f64, checkpoint: Option<Object>) -> Report {
    let progress = Some(ProgressReport { percent: Some(percent), ..Default::default() });
    Report { token: Token([1; 16]), progress, checkpoint }
}

fn report(percent: f64, checkpoint: Option<Object>) -> Command {
    Command::Report {
        id: id("a"),
        report: said(percent, checkpoint),
        replies: vec![oneshot::channel().0],
    }
}

fn finish() -> Command {
    let finish = Finish { report: said(100.0, None), outcome: Outcome::Released };
    Command::Finish { id: id("a"), finish: Box::new(finish), reply: oneshot::channel().0 }
}

fn update(n: usize) -> Command {
    Command::Update {
        id: id(&format!("u{n}")),
        patch: Box::new(Patch::default()),
        reply: oneshot::channel().0,
    }
}

#[tokio::test]
async fn a_newer_report_takes_the_place_of_an_older_one() {
    let queue = Queue::default();
    let checkpoint = Object::from_encoded(vec![1].into());
    queue.push(report(10.0, Some(checkpoint.clone())));
    queue.push(report(20.0, None));
    let batch = queue.next_batch().await.expect("open");
    let [Command::Report { report, replies, .. }] = &batch[..] else {
        panic!("one report: {batch:?}")
    };
    assert_eq!(report, &said(20.0, Some(checkpoint)));
    assert_eq!(replies.len(), 2);
    let waiting = queue.lock();
    assert_eq!((waiting.count, waiting.bytes), (0, 0));
}

#[tokio::test]
async fn an_outcome_takes_the_report_along_before_it() {
    let queue = Queue::default();
    for n in 0..600 {
        queue.push(update(n));
    }
    queue.push(report(10.0, None));
    queue.push(finish());
    let batch = queue.next_batch().await.expect("open");
    let at = batch.iter().position(|c| matches!(c, Command::Finish { .. })).expect("there");
    assert!(matches!(batch[at - 1], Command::Report { .. }));
    assert!(batch.len() >= 500);
    let rest = queue.next_batch().await.expect("open");
    assert!(!rest.iter().any(|c| matches!(c, Command::Report { .. })));
    assert_eq!(batch.len() + rest.len(), 602);
}

#[tokio::test]
async fn reports_leave_room_for_others_that_wait() {
    let queue = Queue::default();
    let report = |n| Command::Report {
        id: id(&format!("r{n}")),
        report: said(1.0, None),
        replies: vec![oneshot::channel().0],
    };
    for n in 0..BATCH_ROWS {
        queue.push(report(n));
    }
    queue.push(update(0));
    let batch = queue.next_batch().await.expect("open");
    assert_eq!(batch.len(), BATCH_REPORTS + 1);
    let batch = queue.next_batch().await.expect("open");
    assert_eq!(batch.len(), BATCH_ROWS - BATCH_REPORTS);
}

#[tokio::test]
async fn who_is_answered_and_calls_again_comes_along() {
    let queue = Arc::new(Queue::default());
    let call = |n: usize, looks: usize| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            for _ in 0..looks {
                yield_now().await;
            }
            queue.push(update(n));
        })
    };
    let len = async || queue.next_batch().await.map_or(0, |batch| batch.len());
    // Few were answered: nothing else runs before the next batch.
    queue.push(update(0));
    call(1, 0);
    queue.gather(GATHERED_AFTER - 1).await;
    assert_eq!(len().await, 1);
    assert_eq!(len().await, 1);
    // One with each look, until enough wait.
    (0..100).for_each(|n| drop(call(n, n)));
    queue.push(report(1.0, None));
    queue.gather(30).await;
    assert_eq!(len().await, 16, "with the report");
    // Nobody calls again for a while.
    call(100, 200);
    queue.push(update(101));
    while queue.callers() < 85 {
        yield_now().await;
    }
    let first = len().await;
    queue.gather(85).await;
    assert_eq!((first, queue.callers()), (85, 1), "the rest of those, and none of the late");
}

#[tokio::test]
async fn a_closed_queue_gives_what_it_has_and_refuses_more() {
    let queue = Queue::default();
    queue.push(update(1));
    queue.close();
    let (reply, answer) = oneshot::channel();
    queue.push(Command::MakeDue { limit: 1, reply });
    assert!(matches!(answer.await, Ok(Err(Error::Unavailable { .. }))));
    assert_eq!(queue.next_batch().await.map(|batch| batch.len()), Some(1));
    assert!(queue.next_batch().await.is_none());
}

#[test]
fn creates_are_refused_first_and_reports_never() {
    let queue = Queue::default();
    for n in 0..WAITING_COMMANDS {
        queue.push(update(n));
    }
    let (reply, mut answer) = oneshot::channel();
    queue.push(Command::Create { creates: Vec::new(), reply });
    let refused = answer.try_recv().expect("answered at once");
    assert!(matches!(refused, Err(Error::ResourceExhausted { retry_after: Some(_), .. })));
    queue.push(update(WAITING_COMMANDS));
    queue.push(report(1.0, None));
    assert_eq!(queue.lock().count, WAITING_COMMANDS + 2);
}
