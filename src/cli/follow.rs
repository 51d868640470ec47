//! A task followed on the command line until it has ended.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{
    args::Server,
    clean::clean,
    exit::{Exit, Fault},
    explain, out,
    output::{Format, OutputArgs},
    show::Show,
    text::ending,
};
use crate::{
    client::{Client, Event, WatchOptions},
    proto::{Task, task::State},
};

/// How often the time left is drawn again.
const TICK: Duration = Duration::from_secs(1);

/// Follows `name` and shows its states, through whatever cuts the connection;
/// gives the terminal state.
pub(super) async fn follow(
    client: &Client,
    server: &str,
    name: &str,
    show: &mut Show,
) -> Result<Task, Fault> {
    let options = WatchOptions { min_interval: show.min_interval(), ..WatchOptions::default() };
    let mut watch = client.watch(name, options);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut cut = false;
    loop {
        let event = {
            // Kept over ticks: dropped, it would begin its wait anew.
            let event = watch.event();
            tokio::pin!(event);
            loop {
                tokio::select! {
                    event = &mut event => break event,
                    _ = tick.tick() => show.tick()?,
                }
            }
        };
        match event.map_err(|status| explain::fault(&status, server))? {
            Some(Event::State(task)) => {
                cut = false;
                show.state(&task)?;
                if task.end_time.is_some() {
                    show.close();
                    return Ok(*task);
                }
            }
            Some(Event::Cut(status)) if !cut => {
                cut = true;
                let why = explain::sentence(&status, server);
                show.note(&format!("{why}\nconnecting again; the task goes on"));
            }
            Some(Event::Cut(_)) => {}
            None => return Err(Fault::failed(format!("the watch of {name} gave no end"))),
        }
    }
}

/// How what is followed is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Bars on a terminal, plain lines elsewhere.
    People,
    /// Every state, as JSON or YAML.
    Data(Format),
    /// Nothing but the names of those that have ended.
    Names,
}

impl Form {
    /// The one that was asked for.
    pub(super) fn of(output: &OutputArgs) -> Result<Self, Fault> {
        match output.format() {
            None => Ok(Self::People),
            Some(format @ (Format::Json | Format::Yaml)) => Ok(Self::Data(format)),
            Some(Format::Name) => Ok(Self::Names),
            Some(Format::Table | Format::Wide) => Err(Fault::usage(
                "--output: what is watched has no table; leave it out, or use json, yaml or name",
            )),
        }
    }

    pub(super) fn is_for_people(self) -> bool {
        self == Self::People
    }
}

/// Follows a task as `watch` and `create --watch` do: its states, how it ended, and
/// the exit status that says so. Ctrl-C ends the watching, not the task.
pub(super) async fn to_the_end(server: &Server, name: &str, form: Form) -> Result<Exit, Fault> {
    let mut show = match (form, out::is_terminal()) {
        (Form::Data(format), _) => Show::data(format),
        (Form::Names, _) => Show::nothing(),
        // Its name stands above: beside a bar there is no room for it.
        (Form::People, true) => Show::bar(&super::show::bars(), ""),
        (Form::People, false) => Show::lines(name),
    };
    let task = tokio::select! {
        task = follow(&server.client, &server.address, name, &mut show) => Some(task?),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(task) = task else {
        show.close();
        out::say(format!("the task goes on; watch it again with: taskwatch watch {name}"));
        return Ok(Exit::Interrupted);
    };
    match form {
        Form::People => out::line(ending(&task))?,
        Form::Names => out::line(clean(&task.name))?,
        Form::Data(_) => {}
    }
    Ok(exit(&task))
}

/// The exit status of a task that has ended.
pub(super) fn exit(task: &Task) -> Exit {
    match State::try_from(task.state) {
        Ok(State::Succeeded) => Exit::Done,
        Ok(State::Cancelled) => Exit::Cancelled,
        // States may come that nobody knows here: none of them is a success.
        Ok(
            State::Failed
            | State::Unspecified
            | State::Queued
            | State::Running
            | State::Paused
            | State::Cancelling,
        )
        | Err(_) => Exit::Failed,
    }
}
