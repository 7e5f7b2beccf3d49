//! The wire spec of one job: what the control plane asks for. No shell, SQL, path or environment text; the destination
//! only counts if the host's policy lists it, and secrets arrive sealed or as references.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, Base64Bytes, ConnectionId, DestinationId, GroupId, Hex16, JobId, PackageDigest};
use crate::schema::SchemaConfig;
use crate::tables::TableOptions;

/// One offered job. (job id, generation) names an attempt; the inbox answers a repeat of it from its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub job_id: JobId,
    pub generation: u64,
    pub connection_id: ConnectionId,
    pub group_id: GroupId,
    pub kind: JobKind,
    pub trigger: Trigger,
    /// The connection's schema name at the destination.
    pub connection_name: String,
    pub package: PackageRef,
    /// `"3.13"`; absent: the agent's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    pub naming: Naming,
    #[serde(default, skip_serializing_if = "Inference::is_default")]
    pub inference: Inference,
    /// Rules of where the connector may connect, within what the host's policy allows; absent: all of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
    /// Columns that the destination has keep their types.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub type_locked: bool,
    /// Which tables and columns arrive, and how; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaConfig>,
    pub destination: DestinationSpec,
    #[serde(default)]
    pub configuration: Vec<SecretEntry>,
    /// Variables of the connector's environment. Each only counts where the host's policy lists its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<SecretEntry>,
    /// Read everything again: the connector starts from an empty state.
    #[serde(default)]
    pub resync: bool,
    /// The tables to read again; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_scope: Option<ResyncScope>,
    /// Counts from acceptance; past it the job is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ms_max: Option<u64>,
}

impl JobSpec {
    /// The attempt this spec asks for.
    #[must_use]
    pub fn job_ref(&self) -> JobRef {
        JobRef { job_id: self.job_id.clone(), generation: self.generation }
    }
}

/// One attempt of one job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobRef {
    pub job_id: JobId,
    pub generation: u64,
}

impl fmt::Display for JobRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.job_id, self.generation)
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Sync,
    /// Runs the setup tests of the connector's form; opens no destination, moves nothing.
    Check,
    #[serde(other)]
    Unknown,
}

/// Why a job was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Schedule,
    Request,
    Retry,
    Takeover,
    #[serde(other)]
    Unknown,
}

/// How table and column names are spelt at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    Fivetran,
    Source,
    #[serde(other)]
    Unknown,
}

/// How the types of undeclared columns follow from the connector's values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    #[default]
    Compatible,
    Strict,
    Rich,
    #[serde(other)]
    Unknown,
}

impl Inference {
    /// Whether it may be left out of a message.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Inference::default()
    }
}

/// Tables of a re-sync. Names as in a [`SchemaConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncScope {
    pub tables: Vec<TableRef>,
    /// Name the keys that its hashes were made with; none: it holds names alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_keys: Vec<Hex16>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRef {
    pub schema: String,
    pub table: String,
}

/// What the connector is given of the host, within what its policy allows; absent: what the policy gives to everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory of all its processes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processor time, in percent of one processor: 200 is two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// Its files in HOME and /tmp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_bytes: Option<u64>,
}

impl Resources {
    /// Whether it may be left out of a message.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Resources::default()
    }
}

/// A connector package, named by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRef {
    pub digest: PackageDigest,
    pub bytes: u64,
}

/// Where rows land.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationSpec {
    pub kind: DestinationKind,
    pub destination_id: DestinationId,
    /// Only counts where the host's policy lists it.
    pub uri: String,
    #[serde(default)]
    pub tables: TableOptions,
}

/// Kinds of destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationKind {
    InshoreFiles,
    #[serde(other)]
    Unknown,
}

/// Beginnings of names that the runtime and the interpreter own, and whole names of the same kind.
const OWN_VARIABLES: [&str; 5] = ["LD_", "PYTHON", "FIVETRAN_", "INSHORE_", "DYLD_"];
const OWN_NAMES: [&str; 7] = ["PATH", "HOME", "TMPDIR", "LANG", "IFS", "BASH_ENV", "ENV"];
const VARIABLE_BYTES_MAX: usize = 255;

/// Whether a connection may set a variable of this name at all; what a host allows is its policy's business.
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && name.len() <= VARIABLE_BYTES_MAX;
    is_name && !OWN_NAMES.contains(&name) && !OWN_VARIABLES.iter().any(|own| name.starts_with(own))
}

/// One entry of the connector's `configuration` or `environment`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    pub key: String,
    pub value: SecretValue,
}

/// A configuration value the control plane cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum SecretValue {
    /// Sealed to the sealing key of `to`, with {agent, connection, purpose, key} as associated data.
    Sealed { to: AgentId, data: Base64Bytes },
    /// `${file:…}`, `${env:…}` or `${cred:…}`, resolved on the host.
    Reference { reference: String },
    #[serde(other)]
    Unknown,
}
