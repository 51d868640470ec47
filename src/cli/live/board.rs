//! Many tasks as people see them: a bar for each that runs, as far as the terminal has
//! room, and a line that counts the others; who has ended stands above, settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    cli::{
        clean::clean,
        exit::Fault,
        follow::Form,
        out,
        show::{Show, bars},
        table::cut,
        text::ending,
    },
    proto::{Task, task::State},
};

/// Ids that are longer are shown by their beginning, as long as that is unique: all of
/// the time in ids that the server chose.
const LABEL: usize = 13;
/// Where the terminal does not tell its size.
const ROWS: usize = 24;
/// The line that counts, and the one of the cursor.
const OTHER_ROWS: usize = 2;

pub(super) struct Board {
    form: Form,
    /// Where there is a terminal, with the line that counts.
    screen: Option<(MultiProgress, ProgressBar)>,
    /// What has not ended.
    live: BTreeMap<String, Task>,
    /// How it is shown; on a terminal there may be no room for all.
    shown: BTreeMap<String, Show>,
    labels: BTreeSet<String>,
    ended: usize,
}

impl Board {
    pub(super) fn new(form: Form) -> Self {
        let screen = (form.is_for_people() && out::is_terminal()).then(|| {
            let screen = bars();
            let style = ProgressStyle::with_template("{wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            let count = screen.add(ProgressBar::no_length().with_style(style));
            (screen, count)
        });
        let (live, shown, labels) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { form, screen, live, shown, labels, ended: 0 }
    }

    /// How close to one another states of one task are worth showing.
    pub(super) fn min_interval(&self) -> Duration {
        match (&self.screen, self.form) {
            (Some(_), _) => Duration::from_millis(100),
            (None, Form::People) => Duration::from_millis(500),
            (None, Form::Data(_)) => Duration::ZERO,
            (None, Form::Names) => Duration::from_secs(1),
        }
    }

    /// Whether it is among those that have not ended.
    pub(super) fn has(&self, name: &str) -> bool {
        self.live.contains_key(name)
    }

    /// Shows a state of a task that has not ended.
    pub(super) fn live(&mut self, task: Task) -> Result<(), Fault> {
        let name = task.name.clone();
        self.live.insert(name.clone(), task);
        self.seat(&name);
        if let (Some(show), Some(task)) = (self.shown.get_mut(&name), self.live.get(&name)) {
            show.state(task)?;
        }
        self.count();
        Ok(())
    }

    /// Settles a task: what it came to stays to be read.
    pub(super) fn ended(&mut self, task: &Task) -> Result<(), Fault> {
        self.ended += 1;
        match (&self.screen, self.form) {
            (Some((screen, _)), _) => {
                let ending = ending(task);
                // One that would wrap would be drawn over.
                let room = out::size().map_or(usize::MAX, |(columns, _)| columns);
                for line in ending.lines() {
                    let line = if out::has_colours() && !line.starts_with(' ') {
                        line.to_owned()
                    } else {
                        cut(&anstream::adapter::strip_str(line).to_string(), room)
                    };
                    drop(screen.println(line));
                }
            }
            (None, Form::People) => out::line(ending(task))?,
            (None, Form::Data(format)) => Show::data(format).state(task)?,
            (None, Form::Names) => out::line(clean(&task.name))?,
        }
        self.forget(&task.name);
        Ok(())
    }

    /// Leaves a task out from now on.
    pub(super) fn forget(&mut self, name: &str) {
        self.live.remove(name);
        self.unseat(name);
        self.fill();
        self.count();
    }

    /// What time alone has changed, and the size of the terminal.
    pub(super) fn tick(&mut self) -> Result<(), Fault> {
        while self.screen.is_some() && self.shown.len() > room() {
            let Some(last) = self.shown.keys().next_back().cloned() else { break };
            self.unseat(&last);
        }
        self.fill();
        self.count();
        self.shown.values_mut().try_for_each(Show::tick)
    }

    /// Says something beside the tasks.
    pub(super) fn note(&self, text: &str) {
        match &self.screen {
            Some((screen, _)) => screen.suspend(|| out::say(text)),
            None => out::say(text),
        }
    }

    /// Leaves what is there as it stands.
    pub(super) fn close(&self) {
        self.shown.values().for_each(Show::close);
        if let Some((_, count)) = &self.screen {
            count.finish_and_clear();
        }
    }

    /// Makes a task be shown, where there is room or one that only waits gives its own.
    fn seat(&mut self, name: &str) {
        if self.shown.contains_key(name) {
            return;
        }
        let Some((screen, count)) = self.screen.clone() else {
            let show = match self.form {
                Form::People => Show::lines(name),
                Form::Data(format) => Show::data(format),
                Form::Names => Show::nothing(),
            };
            self.shown.insert(name.to_owned(), show);
            return;
        };
        if self.shown.len() >= room() {
            let waits = |name: &&String| self.live.get(*name).is_none_or(is_queued);
            let waiting = self.shown.keys().rev().find(waits).cloned();
            match waiting.filter(|_| self.live.get(name).is_some_and(|task| !is_queued(task))) {
                Some(waiting) => self.unseat(&waiting),
                None => return,
            }
        }
        let label = self.label(name);
        self.labels.insert(label.clone());
        let show = Show::bar_before(&screen, &count, &label);
        self.shown.insert(name.to_owned(), show);
    }

    fn unseat(&mut self, name: &str) {
        if let Some(show) = self.shown.remove(name) {
            self.labels.remove(show.label());
            show.remove();
        }
    }

    /// Gives free room to those that have none, those that run first.
    fn fill(&mut self) {
        if self.screen.is_none() || self.shown.len() >= room() {
            return;
        }
        let hidden = self.live.iter().filter(|(name, _)| !self.shown.contains_key(*name));
        let mut hidden: Vec<_> =
            hidden.map(|(name, task)| (is_queued(task), name.clone())).collect();
        hidden.sort();
        for (_, name) in hidden.into_iter().take(room() - self.shown.len()) {
            self.seat(&name);
            if let (Some(show), Some(task)) = (self.shown.get_mut(&name), self.live.get(&name)) {
                // A bar is no data: it cannot fail.
                drop(show.state(task));
            }
        }
    }

    /// A beginning of the id that none of the others has.
    fn label(&self, name: &str) -> String {
        let id = clean(name.strip_prefix("tasks/").unwrap_or(name));
        let whole = id.chars().count();
        (LABEL.min(whole)..whole)
            .map(|length| id.chars().take(length).collect::<String>())
            .find(|label| whole > LABEL && !self.labels.contains(label))
            .unwrap_or(id)
    }

    /// Draws the line that counts.
    fn count(&self) {
        let Some((_, count)) = &self.screen else { return };
        let queued = self.live.values().filter(|task| is_queued(task)).count();
        let hidden = self.live.len() - self.shown.len();
        let mut text =
            format!("{} running, {queued} queued, {} ended", self.live.len() - queued, self.ended);
        if hidden > 0 {
            text.push_str(&format!("; {hidden} not shown for want of room"));
        }
        count.set_message(text);
    }
}

/// How many bars fit, beside the last of those that have ended.
fn room() -> usize {
    let rows = out::size().map_or(ROWS, |(_, rows)| rows);
    rows.saturating_sub(OTHER_ROWS + rows / 4).max(1)
}

fn is_queued(task: &Task) -> bool {
    task.state == i32::from(State::Queued)
}
