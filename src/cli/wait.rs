//! `taskwatch wait`.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;

use super::{
    args::{self, ServerArgs},
    clean::clean,
    exit::{Exit, Fault},
    follow::{exit, follow},
    out,
    output::OutputArgs,
    select::Selection,
    show::Show,
    text,
};

/// Waits until tasks have ended, silently, and prints how each one ended.
///
/// It survives restarts of the server. The exit status is 1 if any task FAILED, else 3
/// if any was CANCELLED, else 0. With a filter it waits for the tasks that match when
/// it begins.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch wait nightly && echo it is done\n  \
    taskwatch wait --label batch=7 --timeout 10m\n  \
    taskwatch wait nightly --json | jq .result")]
pub(super) struct Args {
    #[command(flatten)]
    tasks: Selection,
    /// Give up after so long, as 10m, with exit status 1; the tasks go on.
    #[arg(long, value_name = "DURATION", value_parser = args::some_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let names = args.tasks.names(&server, "").await?;
    let count = names.len();
    if names.is_empty() {
        out::say("no tasks");
    }
    let mut waits: FuturesUnordered<_> = names
        .iter()
        .map(|name| async {
            follow(&server.client, &server.address, name, &mut Show::nothing()).await
        })
        .collect();
    let mut worst = Exit::Done;
    let mut ended = 0;
    let all = async {
        while let Some(task) = waits.next().await {
            let task = task?;
            args.output.one(&task, |task, _| {
                format!("{} {}", clean(&task.name), text::painted_state(task, 0))
            })?;
            worst = worst.or_worse(exit(&task));
            ended += 1;
        }
        Ok(())
    };
    let in_time = match args.timeout {
        Some(patience) => timeout(patience, all).await,
        None => Ok(all.await),
    };
    match in_time {
        Ok(waited) => waited.map(|()| worst),
        Err(_) => Err(Fault::failed(format!("{ended} of {count} tasks ended within --timeout"))),
    }
}
