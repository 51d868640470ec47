//! `taskwatch list`.

use super::{
    args::ServerArgs,
    exit::{Exit, Fault},
    explain, json, out, text,
};
use crate::proto::{ListTasksRequest, TaskView};

/// The largest page that servers give.
const PAGE: usize = 1_000;

/// Lists tasks, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch list\n  \
    taskwatch list --filter 'state = RUNNING AND labels.env = \"prod\"'\n  \
    taskwatch list --order-by 'priority desc, create_time' --limit 10\n  \
    taskwatch list --json | jq -r .name\n\n\
    A filter compares state, kind, queue, worker, priority, labels and the times with\n\
    = != < > <= >= and joins comparisons with AND, OR, NOT and parentheses (AIP-160).")]
pub(super) struct Args {
    /// Only tasks that match.
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// create_time, update_time, end_time or priority, each with or without "desc".
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ORDER")]
    order_by: String,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Print each task as JSON, on one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let client = args.server.client()?;
    let mut left = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut page_token = String::new();
    let mut first = true;
    loop {
        let request = ListTasksRequest {
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token: std::mem::take(&mut page_token),
            filter: args.filter.clone(),
            order_by: args.order_by.clone(),
            view: TaskView::Basic.into(),
        };
        let listed = client.list(request).await;
        let page = listed.map_err(|status| explain::fault(&status, &args.server.server))?;
        if args.json {
            for task in &page.tasks {
                out::line(json::compact(task)?)?;
            }
        } else if first && page.tasks.is_empty() && page.next_page_token.is_empty() {
            out::say("no tasks");
        } else {
            // Each page has columns of its own width: none waits for the next one.
            let skip = usize::from(!first);
            text::table(&page.tasks).into_iter().skip(skip).try_for_each(out::line)?;
        }
        first = false;
        left = left.saturating_sub(page.tasks.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Exit::Done);
        }
        if left == 0 {
            out::say("there are more: raise --limit, or narrow --filter");
            return Ok(Exit::Done);
        }
    }
}
