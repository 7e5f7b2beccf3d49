//! Which tables and columns of a connection arrive: the configuration on its way down, and what a sync saw on its way up.
//! Names that go up are labels: as written where the host's policy opens them, else hashes under a key of that host.

use serde::{Deserialize, Serialize};

use crate::id::{Hex16, TableLabel};

/// What single schemas, tables and columns are to do, and what becomes of the rest. Names are those of the destination, of
/// the source, or hashes that an agent told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaConfig {
    pub handling: ChangeHandling,
    /// Name the keys that its hashes were made with; none: it holds names alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_keys: Vec<Hex16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<SchemaRule>,
}

/// What becomes of tables and columns that appear at the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeHandling {
    #[default]
    AllowAll,
    /// New columns of known tables come in, new tables do not.
    AllowColumns,
    BlockAll,
    #[serde(other)]
    Unknown,
}

/// Absent `enabled`: nobody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRule {
    pub schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableRule>,
}

/// See [`SchemaRule`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRule {
    pub table: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnRule>,
}

/// See [`SchemaRule`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRule {
    pub column: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hashed: bool,
}

/// The tables that a sync's connector named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedSchema {
    /// Names the key of its hashes; absent: labels are names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_key: Option<Hex16>,
    pub tables: Vec<CapturedTable>,
    /// Whether more tables or columns were seen than fit; another sync tells others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One table, and whether its rows arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedTable {
    pub schema: TableLabel,
    pub table: TableLabel,
    pub enabled: bool,
    pub columns: Vec<CapturedColumn>,
}

/// One column, and whether its values arrived, as they are or hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedColumn {
    pub column: TableLabel,
    pub enabled: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
}

impl SchemaConfig {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.handling == ChangeHandling::AllowAll && self.schemas.is_empty()
    }

    /// Whether any column is to be hashed.
    #[must_use]
    pub fn hashes(&self) -> bool {
        let mut tables = self.schemas.iter().flat_map(|schema| &schema.tables);
        tables.any(|table| table.columns.iter().any(|column| column.hashed))
    }
}
