//! The screen: what is known, drawn.

use std::time::Duration;

use anstream::adapter::strip_str;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap},
};

use super::{
    keys::HELP,
    model::{Detail, Model, Pane, Shown},
};
use crate::{
    cli::{
        clean::clean,
        line::{detail, pace, percent},
        tables::Row as _,
        text::{full, state, time},
        times::Times,
    },
    proto::{Attempt, Task, task::State},
};

/// Cells of a bar.
const BAR: usize = 10;
const BAR_WIDTH: u16 = 16;

/// Draws it all.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, colours: bool) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    let look = Look { colours, times: Times::new(false) };
    frame.render_widget(Paragraph::new(look.head(model)), head);
    match &model.detail {
        Some(detail) => frame.render_widget(look.detail(detail), body),
        None => look.pane(frame, model, body),
    }
    frame.render_widget(Paragraph::new(look.foot(model)), foot);
    if model.help {
        look.help(frame, body);
    }
}

struct Look {
    colours: bool,
    times: Times,
}

impl Look {
    fn colour(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn of_state(&self, state: i32) -> Style {
        match State::try_from(state) {
            Ok(State::Running) => self.colour(Color::Cyan),
            Ok(State::Succeeded) => self.colour(Color::Green),
            Ok(State::Failed) => self.colour(Color::Red),
            Ok(State::Paused | State::Cancelling | State::Cancelled) => self.colour(Color::Yellow),
            Ok(State::Queued | State::Unspecified) | Err(_) => Style::new(),
        }
    }

    fn head(&self, model: &Model) -> Vec<Line<'static>> {
        let link = if model.connected {
            Span::raw("")
        } else {
            Span::styled("  connecting…", self.colour(Color::Red).add_modifier(Modifier::BOLD))
        };
        let counts = format!(
            "  {} running, {} paused, {} cancelling",
            model.count(State::Running),
            model.count(State::Paused),
            model.count(State::Cancelling)
        );
        let title = Span::styled("taskwatch", Style::new().add_modifier(Modifier::BOLD));
        let server = Span::raw(format!("  {}", clean(&model.server)));
        let mut tabs = Vec::new();
        for (at, pane) in Pane::ALL.iter().enumerate() {
            let style = if *pane == model.pane {
                Style::new().add_modifier(Modifier::REVERSED)
            } else {
                Style::new()
            };
            tabs.push(Span::styled(format!(" {} {} ", at + 1, pane.title()), style));
        }
        let (column, reverse) = model.sort;
        let way = if reverse { ", reversed" } else { "" };
        tabs.push(Span::raw(format!("  by {}{way}", column.title())));
        if !model.search.is_empty() || model.typing {
            tabs.push(Span::raw(format!("  /{}", clean(&model.search))));
        }
        vec![Line::from(vec![title, server, Span::raw(counts), link]), Line::from(tabs)]
    }

    fn foot(&self, model: &Model) -> Line<'static> {
        if let Some(question) = &model.question {
            let style = self.colour(Color::Yellow).add_modifier(Modifier::BOLD);
            return Line::styled(clean(&question.text), style);
        }
        if let Some((note, _)) = &model.note {
            return Line::raw(clean(note));
        }
        let keys = match (&model.detail, model.typing) {
            (_, true) => "type what to look for; Enter keeps it, Esc drops it",
            (Some(_), false) => "Esc back  c cancel  p pause  r retry  ↑↓ scroll  ? help",
            (None, false) => {
                "Enter details  c cancel  p pause  r retry  / find  s sort  ? help  q quit"
            }
        };
        Line::styled(keys, Style::new().add_modifier(Modifier::DIM))
    }

    fn pane(&self, frame: &mut Frame<'_>, model: &Model, area: Rect) {
        let at = model.position();
        let room = usize::from(area.height).saturating_sub(1).max(1);
        // Only what is seen is made: there may be very many.
        let first = at.map_or(0, |at| at.saturating_sub(room / 2));
        let (head, widths, rows, count) = self.rows(model, first, room);
        let first = first.min(count.saturating_sub(1));
        let mut state = TableState::new().with_selected(at.map(|at| at.saturating_sub(first)));
        let head = Row::new(head).style(Style::new().add_modifier(Modifier::BOLD));
        let table = Table::new(rows, widths)
            .header(head)
            .column_spacing(2)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, area, &mut state);
    }

    /// Heads, widths, the rows from `first` on as far as there is room, and how many
    /// there are in all.
    fn rows(
        &self,
        model: &Model,
        first: usize,
        room: usize,
    ) -> (Vec<&'static str>, Vec<Constraint>, Vec<Row<'static>>, usize) {
        use Constraint::{Fill, Length, Max};
        match model.pane {
            Pane::Tasks => {
                let visible = model.visible();
                let seen = || visible.iter().skip(first).take(room);
                let longest = |head: &str, most: usize, text: fn(&Shown) -> usize| {
                    let width = seen().map(|shown| text(shown)).chain([head.len()]).max();
                    Length(u16::try_from(width.unwrap_or_default().min(most)).unwrap_or_default())
                };
                let widths = vec![
                    longest("NAME", 36, |shown| id(&shown.task).chars().count()),
                    longest("KIND", 20, |shown| shown.task.kind.chars().count()),
                    Length(10),
                    Length(BAR_WIDTH),
                    longest("PACE", 24, |shown| pace_of(shown).chars().count()),
                    Fill(1),
                ];
                let head = vec!["NAME", "KIND", "STATE", "PROGRESS", "PACE", "MESSAGE"];
                (head, widths, seen().map(|shown| self.task(shown)).collect(), visible.len())
            }
            Pane::Kinds => self.table(&model.kinds, first, room),
            Pane::Queues => self.table(&model.queues, first, room),
            Pane::Workers => {
                let workers = model.workers();
                let rows = workers.iter().skip(first).take(room).map(|worker| {
                    let kinds: Vec<_> = worker.kinds.iter().map(String::as_str).collect();
                    let kinds = clean(&kinds.join(" "));
                    Row::new([clean(&worker.name), worker.tasks.to_string(), kinds])
                });
                let widths = vec![Max(60), Length(7), Fill(1)];
                (vec!["WORKER", "TASKS", "KINDS"], widths, rows.collect(), workers.len())
            }
        }
    }

    fn table<R: crate::cli::tables::Row>(
        &self,
        all: &[R],
        first: usize,
        room: usize,
    ) -> (Vec<&'static str>, Vec<Constraint>, Vec<Row<'static>>, usize) {
        let rows = all.iter().skip(first).take(room).map(|item| {
            Row::new(item.cells(&self.times).iter().map(|cell| cell.text().to_owned()))
        });
        let widths = R::HEADS
            .iter()
            .enumerate()
            .map(|(at, _)| if at == 0 { Constraint::Max(40) } else { Constraint::Max(16) });
        (R::HEADS.to_vec(), widths.collect(), rows.collect(), all.len())
    }

    fn task(&self, shown: &Shown) -> Row<'static> {
        let task = &shown.task;
        let failed = task.error.as_ref().filter(|_| task.state == i32::from(State::Failed));
        let message = failed.map_or_else(|| detail(task, None, None), |e| clean(&e.message));
        Row::new([
            Cell::from(clean(id(task))),
            Cell::from(clean(&task.kind)),
            Cell::from(state(task)).style(self.of_state(task.state)),
            Cell::from(percent(task).map(bar).unwrap_or_default()),
            Cell::from(pace_of(shown)),
            Cell::from(message),
        ])
    }

    fn detail(&self, Detail { task, attempts, scroll }: &Detail) -> Paragraph<'static> {
        let whole = full(task, &self.times);
        let mut lines: Vec<Line<'static>> =
            strip_str(&whole).to_string().lines().map(|line| Line::raw(line.to_owned())).collect();
        lines.push(Line::raw(""));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        lines.push(Line::styled("attempts", bold));
        if attempts.is_empty() {
            lines.push(Line::raw("none yet"));
        }
        lines.extend(attempts.iter().rev().map(|attempt| self.attempt(attempt)));
        Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((*scroll, 0))
    }

    fn attempt(&self, attempt: &Attempt) -> Line<'static> {
        let cells = attempt.cells(&self.times);
        let words = cells.iter().map(|cell| cell.text()).filter(|text| !text.is_empty());
        let line = words.collect::<Vec<_>>().join("  ");
        if attempt.end_state == i32::from(State::Failed) {
            return Line::styled(line, self.of_state(attempt.end_state));
        }
        Line::raw(line)
    }

    fn help(&self, frame: &mut Frame<'_>, area: Rect) {
        let lines: Vec<Line<'_>> =
            HELP.iter().map(|(keys, what)| Line::raw(format!(" {keys:<14} {what}"))).collect();
        let width = 78.min(area.width);
        let height = (u16::try_from(lines.len()).unwrap_or(u16::MAX) + 2).min(area.height);
        let x = area.x + (area.width - width) / 2;
        let place = Rect { x, y: area.y, width, height };
        frame.render_widget(Clear, place);
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), place);
    }
}

/// What stands in front of it is the same for all.
fn id(task: &Task) -> &str {
    task.name.strip_prefix("tasks/").unwrap_or(&task.name)
}

fn pace_of(Shown { task, pace: seen, .. }: &Shown) -> String {
    pace(task, seen.units_per_second(), left(task)).join(", ")
}

/// `[=====     ]  50`
fn bar(percent: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
    let full = (percent.clamp(0.0, 100.0) / 100.0 * BAR as f64).round() as usize;
    format!("[{}{}] {percent:>3.0}", "=".repeat(full), " ".repeat(BAR - full))
}

fn left(task: &Task) -> Option<Duration> {
    let end = time(task.progress.as_ref()?.estimated_end_time.as_ref())?;
    Some(end.since(crate::clock::now()))
}
