//! `taskwatch top`: a live view of the whole screen.

mod keys;
mod model;
#[cfg(test)]
mod tests;
mod view;

use std::{io::IsTerminal, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tonic::Status;

use self::{
    keys::Action,
    model::{Call, Detail, Model},
};
use super::{
    args::{Server, ServerArgs},
    exit::{Exit, Fault},
    explain, out,
    select::FilterArgs,
    service::Stop,
};
use crate::{
    client::{Change, WatchOptions},
    proto::{Attempt, Kind, Queue, Task, TaskView},
};

/// No two drawings closer than this: faster than anyone sees.
const FRAME: Duration = Duration::from_millis(100);
/// How often kinds and queues are read, and times drawn again.
const TICK: Duration = Duration::from_secs(1);
/// News that wait to be taken; a slow terminal holds the streams up, not the memory.
const WAITING: usize = 1_024;
/// What holds a worker, or held one until it was paused.
const RUNNING: &str = "state = RUNNING OR state = PAUSED OR state = CANCELLING";

/// Shows tasks, kinds, queues and workers live, on the whole screen.
///
/// What runs, is paused or being cancelled is shown, or what a filter matches; what has
/// ended stays for a moment. Keys cancel, pause and retry; ? tells them all. It survives
/// restarts of the server. Leaving it leaves the tasks alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch top\n  \
    taskwatch top --filter 'kind = \"report\"' --label env=prod")]
pub(super) struct Args {
    #[command(flatten)]
    by: FilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Something new.
enum News {
    Key(Event),
    Change(Result<Change, Status>),
    Task(Box<Task>),
    Gone(String),
    Census(Vec<Kind>, Vec<Queue>),
    Detail(Box<Task>, Vec<Attempt>),
    Said(String),
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    if !out::is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Fault::usage(
            "top needs a terminal: taskwatch list and taskwatch watch do without",
        ));
    }
    let server = args.server.connect()?;
    // Who is not there, or knows no such filter, is told before the screen is taken.
    server.client.kinds().await.map_err(|status| server.fault(&status))?;
    let filter = Some(args.by.with("")).filter(|filter| !filter.is_empty());
    let mut stop = Stop::new()?;
    let mut terminal = ratatui::init();
    let ended = tokio::select! {
        ended = live(&mut terminal, &server, filter) => ended,
        () = stop.asked() => Ok(Exit::Interrupted),
    };
    ratatui::restore();
    ended
}

async fn live(
    terminal: &mut DefaultTerminal,
    server: &Server,
    filter: Option<String>,
) -> Result<Exit, Fault> {
    let mut model = Model::new(server.address.clone());
    let (sender, mut news) = mpsc::channel(WAITING);
    listen_to_keys(sender.clone());
    watch(server, filter.as_deref().unwrap_or(RUNNING), sender.clone());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let colours = out::has_colours();
    loop {
        let drawn = terminal.draw(|frame| view::draw(frame, &model, colours));
        drawn.map_err(|error| Fault::failed(format!("cannot draw: {error}")))?;
        let next = Instant::now() + FRAME;
        let mut pressed = false;
        tokio::select! {
            first = news.recv() => {
                let mut taken = first;
                while let Some(new) = taken {
                    pressed |= matches!(new, News::Key(_));
                    match take(&mut model, server, &sender, new)? {
                        Action::Quit => return Ok(Exit::Done),
                        Action::Nothing => {}
                        Action::Call(call) => make(server.clone(), call, sender.clone()),
                    }
                    taken = news.try_recv().ok();
                }
            }
            _ = tick.tick() => {
                model.tick();
                read_census(server.clone(), sender.clone());
            }
        }
        // Who presses a key wants to see what it does at once.
        if !pressed {
            sleep_until(next).await;
        }
    }
}

/// Takes something new.
fn take(
    model: &mut Model,
    server: &Server,
    sender: &mpsc::Sender<News>,
    news: News,
) -> Result<Action, Fault> {
    match news {
        News::Key(Event::Key(key)) if key.kind != KeyEventKind::Release => {
            return Ok(keys::press(model, key));
        }
        // Another size is drawn as any other news.
        News::Key(_) => {}
        News::Change(Ok(change)) => {
            model.connected = !matches!(change, Change::Cut(_));
            match change {
                // What had ended before it was seen is history.
                Change::Task(task)
                    if task.end_time.is_some() && !model.tasks.contains_key(&task.name) => {}
                Change::Task(task) => {
                    let open = model.detail.as_ref().map(|detail| &detail.task);
                    let turn = open.is_some_and(|t| t.name == task.name && t.state != task.state);
                    let name = task.name.clone();
                    model.see(*task);
                    if turn {
                        // Its attempts are others now.
                        return Ok(Action::Call(Call::Open(name)));
                    }
                }
                // Mostly because it has ended: how, is worth showing.
                Change::Removed(name) => look_after(server.clone(), name, sender.clone()),
                Change::Synced | Change::Cut(_) => {}
            }
        }
        News::Change(Err(status)) => return Err(server.fault(&status)),
        News::Task(task) if model.tasks.contains_key(&task.name) => model.see(*task),
        News::Task(_) => {}
        News::Gone(name) => model.forget(&name),
        News::Census(kinds, queues) => (model.kinds, model.queues) = (kinds, queues),
        News::Detail(task, attempts) => {
            let scroll = model.detail.as_ref().map_or(0, |detail| detail.scroll);
            model.detail = Some(Detail { task: *task, attempts, scroll });
        }
        News::Said(text) => model.say(text),
    }
    Ok(Action::Nothing)
}

/// On a thread of its own, which ends with the process: reading keys blocks.
fn listen_to_keys(sender: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(News::Key(event)).is_err() {
                return;
            }
        }
    });
}

fn watch(server: &Server, filter: &str, sender: mpsc::Sender<News>) {
    let options = WatchOptions { min_interval: FRAME * 2, ..WatchOptions::default() };
    let mut watch = server.client.watch_all(filter, &options);
    tokio::spawn(async move {
        loop {
            let change = watch.event().await;
            let last = change.is_err();
            if sender.send(News::Change(change)).await.is_err() || last {
                return;
            }
        }
    });
}

/// Finds out what became of a task that matches no longer.
fn look_after(server: Server, name: String, sender: mpsc::Sender<News>) {
    tokio::spawn(async move {
        let news = match server.client.get(&name, TaskView::Basic).await {
            Ok(task) if task.end_time.is_some() => News::Task(Box::new(task)),
            Ok(_) | Err(_) => News::Gone(name),
        };
        // Nobody looks any more.
        drop(sender.send(news).await);
    });
}

fn read_census(server: Server, sender: mpsc::Sender<News>) {
    tokio::spawn(async move {
        if let (Ok(kinds), Ok(queues)) = tokio::join!(server.client.kinds(), server.client.queues())
        {
            drop(sender.send(News::Census(kinds, queues)).await);
        }
    });
}

/// Makes a call, and says what came of it.
fn make(server: Server, call: Call, sender: mpsc::Sender<News>) {
    tokio::spawn(async move {
        let client = &server.client;
        let done = match &call {
            Call::Open(name) => {
                let read =
                    tokio::try_join!(client.get(name, TaskView::Full), client.attempts(name));
                read.map(|(task, attempts)| News::Detail(Box::new(task), attempts))
            }
            Call::Cancel(name) => client.cancel(name).await.map(|task| changed(&task)),
            Call::Pause(name) => client.pause(name).await.map(|task| changed(&task)),
            Call::Resume(name) => client.resume(name).await.map(|task| changed(&task)),
            Call::Retry(name) => client.retry(name).await.map(|task| changed(&task)),
            Call::PauseQueue(name, paused) => {
                let queue = client.pause_queue(name, *paused).await;
                queue.map(|queue| {
                    let what = if queue.paused { "paused" } else { "not paused" };
                    News::Said(format!("{} {what}", queue.name))
                })
            }
        };
        let news = done.unwrap_or_else(|status| {
            News::Said(explain::sentence(&status, &server.address).replace('\n', " "))
        });
        drop(sender.send(news).await);
    });
}

fn changed(task: &Task) -> News {
    News::Said(format!("{} {}", task.name, super::text::state(task)))
}
