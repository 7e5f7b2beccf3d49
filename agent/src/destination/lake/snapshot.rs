//! One version of a table as roll-forward sees it, whatever format it is kept in: schema, files, marker. What a format
//! knows beside that stands with the format (`delta`).

use std::collections::BTreeMap;

use inshore_columnar::schema::{DELETED_COLUMN, ID_COLUMN, SYNCED_COLUMN};
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use object_store::path::Path;

use super::action::Texts;
use super::stats::Stats;
use crate::destination::SHARED_SCHEMA;

/// The system columns of the tables that we write.
pub(super) const SYSTEM_COLUMNS: [&str; 3] = [ID_COLUMN, DELETED_COLUMN, SYNCED_COLUMN];
/// The owner of a table that all connections write.
const SHARED_OWNER: &str = "shared";

/// One version of a table.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) table: TableName,
    /// `<schema>/<table>` below the destination's root.
    pub(crate) folder: Path,
    pub(crate) connection: String,
    /// The version in the count of the format; `None` while the table does not exist.
    pub(crate) version: Option<u64>,
    pub(crate) schema: Option<TableSchema>,
    /// The live files by their paths below the table's folder.
    pub(crate) files: BTreeMap<String, DataFile>,
    /// Removed files that time travel may still ask for, with the instant of their removal.
    pub(crate) removed: BTreeMap<String, i64>,
    /// The marker: the last applied chain slot.
    pub(crate) marker: Option<u64>,
    /// The newest instant that the table names. It may lag: then files are kept longer.
    pub(crate) timestamp_ms: i64,
}

/// A live file of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DataFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) stats: Stats,
    /// The rows that are gone from it; never in a table that is a Delta table too.
    pub(crate) deletes: Option<DeleteFile>,
    /// What another program wrote and we only hand on; `None` for files of ours.
    pub(super) foreign: Option<Box<Foreign>>,
    pub(super) modified_ms: i64,
}

/// Positions of deleted rows of one data file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeleteFile {
    /// Below the table's folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
}

/// Parts of a Delta `add` action that differ from what we would write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Foreign {
    pub(super) partition_values: Texts,
    pub(super) tags: Option<Texts>,
    pub(super) stats: Option<String>,
}

/// What one chain entry does to one version of a table.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The logical schema after the entry, when it differs.
    pub(crate) schema: Option<TableSchema>,
    pub(crate) removed: Vec<DataFile>,
    pub(crate) added: Vec<DataFile>,
    /// Data files that stay, with more of their rows gone. Never for a table that is a Delta table too.
    pub(crate) marked: Vec<Marked>,
}

/// A data file gets a delete file, which replaces the one that it had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Marked {
    /// The data file's path below the table's folder.
    pub(crate) path: String,
    pub(crate) deletes: DeleteFile,
}

impl Snapshot {
    /// A table that is not there yet.
    pub(super) fn empty(connection: &str, table: &TableName, folder: Path) -> Snapshot {
        Snapshot {
            table: table.clone(),
            folder,
            connection: connection.to_owned(),
            version: None,
            schema: None,
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            marker: None,
            timestamp_ms: 0,
        }
    }

    /// Takes what was committed.
    pub(super) fn take(&mut self, changes: &Changes, marker: u64, timestamp_ms: i64) {
        if let Some(schema) = &changes.schema {
            self.schema = Some(schema.clone());
        }
        self.marker = Some(marker);
        self.timestamp_ms = self.timestamp_ms.max(timestamp_ms);
        for file in &changes.removed {
            let deletes = self.files.remove(&file.path).and_then(|file| file.deletes);
            self.removed.extend(deletes.map(|deletes| (deletes.path, timestamp_ms)));
            self.removed.insert(file.path.clone(), timestamp_ms);
        }
        for file in &changes.added {
            self.removed.remove(&file.path);
            self.files.insert(file.path.clone(), file.clone());
        }
        for marked in &changes.marked {
            let Some(file) = self.files.get_mut(&marked.path) else { continue };
            if let Some(replaced) = file.deletes.replace(marked.deletes.clone()) {
                self.removed.insert(replaced.path, timestamp_ms);
            }
        }
    }

    /// The folder of this connection's data files.
    pub(crate) fn data_folder(&self) -> Path {
        self.folder.clone().join("data").join(self.connection.as_str())
    }

    /// The folder of this connection's delete files, where no clean-up of a Delta engine looks.
    pub(crate) fn deletes_folder(&self) -> Path {
        self.folder.clone().join("_iceberg").join("deletes").join(self.connection.as_str())
    }

    /// The path of a delete file relative to the table.
    pub(crate) fn relative_deletes(&self, file_name: &str) -> String {
        format!("_iceberg/deletes/{}/{file_name}", self.connection)
    }

    /// The key of a file below the destination's root.
    pub(crate) fn key_of(&self, path: &str) -> Path {
        let parts: Vec<&str> = path.split('/').collect();
        parts.into_iter().fold(self.folder.clone(), |folder, part| folder.join(part))
    }

    /// The path of a data file relative to the table, as a format names it.
    pub(crate) fn relative(&self, file_name: &str) -> String {
        format!("data/{}/{file_name}", self.connection)
    }

    /// Who may write this table.
    pub(super) fn owner(&self) -> &str {
        if self.is_shared() { SHARED_OWNER } else { &self.connection }
    }

    /// Whether other connections write this table too, each under a marker of its own.
    pub(crate) fn is_shared(&self) -> bool {
        self.table.schema == SHARED_SCHEMA
    }
}

impl DataFile {
    pub(crate) fn new(path: String, bytes: u64, stats: Stats) -> DataFile {
        DataFile { path, bytes, stats, deletes: None, foreign: None, modified_ms: 0 }
    }
}

/// All columns in file order with their logical types: `_fivetran_id`, user columns, `_fivetran_deleted`, `_fivetran_synced`.
pub(crate) fn columns_of(schema: &TableSchema) -> Vec<Column> {
    let system = |field: &arrow::datatypes::Field| Column {
        name: field.name().clone(),
        data_type: match field.data_type() {
            arrow::datatypes::DataType::Boolean => DataType::Boolean,
            arrow::datatypes::DataType::Utf8 => DataType::String,
            _ => DataType::UtcDatetime,
        },
        declared: true,
    };
    let fields = schema.with_system_columns();
    let known = |name: &str| schema.columns.iter().find(|column| column.name == name).cloned();
    fields.fields().iter().map(|field| known(field.name()).unwrap_or_else(|| system(field))).collect()
}
