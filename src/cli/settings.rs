//! What can be said of a task when it is made, and changed later.

use std::time::Duration;

use super::args;
use crate::{
    domain::{Timestamp, limits::PRIORITY},
    proto::{RetryPolicy, Task},
};

/// Settings of a task.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Settings of the task")]
pub(super) struct Settings {
    /// Higher runs first within its queue: -100 to 100.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32)
        .range(i64::from(*PRIORITY.start())..=i64::from(*PRIORITY.end())))]
    priority: Option<i32>,
    /// Not run before this time: 2026-01-31T12:00:00Z, or +10m from now.
    #[arg(long, value_name = "WHEN", value_parser = args::time)]
    schedule: Option<Timestamp>,
    /// How long one attempt may run, as 10m; 0 means what its kind has.
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    attempt_timeout: Option<Duration>,
    /// How long it is kept after its end, as 7d; 0 means what the server has.
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    retention: Option<Duration>,
    /// How often it is tried; 1 means never again.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max_attempts: Option<i32>,
    /// The wait before the second attempt, at most, as 1s; 0 means what its kind has.
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    initial_backoff: Option<Duration>,
    /// The longest wait between two attempts, as 1m; 0 means what its kind has.
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    max_backoff: Option<Duration>,
    /// How the wait grows from attempt to attempt, as 2; 0 means what its kind has.
    #[arg(long, value_name = "FACTOR")]
    backoff_multiplier: Option<f64>,
}

impl Settings {
    /// Sets what was said; gives the paths of the fields.
    pub(super) fn set(self, task: &mut Task) -> Vec<&'static str> {
        let mut paths = Vec::new();
        let mut path = |said: bool, path| {
            if said {
                paths.push(path);
            }
        };
        let lasts = |span: Option<Duration>| {
            span.and_then(|span| prost_types::Duration::try_from(span).ok())
        };
        path(self.priority.is_some(), "priority");
        task.priority = self.priority.unwrap_or_default();
        path(self.schedule.is_some(), "schedule_time");
        task.schedule_time = self.schedule.map(|at| prost_types::Timestamp {
            seconds: at.micros().div_euclid(1_000_000),
            nanos: i32::try_from(at.micros().rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
        });
        path(self.attempt_timeout.is_some(), "attempt_timeout");
        task.attempt_timeout = lasts(self.attempt_timeout);
        path(self.retention.is_some(), "retention");
        task.retention = lasts(self.retention);
        path(self.max_attempts.is_some(), "retry_policy.max_attempts");
        path(self.initial_backoff.is_some(), "retry_policy.initial_backoff");
        path(self.max_backoff.is_some(), "retry_policy.max_backoff");
        path(self.backoff_multiplier.is_some(), "retry_policy.backoff_multiplier");
        let policy = RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or_default(),
            initial_backoff: lasts(self.initial_backoff),
            max_backoff: lasts(self.max_backoff),
            backoff_multiplier: self.backoff_multiplier.unwrap_or_default(),
        };
        task.retry_policy = (policy != RetryPolicy::default()).then_some(policy);
        paths
    }
}
