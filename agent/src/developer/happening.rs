//! What a local run tells while it goes: lines of the log, tables that come or change, checkpoints. Who listens decides
//! how it is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::destination::LiveTable;

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The connector is about to start.
    Start {
        state_bytes: usize,
    },
    Line(LogLine),
    Table(TableChange),
    /// Everything before is durable.
    Checkpoint {
        state_bytes: usize,
    },
}

/// What became of a table, as its readers see it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TableChange {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) change: Change,
    pub(crate) primary_key: Vec<String>,
    pub(crate) columns: Vec<ColumnChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    Created,
    Altered,
    Unchanged,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ColumnChange {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from_type: Option<String>,
}

/// Who listens.
pub(crate) type Tell<'a> = &'a (dyn Fn(Happening) + Sync);

/// Says a warning of ours.
pub(super) fn warn(tell: Tell<'_>, message: String) {
    tell(Happening::Line(LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message }));
}

/// The tables as they were told last.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Columns with their types, by schema and table.
    known: BTreeMap<(String, String), Vec<(String, String)>>,
    told: BTreeSet<(String, String)>,
}

impl Tables {
    /// Those that were there before the run.
    pub(super) fn before(tables: Vec<LiveTable>) -> Self {
        let known = tables.into_iter().map(|table| ((table.schema, table.table), table.columns)).collect();
        Self { known, told: BTreeSet::new() }
    }

    /// What changed since the last call; each table is told at least once.
    pub(super) fn changes(&mut self, now: Vec<LiveTable>) -> Vec<TableChange> {
        now.into_iter().filter_map(|table| self.change(table)).collect()
    }

    fn change(&mut self, table: LiveTable) -> Option<TableChange> {
        let name = (table.schema.clone(), table.table.clone());
        let before = self.known.insert(name.clone(), table.columns.clone());
        let change = match &before {
            None => Change::Created,
            Some(columns) if *columns != table.columns => Change::Altered,
            Some(_) => Change::Unchanged,
        };
        let first = self.told.insert(name);
        if change == Change::Unchanged && !first {
            return None;
        }
        let before: BTreeMap<_, _> = before.into_iter().flatten().collect();
        let column = |(name, kind): (String, String)| {
            let from_type = before.get(&name).filter(|old| **old != kind).cloned();
            ColumnChange { name, kind, from_type }
        };
        let columns = table.columns.into_iter().map(column).collect();
        Some(TableChange { schema: table.schema, table: table.table, change, primary_key: table.key, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&str, &str)]) -> LiveTable {
        LiveTable {
            schema: "tester".to_owned(),
            table: "t".to_owned(),
            key: vec!["id".to_owned()],
            columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect(),
            files: Vec::new(),
        }
    }

    #[test]
    fn a_table_is_told_once_and_when_it_changes() {
        let mut tables = Tables::before(Vec::new());
        let change = |tables: &mut Tables, columns: &[(&str, &str)]| tables.changes(vec![table(columns)]).pop();
        let created = change(&mut tables, &[("id", "INT")]).expect("told");
        assert_eq!((created.change, created.columns.len()), (Change::Created, 1));
        assert_eq!(change(&mut tables, &[("id", "INT")]), None);
        let altered = change(&mut tables, &[("id", "LONG"), ("n", "INT")]).expect("told");
        assert_eq!(altered.change, Change::Altered);
        assert_eq!(altered.columns[0].from_type.as_deref(), Some("INT"));
        assert_eq!(altered.columns[1].from_type, None);
        let mut old = Tables::before(vec![table(&[("id", "INT")])]);
        assert_eq!(change(&mut old, &[("id", "INT")]).expect("told").change, Change::Unchanged);
        assert_eq!(change(&mut old, &[("id", "INT")]), None);
    }
}
