//! `taskwatch completions` and `taskwatch man`.

use std::{fs, path::PathBuf};

use clap::ValueEnum;
use clap_complete::env::Shells;

use super::exit::{Exit, Fault};

/// The variable by which a shell asks this program for completions.
pub(super) const VARIABLE: &str = "TASKWATCH_COMPLETE";

/// Prints what makes a shell complete verbs, options, tasks, kinds and queues.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  source <(taskwatch completions bash)   # in ~/.bashrc\n  \
    source <(taskwatch completions zsh)    # in ~/.zshrc\n  \
    taskwatch completions fish > ~/.config/fish/completions/taskwatch.fish")]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

/// A shell.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Writes the manual pages.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch man ~/.local/share/man/man1\n  \
    taskwatch man . && man ./taskwatch-watch.1")]
pub(super) struct ManArgs {
    /// The directory that they are written to.
    directory: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, Fault> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Fault::failed("it is not built in"))?;
    let mut out = std::io::stdout().lock();
    shell.write_registration(VARIABLE, "taskwatch", "taskwatch", "taskwatch", &mut out)?;
    Ok(Exit::Done)
}

pub(super) fn man(args: &ManArgs) -> Result<Exit, Fault> {
    let failed = |e| Fault::failed(format!("cannot write to {}: {e}", args.directory.display()));
    fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(super::command(), &args.directory).map_err(failed)?;
    Ok(Exit::Done)
}
