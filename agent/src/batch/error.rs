//! What can go wrong between a row's arrival and its sealed file.

use inshore_columnar::batch::BatchError;
use inshore_columnar::schema::{SchemaError, TableName};
use inshore_columnar::widen::CastError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("key column {column} of {table} is null")]
    PrimaryKeyNull { table: TableName, column: String },
    /// The key changed, within the window or against the destination.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("{table} has no key: rows cannot be updated")]
    PrimaryKeyRequired { table: TableName },
    #[error("the rows of {table} lack its key column {column}")]
    KeyColumnMissing { table: TableName, column: String },
    #[error("column {column} of {table} has the name of a system column")]
    ReservedColumn { table: TableName, column: String },
    #[error("the rows contradict themselves")]
    Batch(#[from] BatchError),
    #[error("a column could not be widened")]
    Cast(#[from] CastError),
    #[error("rows could not be put together")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("a Parquet file could not be made")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("the sync names more than {tables_max} tables")]
    TooManyTables { tables_max: usize },
    #[error("{table} has more than {columns_max} columns")]
    TooManyColumns { table: TableName, columns_max: usize },
    #[error("the window passes {rows_max} rows or versions in one table's memory")]
    TooManyRows { rows_max: u32 },
    #[error("the spool would pass its limit of {limit_bytes} bytes")]
    SpoolFull { limit_bytes: u64 },
    #[error("the disk of the spool is full")]
    SpoolDiskFull(#[source] std::io::Error),
    #[error("the spool could not be used")]
    Spool(#[source] std::io::Error),
    #[error("a spooled run was altered on disk")]
    SpoolAltered,
    #[error("no random key for the spool")]
    Random(#[source] getrandom::Error),
    /// For whoever receives the files.
    #[error("nobody takes the sealed files any more")]
    SinkClosed,
}

impl Error {
    /// The product's code, see `docs/errors`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::PrimaryKeyNull { .. } => "SDK-007",
            Error::Schema(SchemaError::PrimaryKeyChanged { .. }) => "SDK-010",
            Error::PrimaryKeyRequired { .. } => "SDK-011",
            Error::KeyColumnMissing { .. } => "SDK-014",
            Error::TooManyTables { .. } | Error::TooManyColumns { .. } => "SDK-023",
            Error::Batch(_) | Error::ReservedColumn { .. } => "SDK-015",
            Error::SpoolFull { .. } | Error::SpoolDiskFull(_) | Error::TooManyRows { .. } => "AGT-001",
            Error::Cast(_)
            | Error::Arrow(_)
            | Error::Parquet(_)
            | Error::Spool(_)
            | Error::SpoolAltered
            | Error::Random(_)
            | Error::SinkClosed => "AGT-003",
        }
    }
}
