//! The widening lattice: the smallest type that holds two others without loss, and the cast of an array to it.
//!
//! [`join`] is commutative and idempotent. It is associative except where a rule looks at magnitudes that the types
//! alone forget: a decimal that met a LONG counts 19 integer digits, and then no longer fits a DOUBLE.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, TimestampMicrosecondArray};
use arrow::compute;
use arrow::datatypes::{Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::render;
use crate::types::{self, DataType};

/// The largest integer up to which every integer is a DOUBLE.
pub const EXACT_DOUBLE_MAX: u64 = 1 << 53;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What the values of a column say that its type does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Every LONG value of the column is at most 2^53 in magnitude.
    pub long_fits_double: bool,
}

/// The smallest type that holds every value of both.
#[must_use]
pub fn join(a: &DataType, b: &DataType, facts: ColumnFacts) -> DataType {
    use DataType::{Decimal, Double, Float, Int, Long, NaiveDate, NaiveDatetime, Short, String};
    match (*a, *b) {
        (a, b) if a == b => a,
        (Short | Int, Int) | (Int, Short) => Int,
        (Short | Int, Long) | (Long, Short | Int) => Long,
        (integer @ (Short | Int | Long), Decimal { precision, scale })
        | (Decimal { precision, scale }, integer @ (Short | Int | Long)) => {
            let digits = (i16::from(precision) - i16::from(scale)).max(integer_digits(integer));
            decimal_or_string(digits, i16::from(scale))
        }
        (Decimal { precision: p, scale: s }, Decimal { precision: q, scale: t }) => {
            let digits = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
            decimal_or_string(digits, i16::from(s.max(t)))
        }
        (Short | Int, Float | Double) | (Float | Double, Short | Int) | (Float, Double) | (Double, Float) => Double,
        (Long, Float | Double) | (Float | Double, Long) if facts.long_fits_double => Double,
        (Decimal { precision, .. }, Float | Double) | (Float | Double, Decimal { precision, .. })
            if precision <= 15 =>
        {
            Double
        }
        (NaiveDate, NaiveDatetime) | (NaiveDatetime, NaiveDate) => NaiveDatetime,
        _ => String,
    }
}

fn integer_digits(integer: DataType) -> i16 {
    match integer {
        DataType::Short => 5,
        DataType::Int => 10,
        _ => 19,
    }
}

fn decimal_or_string(integer_digits: i16, scale: i16) -> DataType {
    let precision = integer_digits + scale;
    let data_type = u8::try_from(precision).ok().zip(i8::try_from(scale).ok());
    data_type.and_then(|(precision, scale)| types::decimal(precision, scale).ok()).unwrap_or(DataType::String)
}

/// A cast that the lattice does not know, or that would lose a value.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    #[error("{from} does not widen to {to}")]
    NotWider { from: DataType, to: DataType },
    #[error("a value of the {from} column does not fit {to}")]
    Lossy { from: DataType, to: DataType },
    #[error("the array is {actual}, its column {expected}")]
    WrongArray { actual: arrow::datatypes::DataType, expected: DataType },
    #[error("text of the column would pass 2 GiB")]
    TextTooLong,
    #[error("arrow refused the cast")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Casts along the lattice. Never loses a value: where the types alone do not promise that, every value is checked.
pub fn cast(array: &ArrayRef, from: &DataType, to: &DataType) -> Result<ArrayRef, CastError> {
    use DataType::{Decimal, Double, Float, Int, Long, NaiveDate, NaiveDatetime, Short, String};
    if *array.data_type() != from.to_arrow() {
        return Err(CastError::WrongArray { actual: array.data_type().clone(), expected: *from });
    }
    let lossy = || CastError::Lossy { from: *from, to: *to };
    match (*from, *to) {
        (a, b) if a == b => Ok(Arc::clone(array)),
        (_, String) => Ok(Arc::new(render::render_array(array, *from)?)),
        (Short, Int | Long | Double) | (Int, Long | Double) | (Float, Double) => {
            Ok(compute::cast(array, &to.to_arrow())?)
        }
        (Long, Double) => long_to_double(array).ok_or_else(lossy),
        (Short | Int | Long, Decimal { precision, scale }) => {
            rescale(integers(array).into_iter(), precision, scale, 0).ok_or_else(lossy)
        }
        (Decimal { scale: before, .. }, Decimal { precision, scale }) if scale >= before => {
            let values = array.as_primitive::<Decimal128Type>().iter();
            rescale(values, precision, scale, before).ok_or_else(lossy)
        }
        (Decimal { scale, precision }, Double) if precision <= 15 => Ok(decimal_to_double(array, scale)),
        (NaiveDate, NaiveDatetime) => Ok(date_to_datetime(array)),
        (from, to) => Err(CastError::NotWider { from, to }),
    }
}

/// Whether every LONG of the array is at most 2^53 in magnitude.
#[must_use]
pub fn long_fits_double(array: &ArrayRef) -> bool {
    match array.as_primitive_opt::<Int64Type>() {
        Some(longs) => [compute::min(longs), compute::max(longs)]
            .iter()
            .flatten()
            .all(|value: &i64| value.unsigned_abs() <= EXACT_DOUBLE_MAX),
        None => true,
    }
}

fn long_to_double(array: &ArrayRef) -> Option<ArrayRef> {
    if !long_fits_double(array) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "every value is at most 2^53 in magnitude")]
    let doubles: Float64Array = array.as_primitive::<Int64Type>().unary(|value| value as f64);
    Some(Arc::new(doubles))
}

fn integers(array: &ArrayRef) -> Vec<Option<i128>> {
    match array.data_type() {
        arrow::datatypes::DataType::Int16 => widened::<Int16Type>(array),
        arrow::datatypes::DataType::Int32 => widened::<Int32Type>(array),
        _ => widened::<Int64Type>(array),
    }
}

fn widened<T>(array: &ArrayRef) -> Vec<Option<i128>>
where
    T: arrow::datatypes::ArrowPrimitiveType,
    i128: From<T::Native>,
{
    array.as_primitive::<T>().iter().map(|value| value.map(i128::from)).collect()
}

fn rescale(values: impl Iterator<Item = Option<i128>>, precision: u8, scale: i8, before: i8) -> Option<ArrayRef> {
    let factor = 10_i128.checked_pow(u32::try_from(scale.checked_sub(before)?).ok()?)?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    let mut rescaled = Vec::with_capacity(values.size_hint().0);
    for value in values {
        rescaled.push(match value {
            None => None,
            Some(value) => Some(value.checked_mul(factor).filter(|value| value.unsigned_abs() < limit.unsigned_abs())?),
        });
    }
    let array = Decimal128Array::from(rescaled).with_precision_and_scale(precision, scale).ok()?;
    Some(Arc::new(array))
}

/// Exact: at most 15 digits over a power of ten below 2^53 make one correctly rounded division.
fn decimal_to_double(array: &ArrayRef, scale: i8) -> ArrayRef {
    let divisor = 10_f64.powi(i32::from(scale));
    #[expect(clippy::cast_precision_loss, reason = "at most 15 digits")]
    let doubles: Float64Array = array.as_primitive::<Decimal128Type>().unary(|value| value as f64 / divisor);
    Arc::new(doubles)
}

fn date_to_datetime(array: &ArrayRef) -> ArrayRef {
    let dates: &Date32Array = array.as_primitive::<Date32Type>();
    let midnights: TimestampMicrosecondArray =
        dates.unary::<_, TimestampMicrosecondType>(|days| i64::from(days) * MICROS_PER_DAY);
    Arc::new(midnights)
}

/// Whether `f32` holds the value without becoming infinite.
#[must_use]
pub fn fits_float(value: f64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the truncation is what is asked about")]
    let narrow = value as f32;
    narrow.is_finite() || !value.is_finite()
}

#[cfg(test)]
mod tests;
