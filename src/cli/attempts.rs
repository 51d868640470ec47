//! `taskwatch attempts`.

use super::{
    args::{ServerArgs, task_name},
    complete,
    exit::{Exit, Fault},
    find, out,
    output::OutputArgs,
};

/// Lists the attempts of a task: who ran it, when, and how that ended.
///
/// Oldest first; the newest 100 are kept. An external task has none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch attempts nightly\n  \
    taskwatch attempts nightly -o wide\n  \
    taskwatch attempts nightly --json | jq .error.message")]
pub(super) struct Args {
    /// The task: its name, or the beginning of it.
    #[arg(value_parser = task_name, add = complete::tasks())]
    task: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let name = find::resolve(&server, args.task).await?;
    let attempts = server.client.attempts(&name).await.map_err(|status| server.fault(&status))?;
    if attempts.is_empty() {
        out::say("no attempts yet");
    } else {
        args.output.page(&attempts, true)?;
    }
    Ok(Exit::Done)
}
