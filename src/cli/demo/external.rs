//! The external task of the demo, run by its owner: this side of the wire, through
//! UpdateTask alone, as any client could.

use std::time::Duration;

use prost_types::FieldMask;
use tonic::Status;

use crate::{
    client::Client,
    domain::Value,
    proto::{Progress, Task, UpdateTaskRequest, task::State},
};

const ROWS: i64 = 4_000;
const ROWS_A_STEP: i64 = 250;
const STEP: Duration = Duration::from_millis(350);

/// Takes the task through its life: running, progress by progress, its result.
pub(super) async fn drive(client: &Client, name: &str) -> Result<(), Status> {
    for done in (0..=ROWS).step_by(usize::try_from(ROWS_A_STEP).unwrap_or(1)) {
        let message = if done == 0 { "opening the ledger" } else { "checking the ledger" };
        let progress = Progress {
            message: message.to_owned(),
            completed_units: done,
            total_units: ROWS,
            unit: "rows".to_owned(),
            ..Progress::default()
        };
        let task = Task { progress: Some(progress), ..in_state(name, State::Running) };
        update(client, task, &["state", "progress"]).await?;
        tokio::time::sleep(STEP).await;
    }
    let result = Value::from_json(&serde_json::json!({"rows": ROWS, "balanced": true}));
    let result: prost_types::Value = prost::Message::decode(result.encoded().clone())
        .map_err(|error| Status::internal(error.to_string()))?;
    let task = Task { result: Some(result), ..in_state(name, State::Succeeded) };
    update(client, task, &["state", "result"]).await
}

/// Its owner leaves: nobody else would ever end it.
pub(super) async fn give_up(client: &Client, name: &str) -> Result<(), Status> {
    update(client, in_state(name, State::Cancelled), &["state"]).await
}

fn in_state(name: &str, state: State) -> Task {
    Task { name: name.to_owned(), state: state.into(), ..Task::default() }
}

async fn update(client: &Client, task: Task, paths: &[&str]) -> Result<(), Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = Some(FieldMask { paths });
    client.update(UpdateTaskRequest { task: Some(task), update_mask }).await.map(drop)
}
