//! What a key does.

#![expect(clippy::wildcard_enum_match_arm, reason = "most keys do nothing")]

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Call, Column, Model, Pane, Question};
use crate::proto::task::State;

/// Rows of a page.
const PAGE: isize = 10;

/// What is to be done beyond the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    Call(Call),
}

/// The keys, as the help tells them.
pub(super) const HELP: &[(&str, &str)] = &[
    ("↑ ↓  j k", "choose a row; PgUp, PgDn, Home and End go further"),
    ("Tab  1 2 3 4", "tasks, kinds, queues, workers"),
    ("Enter", "the task in full: attempts, messages, result; Esc goes back"),
    ("/", "look for text in names, kinds, states, workers and messages"),
    ("s  S", "sort by the next column; the other way round"),
    ("c", "cancel the task"),
    ("p", "pause the task or the queue, or let it go on"),
    ("r", "retry a task that FAILED or was CANCELLED"),
    ("?", "this help"),
    ("q  Ctrl-C", "leave; the tasks go on"),
];

/// Does what a key stands for.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Action {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Action::Quit;
    }
    if let Some(question) = model.question.take() {
        let yes = matches!(key.code, KeyCode::Char('y' | 'Y') | KeyCode::Enter);
        return if yes { Action::Call(question.call) } else { Action::Nothing };
    }
    if model.typing {
        write(model, key.code);
        return Action::Nothing;
    }
    if model.help {
        model.help = false;
        return Action::Nothing;
    }
    if model.detail.is_some() && !reads(model, key.code) {
        return Action::Nothing;
    }
    let letter = match key.code {
        KeyCode::Char(letter) => letter,
        other => return go(model, other),
    };
    match letter {
        'q' => return Action::Quit,
        '?' => model.help = true,
        'j' => model.step(1),
        'k' => model.step(-1),
        '/' => {
            (model.pane, model.typing) = (Pane::Tasks, true);
            model.search.clear();
        }
        's' => model.sort.0 = Column::next(model.sort.0),
        'S' => model.sort.1 = !model.sort.1,
        'c' | 'r' => return ask(model, letter),
        'p' => return pause(model),
        '1'..='4' => {
            let at = usize::try_from(u32::from(letter) - u32::from('1')).unwrap_or_default();
            model.pane = Pane::ALL[at];
        }
        _ => {}
    }
    Action::Nothing
}

fn write(model: &mut Model, key: KeyCode) {
    if key == KeyCode::Esc {
        model.search.clear();
    }
    match key {
        KeyCode::Char(letter) => model.search.push(letter),
        KeyCode::Backspace => drop(model.search.pop()),
        _ => model.typing = false,
    }
}

/// In the full view: whether the key goes on to what is done with a task.
fn reads(model: &mut Model, key: KeyCode) -> bool {
    let Some(detail) = &mut model.detail else { return true };
    let by = |scroll: u16, by: i16| scroll.saturating_add_signed(by);
    match key {
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('q') => {
            model.detail = None;
        }
        KeyCode::Down | KeyCode::Char('j') => detail.scroll = by(detail.scroll, 1),
        KeyCode::Up | KeyCode::Char('k') => detail.scroll = by(detail.scroll, -1),
        KeyCode::PageDown => detail.scroll = by(detail.scroll, 10),
        KeyCode::PageUp => detail.scroll = by(detail.scroll, -10),
        KeyCode::Home => detail.scroll = 0,
        KeyCode::Char('c' | 'p' | 'r' | '?') => return true,
        _ => {}
    }
    false
}

fn go(model: &mut Model, key: KeyCode) -> Action {
    match key {
        KeyCode::Down => model.step(1),
        KeyCode::Up => model.step(-1),
        KeyCode::PageDown => model.step(PAGE),
        KeyCode::PageUp => model.step(-PAGE),
        KeyCode::Home => model.step(isize::MIN),
        KeyCode::End => model.step(isize::MAX),
        KeyCode::Tab => model.pane = model.pane.next(),
        KeyCode::Esc => model.search.clear(),
        KeyCode::Enter | KeyCode::Right if model.pane == Pane::Tasks => {
            return model.chosen().map_or(Action::Nothing, |name| Action::Call(Call::Open(name)));
        }
        _ => {}
    }
    Action::Nothing
}

/// The task that a key is about.
fn task(model: &Model) -> Option<(String, i32)> {
    if let Some(detail) = &model.detail {
        return Some((detail.task.name.clone(), detail.task.state));
    }
    let name = (model.pane == Pane::Tasks).then(|| model.chosen()).flatten()?;
    let state = model.tasks.get(&name)?.task.state;
    Some((name, state))
}

fn ask(model: &mut Model, letter: char) -> Action {
    let Some((name, _)) = task(model) else { return Action::Nothing };
    let (verb, call) = match letter {
        'c' => ("cancel", Call::Cancel(name.clone())),
        _ => ("retry", Call::Retry(name.clone())),
    };
    model.question = Some(Question { text: format!("{verb} {name}? [y/n]"), call });
    Action::Nothing
}

fn pause(model: &Model) -> Action {
    if model.pane == Pane::Queues && model.detail.is_none() {
        let chosen = model.chosen();
        let queue = model.queues.iter().find(|queue| Some(&queue.name) == chosen.as_ref());
        let call = queue.map(|queue| Call::PauseQueue(queue.name.clone(), !queue.paused));
        return call.map_or(Action::Nothing, Action::Call);
    }
    let call = task(model).map(|(name, state)| {
        if state == i32::from(State::Paused) { Call::Resume(name) } else { Call::Pause(name) }
    });
    call.map_or(Action::Nothing, Action::Call)
}
