//! The manifests of `deploy/`: they hold by the schemas of Kubernetes, and what they say is what
//! the binary takes, tells and keeps to. `make tools` has the schemas.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{PATIENCE, create, get, next, postgres::Cluster, watch};
use taskwatch::{config::Config, proto::task_service_client::TaskServiceClient};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The oldest version that the manifests are for, and the newest one that is known.
const KUBERNETES: [&str; 2] = ["1.31", "1.37"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> Command {
    let path = root().join("target/tools/kubernetes/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    Command::new(path)
}

/// What the kustomization puts together.
fn manifests() -> Vec<PathBuf> {
    let kustomization = yaml(&root().join("deploy/kustomization.yaml"));
    let names = kustomization[0]["resources"].as_array().expect("resources").iter();
    names.map(|name| root().join("deploy").join(name.as_str().expect("a file"))).collect()
}

/// The documents of a file.
fn yaml(file: &Path) -> Vec<Value> {
    let code =
        "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output = tool("python").args(["-c", code]).arg(file).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", file.display());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The one object of this kind.
fn object(kind: &str) -> Value {
    let all = manifests().iter().flat_map(|file| yaml(file)).collect::<Vec<_>>();
    let mut found = all.into_iter().filter(|object| object["kind"] == kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    one
}

fn validate(version: &str, files: &[PathBuf]) -> Output {
    let mut validate = tool("kubernetes-validate");
    validate.args(["--strict", "-k", version]).args(files).output().expect("it starts")
}

#[test]
fn every_object_holds_by_the_schemas() {
    let files = manifests();
    let objects = files.iter().map(|file| yaml(file).len()).sum::<usize>();
    for version in KUBERNETES {
        let output = validate(version, &files);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        // What there is no schema for is a mere warning.
        let passed = said.matches(&format!("against version {version}\n")).count();
        assert_eq!(passed, objects, "{said}");
    }
    // And what is wrong is found.
    let folder = TempDir::new().unwrap();
    let wrong = folder.path().join("deployment.yaml");
    let deployment = fs::read_to_string(root().join("deploy/deployment.yaml")).unwrap();
    for (right, other) in [("periodSeconds", "periodSecond"), ("replicas: 3", "replicas: many")] {
        assert!(deployment.contains(right));
        fs::write(&wrong, deployment.replacen(right, other, 1)).unwrap();
        assert!(!validate(KUBERNETES[1], std::slice::from_ref(&wrong)).status.success(), "{other}");
    }
}

/// Names, labels and ports that have to be the same in several places.
#[test]
fn the_objects_fit_together() {
    let deployment = object("Deployment");
    let (spec, service) = (&deployment["spec"], object("Service"));
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let labels = &spec["template"]["metadata"]["labels"];
    let policy = object("NetworkPolicy");
    let budget = object("PodDisruptionBudget");
    for selector in [
        &spec["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &policy["spec"]["podSelector"]["matchLabels"],
        &budget["spec"]["selector"]["matchLabels"],
        &pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        &pod["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(pod["volumes"][0]["configMap"]["name"], object("ConfigMap")["metadata"]["name"]);

    let port = json!(config().listen.port());
    for named in [
        &container["ports"][0]["containerPort"],
        &container["startupProbe"]["grpc"]["port"],
        &container["readinessProbe"]["grpc"]["port"],
        &container["livenessProbe"]["grpc"]["port"],
        &service["spec"]["ports"][0]["port"],
        &policy["spec"]["ingress"][0]["ports"][0]["port"],
    ] {
        assert_eq!(named, &port);
    }
    assert_eq!(service["spec"]["ports"][0]["targetPort"], container["ports"][0]["name"]);
    assert_eq!(service["spec"]["clusterIP"], "None", "its name has to have every address");
    assert!(config().listen.ip().is_unspecified(), "a probe does not come from loopback");
    assert!(config().grace < termination_grace(), "or the drain is cut");
}

fn termination_grace() -> Duration {
    let pod = &object("Deployment")["spec"]["template"]["spec"];
    Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds"))
}

fn config_text() -> String {
    object("ConfigMap")["data"]["taskwatch.toml"].as_str().expect("the file").to_owned()
}

fn config() -> Config {
    Config::parse("taskwatch.toml", &config_text()).expect("what the server reads")
}

/// The container's command with its environment, but for where it listens, where its files are
/// and which database it is.
fn container(folder: &Path, port: u16, database: &str) -> Command {
    let container = &object("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let here = format!("127.0.0.1:{port}");
    let config = config_text().replace(&config().listen.to_string(), &here);
    assert!(config.contains(&here));
    fs::write(folder.join("taskwatch.toml"), config).expect("written");
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let mut command = support::taskwatch();
    for argument in container["args"].as_array().expect("arguments") {
        let argument = argument.as_str().expect("text");
        command.arg(argument.replace(mounted, folder.to_str().expect("UTF-8")));
    }
    let secrets = container["env"].as_array().expect("variables").iter();
    let [secret] = secrets.collect::<Vec<_>>()[..] else { panic!("one variable, the database") };
    assert!(secret["valueFrom"]["secretKeyRef"]["key"].is_string());
    command.env(secret["name"].as_str().expect("a name"), database);
    command.stderr(fs::File::create(folder.join("log")).expect("a log"));
    command
}

/// What a probe of Kubernetes asks, and all that it looks at.
async fn probe(channel: &Channel) -> Result<ServingStatus, Code> {
    let check = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel.clone()).check(check).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// Probed, used, left by its database, still alive, and told to end: all within what the
/// manifests give it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_lives_as_the_manifests_say() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let folder = TempDir::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let command = container(folder.path(), port, &cluster.database());
    let mut server = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let channel = endpoint.connect_lazy();
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while probe(&channel).await != Ok(ServingStatus::Serving) {
        assert!(Instant::now() < deadline, "it does not start\n{}", log());
        sleep(Duration::from_millis(20)).await;
    }
    let mut client = TaskServiceClient::new(channel.clone());
    let created = client.create_task(create("external", json!(null))).await.unwrap().into_inner();
    let mut stream = client.watch_task(watch(&created.name)).await.unwrap().into_inner();
    next(&mut stream).await.unwrap().expect("the present state");

    cluster.stop();
    assert_eq!(get(&mut client, &created.name).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(probe(&channel).await, Ok(ServingStatus::Serving), "or it would be killed for it");

    let pid = Pid::from_raw(server.id().unwrap() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = timeout(termination_grace(), server.wait()).await;
    let status = status.unwrap_or_else(|_| panic!("it would be killed\n{}", log())).unwrap();
    assert!(status.success(), "{status}\n{}", log());
    assert!(log().starts_with('{'), "logs for machines\n{}", log());
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);
}
