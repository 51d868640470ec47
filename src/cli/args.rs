//! Arguments that several verbs share, and how they are read.

use std::time::Duration;

use tonic::Status;

use super::{contexts::Contexts, exit::Fault, explain};
use crate::{
    client::{Client, DEFAULT_SERVER},
    config,
    domain::{NAME_RULE, Name, Timestamp},
};

/// Which server a client verb talks to.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ServerArgs {
    /// Where the server listens, as http://HOST:PORT; $TASKWATCH_SERVER and the present
    /// context say so otherwise [default: http://127.0.0.1:50051].
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    /// A context, as `taskwatch context` lists them.
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    pub(super) context: Option<String>,
}

/// A server that a verb talks to.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) address: String,
}

impl ServerArgs {
    /// The server that is meant: by a flag, by the variable, by the present context, or
    /// the default one. It is connected to by the first call.
    pub(super) fn connect(&self) -> Result<Server, Fault> {
        let address = self.address()?;
        let client = Client::connect(&address).map_err(Fault::usage)?;
        Ok(Server { client, address })
    }

    fn address(&self) -> Result<String, Fault> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        if let Some(name) = &self.context {
            return Contexts::load()?.server(name);
        }
        if let Some(server) = std::env::var_os("TASKWATCH_SERVER").filter(|s| !s.is_empty()) {
            let odd = |_| Fault::usage("TASKWATCH_SERVER is no text: write it as http://HOST:PORT");
            return server.into_string().map_err(odd);
        }
        let present = Contexts::load()?.present()?;
        Ok(present.unwrap_or_else(|| DEFAULT_SERVER.to_owned()))
    }
}

impl Server {
    /// The fault that a call to it ended with.
    pub(super) fn fault(&self, status: &Status) -> Fault {
        explain::fault(status, &self.address)
    }
}

/// A task's name, with or without `tasks/`; gives it with.
pub(super) fn task_name(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("tasks/").unwrap_or(text);
    Name::new(id).map(|id| format!("tasks/{id}")).ok_or_else(|| format!("a name {NAME_RULE}"))
}

/// A queue, with or without `queues/`; gives it with.
pub(super) fn queue_name(text: &str) -> Result<String, String> {
    name(text.strip_prefix("queues/").unwrap_or(text)).map(|queue| format!("queues/{queue}"))
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

/// A length of time, as `10m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
}

/// The same, of some length.
pub(super) fn some_duration(text: &str) -> Result<Duration, String> {
    let some = |span: Duration| (!span.is_zero()).then_some(span);
    duration(text).and_then(|span| some(span).ok_or_else(|| "must be more than 0".to_owned()))
}

/// A point in time: RFC 3339, or `+10m` from now.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(later) = text.strip_prefix('+') {
        let (now, later) = (crate::clock::now(), duration(later)?);
        let at = now.plus(later);
        return if at.since(now) < later { Err("is too late".to_owned()) } else { Ok(at) };
    }
    let rule = "must be a time as 2026-01-31T12:00:00Z, or one from now as +10m";
    Timestamp::parse(text).ok_or_else(|| rule.to_owned())
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
        assert_eq!(queue_name("queues/a"), queue_name("a"));
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert!(label("a").is_err() && label("=b").is_err());
    }

    #[test]
    fn times_from_now_and_for_good() {
        let now = crate::clock::now();
        assert!(time("+1h").is_ok_and(|at| at.since(now).as_secs() >= 3_600));
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(Timestamp::from_micros(1_000_000)));
        assert!(time("tomorrow").is_err() && time("+x").is_err());
        assert_eq!(time("+9999999d"), Err("is too late".to_owned()));
        assert!(some_duration("0.1ms").is_ok() && some_duration("0s").is_err());
    }
}
