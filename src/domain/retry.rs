//! What happens after a failed attempt: how many there may be, and how long to
//! wait between them.

use std::time::Duration;

/// A task's own wishes; what is `None` is its kind's own.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct RetryPolicy {
    /// Attempts in all; 1 means never retry.
    pub max_attempts: Option<u32>,
    /// The wait after the first failure, before jitter.
    pub initial_backoff: Option<Duration>,
    /// The longest wait, before jitter.
    pub max_backoff: Option<Duration>,
    /// Growth of the wait from failure to failure; 1 or more.
    pub backoff_multiplier: Option<f64>,
}

/// What a kind gives to its tasks where they wish for nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KindDefaults {
    /// Attempts in all.
    pub max_attempts: u32,
    /// The wait after the first failure, before jitter.
    pub initial_backoff: Duration,
    /// The longest wait, before jitter.
    pub max_backoff: Duration,
    /// Growth of the wait from failure to failure.
    pub backoff_multiplier: f64,
    /// How long one attempt may run; none means as long as it takes.
    pub attempt_timeout: Option<Duration>,
}

impl Default for KindDefaults {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            backoff_multiplier: 2.0,
            attempt_timeout: None,
        }
    }
}

impl RetryPolicy {
    /// Whether there may be another attempt after `failures` of them.
    pub fn allows_another(&self, failures: u32, kind: &KindDefaults) -> bool {
        failures < self.max_attempts.unwrap_or(kind.max_attempts)
    }

    /// The wait after the `failures`-th failure, with full jitter: anything from
    /// nothing to the whole backoff, as `jitter` (0 to 1) says.
    pub fn backoff(&self, failures: u32, kind: &KindDefaults, jitter: f64) -> Duration {
        let initial = self.initial_backoff.unwrap_or(kind.initial_backoff).as_secs_f64();
        let longest = self.max_backoff.unwrap_or(kind.max_backoff).as_secs_f64();
        let multiplier = self.backoff_multiplier.unwrap_or(kind.backoff_multiplier);
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let whole = (initial * multiplier.powi(exponent)).min(longest);
        Duration::try_from_secs_f64(whole * jitter.clamp(0.0, 1.0)).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound() {
        let (policy, kind) = (RetryPolicy::default(), KindDefaults::default());
        let waits: Vec<u64> = (1..9).map(|n| policy.backoff(n, &kind, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.backoff(u32::MAX, &kind, 1.0).as_secs(), 60);
        assert_eq!(policy.backoff(3, &kind, 0.5), Duration::from_secs(2));
        assert_eq!(policy.backoff(3, &kind, 0.0), Duration::ZERO);
    }

    #[test]
    fn the_task_has_the_first_word() {
        let kind = KindDefaults::default();
        let never = RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() };
        assert!(!never.allows_another(1, &kind));
        assert!(RetryPolicy::default().allows_another(4, &kind));
        assert!(!RetryPolicy::default().allows_another(5, &kind));
    }
}
