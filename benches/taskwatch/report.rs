//! Figures beside their baselines: as a table, as JSON, and as one plot each.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::Command,
};

use plotters::prelude::*;
use serde_json::{Value, json};

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Of the ratio to the baseline.
    RatioAtLeast(f64),
    /// Of the ratio to the baseline.
    RatioAtMost(f64),
    /// Of the figure itself.
    AtMost(f64),
    /// It is shown.
    None,
}

/// Something measured several times, beside the same of its baseline.
pub(crate) struct Figure {
    /// A word for files.
    pub(crate) key: String,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Vec<f64>,
    pub(crate) against: &'static str,
    /// Empty where there is none.
    pub(crate) baseline: Vec<f64>,
    pub(crate) goal: Goal,
}

pub(crate) struct Report {
    /// What is measured; none where it does not come from a repository.
    commit: Option<String>,
    figures: Vec<Value>,
    /// A count of instructions is beyond what is kept of it.
    pub(crate) has_grown: bool,
}

/// Median, and the tenth and the ninetieth of a hundred.
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len() - 1));
        if sorted.is_empty() {
            return None;
        }
        Some(Self { median: *at(50)?, low: *at(10)?, high: *at(90)? })
    }

    fn text(&self) -> String {
        let [median, low, high] = [self.median, self.low, self.high].map(short);
        format!("{median} ({low} to {high})")
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "p10": self.low, "p90": self.high })
    }
}

/// Three digits or more.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.001 || size == 0.0 => format!("{figure:.3}"),
        _ => format!("{figure:.1e}"),
    }
}

impl Report {
    pub(crate) fn new() -> Self {
        let described = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        let commit = described.ok().filter(|output| output.status.success());
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Self { commit, figures: Vec::new(), has_grown: false }
    }

    /// Shows and keeps them at once, since a whole run takes long.
    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            let ours = Spread::of(&figure.ours).expect("something was measured");
            let baseline = Spread::of(&figure.baseline);
            let ratio = baseline.as_ref().map(|baseline| ours.median / baseline.median);
            let (goal, reached) = match (figure.goal, ratio) {
                (Goal::RatioAtLeast(goal), Some(ratio)) => {
                    (format!("ratio ≥ {goal:.3}"), Some(ratio >= goal))
                }
                (Goal::RatioAtMost(goal), Some(ratio)) => {
                    (format!("ratio ≤ {goal:.3}"), Some(ratio <= goal))
                }
                (Goal::AtMost(goal), _) => (format!("≤ {goal}"), Some(ours.median <= goal)),
                _ => (String::new(), None),
            };
            say(&format!("\n{}: {}, {}", figure.key, figure.what, figure.unit));
            say(&format!("  {:<48} {}", "taskwatch", ours.text()));
            if let Some(baseline) = &baseline {
                say(&format!("  {:<48} {}", figure.against, baseline.text()));
            }
            let ratio_text = ratio.map(|ratio| format!("ratio {ratio:.3}  ")).unwrap_or_default();
            let verdict = match reached {
                Some(true) => "reached",
                Some(false) => "NOT reached",
                None => "",
            };
            say(&format!("  {ratio_text}{goal} {verdict}"));
            self.has_grown |= figure.key.starts_with("instructions-") && reached == Some(false);
            plot(&figure, &ours, baseline.as_ref(), &format!("{ratio_text}{goal}"));
            self.figures.push(json!({
                "key": figure.key,
                "measured": present_time(),
                "commit": self.commit,
                "what": figure.what,
                "unit": figure.unit,
                "taskwatch": ours.json(),
                "against": figure.against,
                "baseline": baseline.map(|baseline| baseline.json()),
                "ratio": ratio,
                "goal": goal,
                "reached": reached,
            }));
        }
        self.write();
    }

    fn write(&self) {
        let path = folder().join("results.json");
        // Those of other runs stay, as their plots do.
        let kept: Vec<Value> = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let is_new = |old: &Value| self.figures.iter().any(|figure| figure["key"] == old["key"]);
        let kept = kept.into_iter().filter(|old| !is_new(old));
        let all: Vec<Value> = kept.chain(self.figures.iter().cloned()).collect();
        let text = serde_json::to_string_pretty(&all).expect("JSON");
        fs::write(&path, text + "\n").expect("written");
    }
}

/// Whoever listened may have gone; the figures are kept all the same.
pub(crate) fn say(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

#[expect(clippy::disallowed_methods, reason = "the clock of the service is not the bench's")]
fn present_time() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

pub(crate) fn folder() -> &'static Path {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench"));
    fs::create_dir_all(folder).expect("a directory");
    folder
}

/// A bar each, with a whisker from p10 to p90.
fn plot(figure: &Figure, ours: &Spread, baseline: Option<&Spread>, ratio: &str) {
    let path = folder().join(format!("{}.svg", figure.key));
    let bars: Vec<(&str, &Spread)> = [("taskwatch", ours)]
        .into_iter()
        .chain(baseline.map(|baseline| (figure.against, baseline)))
        .collect();
    let most = bars.iter().map(|(_, spread)| spread.high).fold(f64::MIN_POSITIVE, f64::max);
    let root = SVGBackend::new(&path, (760, 110 + 60 * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE).expect("drawn");
    let title = format!("{} [{}] {ratio}", figure.what, figure.unit);
    root.draw(&Text::new(title, (14, 12), ("sans-serif", 15))).expect("drawn");
    for (at, (name, spread)) in bars.iter().enumerate() {
        let top = 44 + 60 * at as i32;
        let x = |figure: f64| 14 + (figure / most * 690.0) as i32;
        let colour = if at == 0 { RGBColor(42, 111, 151) } else { RGBColor(170, 170, 170) };
        let text = format!("{name}: {}", spread.text());
        root.draw(&Text::new(text, (14, top), ("sans-serif", 13))).expect("drawn");
        let bar = Rectangle::new([(14, top + 18), (x(spread.median), top + 40)], colour.filled());
        root.draw(&bar).expect("drawn");
        let whisker = vec![(x(spread.low), top + 29), (x(spread.high), top + 29)];
        root.draw(&PathElement::new(whisker, BLACK)).expect("drawn");
    }
    let legend = "a bar is the median of the rounds, its line goes from p10 to p90";
    let bottom = 50 + 60 * bars.len() as i32;
    root.draw(&Text::new(legend, (14, bottom), ("sans-serif", 12))).expect("drawn");
    root.present().expect("written");
}
