//! `taskwatch demo`: the real service in this process, three tasks through a real
//! connection to it, live bars, results, and the calls to try next.

mod copy;
mod external;
mod logs;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use futures_util::future::try_join_all;
use indicatif::MultiProgress;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(super) use copy::{CopyArgs, copy};

use super::{
    exit::{Exit, Fault},
    explain, follow, out,
    service::{self, Stop},
    show::{Show, bars},
    text::ending,
};
use crate::{
    client::Client,
    config::{Config, KindConfig, LogFormat, ProgramConfig, parse_database, parse_listen},
    domain::{LaneLimits, Name, Object},
    proto::{CreateTaskRequest, Task},
    telemetry,
};

/// The kind that copies the tree.
const COPY: &str = "copy";

/// Shows the service at work: three tasks with live progress.
///
/// Starts the service in this process and creates a built-in task, a program and a
/// task that is run from outside; shows their progress, then their results and calls
/// to try, and goes on serving until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch demo\n  \
    taskwatch demo --exit --database sqlite:///tmp/demo.db")]
pub(super) struct Args {
    /// Stop when the tasks have ended; the exit status is 0 if all SUCCEEDED.
    #[arg(long)]
    exit: bool,
    /// Where to listen; a free port where that one is taken.
    #[arg(long, env = "TASKWATCH_LISTEN", value_name = "ADDRESS",
        default_value = "127.0.0.1:50051", value_parser = parse_listen)]
    listen: SocketAddr,
    /// Where tasks are kept.
    #[arg(long, env = "TASKWATCH_DATABASE", value_name = "URL", hide_env_values = true,
        default_value = "sqlite://taskwatch.db", value_parser = parse_database)]
    database: String,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let mut stop = Stop::new()?;
    let bars = bars();
    telemetry::start(LogFormat::Text, "warn", logs::beside(&bars)).map_err(Fault::usage)?;
    let config = config(&args)?;
    let wanted = config.listen;
    if wanted != args.listen {
        out::say(format!("{} is taken: listening on a free port", args.listen));
    }
    let server = service::bind(config).await?;
    let address = reachable(server.local_addr());
    let stopping = CancellationToken::new();
    let serving = server.run(stopping.clone().cancelled_owned());
    let scene = async {
        let shown = tokio::select! {
            shown = play(address, &bars, &stopping) => shown,
            () = stop.asked() => {
                stopping.cancel();
                Ok(Exit::Interrupted)
            }
        };
        if !args.exit && shown.as_ref().is_ok_and(|exit| *exit != Exit::Interrupted) {
            stop.asked().await;
        }
        stopping.cancel();
        shown
    };
    tokio::pin!(serving, scene);
    let shown = tokio::select! {
        shown = &mut scene => shown,
        // It ends by itself only where it cannot go on.
        ended = &mut serving => {
            return Err(Fault::failed(ended.err().map_or_else(
                || "the server stopped by itself".to_owned(),
                |error| error.to_string(),
            )));
        }
    };
    tokio::select! {
        ended = &mut serving => ended.map_err(Fault::failed)?,
        () = stop.asked() => {}
    }
    // Ctrl-C is how the demo is meant to end where it goes on serving.
    if args.exit { shown } else { shown.map(|_| Exit::Done) }
}
