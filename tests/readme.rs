//! What the README says can be pasted: every grpcurl call of it, in its order, through a
//! shell, against a new server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{env, fs, path::Path};

use support::{PATIENCE, Server};
use tokio::{process::Command, time::timeout};

/// The indented lines that call grpcurl, those that go on put together.
fn calls(readme: &str) -> Vec<String> {
    let code = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let joined = code.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().filter(|line| line.starts_with("grpcurl ")).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_readme_works_as_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let calls = calls(&fs::read_to_string(root.join("README.md")).expect("the README"));
    assert!(calls.len() >= 8, "{calls:?}");
    let server = Server::start().await;
    let tools = root.join("target/tools");
    assert!(tools.join("grpcurl").is_file(), "grpcurl is missing: run make tools");
    let path = env::join_paths([tools, "/usr/bin".into(), "/bin".into()]).expect("a PATH");
    for call in calls {
        assert!(call.contains(" 127.0.0.1:50051 "), "{call}");
        let here = call.replace("127.0.0.1:50051", &server.address);
        let output = Command::new("sh").args(["-c", &here]).env("PATH", &path).output();
        let output = timeout(PATIENCE, output).await.expect("in time").expect("ran");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{call}\n{said}");
    }
    let mut client = server.client();
    let one = support::get(&mut client, "tasks/one").await.expect("created");
    assert_eq!(one.state(), taskwatch::proto::task::State::Succeeded);
}
