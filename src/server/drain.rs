//! The end of a server: everybody gets their share of the grace, and who is late is
//! named and left behind. Nothing that was acknowledged depends on it.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::services::Health;
use crate::runner::Runner;
use crate::tasks::Tasks;

/// Shares of the grace, in tenths, after which a stage is over.
const RUNNER_UNTIL: u32 = 7;
const CONNECTIONS_UNTIL: u32 = 9;
const COMMITTER_UNTIL: u32 = 10;

/// All that has to end.
pub(super) struct Drain {
    pub(super) grace: Duration,
    pub(super) health: Health,
    pub(super) tasks: Tasks,
    pub(super) runner: Runner,
    pub(super) connections: TaskTracker,
    pub(super) closing: CancellationToken,
    pub(super) cut: CancellationToken,
}

impl Drain {
    /// Ends it all, within the grace.
    pub(super) async fn run(self) {
        let Self { grace, health, tasks, runner, connections, closing, cut } = self;
        tracing::info!(?grace, "draining");
        let end = Instant::now() + grace;
        let until = |tenths: u32| end - grace * (COMMITTER_UNTIL - tenths) / COMMITTER_UNTIL;

        health.not_serving().await;
        tasks.drain();

        // What runs is given back while reports and reads are still served, since the
        // workers elsewhere have reports to make as well.
        let limit = until(RUNNER_UNTIL);
        let left = limit.saturating_duration_since(Instant::now());
        stage("the runner", limit, runner.stop(left)).await;

        closing.cancel();
        connections.close();
        if !stage("connections", until(CONNECTIONS_UNTIL), connections.wait()).await {
            tracing::warn!(left = connections.len(), "connections are cut, with their calls");
        }
        cut.cancel();

        stage("the committer", until(COMMITTER_UNTIL), tasks.stop()).await;
        tracing::info!("stopped");
    }
}

/// Waits for one of them, and names it where it is late.
async fn stage(name: &str, limit: Instant, ends: impl Future<Output = ()>) -> bool {
    let in_time = timeout_at(limit, pin!(ends)).await.is_ok();
    if !in_time {
        tracing::warn!("{name} did not stop in time");
    }
    in_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_late_is_left_behind() {
        let limit = Instant::now() + Duration::from_secs(5);
        assert!(stage("quick", limit, async {}).await);
        assert!(!stage("slow", limit, std::future::pending()).await);
        assert_eq!(Instant::now(), limit);
        assert!(stage("quick though late", limit, async {}).await);
    }
}
