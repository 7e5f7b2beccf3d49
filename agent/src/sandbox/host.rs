//! Whether this host can make a sandbox: tried once when the agent starts, as the user and with the rights that jobs have,
//! and kept in a file for `inshore agent status`, which another user may run.

use std::io;
use std::path::{Path, PathBuf};

use super::{Sandbox, SelfTest, Tools};

const FILE: &str = "sandbox.json";

/// Tries it and keeps the result in the agent's folder; an error names the file that could not be written.
pub(crate) async fn test_host(tools: &Tools, state_dir: &Path) -> Result<SelfTest, (PathBuf, io::Error)> {
    let result = Sandbox::self_test(tools).await;
    match &result {
        SelfTest::Passed => tracing::info!("sandbox tested"),
        SelfTest::Failed { reason } => {
            tracing::error!(code = "POL-003", reason, "this host cannot make the sandbox for connectors");
        }
    }
    let file = state_dir.join(FILE);
    let text = serde_json::to_vec(&result).expect("a plain enum always serialises");
    std::fs::write(&file, text).map_err(|error| (file, error))?;
    Ok(result)
}

/// What the agent found when it was last started; `None` before that.
pub(crate) fn tested(state_dir: &Path) -> Option<SelfTest> {
    serde_json::from_slice(&std::fs::read(state_dir.join(FILE)).ok()?).ok()
}
