//! The frames of a watch: opened when they are first asked for, found cut when the
//! server goes silent, and opened again after a backoff with jitter.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status, Streaming};

use super::WatchOptions;
use crate::proto::{Frame, WatchEvent};

/// The first wait after a cut, before jitter; doubled with each one that follows.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest wait, before jitter.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Frames {
    stream: Option<Streaming<Frame>>,
    /// Cuts since the last frame.
    cuts: u32,
    /// Silence for longer than this is a cut.
    patience: Duration,
}

impl Frames {
    pub(super) fn new(options: &WatchOptions) -> Self {
        // The server holds heartbeats back, too, until the interval is over.
        let heartbeat = options.heartbeat_interval.max(Duration::from_secs(1));
        let patience = (3 * heartbeat).max(options.min_interval + 2 * heartbeat);
        Self { stream: None, cuts: 0, patience }
    }

    /// The next frame, of a stream that is opened where there is none.
    ///
    /// # Errors
    ///
    /// Why the stream is over: see [`is_final`].
    pub(super) async fn next<F>(&mut self, open: impl FnOnce() -> F) -> Result<WatchEvent, Status>
    where
        F: Future<Output = Result<Response<Streaming<Frame>>, Status>>,
    {
        let silent = |_| Status::unavailable("the server has gone silent");
        let cut = || Status::unavailable("the stream ended before the task did");
        if self.stream.is_none() {
            sleep(backoff(self.cuts, rand::random())).await;
            self.stream = Some(timeout(self.patience, open()).await.map_err(silent)??.into_inner());
        }
        let stream = self.stream.as_mut().ok_or_else(cut)?;
        let frame = timeout(self.patience, stream.message()).await.map_err(silent)??;
        let event = frame.ok_or_else(cut)?.event();
        let event = event.map_err(|error| Status::internal(error.to_string()))?;
        self.cuts = 0;
        Ok(event)
    }

    /// Gives the stream up: the next frame is another one's.
    pub(super) fn cut(&mut self) {
        self.stream = None;
        self.cuts = self.cuts.saturating_add(1);
    }
}

/// Whether asking again cannot help.
pub(super) fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// How long to wait after so many cuts: at least half of the backoff, so that a
/// server that refuses at once is not stormed; the other half by chance (`jitter`, 0
/// to 1), so that many watchers do not come back at one time.
fn backoff(cuts: u32, jitter: f64) -> Duration {
    let Some(doublings) = cuts.checked_sub(1) else { return Duration::ZERO };
    let whole = FIRST_BACKOFF.saturating_mul(1 << doublings.min(16)).min(LONGEST_BACKOFF);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound_with_jitter() {
        let most: Vec<u128> = (0..9).map(|n| backoff(n, 1.0).as_millis()).collect();
        assert_eq!(most, [0, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX, 0.0), LONGEST_BACKOFF / 2);
    }
}
