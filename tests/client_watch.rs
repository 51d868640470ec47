//! A watch reaches the terminal state, whatever cuts its stream on the way.

mod scripted;

use std::time::Duration;

use scripted::{Answer, Script, state};
use taskwatch::client::{Client, Event, WatchOptions};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tonic::{Code, Status};

async fn revisions(script: &Script) -> (Vec<i64>, Vec<i64>) {
    let address = script.serve().await;
    let client = Client::connect(&format!("http://{address}")).expect("an address");
    let mut watch = client.watch("tasks/a", WatchOptions::default());
    let mut seen = Vec::new();
    while let Some(task) = watch.next().await.expect("no refusal") {
        seen.push(task.revision);
    }
    let asked = script.watched.lock().expect("not poisoned");
    (seen, asked.iter().map(|request| request.after_revision).collect())
}

#[tokio::test]
async fn it_goes_on_where_it_was_cut_whatever_the_status() {
    let script = Script::default();
    let cut = |states: &[i64], end| Answer {
        states: states.iter().map(|r| state(*r)).collect(),
        end: Some(end),
    };
    script
        .watch(cut(&[1, 2], Err(Status::unavailable("draining"))))
        .watch(cut(&[3], Ok(())))
        .watch(cut(&[], Err(Status::internal("a proxy"))))
        .watch(cut(&[5], Err(Status::cancelled("reset"))))
        .watch(cut(&[9], Ok(())));
    let (seen, asked) = revisions(&script).await;
    assert_eq!(seen, [1, 2, 3, 5, 9]);
    assert_eq!(asked, [0, 2, 3, 3, 5]);
}

#[tokio::test]
async fn heartbeats_are_no_news_and_an_end_is_always_one() {
    let script = Script::default();
    script.watch(Answer { states: [1, 1, 4, 4, 9].map(state).to_vec(), end: None });
    // The stream stays open after the end: nothing waits for it.
    let (seen, asked) = revisions(&script).await;
    assert_eq!((seen, asked), (vec![1, 4, 9], vec![0]));
}

#[tokio::test]
async fn a_server_that_counts_from_less_is_believed() {
    let script = Script::default();
    script
        .watch(Answer { states: vec![state(7)], end: Some(Ok(())) })
        .watch(Answer { states: vec![state(2)], end: Some(Ok(())) })
        .watch(Answer { states: vec![state(9)], end: Some(Ok(())) });
    let (seen, asked) = revisions(&script).await;
    assert_eq!((seen, asked), (vec![7, 2, 9], vec![0, 7, 2]));
}

#[tokio::test]
async fn a_refusal_that_asking_cannot_heal_ends_it() {
    for code in [Code::NotFound, Code::InvalidArgument, Code::PermissionDenied] {
        let script = Script::default();
        script
            .watch(Answer { states: vec![state(1)], end: Some(Ok(())) })
            .watch(Answer { states: vec![], end: Some(Err(Status::new(code, "no"))) });
        let address = script.serve().await;
        let client = Client::connect(&address.to_string()).expect("an address");
        let mut watch = client.watch("tasks/a", WatchOptions::default());
        assert_eq!(watch.next().await.expect("a state").expect("not ended").revision, 1);
        assert_eq!(watch.next().await.expect_err("refused").code(), code);
        assert!(watch.next().await.expect("it is over").is_none());
    }
}

#[tokio::test]
async fn it_waits_for_a_server_that_is_not_there_yet() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = reserved.local_addr().expect("its address");
    drop(reserved);
    let client = Client::connect(&address.to_string()).expect("an address");
    let mut watch = client.watch("tasks/a", WatchOptions::default());
    let Ok(Some(Event::Cut(status))) = watch.event().await else { panic!("nobody is there") };
    assert_eq!(status.code(), Code::Unavailable);

    let script = Script::default();
    script.watch(Answer { states: vec![state(9)], end: Some(Ok(())) });
    let listener = TcpListener::bind(address).await.expect("the same port");
    let service = taskwatch::proto::task_service_server::TaskServiceServer::new(script.clone());
    let server = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    assert_eq!(watch.next().await.expect("a state").expect("the end").revision, 9);
    server.abort();
}

/// Only what this test waits for moves the paused clock on.
#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_a_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"").await.expect("nothing to write");
        std::future::pending::<()>().await;
    });
    let client = Client::connect(&address.to_string()).expect("an address");
    let options =
        WatchOptions { heartbeat_interval: Duration::from_secs(1), ..WatchOptions::default() };
    let mut watch = client.watch("tasks/a", options);
    assert!(matches!(watch.event().await, Ok(Some(Event::Cut(_)))));
    silent.abort();
}
