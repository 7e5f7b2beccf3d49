//! The setup tests of a project: what its configuration form offers to try, with the configuration of a local run.

use serde_json::value::RawValue;

use super::debug::{Error, Settings, connector_settings};
use super::project::Project;
pub(crate) use crate::connector::sdk::question::{Outcome, TestResult};
use crate::connector::{LogLine, sdk};

/// Runs the named tests, or all, in a process like that of a sync. Nothing of it stays.
pub(crate) async fn setup_tests(
    project: &Project,
    settings: &Settings,
    wanted: Option<Vec<String>>,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Vec<TestResult>, Error> {
    let scratch = tempfile::Builder::new().prefix("inshore-test-").tempdir();
    let scratch = scratch.map_err(|source| Error::Prepare { path: std::env::temp_dir(), source })?;
    let state = RawValue::from_string("{}".to_owned()).expect("JSON");
    let connector = connector_settings(project, settings, scratch.path().to_owned(), state)?;
    Ok(sdk::question::tests(connector, wanted, tell).await?)
}
