//! What can be configured: the file, checked, with the place of what is wrong.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::domain::{KindDefaults, Name};

/// Everything that can be configured, with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. 127.0.0.1:50051 by default.
    pub listen: SocketAddr,
    /// `sqlite://taskwatch.db` by default.
    pub database: String,
    /// How long a drain may take. 10 s by default.
    pub grace: Duration,
    /// How long ended tasks are kept. 7 days by default.
    pub retention: Duration,
    /// `[retry]`: what every kind gives its tasks where it says nothing else.
    pub retry: KindDefaults,
    /// `[runner]`
    pub runner: RunnerConfig,
    /// `kinds.accept_unknown`
    pub accept_unknown: bool,
    /// `[kinds.NAME]`
    pub kinds: BTreeMap<Name, KindConfig>,
    /// `[queues.NAME]`
    pub queues: BTreeMap<Name, LaneLimits>,
}

/// `[runner]`
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// Tasks that this server runs at once. 64 by default; 0 runs none.
    pub concurrency: usize,
    /// Of its leases. 30 s by default.
    pub lease: Duration,
    /// Between SIGTERM and SIGKILL. 5 s by default.
    pub stop_grace: Duration,
}

/// `concurrency` and `rate` of a kind or queue.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct LaneLimits {
    /// Live leases, over all replicas.
    pub concurrency: Option<u64>,
    /// Hand-outs a second; at most one second's worth at once.
    pub rate_per_second: Option<f64>,
}

/// `[kinds.NAME]`
#[derive(Clone, Debug)]
pub struct KindConfig {
    /// What its tasks get where they say nothing else (`max_attempts`, `initial_backoff`,
    /// `max_backoff`, `backoff_multiplier`, `timeout`; `[retry]` fills the rest).
    pub defaults: KindDefaults,
    /// Its limits.
    pub limits: LaneLimits,
    /// The program that runs it; none means that workers do.
    pub program: Option<ProgramConfig>,
}

/// How a program is run.
#[derive(Clone, Debug)]
pub struct ProgramConfig {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Variables set for it, besides those that pass.
    pub env: BTreeMap<String, String>,
    /// Variables of the server that pass, besides the usual ones.
    pub pass_env: Vec<String>,
    /// Where it runs; the server's own by default.
    pub working_dir: Option<PathBuf>,
    /// A regular expression with one group, which replaces the percentage.
    pub progress_pattern: Option<regex::Regex>,
    /// Between SIGTERM and SIGKILL; `runner.stop_grace` by default.
    pub stop_grace: Duration,
}
