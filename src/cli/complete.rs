//! What a shell may complete: tasks, kinds, queues and contexts, asked of the server
//! that the line so far means. Whatever goes wrong, nothing is offered.

use std::{ffi::OsStr, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::{
    args::{Server, ServerArgs, task_name},
    clean::clean,
    contexts::Contexts,
    find, text,
};
use crate::proto::Task;

/// Who waits for a shell waits no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tasks that are offered.
const TASKS: i32 = 50;

/// Tasks, the newest first.
pub(super) fn tasks() -> ArgValueCompleter {
    ArgValueCompleter::new(|begun: &OsStr| {
        let Some(begun) = begun.to_str() else { return Vec::new() };
        let prefix = if begun.starts_with("tasks/") { "tasks/" } else { "" };
        let filter = task_name(begun).map(|name| find::beginning(&name)).unwrap_or_default();
        let found = ask(async |server| find::list(&server, filter, Some(TASKS)).await.ok());
        let candidate = |task: Task| {
            let id = task.name.strip_prefix("tasks/")?;
            let help = format!("{} {}", clean(&task.kind), text::state(&task));
            let candidate = CompletionCandidate::new(format!("{prefix}{id}"));
            candidate
                .get_value()
                .to_str()?
                .starts_with(begun)
                .then(|| candidate.help(Some(help.into())))
        };
        found.unwrap_or_default().into_iter().filter_map(candidate).collect()
    })
}

/// Kinds that the server knows.
pub(super) fn kinds() -> ArgValueCompleter {
    named(|| {
        let kinds = ask(async |server| server.client.kinds().await.ok()).unwrap_or_default();
        kinds.into_iter().map(|kind| kind.kind).collect()
    })
}

/// Queues that have anything.
pub(super) fn queues() -> ArgValueCompleter {
    named(|| {
        let queues = ask(async |server| server.client.queues().await.ok()).unwrap_or_default();
        let id = |name: String| name.strip_prefix("queues/").map(str::to_owned).unwrap_or(name);
        queues.into_iter().map(|queue| id(queue.name)).collect()
    })
}

/// The contexts of the user.
pub(super) fn contexts() -> ArgValueCompleter {
    named(|| Contexts::load().map(|all| all.contexts.into_keys().collect()).unwrap_or_default())
}

fn named(all: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |begun: &OsStr| {
        let begun = begun.to_string_lossy();
        let names = all().into_iter().filter(|name| name.starts_with(&*begun));
        names.map(CompletionCandidate::new).collect::<Vec<_>>()
    })
}

/// Asks the server that is meant.
fn ask<T>(question: impl AsyncFnOnce(Server) -> Option<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let server = meant().connect().ok()?;
        tokio::time::timeout(PATIENCE, question(server)).await.ok()?
    })
}

/// What the line that is being completed says about the server.
fn meant() -> ServerArgs {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let said = |flag: &str| {
        let apart = words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
        let joined = words.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        apart.map(String::as_str).or(joined).map(str::to_owned)
    };
    ServerArgs { server: said("--server"), context: said("--context") }
}
