//! What this host can do for connectors: tried once when the agent starts, as the user and with the rights that jobs have,
//! and kept in a file for `inshore agent status`, which another user may run.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::inside::Landlock;
use super::{Layer, Sandbox, SelfTest, Tools};

const FILE: &str = "sandbox.json";

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tested {
    pub(crate) sandbox: SelfTest,
    /// What bounds connectors beside the limits of processes.
    pub(crate) limits: Layer,
    /// What the kernel adds to the sandbox.
    #[serde(default)]
    pub(crate) landlock: Landlock,
}

/// Tries it and keeps the result in the agent's folder; an error names the file that could not be written.
pub(crate) async fn test_host(tools: &Tools, state_dir: &Path) -> Result<SelfTest, (PathBuf, io::Error)> {
    let (sandbox, landlock) = Sandbox::self_test(tools).await;
    match &sandbox {
        SelfTest::Passed => tracing::info!(limits = tools.layer.text(), files = %landlock, "sandbox tested"),
        SelfTest::Failed { reason } => {
            tracing::error!(code = "POL-003", reason, "this host cannot make the sandbox for connectors");
        }
    }
    let file = state_dir.join(FILE);
    let tested = Tested { sandbox: sandbox.clone(), limits: tools.layer.clone(), landlock };
    let text = serde_json::to_vec(&tested).expect("plain data always serialises");
    std::fs::write(&file, text).map_err(|error| (file, error))?;
    Ok(sandbox)
}

/// What the agent found when it was last started; `None` before that.
pub(crate) fn tested(state_dir: &Path) -> Option<Tested> {
    serde_json::from_slice(&std::fs::read(state_dir.join(FILE)).ok()?).ok()
}
