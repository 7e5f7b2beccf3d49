//! What a caller hands to a builder, and what the builder answers.

use crate::schema::TableName;
use crate::types::DataType;

/// The values of one row, and so each of them, are at most this long: a batch that ends with
/// such a row still is one frame, also when its binary values become text.
pub const ROW_BYTES_MAX: usize = 40 << 20;

/// What a row does to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    Upsert = 0,
    Update = 1,
    Delete = 2,
}

impl Op {
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Op> {
        match code {
            0 => Some(Op::Upsert),
            1 => Some(Op::Update),
            2 => Some(Op::Delete),
            _ => None,
        }
    }
}

/// One value as the connector gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// Decimal digits with an optional sign, beyond 64 bits.
    BigInt(&'a str),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// JSON text.
    Json(&'a str),
    /// Days since the epoch, for a declared temporal column.
    Date(i32),
    /// Microseconds since the epoch, naive or UTC by the declared column.
    Micros(i64),
    /// Microseconds since the epoch in UTC, for a column that is not declared.
    Utc(i64),
    /// A decimal's digits, for a column that is not declared.
    Decimal(&'a str),
    /// `str(v)` of a value of any other type.
    Text(&'a str),
}

/// A value that its column does not accept. Holds no part of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("column {column} is {expected} and does not accept a {got}")]
    WrongType { column: String, expected: DataType, got: &'static str },
    #[error("a value of column {column} is not a valid {expected}: {problem}")]
    Malformed { column: String, expected: DataType, problem: &'static str },
    #[error("a value of column {column} passes the limit of {} MiB", ROW_BYTES_MAX >> 20)]
    TooLong { column: String },
}

/// A row that its table does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("key column {column} of {table} is null")]
    PrimaryKeyNull { table: TableName, column: String },
    #[error("key column {column} of {table} is missing: update and delete need the whole key")]
    PartialKey { table: TableName, column: String },
    #[error("{table} has no key: rows cannot be updated")]
    PrimaryKeyRequired { table: TableName },
    #[error("a row of {table} passes the limit of {} MiB", ROW_BYTES_MAX >> 20)]
    TooLong { table: TableName },
}

/// Something the connector's developer should know; told once, counts since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    NamesCollide {
        table: TableName,
        column: String,
        names: [String; 2],
    },
    SystemColumnDropped {
        table: TableName,
        name: String,
    },
    /// Accepted, but Fivetran's own runtime would have refused it.
    Lenient {
        table: TableName,
        column: String,
        count: u64,
    },
}

/// A float with the digits that 32 bits keep: the column may have widened to 64 since.
#[expect(clippy::cast_possible_truncation, reason = "the loss is what is asked for")]
pub(super) fn narrowed(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Float(double) => Value::Float(f64::from(double as f32)),
        value => value,
    }
}

/// Zero has two signs and NaN many patterns: as a key each is one value, as it is for whoever reads the table.
pub(super) fn one_of_equals(key: Value<'_>) -> Value<'_> {
    match key {
        Value::Float(value) if value.is_nan() => Value::Float(f64::NAN),
        // Of the sum of both zeros the sign is plus; any other value stays.
        Value::Float(value) => Value::Float(value + 0.0),
        key => key,
    }
}
