//! Tasks found on a server: by a name, by the beginning of one, or by a filter.

use tonic::Code;

use super::{args::Server, clean::clean, exit::Fault};
use crate::{
    domain::limits,
    proto::{ListTasksRequest, Task, TaskView},
};

/// The largest page that servers give.
const PAGE: i32 = 1_000;
/// So many are named where a beginning is not unique.
const NAMED: i32 = 5;

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
    fn a_beginning_is_a_range_of_names() {
        let range = beginning("tasks/ab");
        assert!(crate::domain::Filter::parse(&range).is_ok_and(|f| f.has_name_range()), "{range}");
    }
}
