//! `taskwatch create`.

use tonic::Code;

use super::{
    args::{self, ServerArgs},
    clean::clean,
    complete,
    exit::{Exit, Fault},
    follow, input,
    output::OutputArgs,
    settings::Settings,
};
use crate::proto::{CreateTaskRequest, Task};

/// Creates a task and prints its name.
///
/// It is durable when the name appears. With --watch it is then followed to its
/// end, and the exit status is the task's: 0 SUCCEEDED, 1 FAILED, 3 CANCELLED.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  taskwatch create demo --watch\n  \
    taskwatch create demo --input '{\"steps\": 20}' --label env=prod\n  \
    taskwatch create report --input @report.json --id report-7 --max-attempts 3\n  \
    taskwatch create report --schedule +10m --queue nightly\n  \
    jq -n '{steps: 3}' | taskwatch create demo --input -")]
pub(super) struct Args {
    /// What runs it: demo, external, a configured program, or what workers serve.
    #[arg(value_parser = args::name, add = complete::kinds())]
    kind: String,
    /// Its input: a JSON object, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// Its id; the server chooses where none is given.
    #[arg(long, value_parser = args::name)]
    id: Option<String>,
    /// Said again with the same request id, the same task is given, not another one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::label)]
    labels: Vec<(String, String)>,
    /// The queue that it waits in.
    #[arg(long, value_parser = args::name, add = complete::queues())]
    queue: Option<String>,
    /// Follow it to its end.
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let mut task = Task {
        kind: args.kind,
        input: args.input.map(|text| input::object("--input", &text)).transpose()?,
        queue: args.queue.unwrap_or_default(),
        labels: args.labels.into_iter().collect(),
        ..Task::default()
    };
    args.settings.set(&mut task);
    let form = args.watch.then(|| follow::Form::of(&args.output)).transpose()?;
    let id = args.id.unwrap_or_default();
    let request = CreateTaskRequest {
        task: Some(task),
        task_id: id.clone(),
        request_id: args.request_id.unwrap_or_default(),
    };
    let server = args.server.connect()?;
    let created = server.client.create(request).await;
    let task = created.map_err(|status| {
        if status.code() == Code::AlreadyExists {
            return Fault::failed(format!(
                "tasks/{id} exists already: choose another --id, or none"
            ));
        }
        server.fault(&status)
    })?;
    let Some(form) = form else {
        args.output.one(&task, |task, _| clean(&task.name))?;
        return Ok(Exit::Done);
    };
    if form.is_for_people() {
        super::out::line(clean(&task.name))?;
    }
    follow::to_the_end(&server, &task.name, form).await
}
