//! A connection has its turn after its calls, where there are several: what they answer at
//! once is then sent by one call of the system, and not by one each.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::task::yield_now;

const IDLE: u8 = 0;
/// It was woken, and lets others go first.
const WAITS: u8 = 1;
const COMES: u8 = 2;

#[derive(Debug, Default)]
struct Turn {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.state.store(COMES, Ordering::Release);
        self.task.wake();
    }
}

/// Polls this when it has been woken: at once, or where `others` says so, when no task is ready
/// to run on this thread any more.
pub(super) async fn after_others<F: Future>(
    mut inner: Pin<&mut F>,
    others: impl Fn() -> bool,
) -> F::Output {
    let turn = Arc::<Turn>::default();
    let comes = Waker::from(Arc::clone(&turn));
    poll_fn(|cx| {
        turn.task.register(cx.waker());
        match turn.state.load(Ordering::Acquire) {
            COMES => {
                turn.state.store(IDLE, Ordering::Release);
                return inner.as_mut().poll(cx);
            }
            // By one of the others: there may be more of them.
            WAITS => {}
            _ if !others() => return inner.as_mut().poll(cx),
            _ => {
                turn.state.store(WAITS, Ordering::Release);
                // Wakes `comes` when this thread has nothing else to do.
                if pin!(yield_now()).poll(&mut Context::from_waker(&comes)).is_ready() {
                    comes.wake_by_ref();
                }
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_many_answer_at_once_is_sent_at_once() {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let connection = tokio::spawn(async move {
            let sends = async {
                let mut sent = Vec::new();
                while sent.iter().sum::<usize>() < 20 {
                    sent.push(answered.recv_many(&mut Vec::new(), 20).await);
                }
                sent
            };
            after_others(pin!(sends), || true).await
        });
        let calls = tokio::spawn(async move {
            for _ in 0..20 {
                let answers = answers.clone();
                tokio::spawn(async move { answers.send(()).expect("it is open") });
            }
        });
        calls.await.expect("made");
        let sent = connection.await.expect("sent");
        assert!(sent.len() <= 2, "{sent:?}");
    }
}
