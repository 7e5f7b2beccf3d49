//! What a project is asked beside a run: the form of its configuration, and the setup tests that the form offers.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::debug::{Error, Settings, connector_settings};
use super::project::Project;
use crate::connector::sdk::question::Form;
pub(crate) use crate::connector::sdk::question::{Outcome, TestResult};
use crate::connector::{LogLine, sdk};

/// The form; `None` when the connector has none.
pub(crate) async fn form(
    project: &Project,
    settings: &Settings,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Option<Form>, Error> {
    let (connector, _scratch) = prepared(project, settings, BTreeMap::new())?;
    Ok(sdk::question::form(connector, tell).await?)
}

/// Runs the named tests, or all, in a process like that of a sync. Nothing of it stays.
pub(crate) async fn setup_tests(
    project: &Project,
    settings: &Settings,
    configuration: BTreeMap<String, String>,
    wanted: Option<Vec<String>>,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Vec<TestResult>, Error> {
    let (connector, _scratch) = prepared(project, settings, configuration)?;
    Ok(sdk::question::tests(connector, wanted, tell).await?)
}

/// What a run would start with, and the folder that lasts as long as it.
fn prepared(
    project: &Project,
    settings: &Settings,
    configuration: BTreeMap<String, String>,
) -> Result<(sdk::Settings, tempfile::TempDir), Error> {
    let scratch = tempfile::Builder::new().prefix("inshore-test-").tempdir();
    let scratch = scratch.map_err(|source| Error::Prepare { path: std::env::temp_dir(), source })?;
    let state = RawValue::from_string("{}".to_owned()).expect("JSON");
    let connector = connector_settings(project, settings, scratch.path().to_owned(), state, configuration);
    Ok((connector, scratch))
}
