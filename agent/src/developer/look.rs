//! Looking at what runs left: the overview of the tables (`files/tables.json`, noted when the warehouse is written)
//! and queries of the warehouse.

use std::fmt::Write;
use std::io;
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::project::Project;
use super::summary::grouped;
use super::tool::{self, Tools};
use crate::connector::LogLine;

const HELPER: &str = "inshore_sql.py";

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no run has filled {} yet: `inshore debug` does", path.display())]
    NoRun { path: std::path::PathBuf },
    #[error("read {}", path.display())]
    Read {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the query failed: {words}")]
    Query { words: String },
    #[error(transparent)]
    Tool(tool::Error),
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::NoRun { .. } => "DEV-002",
            Error::Read { .. } => "PKG-010",
            Error::Query { .. } => "DEV-003",
            Error::Tool(_) => "DEV-004",
        }
    }
}

/// How a query's rows are written.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Table,
    Json,
    Jsonl,
    Csv,
}

#[derive(Serialize)]
struct Request<'a> {
    warehouse: std::path::PathBuf,
    query: &'a str,
    format: Format,
    /// Rows of a table for people; the other formats have no end.
    rows_max: usize,
}

/// Runs a query of the warehouse; its rows go to stdout.
pub(crate) async fn sql(
    project: &Project,
    tools: Tools<'_>,
    query: &str,
    format: Format,
    rows_max: usize,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<(), Error> {
    let warehouse = project.warehouse();
    if !warehouse.exists() {
        return Err(Error::NoRun { path: warehouse });
    }
    let request = Request { warehouse, query, format, rows_max };
    let request = serde_json::to_vec(&request).expect("plain structs always serialise");
    tools.run(HELPER, &request, Stdio::inherit(), tell).await.map_err(|error| match error {
        tool::Error::Failed { words } => Error::Query { words },
        other => Error::Tool(other),
    })
}

/// What the tables hold now, and what they held before the last run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Overview {
    pub(crate) tables: Vec<Table>,
    before: Vec<Table>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    schema: String,
    table: String,
    key: Vec<String>,
    columns: Vec<(String, String)>,
    rows: u64,
    deleted: u64,
    /// Rows that the run wrote.
    written: u64,
}

/// Reads the overview that the last run left.
pub(crate) fn overview(project: &Project) -> Result<Overview, Error> {
    let path = project.overview();
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Read { path, source: error.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoRun { path: project.warehouse() }),
        Err(source) => Err(Error::Read { path, source }),
    }
}

impl Overview {
    /// For people: a block per table.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let before = self.before.iter().find(|old| (&old.schema, &old.table) == (&table.schema, &table.table));
            table.describe(before, &mut text);
        }
        for gone in self.before.iter().filter(|old| !self.tables.iter().any(|new| new.table == old.table)) {
            write!(text, "{}.{}  is gone\n\n", gone.schema, gone.table).expect("a String takes everything");
        }
        if text.is_empty() { "no tables yet\n".to_owned() } else { text }
    }
}

impl Table {
    fn describe(&self, before: Option<&Table>, text: &mut String) {
        let key = if self.key.is_empty() { "no key".to_owned() } else { format!("key {}", self.key.join(", ")) };
        let deleted =
            if self.deleted > 0 { format!(", {} marked deleted", grouped(self.deleted)) } else { String::new() };
        let rows = grouped(self.rows);
        let name = format!("{}.{}", self.schema, self.table);
        let lines =
            [format!("{name}  {rows} rows{deleted}, {key}"), format!("  last run: {}", self.difference(before))];
        let width = self.columns.iter().map(|(column, _)| column.chars().count()).max().unwrap_or(0);
        let columns = self.columns.iter().map(|(column, kind)| {
            let old = before.and_then(|old| old.columns.iter().find(|(name, _)| name == column));
            let change = match (before, old) {
                (Some(_), None) => "  new".to_owned(),
                (Some(_), Some((_, old))) if old != kind => format!("  was {old}"),
                _ => String::new(),
            };
            format!("    {column:<width$}  {kind}{change}")
        });
        for line in lines.into_iter().chain(columns) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
    }

    fn difference(&self, before: Option<&Table>) -> String {
        let Some(old) = before else { return format!("new table, {} rows written", grouped(self.written)) };
        let grown = self.rows.saturating_sub(old.rows);
        let shrunk = old.rows.saturating_sub(self.rows);
        let mut parts = Vec::new();
        if grown > 0 {
            parts.push(format!("{} new rows", grouped(grown)));
        }
        if shrunk > 0 {
            parts.push(format!("{} rows fewer", grouped(shrunk)));
        }
        if self.written > grown {
            parts.push(format!("{} rows written again", grouped(self.written - grown)));
        }
        if self.deleted > old.deleted {
            parts.push(format!("{} marked deleted", grouped(self.deleted - old.deleted)));
        }
        if parts.is_empty() { "unchanged".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)], [rows, deleted, written]: [u64; 3]) -> Table {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
        let (schema, name) = ("tester".to_owned(), "t".to_owned());
        Table { schema, table: name, key: vec!["id".to_owned()], columns, rows, deleted, written }
    }

    #[test]
    fn the_difference_names_rows_and_columns() {
        let before = || table(&[("id", "INT"), ("n", "INT")], [10, 0, 10]);
        let cases = [
            (vec![], table(&[("id", "INT")], [3, 0, 3]), "last run: new table, 3 rows written"),
            (vec![before()], table(&[("id", "INT"), ("n", "INT")], [10, 0, 0]), "last run: unchanged"),
            (
                vec![before()],
                table(&[("id", "INT"), ("n", "DOUBLE")], [1012, 1, 1004]),
                "1,002 new rows, 2 rows written again, 1 marked deleted",
            ),
            (vec![before()], table(&[("id", "INT"), ("n", "DOUBLE")], [10, 0, 0]), "n   DOUBLE  was INT"),
            (vec![before()], table(&[("id", "INT"), ("x", "XML")], [10, 0, 0]), "x   XML  new"),
        ];
        for (before, after, words) in cases {
            let text = Overview { tables: vec![after], before }.text();
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
    }
}
