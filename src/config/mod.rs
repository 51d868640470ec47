//! What can be configured: the file, checked, with the place of what is wrong.
//!
//! A [`Config`] that was read is whole and within its limits: nobody checks it again.
//! It knows nothing of the command line, which lays its flags over it.

mod duration;
mod fault;
mod file;
mod section;
mod template;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

pub use duration::{DURATION_RULE, parse_duration, show_duration};
pub use fault::{ConfigError, Fault};

use crate::domain::{KindDefaults, LaneLimits, Name};

/// The file that is read where none is named, in the working directory.
pub const DEFAULT_FILE: &str = "taskwatch.toml";

/// The longest grace, of a drain and of a program that is to stop.
pub const GRACE_MAX: Duration = Duration::from_secs(3_600);

/// Everything that can be configured, with its defaults filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. 127.0.0.1:50051 by default.
    pub listen: SocketAddr,
    /// `sqlite://taskwatch.db` by default.
    pub database: String,
    /// How long a drain may take. 10 s by default, at most [`GRACE_MAX`].
    pub grace: Duration,
    /// How logs are written. Text by default.
    pub log_format: LogFormat,
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

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
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
    pub pass_env: Vec<OsString>,
    /// Where it runs; the server's own by default.
    pub working_dir: Option<PathBuf>,
    /// A regular expression with one group, which replaces the percentage.
    pub progress_pattern: Option<regex::Regex>,
    /// Between SIGTERM and SIGKILL; `runner.stop_grace` by default.
    pub stop_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            database: "sqlite://taskwatch.db".to_owned(),
            grace: Duration::from_secs(10),
            log_format: LogFormat::default(),
            retention: Duration::from_secs(7 * 86_400),
            retry: KindDefaults::default(),
            runner: RunnerConfig::default(),
            accept_unknown: false,
            kinds: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self { concurrency: 64, lease: Duration::from_secs(30), stop_grace: Duration::from_secs(5) }
    }
}

impl Config {
    /// Reads `named`; else [`DEFAULT_FILE`] in the working directory where there is
    /// one; else the defaults.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, one that was named and is missing included, or all
    /// that is wrong in it.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of a file; `file` names it in messages.
    ///
    /// # Errors
    ///
    /// All that is wrong in it.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        file::read(file, text).map_err(ConfigError::Faults)
    }
}

/// Checks the URL of a database, without opening it.
///
/// # Errors
///
/// Which URLs there are.
pub fn parse_database(url: &str) -> Result<String, String> {
    const SCHEMES: [&str; 3] = ["sqlite:", "postgres:", "postgresql:"];
    if url.contains('\0') || !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        let rule = "must be sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE";
        return Err(rule.to_owned());
    }
    Ok(url.to_owned())
}

/// Checks an address to listen on.
///
/// # Errors
///
/// What an address looks like.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, as in \"127.0.0.1:50051\"".to_owned())
}

/// Reads the grace of a drain, within its limits.
///
/// # Errors
///
/// The rule or the limit that it breaks.
pub fn parse_grace(text: &str) -> Result<Duration, String> {
    section::within(parse_duration(text)?, Duration::ZERO, GRACE_MAX)
}
