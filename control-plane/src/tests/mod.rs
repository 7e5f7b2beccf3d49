//! The control plane as its peers see it: REST and an agent's end over real sockets.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::{self, Running};
use crate::config::Settings;

mod agent;
mod bad_frames;
mod rest;
mod resync;
mod schemas;
mod setup_tests;
mod syncs;

/// A control plane in a directory of its own.
struct Plane {
    running: Running,
    key: String,
    dir: PathBuf,
    _temporary: tempfile::TempDir,
}

/// An HTTP reply.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    fn data(&self) -> Value {
        let json = self.json();
        assert_eq!(json["code"], "Success", "{json}");
        json["data"].clone()
    }

    fn check(&self, status: u16, code: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status, json["code"].as_str()), (status, Some(code)), "{json}");
        assert!(json["message"].is_string(), "{json}");
        json
    }
}

fn settings(dir: &std::path::Path) -> Settings {
    let text = format!(
        "state_dir = '{0}/state'\nport_file = '{0}/ports.json'\n[listen]\nhttps = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n",
        dir.display()
    );
    toml::from_str(&text).expect("settings")
}

impl Plane {
    async fn start() -> Self {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().to_owned();
        let running = Box::pin(app::start(settings(&dir))).await.expect("starts");
        let key = std::fs::read_to_string(dir.join("state/api_key")).expect("the key is written");
        Self { running, key, dir, _temporary: temporary }
    }

    /// Stops and starts on the same state.
    async fn restart(self) -> Self {
        self.running.stop().await;
        let running = Box::pin(app::start(settings(&self.dir))).await.expect("starts again");
        Self { running, ..self }
    }

    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(&self.key))
    }

    async fn raw(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.running.http.expect("http listens")).await.expect("connects");
        let head = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.expect("writes");
        stream.write_all(body).await.expect("writes");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("reads");
        let split = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&all[..split]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = if head.contains("transfer-encoding: chunked") {
            unchunk(&all[split + 4..])
        } else {
            all[split + 4..].to_vec()
        };
        Answer { status, head, body }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nAuthorization: {}\r\n", self.basic());
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.raw(&head, body.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, Some(body)).await
    }

    async fn upload(&self, method: &str, path: &str, zip: &[u8]) -> Answer {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"p.zip\"\r\n\r\n".to_vec();
        body.extend_from_slice(zip);
        body.extend_from_slice(b"\r\n--b--\r\n");
        let auth = self.basic();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nAuthorization: {auth}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        );
        self.raw(&head, &body).await
    }

    async fn group(&self) -> String {
        let answer = self.post("/v1/groups", json!({"name": crate::api::fresh_id("g")})).await;
        answer.data()["id"].as_str().expect("an id").to_owned()
    }

    /// A group with destination and package: (group, package).
    async fn ground(&self) -> (String, String) {
        let group = self.group().await;
        let body = json!({"group_id": group, "service": "inshore_files", "config": {"uri": "file:///data/lake"}});
        assert_eq!(self.post("/v1/destinations", body).await.status, 201);
        let answer = self.upload("POST", "/v1/connector-sdk/packages", &zip_of(&["connector.py"])).await;
        assert_eq!(answer.status, 201);
        let package = answer.data()["id"].as_str().expect("an id").to_owned();
        (group, package)
    }

    async fn connection(&self, group: &str, package: &str, secrets: Value) -> Answer {
        let config =
            json!({"schema": "shop", "package_id": package, "secrets_list": secrets, "python_version": "3.13"});
        let body = json!({"group_id": group, "service": "connector_sdk", "config": config, "schedule_type": "manual"});
        self.post("/v1/connections", body).await
    }

    /// Whether any file of the state directory holds these bytes.
    fn state_holds(&self, needle: &[u8]) -> bool {
        let files = std::fs::read_dir(self.dir.join("state")).expect("the state directory");
        files
            .filter_map(|file| std::fs::read(file.expect("an entry").path()).ok())
            .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).expect("text"), 16).expect("a size");
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[(end + 4 + size).min(rest.len())..];
    }
    body
}

fn zip_of(names: &[&str]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
        writer.write_all(format!("# {name}\n").as_bytes()).expect("content");
    }
    writer.finish().expect("a zip").into_inner()
}
