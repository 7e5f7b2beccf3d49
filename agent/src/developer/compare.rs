//! `--compare`: the tables of a run against those of another one, of an older version of the connector or of the original
//! runtime: any folder with a `warehouse.db`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::project::Project;
use super::summary::grouped;
use super::tool::{self, Tools};
use crate::connector::LogLine;

const HELPER: &str = "inshore_compare.py";
const WAREHOUSE: &str = "warehouse.db";

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} has no {WAREHOUSE} to compare with, neither itself nor in a folder files", path.display())]
    Nothing { path: PathBuf },
    #[error("{} is what this run writes: compare with a copy of it", path.display())]
    Itself { path: PathBuf },
    #[error("compare with {}", path.display())]
    Tool {
        path: PathBuf,
        #[source]
        source: tool::Error,
    },
    #[error("read what was found")]
    Result(#[source] std::io::Error),
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Nothing { .. } | Error::Itself { .. } => "DEV-002",
            Error::Tool { .. } => "DEV-004",
            Error::Result(_) => "PKG-010",
        }
    }
}

/// How the tables of two runs differ.
#[derive(Debug)]
pub(crate) struct Comparison {
    tables: Vec<Table>,
}

#[derive(Debug, Deserialize)]
struct Table {
    table: String,
    missing: Option<Side>,
    /// Name, type here, type there.
    columns: Vec<(String, Option<String>, Option<String>)>,
    only_here: u64,
    only_there: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Side {
    Here,
    There,
}

/// The warehouse of a folder, of a project, or the file itself.
pub(crate) fn other_warehouse(path: &Path, project: &Project) -> Result<PathBuf, Error> {
    let places = [path.to_owned(), path.join(WAREHOUSE), path.join("files").join(WAREHOUSE)];
    let found = places.into_iter().find(|place| place.is_file());
    let found =
        found.and_then(|place| place.canonicalize().ok()).ok_or_else(|| Error::Nothing { path: path.to_owned() })?;
    if project.warehouse().canonicalize().is_ok_and(|own| own == found) {
        return Err(Error::Itself { path: found });
    }
    Ok(found)
}

#[derive(Serialize)]
struct Request<'a> {
    here: &'a Path,
    there: &'a Path,
    result: &'a Path,
}

/// Compares the project's tables with those of another warehouse.
pub(crate) async fn compare(
    project: &Project,
    tools: Tools<'_>,
    there: &Path,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Comparison, Error> {
    let (here, result) = (project.warehouse(), project.files().join("comparison.json"));
    let request = Request { here: &here, there, result: &result };
    let request = serde_json::to_vec(&request).expect("plain structs always serialise");
    let ran = tools.run(HELPER, &request, Stdio::null(), tell).await;
    ran.map_err(|source| Error::Tool { path: there.to_owned(), source })?;
    let bytes = std::fs::read(&result).map_err(Error::Result)?;
    let tables = serde_json::from_slice(&bytes).map_err(|error| Error::Result(error.into()))?;
    Ok(Comparison { tables })
}

impl Comparison {
    pub(crate) fn is_equal(&self) -> bool {
        self.tables.iter().all(Table::is_equal)
    }

    /// For people: what differs, table by table.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for table in self.tables.iter().filter(|table| !table.is_equal()) {
            table.describe(&mut text);
        }
        let equal = self.tables.iter().filter(|table| table.is_equal()).count();
        let noun = if equal == 1 { "table is" } else { "tables are" };
        writeln!(text, "  {equal} {noun} equal").expect("a String takes everything");
        text
    }
}

impl Table {
    fn is_equal(&self) -> bool {
        self.missing.is_none() && self.columns.is_empty() && self.only_here + self.only_there == 0
    }

    fn describe(&self, text: &mut String) {
        let mut line = |words: String| writeln!(text, "  {words}").expect("a String takes everything");
        match self.missing {
            Some(Side::Here) => return line(format!("{}  is only there", self.table)),
            Some(Side::There) => return line(format!("{}  is only here", self.table)),
            None => line(self.table.clone()),
        }
        for (column, here, there) in &self.columns {
            line(match (here, there) {
                (Some(here), Some(there)) => format!("  {column}  {here} here, {there} there"),
                (Some(here), None) => format!("  {column}  {here}, only here"),
                (None, there) => format!("  {column}  {}, only there", there.as_deref().unwrap_or_default()),
            });
        }
        if self.only_here + self.only_there > 0 {
            line(format!("  {} rows only here, {} only there", grouped(self.only_here), grouped(self.only_there)));
        }
    }
}
