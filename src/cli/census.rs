//! `taskwatch kinds` and `taskwatch queues`.

use super::{
    args::{ServerArgs, queue_name},
    complete,
    exit::{Exit, Fault},
    out,
    output::OutputArgs,
    tables::Row,
};

/// Lists the kinds: who serves them, how much waits and runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch kinds\n  \
    taskwatch kinds --json | jq -r 'select(.queuedTasks != \"0\") | .kind'")]
pub(super) struct KindsArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Lists the queues, holds one back, or lets it go on.
///
/// Nothing of a paused queue is handed out; what runs already goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch queues\n  taskwatch queues pause nightly\n  \
    taskwatch queues resume nightly")]
pub(super) struct QueuesArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Hands out nothing of a queue.
    Pause {
        #[command(flatten)]
        which: Which,
    },
    /// Hands it out again.
    Resume {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The queue, with or without "queues/".
    #[arg(value_parser = queue_name, add = complete::queues())]
    queue: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn kinds(args: KindsArgs) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let kinds = server.client.kinds().await.map_err(|status| server.fault(&status))?;
    args.output.page(&kinds, true)?;
    Ok(Exit::Done)
}

pub(super) async fn queues(args: QueuesArgs) -> Result<Exit, Fault> {
    let (which, paused) = match args.verb {
        None => {
            let server = args.server.connect()?;
            let queues = server.client.queues().await.map_err(|status| server.fault(&status))?;
            if queues.is_empty() {
                out::say("no queue has live tasks, a limit or a pause");
            } else {
                args.output.page(&queues, true)?;
            }
            return Ok(Exit::Done);
        }
        Some(Verb::Pause { which }) => (which, true),
        Some(Verb::Resume { which }) => (which, false),
    };
    let server = which.server.connect()?;
    let queue = server.client.pause_queue(&which.queue, paused).await;
    let queue = queue.map_err(|status| server.fault(&status))?;
    which.output.one(&queue, |queue, _| {
        format!("{} {}", queue.name(), if queue.paused { "paused" } else { "not paused" })
    })?;
    Ok(Exit::Done)
}
