//! `files/warehouse.db`: the tables as DuckDB holds them, written anew from the lake's files by a Python helper.
//! Without DuckDB the Parquet files remain, and that is said.

use std::path::PathBuf;
use std::process::Stdio;

use serde::Serialize;

use super::project::Project;
use super::tool::{Error, Tools};
use crate::connector::LogLine;
use crate::destination::{Lake, LiveTable};

const HELPER: &str = "inshore_warehouse.py";

/// Where a run's rows can be looked at.
#[derive(Debug)]
pub(crate) enum Warehouse {
    Written {
        path: PathBuf,
    },
    /// In a lake that is not the project's own.
    Elsewhere {
        root: String,
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
    /// Where the helper notes what the tables hold, and what they held before.
    overview: PathBuf,
    /// Rows that are labelled later were written by this run.
    synced_before_ms: i64,
    tables: &'a [LiveTable],
}

/// Writes the tables of the lake's head into the warehouse.
pub(super) async fn refresh(
    project: &Project,
    tools: Tools<'_>,
    lake: &Lake,
    synced_before_ms: i64,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Warehouse {
    if let Some(reason) = tools.unavailable() {
        return Warehouse::ParquetOnly { folder: project.tables(), reason };
    }
    let request = Request {
        warehouse: project.warehouse(),
        root: project.tables(),
        overview: project.overview(),
        synced_before_ms,
        tables: &lake.live_tables(),
    };
    let request = serde_json::to_vec(&request).expect("plain structs always serialise");
    match tools.run(HELPER, &request, Stdio::null(), tell).await {
        Ok(()) => Warehouse::Written { path: project.warehouse() },
        Err(error) => Warehouse::ParquetOnly { folder: project.tables(), reason: reason(&error) },
    }
}

/// On one line: of a traceback, the last one says it.
fn reason(error: &Error) -> String {
    let text = crate::context::chain(error);
    text.lines().last().unwrap_or_default().to_owned()
}
