//! The closed set of column types, their platform names and their Arrow form.
//!
//! JSON, XML and STRING share one Arrow type: an Arrow schema alone cannot tell them apart, so the [`DataType`] always
//! travels beside the arrays.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest number of digits a decimal holds.
pub const DECIMAL_PRECISION_MAX: u8 = 38;
/// The largest scale of a decimal.
pub const DECIMAL_SCALE_MAX: i8 = 37;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataType {
    Boolean,
    Short,
    Int,
    Long,
    Decimal { precision: u8, scale: i8 },
    Float,
    Double,
    NaiveDate,
    NaiveDatetime,
    UtcDatetime,
    NaiveTime,
    Binary,
    Xml,
    String,
    Json,
}

impl DataType {
    /// The Arrow type of this column's arrays.
    #[must_use]
    pub fn to_arrow(&self) -> arrow::datatypes::DataType {
        use arrow::datatypes::{DataType as Arrow, TimeUnit};
        match self {
            DataType::Boolean => Arrow::Boolean,
            DataType::Short => Arrow::Int16,
            DataType::Int => Arrow::Int32,
            DataType::Long => Arrow::Int64,
            DataType::Decimal { precision, scale } => Arrow::Decimal128(*precision, *scale),
            DataType::Float => Arrow::Float32,
            DataType::Double => Arrow::Float64,
            DataType::NaiveDate => Arrow::Date32,
            DataType::NaiveDatetime => Arrow::Timestamp(TimeUnit::Microsecond, None),
            DataType::UtcDatetime => Arrow::Timestamp(TimeUnit::Microsecond, Some(utc())),
            DataType::NaiveTime => Arrow::Time64(TimeUnit::Microsecond),
            DataType::Binary => Arrow::Binary,
            DataType::Xml | DataType::String | DataType::Json => Arrow::Utf8,
        }
    }

    /// Whether arrays of this type are stored as text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self, DataType::Xml | DataType::String | DataType::Json)
    }

    /// Whether the type is one of SHORT, INT and LONG.
    #[must_use]
    pub fn is_integer(&self) -> bool {
        matches!(self, DataType::Short | DataType::Int | DataType::Long)
    }
}

/// The zone name that UTC arrays carry.
pub(crate) fn utc() -> Arc<str> {
    Arc::from("UTC")
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            DataType::Boolean => "BOOLEAN",
            DataType::Short => "SHORT",
            DataType::Int => "INT",
            DataType::Long => "LONG",
            DataType::Decimal { precision, scale } => return write!(f, "DECIMAL({precision},{scale})"),
            DataType::Float => "FLOAT",
            DataType::Double => "DOUBLE",
            DataType::NaiveDate => "NAIVE_DATE",
            DataType::NaiveDatetime => "NAIVE_DATETIME",
            DataType::UtcDatetime => "UTC_DATETIME",
            DataType::NaiveTime => "NAIVE_TIME",
            DataType::Binary => "BINARY",
            DataType::Xml => "XML",
            DataType::String => "STRING",
            DataType::Json => "JSON",
        };
        f.write_str(name)
    }
}

/// A type name that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypeNameError {
    #[error("unknown type {0:?}")]
    Unknown(String),
    #[error(
        "decimal of {precision} digits and scale {scale}: precision is 1 to 38, scale 0 to 37 and at most the precision"
    )]
    DecimalRange { precision: u8, scale: i8 },
}

impl FromStr for DataType {
    type Err = TypeNameError;

    fn from_str(text: &str) -> Result<DataType, TypeNameError> {
        Ok(match text {
            "BOOLEAN" => DataType::Boolean,
            "SHORT" => DataType::Short,
            "INT" => DataType::Int,
            "LONG" => DataType::Long,
            "FLOAT" => DataType::Float,
            "DOUBLE" => DataType::Double,
            "NAIVE_DATE" => DataType::NaiveDate,
            "NAIVE_DATETIME" => DataType::NaiveDatetime,
            "UTC_DATETIME" => DataType::UtcDatetime,
            "NAIVE_TIME" => DataType::NaiveTime,
            "BINARY" => DataType::Binary,
            "XML" => DataType::Xml,
            "STRING" => DataType::String,
            "JSON" => DataType::Json,
            other => return decimal_from_str(other),
        })
    }
}

fn decimal_from_str(text: &str) -> Result<DataType, TypeNameError> {
    let unknown = || TypeNameError::Unknown(text.chars().take(64).collect());
    let inner = text.strip_prefix("DECIMAL(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(unknown)?;
    let (precision, scale) = inner.split_once(',').ok_or_else(unknown)?;
    let precision = precision.trim().parse().map_err(|_| unknown())?;
    let scale = scale.trim().parse().map_err(|_| unknown())?;
    decimal(precision, scale)
}

/// A decimal type whose precision and scale are in range.
pub fn decimal(precision: u8, scale: i8) -> Result<DataType, TypeNameError> {
    let fits = (1..=DECIMAL_PRECISION_MAX).contains(&precision)
        && (0..=DECIMAL_SCALE_MAX).contains(&scale)
        && scale.unsigned_abs() <= precision;
    if fits {
        Ok(DataType::Decimal { precision, scale })
    } else {
        Err(TypeNameError::DecimalRange { precision, scale })
    }
}

impl TryFrom<String> for DataType {
    type Error = TypeNameError;

    fn try_from(text: String) -> Result<DataType, TypeNameError> {
        text.parse()
    }
}

impl From<DataType> for String {
    fn from(data_type: DataType) -> String {
        data_type.to_string()
    }
}

#[cfg(test)]
pub(crate) fn all() -> Vec<DataType> {
    vec![
        DataType::Boolean,
        DataType::Short,
        DataType::Int,
        DataType::Long,
        DataType::Decimal { precision: 10, scale: 2 },
        DataType::Decimal { precision: 38, scale: 0 },
        DataType::Float,
        DataType::Double,
        DataType::NaiveDate,
        DataType::NaiveDatetime,
        DataType::UtcDatetime,
        DataType::NaiveTime,
        DataType::Binary,
        DataType::Xml,
        DataType::String,
        DataType::Json,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for data_type in all() {
            assert_eq!(data_type.to_string().parse(), Ok(data_type));
            let json = serde_json::to_string(&data_type).unwrap();
            assert_eq!(serde_json::from_str::<DataType>(&json).unwrap(), data_type);
        }
    }

    #[test]
    fn names_that_are_refused() {
        for text in [
            "",
            "string",
            "DECIMAL",
            "DECIMAL()",
            "DECIMAL(39,0)",
            "DECIMAL(38,38)",
            "DECIMAL(2,3)",
            "DECIMAL(5,-1)",
            "INT ",
        ] {
            assert!(text.parse::<DataType>().is_err(), "{text:?}");
        }
    }
}
