//! The keys of the file: which there are, what they hold and what they must not.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use regex::Regex;
use toml::de::{DeTable, DeValue};

use super::{
    Config, GRACE_MAX, KindConfig, LogFormat, ProgramConfig, RunnerConfig,
    fault::Fault,
    parse_database, parse_listen,
    section::{Reading, Section, number, span, switch, text, texts, whole},
    show_duration, template,
};
use crate::domain::{
    EXTERNAL, KindDefaults, LaneLimits, NAME_RULE, Name, Rate,
    limits::{DURATION_MAX, LEASE_MAX, LEASE_MIN},
};

/// The smallest duration that means anything: 0 counts as not set on the wire.
const SHORTEST: Duration = Duration::from_millis(1);
/// Far above what one server can run.
const CONCURRENCY_MAX: u64 = 100_000;
/// Set by the runner for each run.
const OWN_VARIABLES: [&str; 4] =
    ["TASKWATCH_INPUT", "TASKWATCH_CHECKPOINT", "TASKWATCH_TASK", "TASKWATCH_ATTEMPT"];
/// Kinds that are part of the server.
const BUILT_IN: [&str; 2] = ["demo", EXTERNAL];

/// Reads a whole file, or tells all that is wrong in it, in its order.
pub(super) fn read(file: &str, text: &str) -> Result<Config, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|error| vec![syntax(file, text, &error)])?;
    let mut reading = Reading { file, text, faults: Vec::new() };
    let config = whole_file(&mut reading, document.get_ref());
    let mut faults = reading.faults;
    faults.sort_by_key(|fault| (fault.line, fault.column));
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Fault {
    let span = error.span().unwrap_or(0..0);
    let before = text.get(..span.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let message = error.message().replace('\n', ", ");
    Fault::new((file, text), span, key, format!("not TOML: {message}"))
}

fn whole_file(r: &mut Reading<'_>, table: &DeTable<'_>) -> Config {
    let (mut top, mut config) = (Section::new("", table), Config::default());
    let listen = top.take(r, "listen", |v| parse_listen(&text(v)?));
    set(&mut config.listen, listen);
    set(&mut config.database, top.take(r, "database", |v| parse_database(&text(v)?)));
    set(&mut config.grace, top.take(r, "grace", span(Duration::ZERO, GRACE_MAX)));
    set(&mut config.log_format, top.take(r, "log_format", log_format));
    let a_second = Duration::from_secs(1);
    set(&mut config.retention, top.take(r, "retention", span(a_second, DURATION_MAX)));
    if let Some(mut retry) = top.section(r, "retry") {
        config.retry = retries(r, &mut retry, config.retry);
        retry.finish(r, false);
    }
    if let Some(section) = top.section(r, "runner") {
        config.runner = runner(r, section);
    }
    if let Some(section) = top.section(r, "kinds") {
        kinds(r, section, &mut config);
    }
    if let Some(section) = top.section(r, "queues") {
        queues(r, section, &mut config);
    }
    top.finish(r, false);
    config
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn log_format(value: &DeValue<'_>) -> Result<LogFormat, String> {
    match value.as_str() {
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(_) | None => Err("must be \"text\" or \"json\"".to_owned()),
    }
}

fn retries(r: &mut Reading<'_>, section: &mut Section<'_, '_>, base: KindDefaults) -> KindDefaults {
    let mut retry = base;
    let attempts = section.take(r, "max_attempts", whole(1, 1_000_000_000));
    set(&mut retry.max_attempts, attempts.and_then(|n| u32::try_from(n).ok()));
    let initial = section.take(r, "initial_backoff", span(SHORTEST, DURATION_MAX));
    let longest = section.take(r, "max_backoff", span(SHORTEST, DURATION_MAX));
    set(&mut retry.backoff_multiplier, section.take(r, "backoff_multiplier", number(1.0)));
    set(&mut retry.initial_backoff, initial);
    set(&mut retry.max_backoff, longest);
    // The longer one would silently be cut to the shorter one.
    if retry.initial_backoff > retry.max_backoff {
        let [first, last] = [retry.initial_backoff, retry.max_backoff].map(show_duration);
        if let Some(span) = section.span_of("max_backoff").filter(|_| longest.is_some()) {
            let what = format!("{last} is shorter than initial_backoff ({first}): lower that one");
            r.fault(span, &section.name_of("max_backoff"), what);
        } else if let Some(span) = section.span_of("initial_backoff") {
            let what = format!("{first} is longer than max_backoff ({last}): raise that one");
            r.fault(span, &section.name_of("initial_backoff"), what);
        }
    }
    retry
}

fn runner(r: &mut Reading<'_>, mut section: Section<'_, '_>) -> RunnerConfig {
    let mut runner = RunnerConfig::default();
    let concurrency = section.take(r, "concurrency", whole(0, CONCURRENCY_MAX));
    set(&mut runner.concurrency, concurrency.and_then(|n| usize::try_from(n).ok()));
    set(&mut runner.lease, section.take(r, "lease", span(LEASE_MIN, LEASE_MAX)));
    set(&mut runner.stop_grace, section.take(r, "stop_grace", span(Duration::ZERO, GRACE_MAX)));
    section.finish(r, false);
    runner
}

fn lane(r: &mut Reading<'_>, section: &mut Section<'_, '_>) -> LaneLimits {
    let concurrency = section.take(r, "concurrency", whole(1, i64::MAX.unsigned_abs()));
    let rate = section.take(r, "rate", |value| rate(&text(value)?));
    LaneLimits { concurrency, rate }
}

/// Reads `"10/s"`, `"90/m"` or `"5/h"`: hand-outs in a second, a minute, an hour.
fn rate(text: &str) -> Result<Rate, String> {
    let rate = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        Rate::per_second(count.trim().parse::<f64>().ok()? / seconds)
    });
    rate.ok_or_else(|| {
        "must be a number and /s, /m or /h, as in \"10/s\": between 1 a day and 1,000,000 a \
         second"
            .to_owned()
    })
}

fn kinds(r: &mut Reading<'_>, mut section: Section<'_, '_>, config: &mut Config) {
    set(&mut config.accept_unknown, section.take(r, "accept_unknown", switch));
    for (key, span, mut kind) in section.named() {
        let Some(name) = Name::new(key) else {
            r.fault(span, &section.name_of(key), format!("a kind's name {NAME_RULE}"));
            continue;
        };
        let mut defaults = retries(r, &mut kind, config.retry);
        let timeout = kind.take(r, "timeout", super::section::span(SHORTEST, DURATION_MAX));
        defaults.attempt_timeout = timeout.or(defaults.attempt_timeout);
        let limits = lane(r, &mut kind);
        let program = program(r, &mut kind, key, &config.runner);
        kind.finish(r, false);
        config.kinds.insert(name, KindConfig { defaults, limits, program });
    }
    section.finish(r, true);
}

fn program(
    r: &mut Reading<'_>,
    kind: &mut Section<'_, '_>,
    name: &str,
    runner: &RunnerConfig,
) -> Option<ProgramConfig> {
    let command = kind.take(r, "command", command);
    let env = kind.take(r, "env", variables);
    let pass_env = kind.take(r, "pass_env", |v| {
        let names = texts(v)?;
        names.iter().try_for_each(|name| variable(name))?;
        Ok(names.into_iter().map(Into::into).collect())
    });
    let working_dir = kind.take(r, "working_dir", |v| match text(v)? {
        dir if dir.is_empty() => Err("must name a directory, or be left out".to_owned()),
        dir => Ok(PathBuf::from(dir)),
    });
    let progress_pattern = kind.take(r, "progress_pattern", pattern);
    let stop_grace = kind.take(r, "stop_grace", span(Duration::ZERO, GRACE_MAX));

    if let Some(span) = kind.key_span_of("command") {
        if BUILT_IN.contains(&name) {
            let what = format!("{name} is built in and runs no command: choose another name");
            r.fault(span, &kind.name_of("command"), what);
        }
    } else {
        for key in ["env", "pass_env", "working_dir", "progress_pattern", "stop_grace"] {
            if let Some(span) = kind.key_span_of(key) {
                r.fault(span, &kind.name_of(key), "is for programs: name a command, too");
            }
        }
    }
    Some(ProgramConfig {
        command: command?,
        env: env.unwrap_or_default(),
        pass_env: pass_env.unwrap_or_default(),
        working_dir,
        progress_pattern,
        stop_grace: stop_grace.unwrap_or(runner.stop_grace),
    })
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let command = texts(value)?;
    if command.first().is_none_or(String::is_empty) {
        return Err("names no program: write [\"program\", \"argument\", …]".to_owned());
    }
    command.iter().try_for_each(|argument| template::check(argument))?;
    Ok(command)
}

fn variables(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, String> {
    let table = value.as_table().ok_or("must be a table, as { LANG = \"C\" }")?;
    let mut variables = BTreeMap::new();
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        variable(name)?;
        let value = text(value.get_ref()).map_err(|why| format!("{name} {why}"))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

fn variable(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    if OWN_VARIABLES.contains(&name) {
        return Err(format!("{name} is set for each run: choose another name"));
    }
    Ok(())
}

fn pattern(value: &DeValue<'_>) -> Result<Regex, String> {
    let pattern = Regex::new(&text(value)?).map_err(|error| {
        // Its own text draws the place over several lines; the last one says what.
        let shown = error.to_string();
        let what = shown.lines().last().unwrap_or_default();
        format!("not a regular expression: {}", what.trim_start_matches("error: "))
    })?;
    match pattern.captures_len() - 1 {
        1 => Ok(pattern),
        n => Err(format!("must have one group (…), which holds the percentage, not {n}")),
    }
}

fn queues(r: &mut Reading<'_>, mut section: Section<'_, '_>, config: &mut Config) {
    for (key, span, mut queue) in section.named() {
        let Some(name) = Name::new(key) else {
            r.fault(span, &section.name_of(key), format!("a queue's name {NAME_RULE}"));
            continue;
        };
        let limits = lane(r, &mut queue);
        queue.finish(r, false);
        config.queues.insert(name, limits);
    }
    section.finish(r, true);
}
