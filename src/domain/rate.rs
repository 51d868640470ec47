//! How often something may happen: so many times a second, and never more than one
//! second's worth at once. All that is remembered is one point in time (the generic
//! cell rate algorithm), so that replicas can share it as one number.

use std::time::Duration;

use super::Timestamp;

/// The highest rate, a second.
pub const RATE_MAX: f64 = 1_000_000.0;
/// The lowest: once a day.
pub const RATE_MIN: f64 = 1.0 / 86_400.0;

/// Times a second, between [`RATE_MIN`] and [`RATE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// None where it is out of its limits.
    pub fn per_second(times: f64) -> Option<Self> {
        (RATE_MIN..=RATE_MAX).contains(&times).then_some(Self(times))
    }

    /// How many times at once: a second's worth, but at least one.
    fn burst(self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "1 to RATE_MAX"
        )]
        let burst = self.0.max(1.0) as u64;
        burst
    }

    /// The time that `times` take at this rate.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn span(self, times: u64) -> Duration {
        Duration::from_secs_f64(times as f64 / self.0)
    }

    /// How many times it may happen now. `used` is what [`Rate::take`] gave last.
    pub fn available(self, used: Option<Timestamp>, now: Timestamp) -> u64 {
        let ahead = used.map_or(Duration::ZERO, |used| used.since(now));
        let room = self.span(self.burst()).saturating_sub(ahead);
        // Times are whole microseconds: what is short of one by less is one.
        let times = (room + Duration::from_micros(1)).as_secs_f64() * self.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a burst"
        )]
        let times = times as u64;
        times.min(self.burst())
    }

    /// It happens `times` times now; gives what is to be remembered.
    #[must_use]
    pub fn take(self, used: Option<Timestamp>, now: Timestamp, times: u64) -> Timestamp {
        used.map_or(now, |used| used.max(now)).plus(self.span(times))
    }

    /// How long until it may happen again.
    pub fn wait(self, used: Option<Timestamp>, now: Timestamp) -> Duration {
        let free = self.span(self.burst().saturating_sub(1));
        used.map_or(Duration::ZERO, |used| used.since(now)).saturating_sub(free)
    }
}

/// What limits the hand-outs of a kind or of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct LaneLimits {
    /// Live leases, over all replicas.
    pub concurrency: Option<u64>,
    /// Hand-outs, over all replicas.
    pub rate: Option<Rate>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + micros)
    }

    #[test]
    fn a_seconds_worth_at_once_and_then_one_by_one() {
        let ten = Rate::per_second(10.0).expect("a rate");
        assert_eq!(ten.available(None, at(0)), 10);
        let used = Some(ten.take(None, at(0), 10));
        assert_eq!(ten.available(used, at(0)), 0);
        assert_eq!(ten.wait(used, at(0)), Duration::from_millis(100));
        assert_eq!(ten.available(used, at(99_000)), 0);
        assert_eq!(ten.available(used, at(100_000)), 1);
        assert_eq!(ten.available(used, at(1_000_000)), 10);
        assert_eq!(ten.available(used, at(90_000_000)), 10);
        assert_eq!(ten.wait(used, at(100_000)), Duration::ZERO);
    }

    #[test]
    fn slower_than_once_a_second() {
        let slow = Rate::per_second(0.1).expect("a rate");
        let used = Some(slow.take(None, at(0), 1));
        assert_eq!(slow.available(used, at(9_999_000)), 0);
        assert_eq!(slow.wait(used, at(0)), Duration::from_secs(10));
        assert_eq!(slow.available(used, at(10_000_000)), 1);
        assert!(Rate::per_second(0.0).is_none() && Rate::per_second(f64::NAN).is_none());
    }

    proptest! {
        /// Whoever takes all that there is, whenever: not more than the rate and one burst.
        #[test]
        fn never_more_than_the_rate(
            rate in 0.5..2_000.0_f64,
            steps in prop::collection::vec(0_i64..400_000, 1..100),
        ) {
            let limit = Rate::per_second(rate).expect("a rate");
            let (mut now, mut used, mut total) = (0, None, 0);
            for step in steps {
                now += step;
                let times = limit.available(used, at(now));
                if times > 0 {
                    used = Some(limit.take(used, at(now), times));
                    total += times;
                } else {
                    let wait = i64::try_from(limit.wait(used, at(now)).as_micros()).expect("short");
                    prop_assert!(wait > 0);
                    prop_assert!(limit.available(used, at(now + wait + 1)) > 0);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let most = rate * now as f64 / 1e6 + rate.max(1.0) + 1.0 + total as f64 * rate / 1e6;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let total = total as f64;
            prop_assert!(total <= most, "{total} > {most}");
        }
    }
}
