//! A task followed on the command line until it has ended.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{
    exit::{Exit, Fault},
    explain, out,
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

/// Follows a task as `watch` and `create --watch` do: its states, how it ended, and
/// the exit status that says so. Ctrl-C ends the watching, not the task.
pub(super) async fn to_the_end(
    client: &Client,
    server: &str,
    name: &str,
    json: bool,
) -> Result<Exit, Fault> {
    let mut show = match (json, out::is_terminal()) {
        (true, _) => Show::json(),
        // Its name stands above: beside a bar there is no room for it.
        (false, true) => Show::bar(&super::show::bars(), ""),
        (false, false) => Show::lines(name),
    };
    let task = tokio::select! {
        task = follow(client, server, name, &mut show) => Some(task?),
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(task) = task else {
        show.close();
        out::say(format!("the task goes on; watch it again with: taskwatch watch {name}"));
        return Ok(Exit::Interrupted);
    };
    if !json {
        out::line(ending(&task))?;
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
