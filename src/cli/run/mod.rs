//! `taskwatch run`: any command on this machine, as a task that others can watch and
//! stop.

mod command;
mod news;
mod signals;
mod teller;
mod terminal;

use std::{env, pin::pin, time::Duration};

use futures_util::{FutureExt, future::FusedFuture};
use prost::Message;
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use self::{
    command::{NotStarted, until},
    news::{Told, Wanted},
    signals::Signals,
    teller::Teller,
};
use super::{
    args::{self, ServerArgs},
    exit::{Exit, Fault},
    out,
};
use crate::{
    domain::{EXTERNAL, Object},
    proto::{CreateTaskRequest, Task},
};

/// Runs a command here, as a task that anyone can watch, pause and cancel.
///
/// Its output passes through untouched, on a terminal as from a terminal, and the exit
/// status is its own (128 and the signal where one killed it; 127 and 126 where it
/// cannot be started). Its percentage, its last line and how it ended go to the server,
/// as a task of kind external. A cancel sends it SIGTERM, and SIGKILL after a grace; a
/// pause stops it until it is resumed.
///
/// The command never waits for the server: where that is away, the command works on,
/// and the server is told when it is back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    taskwatch run -- rsync -a --info=progress2 src/ dst/\n  \
    taskwatch run --id nightly --label env=prod -- ./backup.sh /var\n\n\
    and, from anywhere:\n  \
    taskwatch watch nightly\n  \
    taskwatch cancel nightly")]
pub(super) struct Args {
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// The id of the task; a new one where none is given.
    #[arg(long, value_parser = args::name)]
    id: Option<String>,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::label)]
    labels: Vec<(String, String)>,
    /// Between SIGTERM and SIGKILL where it is cancelled.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = args::duration)]
    stop_grace: Duration,
    /// How long it waits, after the command has ended, for a server that is away.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = args::duration)]
    wait_server: Duration,
    /// Do not say the name of the task.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    // Its own choice, so that it can be made again where the answer was lost.
    let id = args.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let request = request(&args, &id);
    // From before there is a command: a signal would end this process alone.
    let mut signals = Signals::new();
    let running = match command::start(&args.command) {
        Ok(running) => running,
        Err(NotStarted { status, why }) => {
            let name = args.command.first().map_or("", String::as_str);
            out::say(format!("error: {name}: {why}"));
            return Ok(Exit::Command(status));
        }
    };
    let (told, telling) = watch::channel(Told::default());
    let (wanting, wanted) = watch::channel(Wanted::Run);
    let name = format!("tasks/{id}");
    let teller = Teller::new(server, name, args.quiet, running.newline());
    let mut telling = pin!(teller.tell(request, telling, wanting).fuse());
    // Refused for good, or cancelled: the command goes on to its end.
    let attending = running.attend(args.stop_grace, &mut signals, &told, wanted);
    let ended = until(attending, &mut telling).await;
    let status = ended.status();
    told.send_modify(|told| told.ended = Some(ended));
    if !telling.is_terminated() {
        let why = tokio::select! {
            () = telling => None,
            () = sleep(args.wait_server) => Some("it did not answer in time"),
            _ = signals.next() => Some("a signal came first"),
        };
        if let Some(why) = why {
            out::say(format!(
                "error: the server was not told how the command ended: {why} (tasks/{id})"
            ));
        }
    }
    Ok(Exit::Command(status))
}

fn request(args: &Args, id: &str) -> CreateTaskRequest {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let directory = env::current_dir().map(|path| path.display().to_string());
    let input = json!({
        "command": args.command, "host": host, "directory": directory.unwrap_or_default()
    });
    let input = input.as_object().and_then(|object| {
        prost_types::Struct::decode(Object::from_json(object).encoded().clone()).ok()
    });
    let labels = args.labels.iter().cloned().collect();
    let task = Task { kind: EXTERNAL.to_owned(), input, labels, ..Task::default() };
    CreateTaskRequest {
        task: Some(task),
        task_id: id.to_owned(),
        request_id: uuid::Uuid::now_v7().to_string(),
    }
}
