//! The agent's own files: `agent.toml`, `policy.toml`, secret references. Strict: an unknown key is an error that names
//! the nearest known one, because ignoring a setting someone wrote would change its meaning. The only crate that reads
//! files or environment for settings; what it returns is checked, with no `Option` that "must be set".
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

mod agent;
mod egress;
mod environment;
mod error;
mod file;
mod policy;
mod secret_ref;
mod store;
mod unit;
mod uri;

pub use agent::{AgentConfig, ChannelConfig, IndexUrl, LogConfig, LogFormat, LogLevel, PythonConfig};
pub use egress::{Allowed, Egress};
pub use environment::Environment;
pub use error::{Error, FileKind};
pub use policy::{Connectors, ListedDestination, Mode, Policy, Resources, SandboxPolicy, Telemetry};
pub use secret_ref::{Secret, SecretError, SecretPattern, SecretRef};
pub use store::{
    AzureOptions, Encryption, GcsOptions, HeldSecret, HttpUrl, Login, NetworkOptions, RequestChecksum, S3Options,
    StoreOptions,
};
pub use unit::{AbsolutePath, ByteSize, HumaneDuration};
