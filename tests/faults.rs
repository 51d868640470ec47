//! What goes wrong below the server: a file in use, damaged, read-only, or a disk
//! that is full. Each gives a clear error, and nothing is acknowledged falsely.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::json;
use support::{Server, create, get, object, taskwatch};
use tempfile::TempDir;
use tonic::Code;

/// Runs a server that must not come up, to its end.
fn refused(mut command: Command) -> String {
    let output: Output = command.stderr(Stdio::piped()).output().expect("it starts");
    assert!(!output.status.success(), "it must not start");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn serve(database: &Path) -> Command {
    let mut command = taskwatch();
    command.args(["serve", "--listen", "127.0.0.1:0", "--database"]);
    command.arg(format!("sqlite://{}", database.display()));
    command.current_dir(database.parent().expect("a directory"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_file_is_refused() {
    let server = Server::start().await;
    let command = serve(&server.folder().join("taskwatch.db"));
    let error = tokio::task::spawn_blocking(|| refused(command)).await.unwrap();
    assert!(error.contains("taskwatch.db"), "it names the file: {error}");
    let mut client = server.client();
    client.create_task(create("external", json!(null))).await.expect("the first one is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("taskwatch.db");
    fs::write(&database, "this was never a database. ".repeat(1_000)).unwrap();
    let command = serve(&database);
    let error = tokio::task::spawn_blocking(|| refused(command)).await.unwrap();
    assert!(error.contains("taskwatch.db"), "it names the file: {error}");
    let left = fs::read(&database).unwrap();
    assert!(left.starts_with(b"this was never"), "what it cannot read it leaves alone");
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where this process may not mount, as in most containers.
    fn new(options: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "left mounted");
    }
}

/// Past the test harness, which shows nothing of a test that passes.
fn not_tested() {
    let what = b"\nNOT TESTED: full and read-only disks, for which a test must be able to mount\n";
    std::io::stderr().write_all(what).expect("said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_is_refused() {
    let Some(disk) = SmallDisk::new("size=4m") else {
        return not_tested();
    };
    let database = disk.0.path().join("taskwatch.db");
    fs::write(&database, "").unwrap();
    let remounted =
        Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(remounted.success());
    let command = serve(&database);
    let error = tokio::task::spawn_blocking(|| refused(command)).await.unwrap();
    assert!(error.contains("taskwatch.db"), "it names the file: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = SmallDisk::new("size=8m") else {
        return not_tested();
    };
    let path = disk.0.path();
    let database = format!("sqlite://{}/taskwatch.db", path.display());
    let server = Server::with(Some(database), None).await;
    let mut client = server.client();
    let mut request = create("external", json!(null));
    request.task.as_mut().unwrap().input = Some(object(json!({"text": "x".repeat(64 << 10)})));
    let mut acknowledged = Vec::new();
    let refused = loop {
        match client.create_task(request.clone()).await {
            Ok(task) => acknowledged.push(task.into_inner().name),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 1_000, "8 MiB cannot hold this");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    for name in &acknowledged {
        get(&mut client, name).await.expect("what was acknowledged is there");
    }
    let enlarged =
        Command::new("mount").args(["-o", "remount,size=64m"]).arg(path).status().unwrap();
    assert!(enlarged.success());
    client.create_task(request).await.expect("there is room again");
}
