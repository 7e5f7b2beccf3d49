//! A control plane, an agent, a lake and a connection, ready to sync: what most tests start from.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{self, Agent};
use crate::control::Control;
use crate::rest::Rest;
use crate::shop;

/// The schema of the test connections.
pub const SCHEMA: &str = "shop";
/// How long one small sync may take, Python start-up and a crash or two included.
pub const SYNC: Duration = Duration::from_secs(90);

/// Everything a sync needs, in one temporary folder.
#[derive(Debug)]
pub struct Stack {
    pub agent: Agent,
    pub control: Control,
    pub rest: Rest,
    pub group: String,
    pub lake: PathBuf,
    pub dir: TempDir,
}

impl Stack {
    /// A running control plane and one enrolled agent that is online.
    pub fn start() -> Self {
        let mut stack = Self::enrolled();
        let rest = stack.rest.clone();
        stack.agent.start(&rest);
        stack
    }

    /// The same with the agent not started yet.
    pub fn enrolled() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = Control::start(&dir.path().join("control"));
        let rest = control.rest();
        let group = rest.post("/v1/groups", &json!({"name": "test"})).data();
        let group = group["id"].as_str().expect("a group id").to_owned();
        let lake = dir.path().join("lake");
        let agent = Agent::enrol(&control, &group, &dir.path().join("agent"), &lake);
        let destination = json!({
            "group_id": group, "service": "inshore_files", "region": "LOCAL", "time_zone_offset": "0",
            "config": {"uri": format!("file://{}", lake.display())},
        });
        let made = rest.post("/v1/destinations", &destination);
        assert_eq!(made.status, 201, "{}", made.body);
        Self { agent, control, rest, group, lake, dir }
    }

    /// The folder of this host that connectors can read.
    pub fn source(&self) -> PathBuf {
        agent::source(&self.agent.dir)
    }

    /// What a connection's connector said so far.
    pub fn journal(&self, connection: &str) -> String {
        agent::journal(&self.agent.dir, connection)
    }

    /// A connection over a package; sealed values need the agent to have been online once.
    pub fn connection(&self, zip: &[u8], configuration: &[(&str, &str)]) -> String {
        self.connection_named(SCHEMA, zip, configuration)
    }

    pub fn connection_named(&self, schema: &str, zip: &[u8], configuration: &[(&str, &str)]) -> String {
        let package = self.rest.upload(zip);
        assert_eq!(package.status, 201, "{}", package.body);
        let package = package.data()["id"].clone();
        let secrets: Vec<Value> =
            configuration.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({
            "group_id": self.group, "service": "connector_sdk", "paused": false, "schedule_type": "manual",
            "run_setup_tests": false,
            "config": {"schema": schema, "package_id": package, "secrets_list": secrets},
        });
        let made = self.rest.post("/v1/connections", &body);
        assert_eq!(made.status, 201, "{}", made.body);
        made.data()["id"].as_str().expect("a connection id").to_owned()
    }

    /// A connection over the shop with `rows` rows and a checkpoint about every tenth of them.
    pub fn shop(&self, rows: u64, seed: u64) -> (String, PathBuf) {
        let database = shop::database(&self.source());
        shop::generate(&database, rows, seed);
        let checkpoint_rows = (rows / 10).max(1).to_string();
        let path = database.display().to_string();
        let connection =
            self.connection(&shop::package(), &[("database", &path), ("checkpoint_rows", &checkpoint_rows)]);
        (connection, database)
    }

    /// Runs one sync to its end, which must be a success.
    pub fn sync(&self, connection: &str) -> Value {
        let sync = self.rest.sync(connection);
        let run = self.rest.wait(connection, &sync, SYNC);
        assert_eq!(run["status"], "succeeded", "{run}\n{}", self.agent.output());
        run
    }
}
