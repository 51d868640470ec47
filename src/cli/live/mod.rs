//! Many tasks watched at once: those that were named, until all have ended, or all
//! that a filter matches, until Ctrl-C.

mod board;
mod news;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use self::{board::Board, news::News};
use super::{
    args::Server,
    exit::{Exit, Fault},
    explain,
    follow::Form,
    out,
    text::time,
};
use crate::{
    domain::Timestamp,
    proto::{Task, TaskView},
};

/// How often the time left, the terminal's size and what time alone changes are looked
/// at.
const TICK: Duration = Duration::from_secs(1);

/// What is watched.
pub(super) enum What {
    Names(Vec<String>),
    Filter(String),
}

/// Watches them, in this form; gives the worst of their ends.
pub(super) async fn watch(server: &Server, what: What, form: Form) -> Result<Exit, Fault> {
    let mut board = Board::new(form);
    let mut left = match &what {
        What::Names(names) if names.is_empty() => {
            out::say("no tasks");
            return Ok(Exit::Done);
        }
        What::Names(names) => Some(names.len()),
        What::Filter(_) => None,
    };
    let mut news = news::of(server, what, board.min_interval());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut worst, mut refused, mut cut) = (Exit::Done, None, false);
    let mut past = Past::new(left.is_some());
    while left != Some(0) {
        let news = tokio::select! {
            news = news.recv() => news,
            _ = tick.tick() => {
                board.tick()?;
                continue;
            }
            _ = tokio::signal::ctrl_c() => {
                board.close();
                out::say("the tasks go on");
                return Ok(Exit::Interrupted);
            }
        };
        let Some(news) = news else { break };
        cut &= matches!(news, News::Cut(_));
        match news {
            News::State(task) if task.end_time.is_none() => board.live(*task)?,
            News::State(task) if past.has(&task) && !board.has(&task.name) => {}
            News::State(task) => {
                worst = worst.or_worse(super::follow::exit(&task));
                board.ended(&task)?;
                left = left.map(|left| left - 1);
            }
            News::Gone(name) => gone(server, &mut board, &name).await?,
            News::Synced => {
                past.told = true;
                board.tick()?;
            }
            News::Cut(status) if !cut => {
                cut = true;
                past.is_told_again(left.is_some());
                let why = explain::sentence(&status, &server.address);
                board.note(&format!("{why}\nconnecting again; the tasks go on"));
            }
            News::Cut(_) => {}
            News::Refused(name, status) => {
                let fault = server.fault(&status);
                let Some(name) = name else { return Err(fault) };
                board.forget(&name);
                refused = Some(fault);
                left = left.map(|left| left - 1);
            }
        }
    }
    board.close();
    refused.map_or(Ok(worst), Err)
}

/// What had ended before a filter was watched, and what of it is told again after a
/// cut: both are history.
struct Past {
    /// All of it was told.
    told: bool,
    /// The last end that was told, and the one before the last cut.
    newest: Option<Timestamp>,
    before_cut: Option<Timestamp>,
}

impl Past {
    fn new(told: bool) -> Self {
        Self { told, newest: None, before_cut: None }
    }

    /// Whether a task that has ended is no news.
    fn has(&mut self, task: &Task) -> bool {
        let end = time(task.end_time.as_ref());
        self.newest = self.newest.max(end);
        !self.told && (self.before_cut.is_none() || end <= self.before_cut)
    }

    fn is_told_again(&mut self, by_name: bool) {
        (self.told, self.before_cut) = (by_name, self.newest);
    }
}

/// A task was deleted or matches the filter no longer, maybe because it has ended.
async fn gone(server: &Server, board: &mut Board, name: &str) -> Result<(), Fault> {
    if !board.has(name) {
        return Ok(());
    }
    match server.client.get(name, TaskView::Basic).await {
        Ok(task) if task.end_time.is_some() => board.ended(&task),
        Ok(_) | Err(_) => {
            board.forget(name);
            Ok(())
        }
    }
}
