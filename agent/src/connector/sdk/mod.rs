//! Connector SDK projects: an unmodified `connector.py` in its own environment, run by our Python host as a child
//! process, one per sync.
//!
//! Reading order: [`environment`] makes the interpreter, [`launch`] starts it, [`host`] speaks its frames, [`output`]
//! bounds what it prints, [`process`] knows every process it started and ends them, [`question`] asks for more than a sync.

pub(crate) mod environment;
mod frames;
mod host;
mod launch;
mod output;
mod process;
pub(crate) mod question;
mod requirements;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use inshore_columnar::{Inference, Naming};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Error, LogLevel, LogLine, LogOrigin};
use crate::sandbox::Sandbox;
pub(crate) use host::SdkSource;

/// What one sync of one project needs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where `inshore_host.py` and the native module are: `<executable>/../lib/inshore/sdk`.
    pub(crate) sdk_dir: PathBuf,
    /// The unpacked package: the connector's working directory.
    pub(crate) project_dir: PathBuf,
    /// An empty folder of this sync: the connector's HOME and TMPDIR.
    pub(crate) scratch_dir: PathBuf,
    pub(crate) environment: environment::Settings,
    /// What the connector sees in its environment beside what the runtime sets.
    pub(crate) variables: Vec<(String, String)>,
    /// Variables that the connection declares: they win over `variables`, and open no file to the connector.
    pub(crate) declared: Vec<(String, String)>,
    /// Resident memory of all the connector's processes together; above it they are killed.
    pub(crate) memory_bytes_max: u64,
    /// What the connector is put into; `None` runs it with this process's rights.
    pub(crate) sandbox: Option<Sandbox>,
    /// This process runs nothing but this connector, so any other child it has belongs to it too. True in `inshore job`.
    pub(crate) exclusive: bool,
    pub(crate) connection: Connection,
    pub(crate) start: Start,
}

/// What connector code reads from its environment (SDK_CONTRACT §8).
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) group_id: String,
    /// `hybrid_cloud` on an agent, `local_debug` on a developer's machine.
    pub(crate) deployment_model: String,
}

/// The host's first message. Holds secrets: its Debug shows none.
#[derive(Serialize)]
pub(crate) struct Start {
    pub(crate) project: PathBuf,
    /// The destination schema of tables that name none.
    pub(crate) schema: String,
    pub(crate) naming: Naming,
    pub(crate) inference: Inference,
    /// A developer's own run: `debug` lines of the connector's log are shown.
    pub(crate) debug: bool,
    /// The destination has a place for files beside rows.
    pub(crate) files: bool,
    /// A checkpoint that takes longer raises TimeoutError in the connector, as on the original runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_timeout_ms: Option<u64>,
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) state: Box<RawValue>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("project", &self.project).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Prepares the environment, which may take minutes the first time, and starts the connector. `progress` receives a
/// line per step of the preparation.
pub(crate) async fn open(settings: Settings, progress: &(dyn Fn(LogLine) + Sync)) -> Result<SdkSource, Error> {
    start(settings, None, progress).await
}

async fn start(
    settings: Settings,
    question: Option<&question::Question>,
    progress: &(dyn Fn(LogLine) + Sync),
) -> Result<SdkSource, Error> {
    let tell = |level: LogLevel, message: &str| {
        progress(LogLine { level, origin: LogOrigin::Library, message: message.to_owned() });
    };
    let environment = environment::prepare(&settings.environment, &settings.project_dir, &tell).await?;
    let mut source = host::start(settings, &environment.python, question).await?;
    source.environment = Some(environment.hold);
    Ok(source)
}
