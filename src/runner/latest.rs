//! A value that some change and others wait for: what counts is how it stands now. Every
//! running task has two of them, so it has one list of waiters; a watch channel of tokio's
//! has nine.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::coop::cooperative};

#[derive(Debug)]
pub(super) struct Latest<T> {
    // Held for a look or a change, never across an await.
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy + PartialEq> Latest<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    fn value(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> T {
        *self.value()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        {
            let mut value = self.value();
            let before = *value;
            change(&mut value);
            if *value == before {
                return;
            }
        }
        self.changed.notify_waiters();
    }

    pub(super) async fn until(&self, holds: impl Fn(&T) -> bool) {
        // Who only asks, again and again, lets others have their turn now and then.
        cooperative(async {
            loop {
                // Made before the look, or a change between the two would be missed.
                let mut changed = pin!(self.changed.notified());
                if holds(&self.value()) {
                    return;
                }
                changed.as_mut().await;
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_told_and_who_comes_later_need_not_wait() {
        let latest = Arc::new(Latest::new(0));
        let wait = |n| {
            let latest = latest.clone();
            tokio::spawn(async move { latest.until(|value| *value >= n).await })
        };
        let waiting = [wait(1), wait(2), wait(2)];
        tokio::task::yield_now().await;
        for _ in 0..2 {
            latest.change(|value| *value += 1);
        }
        for waiting in waiting {
            waiting.await.expect("told");
        }
        latest.until(|value| *value == 2).await;
    }

    #[tokio::test]
    async fn who_asks_all_the_time_holds_nobody_up() {
        let latest = Arc::new(Latest::new(false));
        let other = latest.clone();
        tokio::spawn(async move { other.change(|turn| *turn = true) });
        for _ in 0..1_000 {
            latest.until(|_| true).await;
        }
        assert!(latest.get());
    }
}
