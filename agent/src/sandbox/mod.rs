//! The wall around connector code: a [`Sandbox`] is what this host and its policy give to every connector, a [`Room`] is
//! one connector's sandbox. Made of bubblewrap's namespaces outside ([`bubblewrap`]), and inside of this binary as first
//! process ([`inside`]), which closes the door behind it: network, files, capabilities, limits, system calls.
//!
//! There is no network in a room. Its one way out is [`relay`], a Unix socket to the process that made the room, which
//! checks every target against the policy. Nothing inside is trusted, the first process neither: what it is asked for
//! through the relay is decided here.

mod bubblewrap;
mod group;
mod host;
pub(crate) mod inside;
mod lists;
mod records;
mod relay;
mod scratch;
mod upstream;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use inshore_config::{Egress, SandboxPolicy};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::context::chain;
use group::Bounds;
pub(crate) use group::{Group, Layer};
pub(crate) use host::{Tested, test_host, tested};
use inside::Landlock;
use lists::Lists;
pub(crate) use lists::{RefusedBy, Tally};
use relay::{Reach, Relay};
pub(crate) use scratch::used_bytes;
pub(crate) use upstream::Upstream;

/// How long the self-test may take.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long the first process may take until it asks for its link to the job.
const LINK_TIME_MAX: Duration = Duration::from_secs(60);
/// What is shown of a failure's own words.
const REASON_BYTES_MAX: usize = 400;

/// What every connector of this host is put into.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) tools: Tools,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) lists: Lists,
    /// Counts over all rooms.
    pub(crate) tally: Tally,
    pub(crate) allow_writable_code: bool,
    pub(crate) processes_max: u32,
    pub(crate) scratch_bytes_max: u64,
    /// 200 is two processors; without it all of the host's.
    pub(crate) cpu_percent: Option<u32>,
    /// All its processes together; the watcher of whoever runs the connector holds it too.
    pub(crate) memory_bytes_max: Option<u64>,
}

/// What one connection asks for; absent is what the policy gives to everybody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) egress: Option<Egress>,
    pub(crate) memory_bytes: Option<u64>,
    /// 200 is two processors.
    pub(crate) cpu_percent: Option<u32>,
    pub(crate) scratch_bytes: Option<u64>,
}

impl Wanted {
    /// What of the policy's memory it gets.
    pub(crate) fn memory_bytes_max(&self, policy_bytes_max: u64) -> u64 {
        self.memory_bytes.map_or(policy_bytes_max, |bytes| bytes.min(policy_bytes_max))
    }
}

/// The programs that make a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tools {
    /// The program `bwrap`.
    pub(crate) bubblewrap: PathBuf,
    /// This binary, the first process inside.
    pub(crate) inside: PathBuf,
    /// Control groups, where this host has them.
    #[serde(default)]
    pub(crate) layer: Layer,
}

/// What came of trying it on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum SelfTest {
    Passed,
    Failed { reason: String },
}

/// The folders that one connector sees beside the system's own.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// The code: read-only, and the working directory.
    pub(crate) project: &'a Path,
    /// The runtime: read-only.
    pub(crate) sdk: &'a Path,
    /// The interpreter in its environment: read-only, with whatever installation it points to.
    pub(crate) python: &'a Path,
    /// HOME and TMPDIR: the only folder that stays writable, with /tmp.
    pub(crate) home: &'a Path,
    /// Files and folders that the connector's variables name: read-only.
    pub(crate) named: Vec<PathBuf>,
}

/// Why a connector could not be put into its sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("prepare the sandbox")]
    Prepare(#[source] io::Error),
    #[error("run {}: is the package bubblewrap installed?", tool.display())]
    Tool {
        tool: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("make the sandbox: {0}")]
    Refused(String),
}

impl Sandbox {
    /// As the policy allows it, and within that as the connection wants it.
    pub(crate) fn new(policy: &SandboxPolicy, wanted: &Wanted, tools: &Tools) -> Self {
        let scratch_bytes_max = policy.scratch_bytes_max.0;
        Self {
            tools: tools.clone(),
            read_only: policy.read_only.iter().map(|path| path.as_path().to_owned()).collect(),
            lists: Lists { policy: policy.egress.clone(), connection: wanted.egress.clone(), every_port: false },
            tally: Tally::default(),
            allow_writable_code: policy.allow_writable_code,
            processes_max: policy.processes_max,
            cpu_percent: wanted.cpu_percent,
            memory_bytes_max: None,
            scratch_bytes_max: wanted.scratch_bytes.map_or(scratch_bytes_max, |bytes| bytes.min(scratch_bytes_max)),
        }
    }

    /// The same, listening wherever servers do: what a connector connects to is seen, whatever its port.
    pub(crate) fn at_every_port(mut self, tally: Tally) -> Self {
        self.lists.every_port = true;
        self.tally = tally;
        self
    }

    /// Whether this host can make a sandbox at all, and what its kernel adds.
    pub(crate) async fn self_test(tools: &Tools) -> (SelfTest, Landlock) {
        match Self::new(&SandboxPolicy::default(), &Wanted::default(), tools).probe().await {
            Ok(kept) => (SelfTest::Passed, kept),
            Err(error) => (SelfTest::Failed { reason: chain(&error) }, Landlock::None),
        }
    }

    /// Makes a sandbox with everything that a connector's has, in which nothing runs. What fails, fails here.
    async fn probe(&self) -> Result<Landlock, Error> {
        let folder = tempfile::tempdir().map_err(Error::Prepare)?;
        let path = folder.path();
        let view =
            View { project: path, sdk: path, python: Path::new("/usr/bin/python3"), home: path, named: Vec::new() };
        let room = self.room(&view, &BTreeSet::new(), Upstream::default())?;
        let mut command = room.command(&["--check"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(PROBE_TIME_MAX, command.output()).await;
        let output = output.map_err(|_| Error::Refused("it took longer than 20 s".to_owned()))?;
        let output = output.map_err(|source| Error::Tool { tool: self.tools.bubblewrap.clone(), source })?;
        if !output.status.success() {
            return Err(Error::Refused(reason(&output.stderr)));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Landlock::parse(said.trim()).ok_or_else(|| Error::Refused("its first process said nothing".to_owned()))
    }

    /// One connector's sandbox, with its relay listening. `ports` are those that the connector is likely to ask for,
    /// beside the rules' own and the well-known ones.
    pub(crate) fn room(&self, view: &View<'_>, ports: &BTreeSet<u16>, upstream: Upstream) -> Result<Room, Error> {
        let beside = view.home.parent().unwrap_or(view.home);
        let folder = tempfile::Builder::new().prefix("inshore-sandbox-").tempdir_in(beside).map_err(Error::Prepare)?;
        bubblewrap::write_system_files(folder.path()).map_err(Error::Prepare)?;
        let group = Arc::new(self.group());
        let reach = Reach { lists: self.lists.clone(), upstream, tally: self.tally.clone(), group: Arc::clone(&group) };
        let relay = Relay::start(folder.path(), reach, ports).map_err(Error::Prepare)?;
        let arguments = bubblewrap::arguments(self, view, folder.path());
        Ok(Room {
            tool: self.tools.bubblewrap.clone(),
            arguments,
            scratch: vec![view.home.to_owned(), folder.path().join(bubblewrap::TMP)],
            scratch_bytes_max: self.scratch_bytes_max,
            relay,
            tally: self.tally.clone(),
            group,
            _folder: folder,
        })
    }
}

impl Sandbox {
    /// Where it cannot be made the other limits hold alone.
    fn group(&self) -> Option<Group> {
        let memory_bytes = self.memory_bytes_max?;
        let bounds = Bounds { memory_bytes, processes: self.processes_max, cpu_percent: self.cpu_percent };
        self.tools.layer.make(&bounds).unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "no control group for this connector");
            None
        })
    }
}

/// One connector's sandbox.
#[derive(Debug)]
pub(crate) struct Room {
    tool: PathBuf,
    arguments: Vec<OsString>,
    scratch: Vec<PathBuf>,
    scratch_bytes_max: u64,
    relay: Relay,
    tally: Tally,
    group: Arc<Option<Group>>,
    _folder: tempfile::TempDir,
}

impl Room {
    /// The command that makes the room; what follows is for its first process. All variables are the caller's.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool);
        command.args(&self.arguments).args(arguments);
        command
    }

    /// The socket between job and connector, once the first process asks for it.
    pub(crate) async fn link(&mut self) -> Result<UnixStream, Error> {
        match tokio::time::timeout(LINK_TIME_MAX, self.relay.link()).await {
            Ok(Some(link)) => Ok(link),
            Ok(None) => Err(Error::Refused("its relay ended".to_owned())),
            Err(_) => Err(Error::Refused("its first process did not come up within 60 s".to_owned())),
        }
    }

    /// What was refused so far: target, the list that has no rule for it, and how often.
    pub(crate) fn refusals(&self) -> Vec<(String, RefusedBy, u64)> {
        self.tally.refused()
    }

    /// The connector's control group, where it has one.
    pub(crate) fn group(&self) -> Arc<Option<Group>> {
        Arc::clone(&self.group)
    }

    /// The folders whose files count as the connector's own, and how much they may hold.
    pub(crate) fn scratch(&self) -> (Vec<PathBuf>, u64) {
        (self.scratch.clone(), self.scratch_bytes_max)
    }
}

/// The last words of a process that could not make a room, on one line.
pub(crate) fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut reason = lines.join("; ");
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
        reason.truncate(end);
    }
    if reason.is_empty() { "it ended without a word".to_owned() } else { reason }
}

#[cfg(test)]
pub(crate) mod tests;
