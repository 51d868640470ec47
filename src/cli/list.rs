//! `taskwatch list`.

use super::{
    args::ServerArgs,
    exit::{Exit, Fault},
    out,
    output::OutputArgs,
    select::FilterArgs,
};
use crate::proto::{ListTasksRequest, TaskView};

/// The largest page that servers give.
const PAGE: usize = 1_000;

/// Lists tasks, the newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch list\n  \
    taskwatch list --filter 'state = RUNNING AND kind = \"report\"' --label env=prod\n  \
    taskwatch list --order-by 'priority desc, create_time' --limit 10 -o wide\n  \
    taskwatch list --json | jq -r .name\n  \
    taskwatch list --filter 'state = FAILED' -o name | taskwatch retry -\n\n\
    A filter compares name, state, kind, queue, worker, priority, attempt, labels and the\n\
    times with = != < > <= >= and joins comparisons with AND, OR, NOT and parentheses\n\
    (AIP-160).")]
pub(super) struct Args {
    #[command(flatten)]
    by: FilterArgs,
    /// create_time, update_time, end_time or priority, each with or without "desc".
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ORDER")]
    order_by: String,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let server = args.server.connect()?;
    let mut left = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut page_token = String::new();
    let mut first = true;
    loop {
        let request = ListTasksRequest {
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token: std::mem::take(&mut page_token),
            filter: args.by.with(""),
            order_by: args.order_by.clone(),
            view: TaskView::Basic.into(),
        };
        let page = server.client.list(request).await.map_err(|status| server.fault(&status))?;
        if first && page.tasks.is_empty() && page.next_page_token.is_empty() {
            out::say("no tasks");
            return Ok(Exit::Done);
        }
        // Each page has columns of its own width: none waits for the next one.
        args.output.page(&page.tasks, first)?;
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
