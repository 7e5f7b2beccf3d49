//! What a sealed window is: files, and per table the steps that apply them in order. The nouns between batch and
//! destination, without behaviour.

use std::collections::HashMap;

use bytes::Bytes;
use inshore_columnar::{ColumnFacts, TableName, TableSchema};

/// A table as the destination knows it at the head of the chain.
#[derive(Debug, Clone)]
pub(crate) struct CurrentTable {
    pub(crate) schema: TableSchema,
    /// Of LONG columns.
    pub(crate) facts: HashMap<String, ColumnFacts>,
}

/// What one window does to one table. A declared table without rows has no steps.
#[derive(Debug, Clone)]
pub(crate) struct SealedTable {
    /// Merged with the current schema: what the table has from this window on.
    pub(crate) schema: TableSchema,
    pub(crate) steps: Vec<SealedStep>,
}

#[derive(Debug, Clone)]
pub(crate) struct SealedStep {
    pub(crate) op: StepOp,
    /// The columns that an update carries, without the key.
    pub(crate) columns: Option<Vec<String>>,
    /// Places of the files in the order in which they were given to the sink, over all tables of the window.
    pub(crate) files: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepOp {
    Truncate { before_ms: i64 },
    Upsert,
    Update,
    Delete,
}

/// One Parquet file of a window.
#[derive(Debug, Clone)]
pub(crate) struct SealedFile {
    pub(crate) table: TableName,
    pub(crate) index: usize,
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
    pub(crate) sha256: [u8; 32],
}
