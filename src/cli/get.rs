//! `taskwatch get`.

use super::{
    args::{ServerArgs, task_name},
    exit::{Exit, Fault},
    explain, json, out, text,
};
use crate::proto::TaskView;

/// Shows a task as it is now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch get tasks/nightly\n  \
    taskwatch get --json nightly | jq .result")]
pub(super) struct Args {
    /// The task, with or without "tasks/".
    #[arg(value_parser = task_name)]
    name: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let got = args.server.client()?.get(&args.name, TaskView::Full).await;
    let task = got.map_err(|status| explain::fault(&status, &args.server.server))?;
    out::line(if args.json { json::pretty(&task)? } else { text::full(&task) })?;
    Ok(Exit::Done)
}
