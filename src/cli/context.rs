//! `taskwatch context`.

use super::{
    args,
    contexts::{Context, Contexts},
    exit::{Exit, Fault},
    out, table,
};
use crate::client::Client;

/// Names servers, so that --server need not be said.
///
/// Without a verb it lists them; a star marks the present one, which is meant where
/// neither --server, --context nor TASKWATCH_SERVER says otherwise. They are kept in
/// taskwatch/contexts.toml in your configuration directory, or in the file that
/// TASKWATCH_CONTEXTS names.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  taskwatch context set prod http://tasks.example.com:50051\n  \
    taskwatch context use prod\n  taskwatch list --context prod"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Gives a server a name; the first one becomes the present one.
    Set {
        /// Its name.
        #[arg(value_parser = args::name)]
        name: String,
        /// Where it listens, as http://HOST:PORT.
        server: String,
    },
    /// Makes one the present one.
    Use {
        /// Its name.
        #[arg(add = super::complete::contexts())]
        name: String,
    },
    /// Forgets one.
    Delete {
        /// Its name.
        #[arg(add = super::complete::contexts())]
        name: String,
    },
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let mut contexts = Contexts::load()?;
    let mut became = None;
    match args.verb {
        None => return list(&contexts),
        Some(Verb::Set { name, server }) => {
            Client::connect(&server).map_err(Fault::usage)?;
            let present = contexts.present.get_or_insert_with(|| name.clone());
            became = (*present == name).then(|| name.clone());
            contexts.contexts.insert(name, Context { server });
        }
        Some(Verb::Use { name }) => {
            contexts.server(&name)?;
            contexts.present = Some(name);
        }
        Some(Verb::Delete { name }) => {
            contexts.server(&name)?;
            contexts.contexts.remove(&name);
            contexts.present.take_if(|present| *present == name);
        }
    }
    contexts.save()?;
    if let Some(name) = became {
        out::say(format!("{name} is the server that commands go to from now on"));
    }
    Ok(Exit::Done)
}

fn list(contexts: &Contexts) -> Result<Exit, Fault> {
    if contexts.contexts.is_empty() {
        out::say("no contexts; make one with: taskwatch context set NAME http://HOST:PORT");
        return Ok(Exit::Done);
    }
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let present = contexts.present.as_ref() == Some(name);
        vec![if present { "*" } else { "" }.into(), name.into(), (&context.server).into()]
    });
    let rows: Vec<_> = rows.collect();
    table::lines(&["", "NAME", "SERVER"], &rows, None).iter().try_for_each(out::line)?;
    Ok(Exit::Done)
}
