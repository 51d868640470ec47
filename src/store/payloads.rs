//! What makes tasks long: their inputs, and how long all of one is.

use hashbrown::HashMap;
use sea_orm::ConnectionTrait;

use super::{
    Object, StoreError, Stored,
    statements::{is_postgres, lists, query},
};

/// Reads the inputs of these tasks.
pub(super) async fn inputs(
    db: &impl ConnectionTrait,
    tasks: &mut [&mut Stored],
) -> Result<(), StoreError> {
    let rows: Vec<i64> = tasks.iter().map(|stored| stored.row).collect();
    let mut found = HashMap::new();
    for (list, values) in lists(is_postgres(db), rows) {
        let sql = format!("SELECT row, input FROM inputs WHERE row {list}");
        for row in query(db, &sql, values).await? {
            found.insert(row.try_get_by_index::<i64>(0)?, row.try_get_by_index::<Vec<u8>>(1)?);
        }
    }
    for stored in tasks {
        stored.input = found.remove(&stored.row).map(|b| Object::from_encoded(b.into()));
    }
    Ok(())
}

/// About how long a task is in a message.
pub(super) fn size(stored: &Stored) -> usize {
    let Stored { task, input, .. } = stored;
    let labels: usize = task.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    let progress = task.progress.as_ref().map_or(0, |progress| {
        let details = progress.report.details.as_ref();
        progress.report.message.len() + details.map_or(0, |details| details.encoded().len())
    });
    let error = task.error.as_ref().map_or(0, |error| {
        error.message.len() + error.details.iter().map(|d| d.value.len()).sum::<usize>()
    });
    let input = input.as_ref().map_or(0, |input| {
        // Inputs are read for the full view, which has the checkpoint as well.
        input.encoded().len() + task.checkpoint.as_ref().map_or(0, |c| c.encoded().len())
    });
    let result = task.result().map_or(0, |result| result.encoded().len());
    256 + labels + progress + error + input + result
}
