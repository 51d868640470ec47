//! Configured programs: a command, run once an attempt in a process group of its
//! own. No shell sees the input, nothing of it survives the server, and its output
//! is always drained, however much that is.

pub(super) mod glance;
mod guard;
mod lines;
mod output;
mod percent;
mod process;
mod run;
#[cfg(test)]
mod stopping;
pub(super) mod template;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value as Json};

use self::template::{Template, Values};
use super::{Handler, HandlerError, Job};
use crate::{config::ProgramConfig, domain::Code};

/// Beyond SIGKILL, for the group to be gone and its last output to be read.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// Runs the tasks of one configured kind.
#[derive(Debug)]
pub(super) struct Program {
    command: Vec<Template>,
    config: ProgramConfig,
}

impl Program {
    /// Checks the command; else says what is wrong with it.
    pub(super) fn new(config: &ProgramConfig) -> Result<Self, String> {
        if config.command.first().is_none_or(String::is_empty) {
            return Err("names no program: write [\"program\", \"argument\", …]".into());
        }
        let command = config.command.iter().map(|text| Template::parse(text));
        Ok(Self { command: command.collect::<Result<_, _>>()?, config: config.clone() })
    }

    /// Program and arguments for this job.
    fn command(
        &self,
        job: &Job,
        task: &str,
        input: &Map<String, Json>,
    ) -> Result<Vec<String>, HandlerError> {
        let values = Values { task, attempt: job.attempt(), input };
        let each = self.command.iter().map(|template| template.render(&values));
        each.collect::<Result<_, _>>().map_err(|missing| {
            let message = format!("{missing} is missing: the command of this kind needs it");
            HandlerError::permanent(Code::INVALID_ARGUMENT, message)
        })
    }
}

impl Handler for Program {
    fn run(&self, job: Job) -> BoxFuture<'_, Result<Json, HandlerError>> {
        Box::pin(run::run(self, job))
    }

    fn stop_grace(&self) -> Option<Duration> {
        Some(self.config.stop_grace + AFTER_KILL)
    }
}
