//! Arguments that several verbs share, and how they are read.

use std::time::Duration;

use crate::{
    client::{Client, DEFAULT_SERVER},
    config,
    domain::{NAME_RULE, Name},
};

use super::exit::Fault;

/// Which server a client verb talks to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// Where the server listens.
    #[arg(long, env = "TASKWATCH_SERVER", hide_env_values = true, default_value = DEFAULT_SERVER, value_name = "URL")]
    pub(super) server: String,
}

impl ServerArgs {
    pub(super) fn client(&self) -> Result<Client, Fault> {
        Client::connect(&self.server).map_err(Fault::usage)
    }
}

/// A task's name, with or without `tasks/`; gives it with.
pub(super) fn task_name(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("tasks/").unwrap_or(text);
    Name::new(id).map(|id| format!("tasks/{id}")).ok_or_else(|| format!("a name {NAME_RULE}"))
}

/// A kind, a queue or an id.
pub(super) fn name(text: &str) -> Result<String, String> {
    Name::new(text).map(|name| name.to_string()).ok_or_else(|| NAME_RULE.to_owned())
}

/// `KEY=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE, as in env=prod")?;
    if key.is_empty() {
        return Err("must have a key before the '='".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// The grace of a drain.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    config::parse_grace(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_their_collection() {
        assert_eq!(task_name("a").as_deref(), Ok("tasks/a"));
        assert_eq!(task_name("tasks/a").as_deref(), Ok("tasks/a"));
        for bad in ["", "tasks/", "queues/a", "a b", "tasks/tasks/a"] {
            assert!(task_name(bad).is_err(), "{bad}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("a").is_err() && label("=b").is_err());
    }
}
