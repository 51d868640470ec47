//! `taskwatch serve`.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::{
    args,
    exit::{Exit, Fault},
    service::{self, Stop},
};
use crate::{
    config::{Config, LogFormat, parse_database, parse_listen},
    telemetry,
};

/// Runs the service until SIGINT or SIGTERM.
///
/// Told to stop, it drains: watches end and can be resumed, running tasks are given
/// back. A second signal stops it at once. What is told here by no flag is taken
/// from the variable, then from the configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch serve\n  \
    taskwatch serve --listen 0.0.0.0:50051 --database sqlite:///var/lib/taskwatch/tasks.db\n  \
    taskwatch serve --database postgres://user:password@db/tasks --log-format json\n\n\
    TASKWATCH_LOG or RUST_LOG choose what is logged, as in TASKWATCH_LOG=debug.")]
pub(super) struct Args {
    /// Where to listen [default: 127.0.0.1:50051].
    #[arg(long, env = "TASKWATCH_LISTEN", hide_env_values = true, value_name = "ADDRESS", value_parser = parse_listen)]
    listen: Option<SocketAddr>,
    /// Where tasks are kept [default: sqlite://taskwatch.db].
    #[arg(long, env = "TASKWATCH_DATABASE", value_name = "URL", hide_env_values = true,
        value_parser = parse_database)]
    database: Option<String>,
    /// The configuration [default: taskwatch.toml, where there is one].
    #[arg(long, env = "TASKWATCH_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long a stop may take, as "10s" [default: 10s].
    #[arg(long, env = "TASKWATCH_GRACE", hide_env_values = true, value_name = "DURATION", value_parser = args::grace)]
    grace: Option<Duration>,
    /// How logs are written [default: text].
    #[arg(long, env = "TASKWATCH_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Args {
    /// The configuration: flags over variables over the file over the defaults.
    fn config(self) -> Result<Config, Fault> {
        let mut config = Config::load(self.config.as_deref()).map_err(Fault::usage)?;
        config.listen = self.listen.unwrap_or(config.listen);
        config.database = self.database.unwrap_or(config.database);
        config.grace = self.grace.unwrap_or(config.grace);
        config.log_format = match self.log_format {
            Some(Format::Text) => LogFormat::Text,
            Some(Format::Json) => LogFormat::Json,
            None => config.log_format,
        };
        Ok(config)
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let config = args.config()?;
    telemetry::start(config.log_format, "info", BoxMakeWriter::new(io::stderr))
        .map_err(Fault::usage)?;
    let mut stop = Stop::new()?;
    let server = service::bind(config).await?;
    let draining = CancellationToken::new();
    let run = server.run(draining.clone().cancelled_owned());
    tokio::pin!(run);
    loop {
        tokio::select! {
            ended = &mut run => return ended.map(|()| Exit::Done).map_err(Fault::failed),
            () = stop.asked() => {
                if draining.is_cancelled() {
                    return Err(Fault::failed("stopped at once: what ran is taken up at the next start"));
                }
                draining.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::Write;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_the_defaults() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        write!(file, "listen = \"127.0.0.1:1\"\ngrace = \"3s\"\nlog_format = \"json\"")
            .expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let line = Line::parse_from(["serve", "--config", path, "--listen", "127.0.0.1:2"]);
        let config = line.args.config().expect("well formed");
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.grace, Duration::from_secs(3));
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.database, "sqlite://taskwatch.db");
    }
}
