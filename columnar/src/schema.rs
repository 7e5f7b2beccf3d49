//! Tables and columns as the destination names them. Only user columns live here; the system columns are added by
//! [`TableSchema::with_system_columns`] at the moment a file is written.
//!
//! A schema widens and grows, it never narrows and never loses a column. A key column without a single value yet has
//! no type, so a declared, still empty table may name key columns that its column list lacks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::types::DataType;
use crate::widen::{self, ColumnFacts};

/// Hash of the row's values: the key of a table that has none.
pub const ID_COLUMN: &str = "_fivetran_id";
/// TRUE once the row is gone at the source.
pub const DELETED_COLUMN: &str = "_fivetran_deleted";
/// When the row was last written.
pub const SYNCED_COLUMN: &str = "_fivetran_synced";
/// The names that belong to system columns, on some kind of table of ours or of another's; what a connector puts under
/// them is left out. Any other name is its own, whatever it begins with.
pub const SYSTEM_COLUMNS: [&str; 8] = [
    ID_COLUMN,
    DELETED_COLUMN,
    SYNCED_COLUMN,
    "_fivetran_active",
    "_fivetran_start",
    "_fivetran_end",
    "_fivetran_batch",
    "_fivetran_index",
];
/// The Parquet field ids of user columns count from here, by the column's place in the schema: places never change.
/// A system column's id is its place in `SYSTEM_COLUMNS`, from one.
const USER_FIELD_ID: i32 = 100;
/// Under this key of a field's metadata Arrow's Parquet writer finds the id.
const FIELD_ID_KEY: &str = "PARQUET:field_id";
/// Tables of one sync: what a connector may name, by schema() or by operations. One more is refused.
pub const TABLES_MAX: usize = 20_000;
/// Columns of one table. A value for one more is refused.
pub const COLUMNS_MAX: usize = 20_000;
/// The path of a row's file: a system column that the connector fills.
pub const FILE_PATH_COLUMN: &str = "_fivetran_file_path";

/// Schema and table, as the destination spells them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> TableName {
        TableName { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// One user column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    /// The connector's `schema()` named the type; otherwise values told it.
    #[serde(default)]
    pub declared: bool,
}

impl Column {
    pub fn new(name: impl Into<String>, data_type: DataType) -> Column {
        Column { name: name.into(), data_type, declared: false }
    }
}

/// The user columns of a table and its key; an empty key means that the table has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    pub name: TableName,
    pub key: Vec<String>,
    pub columns: Vec<Column>,
}

/// Two schemas of one table that cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the key of {table} changed from ({}) to ({})", before.join(", "), after.join(", "))]
    PrimaryKeyChanged { table: TableName, before: Vec<String>, after: Vec<String> },
}

impl TableSchema {
    #[must_use]
    pub fn is_keyless(&self) -> bool {
        self.key.is_empty()
    }

    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The user columns only.
    #[must_use]
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.user_fields().collect::<Vec<_>>()))
    }

    /// What an upsert file holds: `_fivetran_id` first when keyless, the user columns, `_fivetran_deleted`,
    /// `_fivetran_synced`.
    #[must_use]
    pub fn with_system_columns(&self) -> SchemaRef {
        let id = self.is_keyless().then(|| Field::new(ID_COLUMN, DataType::String.to_arrow(), false));
        let system = [
            Field::new(DELETED_COLUMN, DataType::Boolean.to_arrow(), false),
            Field::new(SYNCED_COLUMN, DataType::UtcDatetime.to_arrow(), false),
        ];
        let fields: Vec<Field> = id.into_iter().chain(self.user_fields()).chain(system).collect();
        Arc::new(with_field_ids(fields))
    }

    /// The columns that identify a row: the key, or `_fivetran_id`.
    #[must_use]
    pub fn effective_key(&self) -> Vec<String> {
        if self.is_keyless() { vec![ID_COLUMN.to_owned()] } else { self.key.clone() }
    }

    /// The smallest schema that holds both; columns only `other` knows go to the end. The order of key columns does
    /// not matter, this schema's is kept.
    pub fn merge(&self, other: &TableSchema, facts: &dyn Fn(&str) -> ColumnFacts) -> Result<TableSchema, SchemaError> {
        let same_key = self.key.len() == other.key.len() && self.key.iter().all(|name| other.key.contains(name));
        if !same_key {
            return Err(SchemaError::PrimaryKeyChanged {
                table: self.name.clone(),
                before: self.key.clone(),
                after: other.key.clone(),
            });
        }
        let mut columns = self.columns.clone();
        for column in &other.columns {
            match columns.iter_mut().find(|known| known.name == column.name) {
                Some(known) => {
                    known.data_type = widen::join(&known.data_type, &column.data_type, facts(&column.name));
                    known.declared |= column.declared;
                }
                None => columns.push(column.clone()),
            }
        }
        Ok(TableSchema { name: self.name.clone(), key: self.key.clone(), columns })
    }

    fn user_fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.columns
            .iter()
            .map(|column| Field::new(&column.name, column.data_type.to_arrow(), !self.key.contains(&column.name)))
    }
}

/// The field ids of a table's columns, which stand in the order of the table. They are the same in every file and every
/// version of the table.
#[must_use]
pub fn field_ids<'a>(columns: impl IntoIterator<Item = &'a str>) -> Vec<i32> {
    let mut next = USER_FIELD_ID;
    let id = |name: &str| match SYSTEM_COLUMNS.iter().zip(1..).find(|(system, _)| **system == name) {
        Some((_, id)) => id,
        None => {
            next += 1;
            next - 1
        }
    };
    columns.into_iter().map(id).collect()
}

/// The schema of a data file of these fields, which stand in the order of the table: each carries its field id.
#[must_use]
pub fn with_field_ids(fields: Vec<Field>) -> Schema {
    let ids = field_ids(fields.iter().map(|field| field.name().as_str()));
    let tagged = |(field, id): (Field, i32)| {
        let id = (FIELD_ID_KEY.to_owned(), id.to_string());
        field.with_metadata(HashMap::from([id]))
    };
    Schema::new(fields.into_iter().zip(ids).map(tagged).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(key: &[&str], columns: &[(&str, DataType)]) -> TableSchema {
        TableSchema {
            name: TableName::new("shop", "orders"),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            columns: columns.iter().map(|(name, data_type)| Column::new(*name, *data_type)).collect(),
        }
    }

    fn exact(_: &str) -> ColumnFacts {
        ColumnFacts { long_fits_double: true }
    }

    #[test]
    fn merge_widens_and_appends() {
        let before = schema(&["id"], &[("id", DataType::Int), ("price", DataType::Long)]);
        let after =
            schema(&["id"], &[("note", DataType::String), ("price", DataType::Double), ("id", DataType::Short)]);
        let merged = before.merge(&after, &exact).unwrap();
        assert_eq!(
            merged,
            schema(&["id"], &[("id", DataType::Int), ("price", DataType::Double), ("note", DataType::String)])
        );
    }

    #[test]
    fn merge_refuses_another_key_but_not_another_order() {
        let before = schema(&["a", "b"], &[]);
        assert!(before.merge(&schema(&["b", "a"], &[]), &exact).is_ok());
        for key in [&["a"][..], &[], &["a", "c"], &["a", "b", "c"]] {
            let error = before.merge(&schema(key, &[]), &exact).unwrap_err();
            assert!(matches!(error, SchemaError::PrimaryKeyChanged { .. }), "{error}");
        }
    }

    #[test]
    fn system_columns_stand_around_the_user_columns() {
        let names = |schema: TableSchema| {
            schema.with_system_columns().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(schema(&["a"], &[("a", DataType::Int)])), ["a", DELETED_COLUMN, SYNCED_COLUMN]);
        assert_eq!(names(schema(&[], &[("a", DataType::Int)])), [ID_COLUMN, "a", DELETED_COLUMN, SYNCED_COLUMN]);
        assert_eq!(schema(&[], &[]).effective_key(), [ID_COLUMN]);
    }

    #[test]
    fn field_ids_stay_when_a_table_grows() {
        let ids = |schema: TableSchema| {
            let fields = schema.with_system_columns();
            let id =
                |field: &Arc<Field>| (field.name().clone(), field.metadata()[FIELD_ID_KEY].parse::<i32>().unwrap());
            fields.fields().iter().map(id).collect::<Vec<_>>()
        };
        let named = |ids: &[(&str, i32)]| ids.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect::<Vec<_>>();
        let narrow = ids(schema(&["a"], &[("a", DataType::Int)]));
        assert_eq!(narrow, named(&[("a", 100), (DELETED_COLUMN, 2), (SYNCED_COLUMN, 3)]));
        let keyless = ids(schema(&[], &[("a", DataType::Long), ("_fivetran_file_path", DataType::String)]));
        let wanted =
            [(ID_COLUMN, 1), ("a", 100), ("_fivetran_file_path", 101), (DELETED_COLUMN, 2), (SYNCED_COLUMN, 3)];
        assert_eq!(keyless, named(&wanted));
    }
}
