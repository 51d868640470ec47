//! `taskwatch watch`.

use super::{
    args::{ServerArgs, task_name},
    exit::{Exit, Fault},
    explain, follow, out,
};
use crate::proto::TaskView;

/// Watches a task until it has ended.
///
/// A live bar on a terminal, plain lines elsewhere. It survives restarts of the
/// server: it connects again and goes on. Ctrl-C ends the watching, not the task.
/// The exit status is the task's: 0 SUCCEEDED, 1 FAILED, 3 CANCELLED.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch watch tasks/nightly\n  \
    taskwatch watch nightly && echo it is done\n  \
    taskwatch watch --json nightly | jq .progress.percent")]
pub(super) struct Args {
    /// The task, with or without "tasks/".
    #[arg(value_parser = task_name)]
    name: String,
    /// Print each state as JSON, on one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let (client, server) = (args.server.client()?, &args.server.server);
    // A watch would wait for a server that is not there; who begins one wants to know.
    let found = client.get(&args.name, TaskView::Basic).await;
    found.map_err(|status| explain::fault(&status, server))?;
    if out::is_terminal() && !args.json {
        out::line(&args.name)?;
    }
    follow::to_the_end(&client, server, &args.name, args.json).await
}
