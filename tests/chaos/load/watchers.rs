//! Who watches one task, at another replica whenever the stream is cut, until the server
//! says with OK that this was the end.

use std::sync::atomic::{AtomicU64, Ordering};

use prost_types::Duration;
use taskwatch::proto::{Frame, WatchTaskRequest};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::{
    super::history::{Answer, Miss, Seen, What},
    Caller, PAUSE,
};

/// How long a stream is waited for that says something every second.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(4);

static WATCHES: AtomicU64 = AtomicU64::new(0);

pub(super) async fn watch(mut caller: Caller, name: String) {
    let watch = WATCHES.fetch_add(1, Ordering::Relaxed);
    caller.add(0, caller.load.history.now(), What::Watches { watch, name: name.clone() });
    let mut after_revision = 0;
    loop {
        let (server, begin) = (caller.any(), caller.load.history.now());
        let request = WatchTaskRequest {
            name: name.clone(),
            after_revision,
            heartbeat_interval: Some(Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        let mut tasks = caller.tasks(server);
        let opened = timeout(SILENCE, tasks.watch_task(request)).await;
        let answer = match opened {
            Err(_) => Err(silent()),
            Ok(Err(status)) => Err(Miss::from(&status)),
            Ok(Ok(stream)) => {
                let stream = stream.into_inner();
                follow(&caller, server, begin, watch, &mut after_revision, stream).await
            }
        };
        let over = !matches!(answer, Err(Miss::Lost(_)));
        caller.add(server, begin, What::Over { watch, name: name.clone(), answer });
        if over {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// One stream, from its first state to its end.
async fn follow(
    caller: &Caller,
    server: usize,
    begin: u64,
    watch: u64,
    after_revision: &mut i64,
    mut stream: Streaming<Frame>,
) -> Answer<()> {
    let mut first = true;
    loop {
        let frame = match timeout(SILENCE, stream.message()).await {
            Err(_) => return Err(silent()),
            Ok(Err(status)) => return Err(Miss::from(&status)),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(frame))) => frame,
        };
        let seen = Seen::from(&frame.event().expect("a good frame").task.expect("a task"));
        *after_revision = seen.revision;
        // Only the first one was surely read after the call had begun.
        caller.add(server, begin, What::Saw { watch, first, seen });
        first = false;
    }
}

fn silent() -> Miss {
    Miss::Lost("the stream was silent".to_owned())
}
