//! `taskwatch work`: the runner of the server, in a process of its own.

mod board;

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use self::board::RemoteBoard;
use super::{
    args::{self, Server, ServerArgs},
    complete,
    exit::{Exit, Fault},
    out,
    service::Stop,
};
use crate::{
    config::{LogFormat, ProgramConfig, RunnerConfig},
    domain::{Error, limits},
    runner::{Handlers, Runner},
    telemetry,
};

/// How long a stop may take beyond the grace of a command.
const AFTER_GRACE: Duration = Duration::from_secs(5);
/// Until the server is asked again whether it knows the kind.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs a command for every task of a kind: a worker in one line.
///
/// The command gets the input as configured programs get it: {input.FIELD}, {task} and
/// {attempt} in its arguments, the whole as JSON on standard input and in
/// TASKWATCH_INPUT, the last checkpoint in TASKWATCH_CHECKPOINT. It tells progress,
/// checkpoint and result by lines of JSON on standard output, or progress by any
/// percentage that it prints. Exit status 0 is success; anything else is a failure,
/// which is retried as the task's policy has it, with the end of standard error as its
/// message. No shell reads the command; say sh -c '…' where one should. Braces that stand
/// for themselves are doubled.
///
/// A cancel sends it SIGTERM, a pause SIGSTOP. Ctrl-C or SIGTERM gives the tasks back,
/// to go on from their checkpoints elsewhere; a second one stops at once. Restarts of
/// the server are waited for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    taskwatch work thumbnail -- convert {input.path} -resize 200x {input.out}\n  \
    taskwatch work backup --concurrency 2 -- rsync -a --info=progress2 {input.from} {input.to}\n  \
    taskwatch work hello -- sh -c 'echo \"{{\\\"result\\\": \\\"hello\\\"}}\"'\n\n\
    and, from another terminal:\n  \
    taskwatch create hello --watch")]
pub(super) struct Args {
    /// The kind that it serves.
    #[arg(value_parser = args::name, add = complete::kinds())]
    kind: String,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Tasks that are run at once.
    #[arg(long, short = 'c', default_value_t = 1, value_name = "N", value_parser = at_once)]
    concurrency: usize,
    /// A queue that it takes tasks from; may be repeated. All, where none is named.
    #[arg(long = "queue", value_name = "QUEUE", value_parser = args::name, add = complete::queues())]
    queues: Vec<String>,
    /// How long the server waits for a word of this worker before the tasks are
    /// another's: 1s to 1h.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = lease)]
    lease: Duration,
    /// A regular expression with one group, which finds the percentage in the output.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    progress_pattern: Option<regex::Regex>,
    /// Between SIGTERM and SIGKILL.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = args::duration)]
    stop_grace: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

fn at_once(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=limits::BATCH).contains(n));
    number.ok_or_else(|| format!("must be 1 to {}", limits::BATCH))
}

fn lease(text: &str) -> Result<Duration, String> {
    let within = |lease: &Duration| (limits::LEASE_MIN..=limits::LEASE_MAX).contains(lease);
    Some(args::duration(text)?).filter(within).ok_or_else(|| "must be 1s to 1h".to_owned())
}

fn pattern(text: &str) -> Result<regex::Regex, String> {
    let pattern = regex::Regex::new(text).map_err(|error| error.to_string())?;
    if pattern.captures_len() == 2 {
        Ok(pattern)
    } else {
        Err("must have one group, as in 'at (\\d+) percent'".to_owned())
    }
}

/// What is wrong with kind or command, without the keys of a configuration.
fn wrong(error: &Error) -> Fault {
    let Error::InvalidArgument(violations) = error else { return Fault::usage(error) };
    let each: Vec<&str> = violations.iter().map(|wrong| wrong.description.as_str()).collect();
    Fault::usage(format!("this cannot be served: {}", each.join("; ")))
}

/// Waits until the server knows that the kind is served: from then on it takes tasks
/// of it.
async fn known(server: &Server, kind: &str) {
    loop {
        let kinds = server.client.kinds().await.unwrap_or_default();
        if kinds.iter().any(|known| known.kind == kind && known.workers > 0) {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    telemetry::start(LogFormat::Text, "warn", BoxMakeWriter::new(io::stderr))
        .map_err(Fault::usage)?;
    let (mut stop, server) = (Stop::new()?, args.server.connect()?);
    // A worker would wait for a server that is not there; who starts one wants to know.
    server.client.kinds().await.map_err(|status| server.fault(&status))?;
    let program = ProgramConfig {
        command: args.command,
        env: Default::default(),
        // It is the caller's own command, on the caller's own machine.
        pass_env: std::env::vars_os().map(|(name, _)| name).collect(),
        working_dir: None,
        progress_pattern: args.progress_pattern,
        stop_grace: args.stop_grace,
    };
    let handlers = Handlers::none().with_program(&args.kind, &program).map_err(|e| wrong(&e))?;
    let config = RunnerConfig {
        concurrency: args.concurrency,
        lease: args.lease,
        stop_grace: args.stop_grace,
    };
    let board = RemoteBoard::new(server.client.worker(), args.queues);
    let runner = Runner::on(Arc::new(board), handlers, config);
    tokio::select! {
        () = known(&server, &args.kind) => {
            out::say(format!("{} serves {} of {}", runner.worker(), args.kind, server.address));
            stop.asked().await;
        }
        () = stop.asked() => {}
    }
    tokio::select! {
        () = runner.stop(args.stop_grace + AFTER_GRACE) => Ok(Exit::Done),
        () = stop.asked() => Err(Fault::failed("stopped at once: its leases will run out")),
    }
}
