//! One table of the file, read key by key: what nobody asked for is unknown, and
//! whatever is wrong is noted with its place, so that all of it is told at once.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    duration::{parse_duration, seconds, show_duration},
    fault::{Fault, did_you_mean},
};

/// A file that is being read, and what was found wrong in it.
pub(super) struct Reading<'s> {
    pub(super) file: &'s str,
    pub(super) text: &'s str,
    pub(super) faults: Vec<Fault>,
}

/// A table of the file.
pub(super) struct Section<'t, 'i> {
    path: String,
    table: &'t DeTable<'i>,
    asked: Vec<&'static str>,
}

type Found<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

impl Reading<'_> {
    /// Notes what is wrong there.
    pub(super) fn fault(&mut self, span: Range<usize>, key: &str, what: impl Into<String>) {
        self.faults.push(Fault::new((self.file, self.text), span, key, what));
    }
}

impl<'t, 'i> Section<'t, 'i> {
    /// `path` names the table in messages; empty for the file itself.
    pub(super) fn new(path: impl Into<String>, table: &'t DeTable<'i>) -> Self {
        Self { path: path.into(), table, asked: Vec::new() }
    }

    /// The full name of one of its keys.
    pub(super) fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where the value of `key` stands, where there is one.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.find(key).map(|(_, value)| value.span())
    }

    /// Where `key` itself stands, where there is one.
    pub(super) fn key_span_of(&self, key: &str) -> Option<Range<usize>> {
        self.find(key).map(|(key, _)| key.span())
    }

    fn find(&self, key: &str) -> Option<Found<'t, 'i>> {
        self.table.iter().find(|(k, _)| k.get_ref().as_ref() == key)
    }

    /// Reads a value with `read`; `None` where it is absent or wrong (then noted).
    pub(super) fn take<T>(
        &mut self,
        reading: &mut Reading<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<T> {
        self.asked.push(key);
        let (_, value) = self.find(key)?;
        read(value.get_ref())
            .map_err(|what| reading.fault(value.span(), &self.name_of(key), what))
            .ok()
    }

    /// A table inside this one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "not our own enum, and open")]
    pub(super) fn section(
        &mut self,
        reading: &mut Reading<'_>,
        key: &'static str,
    ) -> Option<Section<'t, 'i>> {
        self.asked.push(key);
        let (_, value) = self.find(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.name_of(key), table)),
            other => {
                let what = format!("must be a table, as [{key}], not {}", sort(other));
                reading.fault(value.span(), &self.name_of(key), what);
                None
            }
        }
    }

    /// What is named by the writer of the file: all keys that were not asked for and
    /// that hold tables.
    pub(super) fn named(&mut self) -> Vec<(&'t str, Range<usize>, Section<'t, 'i>)> {
        let mut named = Vec::new();
        for (key, value) in self.table {
            let name: &'t str = key.get_ref().as_ref();
            if let (DeValue::Table(table), false) = (value.get_ref(), self.asked.contains(&name)) {
                named.push((name, key.span(), Section::new(self.name_of(name), table)));
            }
        }
        named
    }

    /// Notes each key that nobody asked for; tables too, where none are `named`.
    pub(super) fn finish(self, reading: &mut Reading<'_>, named: bool) {
        for (key, value) in self.table {
            let name: &str = key.get_ref().as_ref();
            if self.asked.contains(&name) || (named && value.get_ref().is_table()) {
                continue;
            }
            let mut what = "unknown key".to_owned();
            what.push_str(&did_you_mean(name, &self.asked).unwrap_or_else(|| {
                let known = self.asked.join(", ");
                if known.is_empty() { String::new() } else { format!("; there are {known}") }
            }));
            reading.fault(key.span(), &self.name_of(name), what);
        }
    }
}

/// What sort of value it is, for messages.
fn sort(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("must be text, not {}", sort(value)))?;
    if text.contains('\0') {
        return Err("must not hold NUL".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn switch(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {}", sort(value)))
}

pub(super) fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("must be a list, as [\"a\", \"b\"], not {}", sort(value)))?;
    list.iter().map(|each| text(each.get_ref()).map_err(|why| format!("each {why}"))).collect()
}

/// A whole number from `least` to `most`.
pub(super) fn whole(least: u64, most: u64) -> impl FnOnce(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let rule = || format!("must be a whole number from {least} to {most}");
        let DeValue::Integer(number) = value else {
            return Err(format!("{}, not {}", rule(), sort(value)));
        };
        let number = i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| rule())?;
        u64::try_from(number).ok().filter(|n| (least..=most).contains(n)).ok_or_else(rule)
    }
}

/// A number of `least` or more.
pub(super) fn number(least: f64) -> impl FnOnce(&DeValue<'_>) -> Result<f64, String> {
    move |value| {
        let rule = || format!("must be a number, {least} or more");
        let number = as_number(value).ok_or_else(|| format!("{}, not {}", rule(), sort(value)))?;
        Some(number).filter(|n| n.is_finite() && *n >= least).ok_or_else(rule)
    }
}

fn as_number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(number) => number.as_str().parse().ok(),
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

/// A duration from `least` to `most`.
pub(super) fn span(
    least: Duration,
    most: Duration,
) -> impl FnOnce(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let span = match (value.as_str(), as_number(value)) {
            (Some(text), _) => parse_duration(text)?,
            (None, Some(number)) => seconds(number)?,
            (None, None) => {
                return Err(format!("{}, not {}", super::duration::DURATION_RULE, sort(value)));
            }
        };
        within(span, least, most)
    }
}

/// Checks a duration against its limits.
pub(super) fn within(span: Duration, least: Duration, most: Duration) -> Result<Duration, String> {
    if (least..=most).contains(&span) {
        return Ok(span);
    }
    Err(format!(
        "must be {} to {}, not {}",
        show_duration(least),
        show_duration(most),
        show_duration(span)
    ))
}
