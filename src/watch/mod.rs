//! One watcher: registers with the hub, then reads the store, then waits. Gives
//! states, not messages; `rpc` makes frames of them.
//!
//! A watch is latest-value: whoever reads slowly skips states, and no watcher can
//! hold up another or the committer.

mod all;
mod one;
mod pace;
#[cfg(test)]
mod tests;

pub use all::{WatchAll, WatchAllEvent, WatchAllOptions};
pub use one::{Watch, WatchOptions};

use tokio::time::{Instant, sleep_until};

/// For good where there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
