//! Looking a project over without a sync: the findings of a Python helper that reads the source and, for `validate`,
//! imports it and calls schema() with every way to the network closed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::debug::{self, Error, Settings};
use super::happening::{Happening, Tell, warn};
use super::project::Project;
use crate::connector::sdk::environment::Prepared;
use crate::connector::{self, LogLevel, LogLine, LogOrigin, sdk};

const HELPER: &str = "inshore_check.py";
/// What is wrong with requirements is a finding among others.
const REQUIREMENTS: [&str; 3] = ["PKG-006", "PKG-012", "PKG-013"];

/// Something that a developer should look at.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    file: String,
    line: Option<u64>,
    message: String,
    pub(crate) code: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Error,
    Warning,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = if self.level == Level::Error { "error" } else { "warning" };
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let code = self.code.as_deref().map(|code| format!(" [{code}]")).unwrap_or_default();
        write!(f, "{level}{code} {}{line}: {}", self.file, self.message)
    }
}

#[derive(Serialize)]
struct Request<'a> {
    project: &'a Path,
    load: bool,
    configuration: &'a BTreeMap<String, String>,
}

/// Everything that can be found without the network, once the project's environment is there. Without it the source is
/// read all the same.
pub(crate) async fn validate(project: &Project, settings: &Settings, tell: Tell<'_>) -> Result<Vec<Finding>, Error> {
    let configuration = project.configuration(&settings.sources, &settings.environment)?;
    let prepared = match prepare(&debug::environment_settings(settings), project.folder(), tell).await {
        Ok(prepared) => Ok(prepared),
        Err(refused) if REQUIREMENTS.contains(&refused.code()) => Err(refused),
        Err(error) => return Err(error.into()),
    };
    let load = prepared.is_ok();
    let request = Request { project: project.folder(), load, configuration: &configuration };
    let python = prepared.as_ref().map_or_else(|_| PathBuf::from("python3"), |prepared| prepared.python.clone());
    let mut findings = run(settings, &python, &request).await?;
    findings.extend(prepared.err().map(|error| Finding {
        level: Level::Error,
        file: "requirements.txt".to_owned(),
        line: None,
        message: error.to_string().lines().collect::<Vec<_>>().join(" "),
        code: Some(error.code().to_owned()),
    }));
    Ok(findings)
}

/// Warns of calls that would end the process in the middle of a sync.
pub(super) async fn warn_of_exits(
    project: &Project,
    settings: &Settings,
    environment: &sdk::environment::Settings,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let request = Request { project: project.folder(), load: false, configuration: &BTreeMap::new() };
    let prepared = prepare(environment, project.folder(), tell).await?;
    for finding in run(settings, &prepared.python, &request).await? {
        // Errors are the sync's own to tell, with all it knows.
        if finding.level == Level::Warning {
            let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
            warn(tell, format!("{}{line}: {}", finding.file, finding.message));
        }
    }
    Ok(())
}

async fn prepare(
    environment: &sdk::environment::Settings,
    project: &Path,
    tell: Tell<'_>,
) -> Result<Prepared, connector::Error> {
    let say = |level: LogLevel, message: &str| {
        let message = message.to_owned();
        tell(Happening::Line(LogLine { level, origin: LogOrigin::Library, message }));
    };
    sdk::environment::prepare(environment, project, &say).await
}

async fn run(settings: &Settings, python: &Path, request: &Request<'_>) -> Result<Vec<Finding>, Error> {
    let path = settings.sdk_dir.join(HELPER);
    let failed = |source| Error::Prepare { path: path.clone(), source };
    let mut child = Command::new(python)
        .args(["-I", "-B", "-X", "utf8"])
        .arg(&path)
        .env("PATH", settings.environment.search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        let request = serde_json::to_vec(request).expect("plain structs always serialise");
        stdin.write_all(&request).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Result<Vec<Finding>, _> = text.lines().map(serde_json::from_str).collect();
    match findings {
        Ok(findings) if output.status.success() => Ok(findings),
        _ => Err(failed(io::Error::other(format!("it ended: {}", output.status)))),
    }
}
