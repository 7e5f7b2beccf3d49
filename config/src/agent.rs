//! `agent.toml`: where the agent keeps things and how it reaches its control plane. Nothing in it can be changed from
//! above, and nothing in it widens what the policy allows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::{Error, FileKind};
use crate::file;
use crate::secret_ref::SecretRef;
use crate::unit::{AbsolutePath, ByteSize, HumaneDuration};

/// The whole file. Every key has a default; see `config/agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Identity, inbox, outbox, ledger: what must survive a restart.
    pub state_dir: AbsolutePath,
    /// Packages and Python environments: what can be made again.
    pub cache_dir: AbsolutePath,
    /// Encrypted batches on their way; emptied by each job.
    pub spool_dir: AbsolutePath,
    /// Jobs at one time; the policy's `resources.jobs_max` wins where it is lower.
    pub jobs_max: u32,
    /// The program `bwrap`, which makes the sandbox of connectors.
    pub bubblewrap: AbsolutePath,
    pub channel: ChannelConfig,
    pub python: PythonConfig,
    pub log: LogConfig,
}

/// How the control plane is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelConfig {
    /// `wss://host:port`; absent: what the join token said.
    pub url: Option<String>,
    /// PEM file of certificates that are trusted beside the system's roots.
    pub tls_ca_file: Option<AbsolutePath>,
    /// `http://host:port` of an HTTP CONNECT proxy.
    pub proxy: Option<String>,
    /// `user:password` for the proxy, by reference.
    pub proxy_credentials: Option<SecretRef>,
    /// How long running jobs outlive the loss of the control plane.
    pub offline_max: HumaneDuration,
}

/// Interpreters of connectors, and where their requirements come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PythonConfig {
    /// Interpreters connectors may run under, best first; empty: `python3` of the usual folders.
    pub interpreters: Vec<AbsolutePath>,
    /// The package index; absent: the installer's own.
    pub index_url: Option<IndexUrl>,
    pub extra_index_urls: Vec<IndexUrl>,
    /// A folder of wheels; without `index_url` the only source.
    pub wheel_house: Option<AbsolutePath>,
    /// `user:password` by host, by reference.
    pub credentials: BTreeMap<String, SecretRef>,
    /// Environments together; the least recently used go first.
    pub environments_bytes_max: ByteSize,
}

/// `https://host/path` or `http://host/path`, without credentials: those have a place of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexUrl(String);

impl IndexUrl {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let host = rest.split(['/', '?', '#']).next()?;
        let is_plain = !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace);
        is_plain.then(|| Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for IndexUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text may hold a password: it is not repeated.
        let hint = "write https://host/path without credentials; those belong in python.credentials";
        Self::parse(&text).ok_or_else(|| de::Error::custom(hint))
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// One line of text, or one JSON object, per event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The least severe level that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl AgentConfig {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        file::load(FileKind::Agent, path)
    }

    /// Parses a text; `path` is for messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        file::parse(FileKind::Agent, path, text)
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        let path = |text| AbsolutePath::new(text).expect("a default path begins with /");
        Self {
            state_dir: path("/var/lib/inshore"),
            cache_dir: path("/var/cache/inshore"),
            spool_dir: path("/var/lib/inshore/spool"),
            jobs_max: 4,
            bubblewrap: path("/usr/bin/bwrap"),
            channel: ChannelConfig::default(),
            python: PythonConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            url: None,
            tls_ca_file: None,
            proxy: None,
            proxy_credentials: None,
            offline_max: HumaneDuration(std::time::Duration::from_secs(24 * 60 * 60)),
        }
    }
}

impl Default for PythonConfig {
    fn default() -> Self {
        Self {
            interpreters: Vec::new(),
            index_url: None,
            extra_index_urls: Vec::new(),
            wheel_house: None,
            credentials: BTreeMap::new(),
            environments_bytes_max: ByteSize(20 << 30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{known_keys, uncommented};

    const SAMPLE: &str = include_str!("../agent.toml");

    fn parse(text: &str) -> Result<AgentConfig, Error> {
        AgentConfig::parse(Path::new("/etc/inshore/agent.toml"), text)
    }

    #[test]
    fn the_sample_parses_to_the_defaults_and_holds_every_key() {
        assert_eq!(parse(SAMPLE).expect("sample"), AgentConfig::default());
        let full = uncommented(SAMPLE);
        let shown = parse(&full).expect("sample with every key set");
        assert_eq!((shown.jobs_max, shown.channel.offline_max), (4, ChannelConfig::default().offline_max));
        for table in ["", "channel", "python", "log"] {
            for key in known_keys::<AgentConfig>(table) {
                let found =
                    full.lines().any(|line| line.starts_with(&format!("{key} =")) || line == format!("[{key}]"));
                assert!(found, "config/agent.toml does not mention {table}.{key}");
            }
        }
    }

    #[test]
    fn errors_say_line_column_and_nearest_key() {
        let unknown = parse("jobs_max = 2\n\n[channel]\n  tls_ca_flie = \"/x\"\n").expect_err("unknown key");
        assert_eq!(unknown.code(), "CFG-003");
        assert_eq!(
            unknown.to_string(),
            "read /etc/inshore/agent.toml: line 4, column 3: unknown key `tls_ca_flie`; did you mean `tls_ca_file`?"
        );
        let far = parse("wibble_wobble = 1").expect_err("unknown key");
        assert!(far.to_string().ends_with("line 1, column 1: unknown key `wibble_wobble`"), "{far}");
        for (text, position) in [
            ("jobs_max = \"two\"", "line 1, column 12"),
            ("\nstate_dir = \"var\"", "line 2, column 13"),
            ("[channel]\noffline_max = \"24\"", "line 2, column 15"),
            ("[log]\nformat = \"xml\"", "line 2, column 10"),
            ("jobs_max = = 2", "line 1, column 12"),
            ("[python]\nindex_url = \"https://me:hidden@host/simple\"", "line 2, column 13"),
            ("[python]\nextra_index_urls = [\"host/simple\"]", "line 2, column 20"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code(), "CFG-002", "{error}");
            assert!(error.to_string().contains(position), "{error}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_its_own_error() {
        let folder = tempfile::tempdir().expect("folder");
        let error = AgentConfig::load(&folder.path().join("agent.toml")).expect_err("missing");
        assert_eq!(error.code(), "CFG-001");
        assert_eq!(AgentConfig::load(folder.path()).expect_err("a folder").code(), "CFG-002");
    }
}
