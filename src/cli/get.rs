//! `taskwatch get`.

use super::{
    args::ServerArgs,
    exit::{Exit, Fault},
    output::OutputArgs,
    select::Selection,
    text,
};
use crate::proto::TaskView;

/// Shows tasks as they are now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch get tasks/nightly\n  \
    taskwatch get 0199f2ab\n  \
    taskwatch get --json nightly | jq .result\n  \
    taskwatch get --filter 'state = FAILED' -o yaml")]
pub(super) struct Args {
    #[command(flatten)]
    tasks: Selection,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let mut tasks = Vec::new();
    for name in args.tasks.names(&server, "").await? {
        let got = server.client.get(&name, TaskView::Full).await;
        tasks.push(got.map_err(|status| server.fault(&status))?);
    }
    if args.output.is_table() {
        args.output.page(&tasks, true)?;
        return Ok(Exit::Done);
    }
    for (at, task) in tasks.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        args.output.one(task, |task, times| format!("{gap}{}", text::full(task, times)))?;
    }
    Ok(Exit::Done)
}
