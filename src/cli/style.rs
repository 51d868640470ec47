//! Colours: of a table's head, and of states. They are put in always, and taken out
//! again where nobody sees them.

use anstyle::AnsiColor;
pub(super) use anstyle::Style;

use crate::proto::task::State;

pub(super) const HEAD: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();

/// The colour of a state.
pub(super) fn of(state: i32) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match State::try_from(state) {
        Ok(State::Running) => colour(AnsiColor::Cyan),
        Ok(State::Succeeded) => colour(AnsiColor::Green),
        Ok(State::Failed) => colour(AnsiColor::Red),
        Ok(State::Cancelling | State::Cancelled | State::Paused) => colour(AnsiColor::Yellow),
        Ok(State::Queued | State::Unspecified) | Err(_) => Style::new(),
    }
}

/// The text in its colour.
pub(super) fn painted(text: &str, style: Style) -> String {
    if text.is_empty() || style.is_plain() {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}
