//! How long a caller waits: `grpc-timeout`, as PROTOCOL-HTTP2.md of gRPC has it.

use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::time::Instant;

/// Digits of a timeout, by the protocol.
const DIGITS: usize = 8;
/// An answer needs some time on its way back: a tenth of what is left, within these.
const MARGIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// When the caller gives up. In the extensions of every request that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline(pub(super) Instant);

/// A `grpc-timeout` that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Deadline {
    /// The deadline of a request that has come in now.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
        let timeout = value.to_str().ok().and_then(timeout).ok_or(Malformed)?;
        // One that is too far away for the clock is none.
        Ok(Instant::now().checked_add(timeout).map(Self))
    }

    /// As much of `wait` as ends before the caller gives up.
    pub(super) fn shorten(extensions: &Extensions, wait: Duration) -> Duration {
        let Some(Self(end)) = extensions.get() else { return wait };
        let left = end.saturating_duration_since(Instant::now());
        wait.min(left.saturating_sub((left / 10).clamp(MARGIN.0, MARGIN.1)))
    }
}

fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = number.len() <= DIGITS && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(timeout("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(timeout("99999999M"), Some(Duration::from_secs(99_999_999 * 60)));
        assert_eq!(timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("1u"), Some(Duration::from_micros(1)));
        assert_eq!(timeout("1n"), Some(Duration::from_nanos(1)));
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1ä"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_before_its_caller_gives_up() {
        let minute = Duration::from_secs(60);
        assert_eq!(Deadline::shorten(&Extensions::new(), minute), minute);
        let shortened = |left: u64| {
            let mut extensions = Extensions::new();
            extensions.insert(Deadline(Instant::now() + Duration::from_millis(left)));
            Deadline::shorten(&extensions, minute).as_millis()
        };
        assert_eq!(shortened(120_000), 60_000);
        assert_eq!(shortened(30_000), 29_000);
        assert_eq!(shortened(2_000), 1_800);
        assert_eq!(shortened(100), 50);
        assert_eq!(shortened(20), 0);
    }
}
