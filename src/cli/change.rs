//! `taskwatch cancel`, `pause`, `resume`, `retry` and `delete`: one change, made to
//! each task that is meant.

use std::io::{self, BufRead, IsTerminal, Write};

use futures_util::{StreamExt, stream};
use tonic::Status;

use super::{
    args::{Server, ServerArgs},
    clean::clean,
    exit::{Exit, Fault},
    out,
    output::OutputArgs,
    select::{AT_ONCE, Selection},
    text,
};
use crate::proto::{Task, task::State};

/// Cancels tasks.
///
/// A task that nobody runs is CANCELLED at once; one that is being run is CANCELLING
/// until its worker has stopped. A filter selects among those that have not ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch cancel tasks/nightly\n  \
    taskwatch cancel nightly && taskwatch wait nightly\n  \
    taskwatch cancel --filter 'kind = \"report\"' --label env=test")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    which: Which,
}

/// Holds tasks back, or tells their workers to pause.
///
/// A filter selects among those that are QUEUED or RUNNING. A whole queue is held
/// back with: taskwatch queues pause QUEUE.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch pause nightly\n  \
    taskwatch pause --filter 'queue = \"bulk\" AND state = RUNNING'")]
pub(super) struct PauseArgs {
    #[command(flatten)]
    which: Which,
}

/// Lets paused tasks go on.
///
/// A filter selects among those that are PAUSED.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch resume nightly\n  \
    taskwatch resume --label batch=7")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

/// Queues tasks again that FAILED or were CANCELLED.
///
/// They go on from their last checkpoint, as a new attempt. A filter selects among
/// those that FAILED.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch retry nightly && taskwatch watch nightly\n  \
    taskwatch retry --filter 'end_time > \"2026-01-31T00:00:00Z\"'")]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: Which,
}

/// Removes tasks that have ended.
///
/// A filter selects among those that have ended; what it selects is removed after a
/// question, or with --yes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch delete nightly\n  \
    taskwatch delete --yes --filter 'end_time < \"2026-01-01T00:00:00Z\"'")]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    tasks: Selection,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// A task that is not there is as good as deleted.
    #[arg(long)]
    allow_missing: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    tasks: Selection,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

const LIVE: &str = "state = QUEUED OR state = RUNNING OR state = PAUSED";
const ENDED: &str = "state = SUCCEEDED OR state = FAILED OR state = CANCELLED";

pub(super) async fn cancel(args: CancelArgs) -> Result<Exit, Fault> {
    change(args.which, LIVE, async |server, name| server.client.cancel(name).await).await
}

pub(super) async fn pause(args: PauseArgs) -> Result<Exit, Fault> {
    let states = "state = QUEUED OR state = RUNNING";
    change(args.which, states, async |server, name| server.client.pause(name).await).await
}

pub(super) async fn resume(args: ResumeArgs) -> Result<Exit, Fault> {
    change(args.which, "state = PAUSED", async |server, name| server.client.resume(name).await)
        .await
}

pub(super) async fn retry(args: RetryArgs) -> Result<Exit, Fault> {
    change(args.which, "state = FAILED", async |server, name| server.client.retry(name).await).await
}

pub(super) async fn delete(args: DeleteArgs) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let names = match args.tasks.names(&server, ENDED).await {
        // Who deletes what is not there has what was asked for.
        Err(Fault::Missing(_)) if args.allow_missing => return Ok(Exit::Done),
        names => names?,
    };
    if args.tasks.filter().is_some() && !names.is_empty() && !args.yes {
        confirm(names.len())?;
    }
    let missing = args.allow_missing;
    let delete = async |server: &Server, name: &str| server.client.delete(name, missing).await;
    each(&server, names, delete, |name, ()| out::line(format!("{} deleted", clean(name)))).await
}

/// Asks whoever sits there.
fn confirm(count: usize) -> Result<(), Fault> {
    if !io::stdin().is_terminal() {
        let what = format!("{count} tasks would be deleted: say so with --yes");
        return Err(Fault::usage(what));
    }
    drop(write!(io::stderr(), "delete {count} tasks? [y/N] "));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Fault::failed)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Fault::failed("nothing was deleted"))
}

async fn change(
    which: Which,
    states: &str,
    call: impl AsyncFn(&Server, &str) -> Result<Task, Status>,
) -> Result<Exit, Fault> {
    let server = which.server.connect()?;
    let names = which.tasks.names(&server, states).await?;
    let (output, mut changed) = (&which.output, Vec::new());
    let ended = each(&server, names, call, |_, task: Task| {
        if output.is_table() {
            changed.push(task);
            return Ok(());
        }
        output.one(&task, |task, _| {
            format!("{} {}", clean(&task.name), text::painted_state(task, 0))
        })?;
        if task.state == i32::from(State::Cancelling) && output.format().is_none() {
            out::say(format!(
                "its worker has been told to stop; wait for it with: taskwatch wait {}",
                clean(&task.name)
            ));
        }
        Ok(())
    })
    .await;
    if !changed.is_empty() {
        output.page(&changed, true)?;
    }
    ended
}

/// Makes a call for each of them, a few at once. What is refused for one spoils none
/// of the others; that nobody answers ends it.
pub(super) async fn each<T>(
    server: &Server,
    names: Vec<String>,
    call: impl AsyncFn(&Server, &str) -> Result<T, Status>,
    mut done: impl FnMut(&str, T) -> Result<(), Fault>,
) -> Result<Exit, Fault> {
    if names.is_empty() {
        out::say("no tasks");
    }
    let call = &call;
    let mut answers = stream::iter(names)
        .map(|name| async move {
            let answer = call(server, &name).await;
            (name, answer)
        })
        .buffered(AT_ONCE);
    let mut refused = None;
    while let Some((name, answer)) = answers.next().await {
        match answer {
            Ok(answer) => done(&name, answer)?,
            Err(status) => {
                let fault = server.fault(&status);
                if matches!(fault, Fault::Unreachable(_)) {
                    return Err(fault);
                }
                // The last one is told when all is done.
                if let Some(earlier) = refused.replace(fault) {
                    earlier.tell();
                }
            }
        }
    }
    refused.map_or(Ok(Exit::Done), Err)
}
