//! What `deploy/` says is what Kubernetes takes and what the server understands.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use support::{Server, create};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn tool(name: &str) -> Command {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kubernetes/bin").join(name);
    assert!(bin.exists(), "{} is missing: run `make tools`", bin.display());
    Command::new(bin)
}

/// Checked by the schemas of the newest Kubernetes; nothing unknown is let through.
fn validate(file: &Path) -> Output {
    tool("kubernetes-validate").arg("--strict").arg(file).output().expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn kubernetes_takes_the_manifests() {
    let mut checked = 0;
    for file in fs::read_dir(deploy()).expect("manifests") {
        let path = file.expect("a file").path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
        if !is_yaml || path.ends_with("kustomization.yaml") {
            continue;
        }
        let output = validate(&path);
        assert!(output.status.success(), "{}: {}", path.display(), said(&output));
        checked += 1;
    }
    assert!(checked >= 4, "{checked} manifests");
    // The check can fail.
    let folder = tempfile::TempDir::new().expect("a directory");
    let wrong = folder.path().join("wrong.yaml");
    let service = fs::read_to_string(deploy().join("service.yaml")).expect("a service");
    fs::write(&wrong, service.replace("clusterIP:", "clusterIp:")).expect("written");
    assert!(!validate(&wrong).status.success(), "a misspelt field passes");
}

/// The configuration of the manifests starts a server on PostgreSQL, and SIGTERM ends it.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_its_configuration() {
    let read = "import sys, yaml\n\
        for each in yaml.safe_load_all(open(sys.argv[1])):\n    \
            if each['kind'] == 'ConfigMap': print(each['data']['taskwatch.toml'])";
    let output = tool("python").arg("-c").arg(read).arg(deploy().join("config.yaml")).output();
    let output = output.expect("it starts");
    assert!(output.status.success(), "{}", said(&output));
    let config = String::from_utf8(output.stdout).expect("text");
    assert!(config.contains("listen"), "it listens for other machines: {config}");
    let database = support::postgres::database().await;
    let mut server = Server::with(Some(database), Some(&config)).await;
    let request = create("external", serde_json::Value::Null);
    server.client().create_task(request).await.expect("created");
    server.terminate();
    assert!(server.ended().await.success(), "{}", server.log());
}
