//! The command line: what people type, and what they see.
//!
//! Data goes to standard output, talk to standard error, and the exit status says
//! how it ended ([`exit`]). The verbs that serve wire a server; all others are plain
//! clients, which know nothing that any other client could not.

mod args;
mod attempts;
mod census;
mod change;
mod clean;
mod complete;
mod completions;
mod context;
mod contexts;
mod create;
mod demo;
mod exit;
mod explain;
mod find;
mod follow;
mod get;
mod input;
mod json;
mod line;
mod list;
mod live;
mod out;
mod output;
mod pace;
mod run;
mod select;
mod serve;
mod service;
mod settings;
mod show;
mod style;
mod table;
mod tables;
mod text;
mod times;
mod top;
mod update;
mod wait;
mod watch;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::env::CompleteEnv;

use exit::{Exit, Fault};

/// Runs long tasks and lets anyone watch them.
///
/// A task has a name at once; its work goes on in the background, and anyone may
/// read it, watch its progress live, or cancel it, until it has ended. Nothing that
/// was acknowledged is lost.
#[derive(Debug, Parser)]
#[command(
    name = "taskwatch",
    version,
    after_help = "Begin with:\n  taskwatch demo\n\n\
        Exit status: 0 done (the task SUCCEEDED), 1 failed, 2 wrong usage or configuration,\n\
        3 the task was CANCELLED, 4 the server or its database cannot be reached;\n\
        of run, the command's own.",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Args),
    Demo(demo::Args),
    Create(create::Args),
    Get(get::Args),
    List(list::Args),
    Watch(watch::Args),
    Top(top::Args),
    Wait(wait::Args),
    Update(update::Args),
    Cancel(change::CancelArgs),
    Pause(change::PauseArgs),
    Resume(change::ResumeArgs),
    Retry(change::RetryArgs),
    Delete(change::DeleteArgs),
    Attempts(attempts::Args),
    Kinds(census::KindsArgs),
    Queues(census::QueuesArgs),
    Run(run::Args),
    Work(work::Args),
    Context(context::Args),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
    /// The program that the demo runs: copies a directory tree, telling its progress.
    #[command(hide = true)]
    DemoCopy(demo::CopyArgs),
}

/// Runs the command line of this process, and gives its exit status.
pub fn main() -> ExitCode {
    // A shell that completes a line asks here, and nothing else is done.
    CompleteEnv::with_factory(command).var(completions::VARIABLE).complete();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::end(Err(Fault::failed(format!("cannot start the runtime: {error}"))));
        }
    };
    let ended = runtime.block_on(obey(cli.verb));
    // What still blocks a thread (standard input, say) must not hold up the end.
    runtime.shutdown_background();
    exit::end(ended)
}

async fn obey(verb: Verb) -> Result<Exit, Fault> {
    match verb {
        Verb::Serve(args) => serve::run(args).await,
        Verb::Demo(args) => demo::run(args).await,
        Verb::Create(args) => create::run(args).await,
        Verb::Get(args) => get::run(args).await,
        Verb::List(args) => list::run(args).await,
        Verb::Watch(args) => watch::run(args).await,
        Verb::Top(args) => top::run(args).await,
        Verb::Wait(args) => wait::run(args).await,
        Verb::Update(args) => update::run(args).await,
        Verb::Cancel(args) => change::cancel(args).await,
        Verb::Pause(args) => change::pause(args).await,
        Verb::Resume(args) => change::resume(args).await,
        Verb::Retry(args) => change::retry(args).await,
        Verb::Delete(args) => change::delete(args).await,
        Verb::Attempts(args) => attempts::run(args).await,
        Verb::Kinds(args) => census::kinds(args).await,
        Verb::Queues(args) => census::queues(args).await,
        Verb::Run(args) => run::run(args).await,
        Verb::Work(args) => work::run(args).await,
        Verb::Context(args) => context::run(args).await,
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => completions::man(&args),
        Verb::DemoCopy(args) => demo::copy(&args),
    }
}

/// The command line as clap knows it, for documents and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
