//! A small client of the control plane's REST API, as a person's script would be.

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use ureq::Agent;

/// How long one call may take; long polls are shorter.
const CALL: Duration = Duration::from_secs(150);

/// A client with its key.
#[derive(Clone, Debug)]
pub struct Rest {
    agent: Agent,
    base: String,
    authorization: String,
}

/// A reply: the HTTP status and the whole envelope.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    /// `data` of a successful reply.
    pub fn data(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body["data"].clone()
    }
}

impl Rest {
    /// `key` is `key:secret`.
    pub fn new(port: u16, key: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(CALL)).build();
        let authorization = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(key.trim()));
        Self { agent: Agent::new_with_config(config), base: format!("http://127.0.0.1:{port}"), authorization }
    }

    pub fn get(&self, path: &str) -> Reply {
        let call = self.agent.get(format!("{}{path}", self.base)).header("authorization", &self.authorization);
        reply(call.call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let call = self.agent.post(format!("{}{path}", self.base)).header("authorization", &self.authorization);
        reply(call.send_json(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Reply {
        let call = self.agent.patch(format!("{}{path}", self.base)).header("authorization", &self.authorization);
        reply(call.send_json(body))
    }

    pub fn delete(&self, path: &str) -> Reply {
        let call = self.agent.delete(format!("{}{path}", self.base)).header("authorization", &self.authorization);
        reply(call.call())
    }

    /// Uploads a package; the reply is the package.
    pub fn upload(&self, zip: &[u8]) -> Reply {
        let boundary = "inshore-harness-boundary";
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"package.zip\"\r\n\
             Content-Type: application/zip\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(zip);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let call = self
            .agent
            .post(format!("{}/v1/connector-sdk/packages", self.base))
            .header("authorization", &self.authorization)
            .header("content-type", format!("multipart/form-data; boundary={boundary}"));
        reply(call.send(&body[..]))
    }

    /// Asks for a sync and returns its id.
    pub fn sync(&self, connection: &str) -> String {
        let data = self.post(&format!("/v1/connections/{connection}/sync"), &json!({})).data();
        data["sync_id"].as_str().unwrap_or_else(|| panic!("a sync id in {data}")).to_owned()
    }

    /// Waits for a sync's end and returns it.
    pub fn wait(&self, connection: &str, sync: &str, deadline: Duration) -> Value {
        let started = std::time::Instant::now();
        loop {
            let run = self.get(&format!("/v1/connections/{connection}/syncs/{sync}?wait=5s")).data();
            if !["queued", "running"].contains(&run["status"].as_str().unwrap_or_default()) {
                return run;
            }
            assert!(started.elapsed() < deadline, "waited {deadline:?} for sync {sync}: {run}");
        }
    }
}

fn reply(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = result.unwrap_or_else(|error| panic!("the control plane answers: {error}"));
    let text = response.body_mut().read_to_string().expect("a reply is text");
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("a reply is JSON ({error}): {text}"));
    Reply { status: response.status().as_u16(), body }
}
