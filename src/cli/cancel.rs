//! `taskwatch cancel`.

use super::{
    args::{ServerArgs, task_name},
    exit::{Exit, Fault},
    explain, json, out, text,
};
use crate::proto::task::State;

/// Cancels a task.
///
/// A task that nobody runs is CANCELLED at once; one that is being run is CANCELLING
/// until its worker has stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch cancel tasks/nightly\n  \
    taskwatch cancel nightly && taskwatch watch nightly")]
pub(super) struct Args {
    /// The task, with or without "tasks/".
    #[arg(value_parser = task_name)]
    name: String,
    /// Print the task as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let asked = args.server.client()?.cancel(&args.name).await;
    let task = asked.map_err(|status| explain::fault(&status, &args.server.server))?;
    if args.json {
        out::line(json::pretty(&task)?)?;
    } else {
        out::line(format!("{} {}", text::clean(&task.name), text::state(&task)))?;
        if task.state == i32::from(State::Cancelling) {
            out::say(format!(
                "its worker has been told to stop; watch it with: taskwatch watch {}",
                args.name
            ));
        }
    }
    Ok(Exit::Done)
}
