//! A real agent in a folder of its own: its files, its enrolment, its process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use crate::control::Control;
use crate::process::{self, Process};
use crate::rest::Rest;
use crate::{stage, wait};

const ONLINE: Duration = Duration::from_secs(30);

/// One agent's folder and, while it runs, its process.
#[derive(Debug)]
pub struct Agent {
    pub dir: PathBuf,
    /// Its id at the control plane.
    pub id: String,
    process: Option<Process>,
}

impl Agent {
    /// Makes the agent at the control plane and enrols it from `dir`, allowed to run every connector towards `lake`.
    pub fn enrol(control: &Control, group: &str, dir: &Path, lake: &Path) -> Self {
        write_files(control, dir, lake);
        let id = enrol_again(&control.rest(), group, dir);
        Self::enrolled(dir, &id)
    }

    /// The agent of a folder whose enrolment is done.
    pub fn enrolled(dir: &Path, id: &str) -> Self {
        Self { dir: dir.to_owned(), id: id.to_owned(), process: None }
    }

    /// Starts it and waits until the control plane sees it.
    pub fn start(&mut self, rest: &Rest) {
        self.launch();
        self.wait_online(rest);
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) {
        let mut command = command(&self.dir, &["agent", "run"]);
        command.env("INSHORE_FAIL_POINTS", self.fail_points());
        self.process = Some(Process::start(command, &self.dir.join("agent.log")));
    }

    pub fn wait_online(&mut self, rest: &Rest) {
        let path = format!("/v1/hybrid-deployment-agents/{}", self.id);
        wait::until("the agent to be online", ONLINE, || {
            let process = self.process.as_mut()?;
            assert!(process.ended().is_none(), "the agent ended: {}", process.output());
            (rest.get(&path).data()["online"] == json!(true)).then_some(())
        });
    }

    /// The next start dies at the `count`-th pass of each named point.
    pub fn arm(&self, points: &[(&str, u64)]) {
        let text: String = points.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        std::fs::write(self.fail_points(), text).expect("fail points are written");
    }

    fn fail_points(&self) -> PathBuf {
        self.dir.join("fail.points")
    }

    /// The points that were hit so far, in order.
    pub fn hits(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("fail.hits")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The agent, its jobs and their connectors.
    pub fn tree(&self) -> Vec<u32> {
        self.pid().map(process::tree).unwrap_or_default()
    }

    /// Whether its process has ended by itself; a process that is not there has.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.ended().is_some())
    }

    /// SIGKILL to the agent alone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGKILL to the agent, its jobs and their connectors at once.
    pub fn kill_tree(&mut self) {
        let tree = self.tree();
        process::signal_all(&tree, rustix::process::Signal::KILL);
        self.kill();
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the agent runs")
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let tree = self.tree();
        process::signal_all(&tree, rustix::process::Signal::KILL);
        self.kill();
    }
}

/// A new identity for the agent's folder; returns its id.
pub fn enrol_again(rest: &Rest, group: &str, dir: &Path) -> String {
    let (id, token) = join_token(rest, group, &dir.display().to_string());
    let token_file = dir.join("token");
    write_secret(&token_file, &token);
    let output = enrol(dir, &token_file);
    assert!(output.status.success(), "enrolment failed: {}", String::from_utf8_lossy(&output.stderr));
    id
}

/// Makes an agent at the control plane: its id and its join token.
pub fn join_token(rest: &Rest, group: &str, name: &str) -> (String, String) {
    let body = json!({"display_name": name, "group_id": group, "env_type": "STANDALONE", "auth_type": "AUTO", "accept_terms": true});
    let made = rest.post("/v1/hybrid-deployment-agents", &body);
    assert_eq!(made.status, 201, "{}", made.body);
    let data = made.data();
    let text = |name: &str| data[name].as_str().unwrap_or_else(|| panic!("{name} in {data}")).to_owned();
    (text("id"), text("token"))
}

/// Runs `inshore enrol`.
pub fn enrol(dir: &Path, token_file: &Path) -> Output {
    command(dir, &["enrol", "--token-file"]).arg(token_file).output().expect("inshore runs")
}

/// A command of the staged `inshore` with this agent's files.
pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(stage().join("usr/bin/inshore"));
    command.args(arguments).arg("--config").arg(dir.join("agent.toml"));
    if arguments.first() == Some(&"agent") {
        command.arg("--policy").arg(dir.join("policy.toml"));
    }
    // `--token-file` takes the next word: the settings come before it.
    if let Some(position) = arguments.iter().position(|word| *word == "--token-file") {
        let mut command = Command::new(stage().join("usr/bin/inshore"));
        command.args(&arguments[..position]).arg("--config").arg(dir.join("agent.toml")).args(&arguments[position..]);
        return command;
    }
    command
}

/// The agent's settings and policy: this control plane, this lake, every connector, which may read [`source`].
pub fn write_files(control: &Control, dir: &Path, lake: &Path) {
    write_settings(&control.certificate(), dir, lake);
}

/// The same for a control plane of which only the certificate is known.
pub fn write_settings(certificate: &Path, dir: &Path, lake: &Path) {
    std::fs::create_dir_all(dir).expect("its folder");
    std::fs::create_dir_all(lake).expect("the lake's folder");
    std::fs::create_dir_all(source(dir)).expect("the sources' folder");
    let cache = crate::cache();
    let agent = format!(
        "state_dir = \"{}\"\ncache_dir = \"{}\"\nspool_dir = \"{}\"\n[channel]\ntls_ca_file = \"{}\"\n[log]\nformat = \"text\"\n",
        dir.join("state").display(),
        cache.display(),
        dir.join("spool").display(),
        certificate.display(),
    );
    let policy = format!(
        "mode = \"managed\"\ndestinations = [{{ kind = \"inshore_files\", uri = \"file://{}\" }}]\nconnectors = \"any\"\n\
         secret_references = [\"${{file:{}/*}}\"]\nsandbox = {{ read_only = [\"{}\"] }}\n",
        lake.display(),
        dir.display(),
        source(dir).display(),
    );
    std::fs::write(dir.join("agent.toml"), agent).expect("agent.toml");
    std::fs::write(dir.join("policy.toml"), policy).expect("policy.toml");
}

/// Beside the agent's folder: what connectors in their sandbox can read of this host.
pub fn source(dir: &Path) -> PathBuf {
    dir.with_file_name("source")
}

/// What a connection's connector said so far, as the agent in this folder keeps it.
pub fn journal(dir: &Path, connection: &str) -> String {
    std::fs::read_to_string(dir.join("state/logs").join(format!("{connection}.jsonl"))).unwrap_or_default()
}

/// A file that only its owner can read.
pub fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the secret is written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode is set");
}
