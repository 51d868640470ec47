//! `taskwatch update`.

use tonic::{Code, Status};

use super::{
    args::{self, Server, ServerArgs},
    change::each,
    clean::clean,
    exit::{Exit, Fault},
    input,
    output::OutputArgs,
    select::Selection,
    settings::Settings,
    text,
};
use crate::proto::{Progress, Task, TaskView, UpdateTaskRequest, task::State};

/// How often labels are changed anew where others change the task at the same time.
const TRIES: usize = 10;

/// Changes tasks: their settings, their labels, and all of an external task.
///
/// An external task is run by whoever created it: a script tells its state, progress,
/// result and error here.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  taskwatch update nightly --priority 10 --set-label env=prod\n  \
    taskwatch update nightly --schedule +1h --remove-label hot\n  \
    taskwatch update backup --state running --percent 40 --message 'copying /var'\n  \
    taskwatch update backup --state succeeded --result '{\"files\": 7}'\n  \
    taskwatch update backup --state failed --error 'the disk is full'"
)]
pub(super) struct Args {
    #[command(flatten)]
    tasks: Selection,
    /// Gives it a label, or the label another value; may be repeated.
    #[arg(long = "set-label", value_name = "KEY=VALUE", value_parser = args::label)]
    set: Vec<(String, String)>,
    /// Takes a label away; may be repeated.
    #[arg(long = "remove-label", value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    external: External,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Of external tasks")]
struct External {
    /// The state that it is in now.
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// How far it is: 0 to 100.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    percent: Option<f64>,
    /// What it is doing now.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Units that are done.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    completed: Option<i64>,
    /// Units in all.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    total: Option<i64>,
    /// What the units are: files, bytes, rows, …
    #[arg(long, value_name = "TEXT")]
    unit: Option<String>,
    /// Its result, with --state succeeded: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    /// Why it failed, with --state failed.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

fn state(text: &str) -> Result<State, String> {
    let named = State::from_str_name(&text.to_uppercase());
    named
        .filter(|state| *state != State::Unspecified)
        .ok_or_else(|| "must be queued, running, paused, cancelled, succeeded or failed".to_owned())
}

impl External {
    /// Sets what was said; gives the paths of the fields.
    fn set(self, task: &mut Task) -> Result<Vec<&'static str>, Fault> {
        let paths = [
            (self.state.is_some(), "state"),
            (self.percent.is_some(), "progress.percent"),
            (self.message.is_some(), "progress.message"),
            (self.completed.is_some(), "progress.completed_units"),
            (self.total.is_some(), "progress.total_units"),
            (self.unit.is_some(), "progress.unit"),
            (self.result.is_some(), "result"),
            (self.error.is_some(), "error"),
        ];
        let paths: Vec<_> = paths.iter().filter(|(said, _)| *said).map(|(_, path)| *path).collect();
        task.state = self.state.unwrap_or_default().into();
        if paths.iter().any(|path| path.starts_with("progress.")) {
            task.progress = Some(Progress {
                percent: self.percent,
                message: self.message.unwrap_or_default(),
                completed_units: self.completed.unwrap_or_default(),
                total_units: self.total.unwrap_or_default(),
                unit: self.unit.unwrap_or_default(),
                ..Progress::default()
            });
        }
        task.result = self.result.map(|text| input::value("--result", &text)).transpose()?;
        task.error = self.error.map(|message| tonic_types::Status {
            code: Code::Unknown.into(),
            message,
            details: Vec::new(),
        });
        Ok(paths)
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    let mut change = Task::default();
    let mut paths = args.settings.set(&mut change);
    paths.extend(args.external.set(&mut change)?);
    let labels = Labels { set: args.set, remove: args.remove };
    if paths.is_empty() && labels.is_empty() {
        return Err(Fault::usage("say what is to change: taskwatch update --help tells what can"));
    }
    let server = args.server.connect()?;
    let names = args.tasks.names(&server, "").await?;
    let (output, mut changed) = (&args.output, Vec::new());
    let update = async |server: &Server, name: &str| {
        let task = Task { name: name.to_owned(), ..change.clone() };
        update(server, task, &paths, &labels).await
    };
    let ended = each(&server, names, update, |_, task: Task| {
        if output.is_table() {
            changed.push(task);
            return Ok(());
        }
        output
            .one(&task, |task, _| format!("{} {}", clean(&task.name), text::painted_state(task, 0)))
    })
    .await;
    if !changed.is_empty() {
        output.page(&changed, true)?;
    }
    ended
}

/// Labels are changed as a whole on the wire: one by one they are read, changed, and
/// written if nobody has changed the task meanwhile.
struct Labels {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Labels {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

async fn update(
    server: &Server,
    mut task: Task,
    paths: &[&'static str],
    labels: &Labels,
) -> Result<Task, Status> {
    let mut paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    if !labels.is_empty() {
        paths.push("labels".to_owned());
    }
    let mut left = TRIES;
    loop {
        if !labels.is_empty() {
            let present = server.client.get(&task.name, TaskView::Basic).await?;
            task.labels = present.labels;
            task.labels.retain(|key, _| !labels.remove.contains(key));
            task.labels.extend(labels.set.iter().cloned());
            task.revision = present.revision;
        }
        let update_mask = Some(prost_types::FieldMask { paths: paths.clone() });
        let request = UpdateTaskRequest { task: Some(task.clone()), update_mask };
        left -= 1;
        match server.client.update(request).await {
            Err(status) if status.code() == Code::Aborted && left > 0 && !labels.is_empty() => {}
            answer => return answer,
        }
    }
}
