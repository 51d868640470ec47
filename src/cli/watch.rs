//! `taskwatch watch`.

use super::{
    args::ServerArgs,
    exit::{Exit, Fault},
    follow::{self, Form},
    live, out,
    output::OutputArgs,
    select::Selection,
};

/// Watches tasks until they have ended.
///
/// Live bars on a terminal, plain lines elsewhere. It survives restarts of the server:
/// it connects again and goes on. Ctrl-C ends the watching, not the tasks. The exit
/// status is 1 if any task FAILED, else 3 if any was CANCELLED, else 0.
///
/// With a filter it shows whatever matches, also what is created later, until Ctrl-C;
/// what had ended before is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch watch tasks/nightly\n  \
    taskwatch watch nightly weekly && echo both are done\n  \
    taskwatch watch --filter 'kind = \"report\"' --label env=prod\n  \
    taskwatch watch --json nightly | jq .progress.percent")]
pub(super) struct Args {
    #[command(flatten)]
    tasks: Selection,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let (form, server) = (Form::of(&args.output)?, args.server.connect()?);
    if let Some(filter) = args.tasks.filter() {
        return live::watch(&server, live::What::Filter(filter), form).await;
    }
    // A watch would wait for a server that is not there; who begins one wants to know.
    let names = args.tasks.names(&server, "").await?;
    let [name] = &names[..] else {
        return live::watch(&server, live::What::Names(names), form).await;
    };
    if out::is_terminal() && form.is_for_people() {
        out::line(name)?;
    }
    follow::to_the_end(&server, name, form).await
}
