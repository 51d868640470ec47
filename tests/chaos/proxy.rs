//! The wires between the replicas and the database: Toxiproxy, one proxy a replica,
//! spoken to by its HTTP interface.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::support::PATIENCE;

pub struct Toxiproxy {
    child: Child,
    address: String,
}

impl Toxiproxy {
    pub async fn start() -> Self {
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/toxiproxy/server");
        assert!(binary.is_file(), "{} is missing: run `make tools`", binary.display());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new(binary)
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let proxy = Self { child, address: format!("127.0.0.1:{port}") };
        let begin = Instant::now();
        while TcpStream::connect(&proxy.address).await.is_err() {
            assert!(begin.elapsed() < PATIENCE, "toxiproxy does not listen");
            sleep(Duration::from_millis(10)).await;
        }
        proxy
    }

    /// A new wire to this port; where it begins.
    pub async fn wire(&self, name: &str, port: u16) -> String {
        let upstream = format!("127.0.0.1:{port}");
        let body = json!({
            "name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true,
        });
        let made = self.ask("POST", "/proxies", Some(body)).await;
        made["listen"].as_str().expect("an address").to_owned()
    }

    /// Whether connections are taken; those that are there are closed where not.
    pub async fn enable(&self, name: &str, enabled: bool) {
        let body = json!({ "enabled": enabled });
        self.ask("POST", &format!("/proxies/{name}"), Some(body)).await;
    }

    /// Puts one toxic on the wire: see Toxiproxy's documentation for what there is.
    pub async fn poison(&self, name: &str, toxic: &str, stream: &str, attributes: Json) {
        let body = json!({
            "name": "poison", "type": toxic, "stream": stream, "attributes": attributes,
        });
        self.ask("POST", &format!("/proxies/{name}/toxics"), Some(body)).await;
    }

    /// Takes it off again.
    pub async fn cure(&self, name: &str) {
        self.ask("DELETE", &format!("/proxies/{name}/toxics/poison"), None).await;
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Json>) -> Json {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        let asked = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        timeout(PATIENCE, asked).await.expect("toxiproxy answers").expect("toxiproxy is there");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let good = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        assert!(good, "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap_or_default()
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("ended");
    }
}
