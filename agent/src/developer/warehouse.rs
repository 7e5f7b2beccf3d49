//! `files/warehouse.db`: the tables as DuckDB holds them, written anew from the lake's files by a Python helper with
//! DuckDB's own wheel, in a tool environment of this user. Without it the Parquet files remain, and that is said.

use std::path::PathBuf;
use std::process::Stdio;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::debug::Settings;
use super::project::Project;
use crate::connector::{LogLevel, LogLine, LogOrigin, sdk};
use crate::destination::{Lake, LiveTable};

/// Where a run's rows can be looked at.
#[derive(Debug)]
pub(crate) enum Warehouse {
    Written {
        path: PathBuf,
    },
    /// Why there is none; the Parquet files are there all the same.
    ParquetOnly {
        folder: PathBuf,
        reason: String,
    },
}

#[derive(Serialize)]
struct Request<'a> {
    warehouse: PathBuf,
    root: PathBuf,
    tables: &'a [LiveTable],
}

/// Writes the tables of the lake's head into the warehouse.
pub(super) async fn refresh(
    project: &Project,
    settings: &Settings,
    lake: &Lake,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Warehouse {
    match write(project, settings, &lake.live_tables(), tell).await {
        Ok(()) => Warehouse::Written { path: project.warehouse() },
        Err(reason) => Warehouse::ParquetOnly { folder: project.tables(), reason },
    }
}

async fn write(
    project: &Project,
    settings: &Settings,
    tables: &[LiveTable],
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<(), String> {
    let tool = settings.sdk_dir.join("tools/duckdb");
    let environment = sdk::environment::Settings {
        cache_dir: settings.environment.cache_dir().join("tools"),
        cache_bytes_max: u64::MAX,
        search_path: settings.environment.search_path().into(),
        python: None,
        variables: settings.environment.variables(),
        index: sdk::environment::Index::default(),
        allow_source_builds: false,
        place: sdk::environment::Place::Developer,
    };
    let say = |level: LogLevel, message: &str| {
        tell(LogLine { level, origin: LogOrigin::Library, message: format!("DuckDB: {message}") });
    };
    let python = sdk::environment::prepare(&environment, &tool, &say).await;
    let prepared = python.map_err(|error| crate::context::chain(&error))?;
    let request = Request { warehouse: project.warehouse(), root: project.tables(), tables };
    let request = serde_json::to_vec(&request).expect("plain structs always serialise");
    let failed = |error: std::io::Error| error.to_string();
    let mut helper = Command::new(&prepared.python)
        .args(["-I", "-B"])
        .arg(settings.sdk_dir.join("inshore_warehouse.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = helper.stdin.take() {
        stdin.write_all(&request).await.map_err(failed)?;
    }
    let output = helper.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().last().unwrap_or("the helper failed without a word").to_owned())
}
