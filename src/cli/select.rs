//! Which tasks a verb is about: names, beginnings of names, or a filter.

use std::{collections::HashSet, io};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    args::{self, Server},
    clean::clean,
    complete,
    exit::Fault,
    find::{list, resolve},
};

/// Calls under way at once.
pub(super) const AT_ONCE: usize = 16;

/// Tasks by name or by what they are.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Selection {
    /// Tasks: names with or without "tasks/", or beginnings that are unique; "-" reads
    /// them from standard input.
    #[arg(value_name = "TASK", value_parser = or_dash, add = complete::tasks(),
        required_unless_present_any = ["filter", "labels"],
        conflicts_with_all = ["filter", "labels"])]
    names: Vec<String>,
    #[command(flatten)]
    by: FilterArgs,
}

/// Tasks by what they are.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Those that match, as 'state = RUNNING AND kind = "report"' (AIP-160).
    #[arg(long)]
    filter: Option<String>,
    /// Those with this label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::label)]
    labels: Vec<(String, String)>,
}

fn or_dash(text: &str) -> Result<String, String> {
    if text == "-" { Ok(text.to_owned()) } else { args::task_name(text) }
}

impl FilterArgs {
    /// The filter that says so, with another one that must hold too.
    pub(super) fn with(&self, other: &str) -> String {
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let labels =
            self.labels.iter().map(|(k, v)| format!("labels.{} = {}", quoted(k), quoted(v)));
        let filter = self.filter.as_deref().filter(|filter| !filter.trim().is_empty());
        let parts = filter.into_iter().chain((!other.is_empty()).then_some(other));
        // A filter alone stays as it is: the server's errors name places in it.
        let parts: Vec<String> = parts.map(str::to_owned).chain(labels).collect();
        match &parts[..] {
            [one] => one.clone(),
            many => many.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" AND "),
        }
    }
}

impl Selection {
    /// The filter, where no names were said.
    pub(super) fn filter(&self) -> Option<String> {
        self.names.is_empty().then(|| self.by.with(""))
    }

    /// The names in full. Of what a filter selects, those for which `matching` holds,
    /// too.
    pub(super) async fn names(
        &self,
        server: &Server,
        matching: &str,
    ) -> Result<Vec<String>, Fault> {
        if self.names.is_empty() {
            let found = list(server, self.by.with(matching), None).await?;
            return Ok(found.into_iter().map(|task| task.name).collect());
        }
        let mut said = Vec::new();
        for name in &self.names {
            if name == "-" {
                said.extend(read_names()?);
            } else {
                said.push(name.clone());
            }
        }
        let found = stream::iter(said).map(|name| resolve(server, name)).buffered(AT_ONCE);
        let found: Vec<String> = found.try_collect().await?;
        let mut seen = HashSet::new();
        Ok(found.into_iter().filter(|name| seen.insert(name.clone())).collect())
    }
}

fn read_names() -> Result<Vec<String>, Fault> {
    let wrong = |why: &dyn std::fmt::Display| Fault::usage(format!("standard input: {why}"));
    let text = io::read_to_string(io::stdin()).map_err(|e| wrong(&e))?;
    let names = text.split_whitespace().map(|name| {
        args::task_name(name).map_err(|why| wrong(&format!("{:?}: {why}", clean(name))))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_joined() {
        let by = |filter: Option<&str>, labels: &[(&str, &str)]| FilterArgs {
            filter: filter.map(str::to_owned),
            labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        };
        assert_eq!(by(None, &[]).with(""), "");
        assert_eq!(by(Some("a"), &[]).with(""), "a");
        assert_eq!(
            by(Some("a OR b"), &[("k", "\"v")]).with("c"),
            "(a OR b) AND (c) AND (labels.\"k\" = \"\\\"v\")"
        );
    }
}
