//! Which tasks a verb is about: names, beginnings of names, or a filter.

use std::{collections::HashSet, io};

use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::Code;

use super::{
    args::{self, Server},
    clean::clean,
    complete,
    exit::Fault,
};
use crate::{
    domain::limits,
    proto::{ListTasksRequest, Task, TaskView},
};

/// Calls under way at once.
pub(super) const AT_ONCE: usize = 16;
/// The largest page that servers give.
const PAGE: i32 = 1_000;
/// So many are named where a beginning is not unique.
const NAMED: i32 = 5;

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

/// The task of this name; where there is none, the only one whose name begins so.
pub(super) async fn resolve(server: &Server, name: String) -> Result<String, Fault> {
    let status = match server.client.get(&name, TaskView::Basic).await {
        Ok(task) => return Ok(task.name),
        Err(status) if status.code() == Code::NotFound => status,
        Err(status) => return Err(server.fault(&status)),
    };
    let mut found = list(server, beginning(&name), Some(NAMED)).await?.into_iter();
    match (found.next(), found.len()) {
        (None, _) => Err(server.fault(&status)),
        (Some(task), 0) => Ok(task.name),
        (Some(task), _) => {
            let names: Vec<_> = std::iter::once(task).chain(found).map(|t| t.name).collect();
            Err(Fault::usage(format!(
                "several tasks begin with {name}: {}; write more of the name",
                clean(&names.join(", "))
            )))
        }
    }
}

/// A filter for the tasks whose names begin so. No character of an id sorts after z.
pub(super) fn beginning(name: &str) -> String {
    let longest = "tasks/".len() + limits::NAME_CHARS;
    let last = "z".repeat(longest.saturating_sub(name.len()));
    format!("name >= \"{name}\" AND name <= \"{name}{last}\"")
}

/// Tasks that match, the newest first: all of them, or `most`.
pub(super) async fn list(
    server: &Server,
    filter: String,
    most: Option<i32>,
) -> Result<Vec<Task>, Fault> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTasksRequest {
            page_size: most.unwrap_or(PAGE),
            page_token: std::mem::take(&mut page_token),
            filter: filter.clone(),
            view: TaskView::Basic.into(),
            ..ListTasksRequest::default()
        };
        let page = server.client.list(request).await.map_err(|status| server.fault(&status))?;
        all.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() || most.is_some() {
            return Ok(all);
        }
    }
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
        let range = beginning("tasks/ab");
        assert!(crate::domain::Filter::parse(&range).is_ok_and(|f| f.has_name_range()), "{range}");
    }
}
