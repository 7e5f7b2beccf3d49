//! The text of one value: what a promotion to STRING stores, and what the id of a keyless row is made of.
//!
//! The text of a number does not depend on the way a column took through the lattice: an integral float and a decimal
//! with a zero fraction read like the integer they equal. So a value keeps its text, and a keyless row its id, when the
//! column widens between two syncs.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, StringBuilder, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::schema::{Column, FILE_PATH_COLUMN, SYSTEM_COLUMNS};
use crate::temporal;
use crate::types::DataType;
use crate::widen::CastError;

mod json;

/// The `_fivetran_id` of each row, over the given user columns; `columns[i]` describes column `i` of the batch.
///
/// Per non-NULL column in byte order of its name: u32-LE length ‖ name ‖ u32-LE length ‖ text, hashed with SHA-256.
/// NULLs are skipped, so a new column leaves old ids alone.
#[must_use]
pub fn row_ids(batch: &RecordBatch, columns: &[Column]) -> StringArray {
    let mut fields: Vec<(&str, DataType, Cells<'_>)> = columns
        .iter()
        .zip(batch.columns())
        .filter(|(column, _)| column.name != FILE_PATH_COLUMN && !SYSTEM_COLUMNS.contains(&column.name.as_str()))
        .filter_map(|(column, array)| {
            Some((column.name.as_str(), column.data_type, Cells::of(array, column.data_type)?))
        })
        .collect();
    fields.sort_by_key(|(name, ..)| *name);
    let mut ids = StringBuilder::with_capacity(batch.num_rows(), batch.num_rows() * 64);
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        let mut digest = Sha256::new();
        for (name, data_type, cells) in &fields {
            if cells.is_null(row) {
                continue;
            }
            text.clear();
            cells.write(&mut text, row);
            let text = if *data_type == DataType::Json { json::canonical(&text) } else { (&text).into() };
            update(&mut digest, name);
            update(&mut digest, &text);
        }
        ids.append_value(hex::encode(digest.finalize()));
    }
    ids.finish()
}

fn update(digest: &mut Sha256, text: &str) {
    let length = u32::try_from(text.len()).expect("arrow text is shorter than 2 GiB");
    digest.update(length.to_le_bytes());
    digest.update(text.as_bytes());
}

/// The text of every value.
pub(crate) fn render_array(array: &ArrayRef, data_type: DataType) -> Result<StringArray, CastError> {
    let wrong = || CastError::WrongArray { actual: array.data_type().clone(), expected: data_type };
    let cells = Cells::of(array, data_type).ok_or_else(wrong)?;
    if let Cells::Text(text) = cells {
        return Ok(text.clone());
    }
    let mut rendered = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut bytes = 0_usize;
    let mut text = String::new();
    for row in 0..array.len() {
        if cells.is_null(row) {
            rendered.append_null();
            continue;
        }
        text.clear();
        cells.write(&mut text, row);
        bytes += text.len();
        if i32::try_from(bytes).is_err() {
            return Err(CastError::TextTooLong);
        }
        rendered.append_value(&text);
    }
    Ok(rendered.finish())
}

/// A typed view of one column.
enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Short(&'a Int16Array),
    Int(&'a Int32Array),
    Long(&'a Int64Array),
    Decimal(&'a Decimal128Array, i8),
    Float(&'a Float32Array),
    Double(&'a Float64Array),
    Date(&'a Date32Array),
    Naive(&'a TimestampMicrosecondArray),
    Utc(&'a TimestampMicrosecondArray),
    Time(&'a Time64MicrosecondArray),
    Binary(&'a BinaryArray),
    Text(&'a StringArray),
}

impl<'a> Cells<'a> {
    fn of(array: &'a ArrayRef, data_type: DataType) -> Option<Cells<'a>> {
        Some(match data_type {
            DataType::Boolean => Cells::Boolean(array.as_boolean_opt()?),
            DataType::Short => Cells::Short(array.as_primitive_opt()?),
            DataType::Int => Cells::Int(array.as_primitive_opt()?),
            DataType::Long => Cells::Long(array.as_primitive_opt()?),
            DataType::Decimal { scale, .. } => Cells::Decimal(array.as_primitive_opt()?, scale),
            DataType::Float => Cells::Float(array.as_primitive_opt()?),
            DataType::Double => Cells::Double(array.as_primitive_opt()?),
            DataType::NaiveDate => Cells::Date(array.as_primitive_opt()?),
            DataType::NaiveDatetime => Cells::Naive(array.as_primitive_opt()?),
            DataType::UtcDatetime => Cells::Utc(array.as_primitive_opt()?),
            DataType::NaiveTime => Cells::Time(array.as_primitive_opt()?),
            DataType::Binary => Cells::Binary(array.as_binary_opt()?),
            DataType::Xml | DataType::String | DataType::Json => Cells::Text(array.as_string_opt()?),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        let array: &dyn Array = match self {
            Cells::Boolean(array) => array,
            Cells::Short(array) => array,
            Cells::Int(array) => array,
            Cells::Long(array) => array,
            Cells::Decimal(array, _) => array,
            Cells::Float(array) => array,
            Cells::Double(array) => array,
            Cells::Date(array) => array,
            Cells::Naive(array) | Cells::Utc(array) => array,
            Cells::Time(array) => array,
            Cells::Binary(array) => array,
            Cells::Text(array) => array,
        };
        array.is_null(row)
    }

    fn write(&self, out: &mut String, row: usize) {
        match self {
            Cells::Boolean(array) => write_boolean(out, array.value(row)),
            Cells::Short(array) => write_integer(out, array.value(row).into()),
            Cells::Int(array) => write_integer(out, array.value(row).into()),
            Cells::Long(array) => write_integer(out, array.value(row).into()),
            Cells::Decimal(array, scale) => write_decimal(out, array.value(row), *scale),
            Cells::Float(array) => write_float(out, array.value(row)),
            Cells::Double(array) => write_double(out, array.value(row)),
            Cells::Date(array) => temporal::write_date(out, array.value(row).into()),
            Cells::Naive(array) => temporal::write_datetime(out, array.value(row)),
            Cells::Utc(array) => write_utc(out, array.value(row)),
            Cells::Time(array) => temporal::write_time(out, array.value(row)),
            Cells::Binary(array) => write_binary(out, array.value(row)),
            Cells::Text(array) => out.push_str(array.value(row)),
        }
    }
}

pub(crate) fn write_boolean(out: &mut String, value: bool) {
    out.push_str(if value { "true" } else { "false" });
}

pub(crate) fn write_integer(out: &mut String, value: i128) {
    write!(out, "{value}").expect("writing to a String cannot fail");
}

/// Plain digits without an exponent and without trailing zeros in the fraction.
pub(crate) fn write_decimal(out: &mut String, value: i128, scale: i8) {
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (integer, fraction) = digits.split_at(digits.len() - scale);
    if value < 0 {
        out.push('-');
    }
    out.push_str(integer);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
}

pub(crate) fn write_float(out: &mut String, value: f32) {
    write_shortest(out, f64::from(value), ryu::Buffer::new().format(value));
}

pub(crate) fn write_double(out: &mut String, value: f64) {
    write_shortest(out, value, ryu::Buffer::new().format(value));
}

fn write_shortest(out: &mut String, value: f64, shortest: &str) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        out.push_str(shortest.strip_suffix(".0").unwrap_or(shortest));
    }
}

pub(crate) fn write_utc(out: &mut String, micros: i64) {
    temporal::write_datetime(out, micros);
    out.push('Z');
}

pub(crate) fn write_binary(out: &mut String, bytes: &[u8]) {
    STANDARD.encode_string(bytes, out);
}

#[cfg(test)]
mod tests;
