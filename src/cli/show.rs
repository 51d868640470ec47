//! A task's states as they come: a live bar on a terminal, plain lines or lines of
//! JSON anywhere else.

use std::time::Duration;

use anstream::adapter::strip_str;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::{
    clean::clean,
    exit::Fault,
    json,
    line::{detail, pace, percent, with_pace},
    out,
    output::Format,
    pace::Pace,
    text::{painted_state, time},
};
use crate::proto::Task;

/// Steps of a bar: tenths of a percent.
const STEPS: u64 = 1_000;
const WITH_PERCENT: &str = "{prefix}[{bar:20}] {percent:>3} % {wide_msg}";
const WITHOUT_PERCENT: &str = "{prefix}{spinner} {wide_msg}";

/// Where the bars of this process are drawn: all on one standard output.
pub(super) fn bars() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stdout())
}

/// How one task is shown.
pub(super) struct Show {
    form: Form,
    pace: Pace,
    last: Option<Task>,
    /// When the server thinks that it ends, by the clock of this process.
    ends_at: Option<Instant>,
}

enum Form {
    Bar { bar: ProgressBar, label: String },
    Lines { label: String, said: String },
    Data(Format),
    Nothing,
}

impl Show {
    /// A bar below others; its label stands before it.
    pub(super) fn bar(bars: &MultiProgress, label: &str) -> Self {
        let bar = bars.add(dressed(label));
        Self::new(Form::Bar { bar, label: label.to_owned() })
    }

    /// A bar above another one.
    pub(super) fn bar_before(bars: &MultiProgress, below: &ProgressBar, label: &str) -> Self {
        let bar = bars.insert_before(below, dressed(label));
        Self::new(Form::Bar { bar, label: label.to_owned() })
    }

    /// A line for each state that differs from the last one; its label stands before it.
    pub(super) fn lines(label: &str) -> Self {
        Self::new(Form::Lines { label: clean(label), said: String::new() })
    }

    /// Every state as data: as JSON it is one line.
    pub(super) fn data(format: Format) -> Self {
        Self::new(Form::Data(format))
    }

    /// No state at all.
    pub(super) fn nothing() -> Self {
        Self::new(Form::Nothing)
    }

    fn new(form: Form) -> Self {
        Self { form, pace: Pace::default(), last: None, ends_at: None }
    }

    /// How close to one another states are worth showing.
    pub(super) fn min_interval(&self) -> Duration {
        match self.form {
            // Faster than anyone reads.
            Form::Bar { .. } => Duration::from_millis(50),
            // Every line stays.
            Form::Lines { .. } => Duration::from_millis(500),
            // Programs may want every state that there is.
            Form::Data(_) => Duration::ZERO,
            Form::Nothing => Duration::from_secs(1),
        }
    }

    /// Shows a new state.
    pub(super) fn state(&mut self, task: &Task) -> Result<(), Fault> {
        self.pace.see(task);
        self.ends_at = left(task).map(|left| Instant::now() + left);
        self.last = Some(task.clone());
        self.draw()
    }

    /// Draws again what time alone has changed.
    pub(super) fn tick(&mut self) -> Result<(), Fault> {
        match &self.form {
            Form::Bar { .. } => self.draw(),
            Form::Lines { .. } | Form::Data(_) | Form::Nothing => Ok(()),
        }
    }

    /// Says something beside the states.
    pub(super) fn note(&self, text: &str) {
        match &self.form {
            Form::Bar { bar, .. } => bar.suspend(|| out::say(text)),
            Form::Lines { .. } | Form::Data(_) | Form::Nothing => out::say(text),
        }
    }

    /// Leaves the last state as it stands.
    pub(super) fn close(&self) {
        if let Form::Bar { bar, .. } = &self.form {
            bar.abandon();
        }
    }

    /// Takes a bar away.
    pub(super) fn remove(&self) {
        if let Form::Bar { bar, .. } = &self.form {
            bar.finish_and_clear();
        }
    }

    /// What stands before its states.
    pub(super) fn label(&self) -> &str {
        match &self.form {
            Form::Bar { label, .. } | Form::Lines { label, .. } => label,
            Form::Data(_) | Form::Nothing => "",
        }
    }

    fn draw(&mut self) -> Result<(), Fault> {
        let Some(task) = &self.last else { return Ok(()) };
        let rate = self.pace.units_per_second();
        let left = self.ends_at.map(|at| at.saturating_duration_since(Instant::now()));
        match &mut self.form {
            Form::Bar { bar, .. } => {
                draw_bar(bar, task, rate, left);
                Ok(())
            }
            Form::Lines { label, said } => {
                let text =
                    format!("{label} {} {}", painted_state(task, 9), with_pace(task, rate, left));
                let text = text.trim_end().to_owned();
                if *said == text {
                    return Ok(());
                }
                out::line(&text)?;
                *said = text;
                Ok(())
            }
            Form::Data(Format::Yaml) => out::line(json::yaml(task)?),
            Form::Data(_) => out::line(json::compact(task)?),
            Form::Nothing => Ok(()),
        }
    }
}

fn draw_bar(bar: &ProgressBar, task: &Task, rate: Option<f64>, left: Option<Duration>) {
    match percent(task) {
        Some(percent) => {
            bar.set_style(style(WITH_PERCENT).progress_chars("=> "));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 1,000"
            )]
            let steps = (percent.clamp(0.0, 100.0) * 10.0).round() as u64;
            bar.update(|drawn| {
                drawn.set_len(STEPS);
                drawn.set_pos(steps);
            });
        }
        None => bar.set_style(style(WITHOUT_PERCENT)),
    }
    // A narrow terminal cuts the end: the message, not the pace.
    let pace = pace(task, rate, left).join(", ");
    let gap = if pace.is_empty() { "" } else { "  " };
    let text = format!("{} {pace}{gap}{}", painted_state(task, 9), detail(task, None, None));
    let text = if out::has_colours() { text } else { strip_str(&text).to_string() };
    bar.set_message(text.trim_end().to_owned());
}

/// Dressed before it is drawn for the first time.
fn dressed(label: &str) -> ProgressBar {
    let label = if label.is_empty() { String::new() } else { format!("{} ", clean(label)) };
    ProgressBar::no_length().with_prefix(label).with_style(style(WITHOUT_PERCENT))
}

/// Falls back to the library's own bar where a template is wrong, which a test rules
/// out.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How long it still takes, by the server's own clock.
fn left(task: &Task) -> Option<Duration> {
    let progress = task.progress.as_ref()?;
    let end = time(progress.estimated_end_time.as_ref())?;
    Some(end.since(time(progress.update_time.as_ref())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Progress, task::State};
    use indicatif::InMemoryTerm;

    #[tokio::test(start_paused = true)]
    async fn a_bar_shows_percentage_message_rate_and_time_left() {
        let term = InMemoryTerm::new(4, 100);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let bars = MultiProgress::with_draw_target(target);
        let mut show = Show::bar(&bars, "tasks/a");
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        for (seconds, units) in [(100, 2), (102, 4)] {
            let progress = Progress {
                percent: Some(40.0),
                message: "copying".into(),
                completed_units: units,
                total_units: 10,
                unit: "files".into(),
                update_time: at(seconds),
                estimated_end_time: at(108),
                ..Progress::default()
            };
            let state = State::Running.into();
            let task = Task { state, progress: Some(progress), attempt: 1, ..Task::default() };
            show.state(&task).expect("shown");
        }
        show.close();
        assert_eq!(
            term.contents(),
            "tasks/a [========>           ]  40 % RUNNING   1.0/s, 6 s left  copying (4/10 files)"
        );
    }
}
