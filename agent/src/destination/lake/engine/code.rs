//! What stands for a row's key while rows are looked for: the value itself where the key is one column of whole numbers,
//! days or instants; else 128 bits of the SHA-256 of its values, so that nobody can make two keys meet. CPU only, no IO.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use inshore_columnar::{Column, DataType};
use sha2::{Digest, Sha256};

/// Changes whenever codes are made in another way: indices of an older way are not believed.
const WAY: &str = "inshore key codes 1";

/// How the keys of a table are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole,
    Hashed,
}

/// The codes of some rows, in their order.
#[derive(Debug)]
pub(crate) enum Codes {
    /// Rows without a value have no code: nothing is equal to them.
    Whole(Vec<i64>, Option<NullBuffer>),
    Hashed(Vec<u128>),
}

impl Kind {
    pub(crate) fn of(key: &[Column]) -> Kind {
        match key {
            [column] if is_whole(column.data_type) => Kind::Whole,
            _ => Kind::Hashed,
        }
    }

    /// The codes of the rows of these key columns.
    pub(crate) fn encode(self, arrays: &[ArrayRef], rows: usize) -> Codes {
        match (self, arrays) {
            (Kind::Whole, [array]) => Codes::Whole(whole(array), array.nulls().cloned()),
            _ => Codes::Hashed(hashed(arrays, rows)),
        }
    }
}

/// Says of which key an index was made, and how.
pub(crate) fn signature(key: &[Column]) -> [u8; 8] {
    let mut text = WAY.to_owned();
    for column in key {
        text.push_str(&format!("\n{}\n{}", column.name, class(column.data_type)));
    }
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut short = [0; 8];
    short.copy_from_slice(digest.split_at(8).0);
    short
}

/// Types whose equal values have equal codes: a widening among them leaves the codes as they are.
fn class(data_type: DataType) -> String {
    match data_type {
        DataType::Short | DataType::Int | DataType::Long => "WHOLE".to_owned(),
        DataType::String | DataType::Json | DataType::Xml => "TEXT".to_owned(),
        other => other.to_string(),
    }
}

fn is_whole(data_type: DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::NaiveDate | DataType::NaiveDatetime | DataType::UtcDatetime)
}

fn whole(array: &ArrayRef) -> Vec<i64> {
    match array.data_type() {
        Arrow::Int16 => array.as_primitive::<Int16Type>().values().iter().map(|v| i64::from(*v)).collect(),
        Arrow::Int32 => array.as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).collect(),
        Arrow::Date32 => array.as_primitive::<Date32Type>().values().iter().map(|v| i64::from(*v)).collect(),
        Arrow::Int64 => array.as_primitive::<Int64Type>().values().to_vec(),
        _ => array.as_primitive::<TimestampMicrosecondType>().values().to_vec(),
    }
}

fn hashed(arrays: &[ArrayRef], rows: usize) -> Vec<u128> {
    let mut text = Vec::new();
    let codes = (0..rows).map(|row| {
        text.clear();
        arrays.iter().for_each(|array| write_value(array, row, &mut text));
        let digest: [u8; 32] = Sha256::digest(&text).into();
        let mut half = [0; 16];
        half.copy_from_slice(digest.split_at(16).0);
        u128::from_le_bytes(half)
    });
    codes.collect()
}

/// A byte for presence, then the value: of fixed length by its type, or behind its length.
fn write_value(array: &ArrayRef, row: usize, text: &mut Vec<u8>) {
    if array.is_null(row) {
        return text.push(0);
    }
    text.push(1);
    match array.data_type() {
        Arrow::Utf8 => write_bytes(array.as_string::<i32>().value(row).as_bytes(), text),
        Arrow::Binary => write_bytes(array.as_binary::<i32>().value(row), text),
        Arrow::Int16 => text.extend(i64::from(array.as_primitive::<Int16Type>().value(row)).to_le_bytes()),
        Arrow::Int32 => text.extend(i64::from(array.as_primitive::<Int32Type>().value(row)).to_le_bytes()),
        Arrow::Int64 => text.extend(array.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        Arrow::Date32 => text.extend(array.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        Arrow::Time64(_) => text.extend(array.as_primitive::<Time64MicrosecondType>().value(row).to_le_bytes()),
        Arrow::Timestamp(..) => text.extend(array.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes()),
        Arrow::Float32 => text.extend(array.as_primitive::<Float32Type>().value(row).to_bits().to_le_bytes()),
        Arrow::Float64 => text.extend(array.as_primitive::<Float64Type>().value(row).to_bits().to_le_bytes()),
        Arrow::Decimal128(..) => text.extend(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes()),
        _ => text.push(u8::from(array.as_boolean().value(row))),
    }
}

fn write_bytes(value: &[u8], text: &mut Vec<u8>) {
    text.extend(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
    text.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array, StringArray};

    use super::*;

    fn hashes(arrays: &[ArrayRef]) -> Vec<u128> {
        match Kind::Hashed.encode(arrays, arrays[0].len()) {
            Codes::Hashed(codes) => codes,
            Codes::Whole(..) => panic!("hashed codes were asked for"),
        }
    }

    #[test]
    fn one_column_of_numbers_stands_for_itself() {
        let column = |data_type| Column { name: "id".to_owned(), data_type, declared: true };
        assert_eq!(Kind::of(&[column(DataType::Int)]), Kind::Whole);
        assert_eq!(Kind::of(&[column(DataType::String)]), Kind::Hashed);
        assert_eq!(Kind::of(&[column(DataType::Long), column(DataType::Long)]), Kind::Hashed);
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(-3), None, Some(7)]));
        let Codes::Whole(values, nulls) = Kind::Whole.encode(&[ids], 3) else { panic!("whole") };
        assert_eq!((values[0], values[2]), (-3, 7));
        assert!(nulls.expect("one is null").is_null(1));
    }

    #[test]
    fn values_that_could_run_together_stay_apart() {
        let texts = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let codes = hashes(&[texts(["a", "ab"]), texts(["bc", "c"])]);
        assert_ne!(codes[0], codes[1]);
        let empty_or_null: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None]));
        let codes = hashes(&[empty_or_null]);
        assert_ne!(codes[0], codes[1]);
    }

    #[test]
    fn a_wider_number_has_the_same_code() {
        let tail: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, -2]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, -2]));
        assert_eq!(hashes(&[narrow, Arc::clone(&tail)]), hashes(&[wide, tail]));
    }
}
