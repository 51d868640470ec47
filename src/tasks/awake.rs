//! Keeps the runtime's workers awake while many callers wait for the database. As soon as
//! they are answered they call again, and a worker that sleeps until then is woken late: on
//! two cores, and all the more on two of a virtual machine, what is woken often waits behind
//! the thread that woke it, beside a core that has gone to sleep. A worker that stays awake
//! gives its core to any other thread that is ready, and looks for what has come.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Notify,
    task::yield_now,
};

/// A batch of fewer commands brings few calls when it is answered.
const MANY: usize = 32;
/// How often a worker looks in vain before it sleeps: some ten milliseconds of a batch, and
/// about one after it. A database that takes longer is not waited for like that.
const LOOKS: u32 = 10_000;
const LOOKS_AFTER: u32 = 500;
/// Where there are more cores, the system finds an idle one for what it wakes.
const WORKERS: usize = 2;

/// Whether many wait now.
#[derive(Debug, Default)]
pub(super) struct Awake {
    /// Grows as such a batch begins, and as it ends: odd while they wait.
    changes: AtomicU64,
    begun: Notify,
}

impl Awake {
    /// A batch of so many commands is begun, by the one who writes.
    pub(super) fn begin(&self, commands: usize) {
        if commands >= MANY {
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.begun.notify_waiters();
        }
    }

    /// It is over.
    pub(super) fn end(&self) {
        if self.changes.load(Ordering::Relaxed) % 2 == 1 {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many workers of this runtime are to be kept awake, each by a [`Awake::keep`].
    pub(super) fn keepers() -> usize {
        let handle = Handle::current();
        let workers = handle.metrics().num_workers();
        let is_small = handle.runtime_flavor() == RuntimeFlavor::MultiThread && workers == WORKERS;
        if is_small { workers } else { 0 }
    }

    /// Keeps one worker awake at such times. Has no end.
    pub(super) async fn keep(&self) {
        loop {
            self.begun.notified().await;
            let (mut seen, mut looks) = (0, LOOKS);
            while looks > 0 {
                // First all that is ready in this worker, then all that is in the system.
                yield_now().await;
                std::thread::yield_now();
                let changes = self.changes.load(Ordering::Relaxed);
                looks = match changes % 2 {
                    _ if changes == seen => looks - 1,
                    1 => LOOKS,
                    _ => LOOKS_AFTER,
                };
                seen = changes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        sync::{Arc, atomic::AtomicBool},
        task::{Context, Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// How often it is polled, of so many times at most, before it sleeps.
    fn polls(mut keeper: Pin<&mut impl Future>, woken: &Arc<Woken>, most: u32) -> u32 {
        let waker = Waker::from(Arc::clone(woken));
        for polled in 0..most {
            if !woken.0.swap(false, Ordering::Relaxed) {
                return polled;
            }
            assert!(keeper.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        most
    }

    #[test]
    fn it_is_awake_while_many_wait_and_sleeps_soon_after() {
        let (awake, woken) = (Awake::default(), Arc::<Woken>::default());
        let mut keeper = pin!(awake.keep());
        woken.0.store(true, Ordering::Relaxed);
        assert_eq!(polls(keeper.as_mut(), &woken, 10), 1, "nobody waits");
        awake.begin(MANY - 1);
        assert_eq!(polls(keeper.as_mut(), &woken, 10), 0, "few wait");
        awake.end();
        for _ in 0..20 {
            awake.begin(MANY);
            assert_eq!(polls(keeper.as_mut(), &woken, LOOKS / 2), LOOKS / 2, "many wait");
            awake.end();
        }
        let after = polls(keeper.as_mut(), &woken, LOOKS);
        assert!((LOOKS_AFTER..LOOKS_AFTER + 5).contains(&after), "nobody does any more: {after}");
        awake.begin(MANY);
        let stuck = polls(keeper, &woken, 2 * LOOKS);
        assert!((LOOKS..LOOKS + 5).contains(&stuck), "the database is stuck: {stuck}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_of_two_workers_are_kept_awake() {
        assert_eq!(Awake::keepers(), 2);
    }

    #[tokio::test]
    async fn the_only_thread_of_a_program_is_not() {
        assert_eq!(Awake::keepers(), 0);
    }
}
