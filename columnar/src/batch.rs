//! Rows of one table on their way from the connector to the commit window: columns, plus what each row does.
//!
//! After the schema's columns comes `#op`, and `#set` when there are update rows: which columns the update carries. A
//! set lists column positions; positions past the schema's columns point into `untyped`, the columns that updates set
//! to NULL before any value told their type.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, UInt8Type, UInt32Type};

use crate::builder::Op;
use crate::schema::{TableName, TableSchema};

/// Name of the column of operations.
pub const OP_COLUMN: &str = "#op";
/// Name of the column of set positions.
pub const SET_COLUMN: &str = "#set";
/// The set of a row that is not an update.
pub const NO_SET: u32 = u32::MAX;

/// Rows of one table in the order in which the connector gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct RowBatch {
    pub table: TableName,
    /// Types of this batch.
    pub schema: TableSchema,
    pub rows: RecordBatch,
    /// Per set: the positions of the non-key columns that an update row carries, ascending.
    pub sets: Vec<Vec<u32>>,
    /// Columns that updates set to NULL and whose type is not known here.
    pub untyped: Vec<String>,
}

/// A batch that contradicts itself; the connector's process is not trusted to be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch of {table} names another table in its schema")]
    Table { table: TableName },
    #[error("the columns of {table} do not match their schema")]
    Columns { table: TableName },
    #[error("a row of {table} carries an operation or a column set that does not exist")]
    Operation { table: TableName },
    #[error("a column set of {table} names a column that does not exist")]
    Set { table: TableName },
}

impl RowBatch {
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    /// The operation of every row.
    #[must_use]
    pub fn ops(&self) -> &[u8] {
        self.rows.column(self.schema.columns.len()).as_primitive::<UInt8Type>().values()
    }

    /// The set of every row, when the batch has updates.
    #[must_use]
    pub fn set_of_rows(&self) -> Option<&[u32]> {
        let sets = self.rows.columns().get(self.schema.columns.len() + 1)?;
        Some(sets.as_primitive::<UInt32Type>().values())
    }

    /// The name of a position in a set.
    #[must_use]
    pub fn set_column(&self, position: u32) -> Option<&str> {
        let position = usize::try_from(position).ok()?;
        let typed = self.schema.columns.get(position).map(|column| &column.name);
        typed.or_else(|| self.untyped.get(position - self.schema.columns.len())).map(String::as_str)
    }

    /// Whether the accessors above may be called.
    pub fn validate(&self) -> Result<(), BatchError> {
        let table = || self.table.clone();
        if self.schema.name != self.table {
            return Err(BatchError::Table { table: table() });
        }
        if !self.columns_match() {
            return Err(BatchError::Columns { table: table() });
        }
        let columns = self.schema.columns.len() + self.untyped.len();
        if self.sets.iter().flatten().any(|position| usize::try_from(*position).map_or(true, |at| at >= columns)) {
            return Err(BatchError::Set { table: table() });
        }
        if !self.operations_match() {
            return Err(BatchError::Operation { table: table() });
        }
        Ok(())
    }

    fn columns_match(&self) -> bool {
        let schema = self.rows.schema();
        let (columns, extra) = match schema.fields().len().checked_sub(self.schema.columns.len()) {
            Some(1 | 2) => schema.fields().split_at(self.schema.columns.len()),
            _ => return false,
        };
        let same = |(column, field): (&crate::schema::Column, &std::sync::Arc<Field>)| {
            column.name == *field.name() && column.data_type.to_arrow() == *field.data_type()
        };
        let op = arrow::datatypes::DataType::UInt8;
        let set = arrow::datatypes::DataType::UInt32;
        let distinct: std::collections::HashSet<&str> = self
            .schema
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .chain(self.untyped.iter().map(String::as_str))
            .collect();
        self.schema.columns.iter().zip(columns).all(same)
            && distinct.len() == self.schema.columns.len() + self.untyped.len()
            && self.schema.key.iter().all(|name| self.rows.num_rows() == 0 || distinct.contains(name.as_str()))
            && extra
                .iter()
                .zip([(OP_COLUMN, op), (SET_COLUMN, set)])
                .all(|(field, (name, data_type))| field.name() == name && *field.data_type() == data_type)
            && self.rows.columns().iter().skip(self.schema.columns.len()).all(|array| array.null_count() == 0)
    }

    fn operations_match(&self) -> bool {
        let sets = self.set_of_rows();
        self.ops().iter().enumerate().all(|(row, op)| match Op::from_code(*op) {
            None => false,
            Some(Op::Update) => sets
                .and_then(|sets| sets.get(row))
                .and_then(|set| usize::try_from(*set).ok())
                .is_some_and(|set| set < self.sets.len()),
            Some(Op::Upsert | Op::Delete) => true,
        })
    }
}
