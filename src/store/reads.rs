//! Reads of single tasks. Those that are asked for while others are being read go together
//! into the next statement: a busy server reads a batch for what one would cost, an idle one
//! reads at once.

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::{HashMap, HashSet};
use sea_orm::DatabaseConnection;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    StoreError, Stored, TaskId,
    known::Known,
    payloads::inputs,
    rows::{COLUMNS, from, stored},
    statements::{is_postgres, lists, patiently, query},
};

/// Batches that are read beside one another.
const BESIDE: usize = 2;
/// Tasks in one batch.
const MOST: usize = 128;

/// Who asks, and for what.
#[derive(Debug)]
struct Asked {
    id: TaskId,
    with_input: bool,
    reply: oneshot::Sender<Result<Option<Stored>, StoreError>>,
}

/// The way to those who read; they stop when it is dropped.
#[derive(Debug)]
pub(super) struct Reads {
    known: Option<Arc<Known>>,
    queue: mpsc::UnboundedSender<Asked>,
    _running: JoinSet<()>,
}

impl Reads {
    /// Of what is not `known` already.
    pub(super) fn of(db: &DatabaseConnection, known: Option<Arc<Known>>) -> Self {
        let (queue, asked) = mpsc::unbounded_channel();
        let asked = Arc::new(Mutex::new(asked));
        let mut running = JoinSet::new();
        for _ in 0..BESIDE {
            running.spawn(run(db.clone(), known.clone(), Arc::clone(&asked)));
        }
        Self { known, queue, _running: running }
    }

    pub(super) async fn task(
        &self,
        id: &TaskId,
        with_input: bool,
    ) -> Result<Option<Stored>, StoreError> {
        if let Some(stored) = self.known.as_ref().and_then(|known| known.read(id, with_input)) {
            return Ok(Some(stored));
        }
        let closed = || StoreError::Unavailable("it is closed".into());
        let (reply, answer) = oneshot::channel();
        let asked = Asked { id: id.clone(), with_input, reply };
        self.queue.send(asked).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn run(
    db: DatabaseConnection,
    known: Option<Arc<Known>>,
    queue: Arc<Mutex<mpsc::UnboundedReceiver<Asked>>>,
) {
    let mut asked = Vec::new();
    while queue.lock().await.recv_many(&mut asked, MOST).await > 0 {
        let away = answer(&db, known.as_ref(), std::mem::take(&mut asked)).await;
        let Err(why) = away else { continue };
        // Those who asked meanwhile would wait as long again. Where another one has the
        // queue, nobody is in it.
        if is_postgres(&db)
            && let Ok(mut queue) = queue.try_lock()
        {
            while let Ok(Asked { reply, .. }) = queue.try_recv() {
                reply.send(Err(StoreError::Unavailable(why.clone()))).ok();
            }
        }
    }
}

/// Fails, with the reason, where the database is away; all of these are told by then.
async fn answer(
    db: &DatabaseConnection,
    known: Option<&Arc<Known>>,
    mut asked: Vec<Asked>,
) -> Result<(), String> {
    // Nobody waits for what was given up.
    asked.retain(|asked| !asked.reply.is_closed());
    let reading = known.map(|known| known.reading(asked.iter().map(|asked| asked.id.clone())));
    match tasks(db, &asked).await {
        Ok(found) => {
            if let Some(reading) = reading {
                let with_input: HashSet<&TaskId> =
                    asked.iter().filter(|asked| asked.with_input).map(|asked| &asked.id).collect();
                reading.found(
                    found.values().map(|stored| (stored, with_input.contains(&stored.task.id))),
                );
            }
            for Asked { id, with_input, reply } in asked {
                let mut stored = found.get(&id).cloned();
                if let Some(stored) = stored.as_mut().filter(|_| !with_input) {
                    stored.input = None;
                }
                reply.send(Ok(stored)).ok();
            }
        }
        Err(StoreError::Unavailable(why)) => {
            for Asked { reply, .. } in asked {
                reply.send(Err(StoreError::Unavailable(why.clone()))).ok();
            }
            return Err(why);
        }
        // A row that cannot be understood is a fault for those only who asked for it.
        Err(_) => {
            for asked in asked {
                let found = tasks(db, std::slice::from_ref(&asked)).await;
                asked.reply.send(found.map(|mut found| found.remove(&asked.id))).ok();
            }
        }
    }
    Ok(())
}

/// Those that there are, with their inputs where anybody asked for them.
async fn tasks(
    db: &DatabaseConnection,
    asked: &[Asked],
) -> Result<HashMap<TaskId, Stored>, StoreError> {
    let ids: BTreeSet<&str> = asked.iter().map(|asked| asked.id.as_str()).collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let with_input: BTreeSet<&TaskId> =
        asked.iter().filter(|asked| asked.with_input).map(|asked| &asked.id).collect();
    patiently(db, || async {
        let mut found = HashMap::with_capacity(ids.len());
        let postgres = is_postgres(db);
        for (list, values) in lists(postgres, ids.iter().copied()) {
            let sql = format!("SELECT {COLUMNS} {} WHERE t.id {list}", from(postgres));
            for row in query(db, &sql, values).await? {
                let stored = stored(&row)?;
                found.insert(stored.task.id.clone(), stored);
            }
        }
        let mut wanted: Vec<&mut Stored> =
            found.values_mut().filter(|stored| with_input.contains(&stored.task.id)).collect();
        inputs(db, &mut wanted).await?;
        Ok(found)
    })
    .await
}
