//! The cells of one column: plain vectors that grow by one value at a time, shrink again when a row fails, and turn into
//! an Arrow array without a copy.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, BooleanBufferBuilder, NullBufferBuilder,
    PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};

use super::accept::{self, Typed};
use super::{ROW_BYTES_MAX, Value};
use crate::temporal::{self, MICROS_PER_DAY};
use crate::types::{self, DataType};
use crate::{render, widen};

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) data_type: Option<DataType>,
    pub(super) declared: bool,
    pub(super) is_key: bool,
    /// No LONG above 2^53 came by, in this batch or before.
    pub(super) fits_double: bool,
    pub(super) lenient: u64,
    cells: Cells,
    valid: NullBufferBuilder,
    scratch: String,
    /// Rows and bytes of text in the last batch.
    before: (usize, usize),
}

#[derive(Debug)]
enum Cells {
    None,
    Boolean(BooleanBufferBuilder),
    Short(Vec<i16>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Decimal(Vec<i128>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Date(Vec<i32>),
    /// Both kinds of datetime, and times.
    Micros(Vec<i64>),
    /// Text and binary.
    Bytes {
        ends: Vec<i32>,
        data: Vec<u8>,
    },
}

impl Cells {
    fn new(data_type: DataType) -> Cells {
        match data_type {
            DataType::Boolean => Cells::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Short => Cells::Short(Vec::new()),
            DataType::Int => Cells::Int(Vec::new()),
            DataType::Long => Cells::Long(Vec::new()),
            DataType::Decimal { .. } => Cells::Decimal(Vec::new()),
            DataType::Float => Cells::Float(Vec::new()),
            DataType::Double => Cells::Double(Vec::new()),
            DataType::NaiveDate => Cells::Date(Vec::new()),
            DataType::NaiveDatetime | DataType::UtcDatetime | DataType::NaiveTime => Cells::Micros(Vec::new()),
            DataType::Binary | DataType::Xml | DataType::String | DataType::Json => {
                Cells::Bytes { ends: vec![0], data: Vec::new() }
            }
        }
    }

    /// Room for as many values as the batch before had, so that vectors do not grow by copying.
    fn reserve(&mut self, rows: usize, text_bytes: usize) {
        match self {
            Cells::None | Cells::Boolean(_) => {}
            Cells::Short(cells) => cells.reserve(rows),
            Cells::Int(cells) | Cells::Date(cells) => cells.reserve(rows),
            Cells::Long(cells) | Cells::Micros(cells) => cells.reserve(rows),
            Cells::Decimal(cells) => cells.reserve(rows),
            Cells::Float(cells) => cells.reserve(rows),
            Cells::Double(cells) => cells.reserve(rows),
            Cells::Bytes { ends, data } => {
                ends.reserve(rows);
                data.reserve(text_bytes);
            }
        }
    }

    fn text_bytes(&self) -> usize {
        if let Cells::Bytes { data, .. } = self { data.len() } else { 0 }
    }

    /// Zeros, under NULLs.
    fn fill(&mut self, count: usize) {
        match self {
            Cells::None => {}
            Cells::Boolean(cells) => cells.append_n(count, false),
            Cells::Short(cells) => cells.resize(cells.len() + count, 0),
            Cells::Int(cells) | Cells::Date(cells) => cells.resize(cells.len() + count, 0),
            Cells::Long(cells) | Cells::Micros(cells) => cells.resize(cells.len() + count, 0),
            Cells::Decimal(cells) => cells.resize(cells.len() + count, 0),
            Cells::Float(cells) => cells.resize(cells.len() + count, 0.0),
            Cells::Double(cells) => cells.resize(cells.len() + count, 0.0),
            Cells::Bytes { ends, .. } => {
                let end = ends.last().copied().unwrap_or(0);
                ends.resize(ends.len() + count, end);
            }
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Cells::None => {}
            Cells::Boolean(cells) => cells.truncate(length),
            Cells::Short(cells) => cells.truncate(length),
            Cells::Int(cells) | Cells::Date(cells) => cells.truncate(length),
            Cells::Long(cells) | Cells::Micros(cells) => cells.truncate(length),
            Cells::Decimal(cells) => cells.truncate(length),
            Cells::Float(cells) => cells.truncate(length),
            Cells::Double(cells) => cells.truncate(length),
            Cells::Bytes { ends, data } => {
                ends.truncate(length + 1);
                data.truncate(ends.last().and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
            }
        }
    }

    /// Bytes added; `None` when the value alone is too long for a row, or the column's text would pass 2 GiB.
    #[inline]
    fn push_bytes(&mut self, bytes: &[u8]) -> Option<usize> {
        let Cells::Bytes { ends, data } = self else { return None };
        if bytes.len() > ROW_BYTES_MAX {
            return None;
        }
        let end = i32::try_from(data.len().checked_add(bytes.len())?).ok()?;
        data.extend_from_slice(bytes);
        ends.push(end);
        Some(bytes.len() + size_of::<i32>())
    }
}

impl Column {
    pub(super) fn new(name: String) -> Column {
        Column {
            name,
            data_type: None,
            declared: false,
            is_key: false,
            fits_double: true,
            lenient: 0,
            cells: Cells::None,
            valid: NullBufferBuilder::new(0),
            scratch: String::new(),
            before: (0, 0),
        }
    }

    /// To be called before the first row of a batch. A little more than the last one had: batches are cut by their sum.
    pub(super) fn reserve(&mut self) {
        let (rows, text_bytes) = self.before;
        self.cells.reserve(rows + rows / 16, text_bytes + text_bytes / 16);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Only for a column without cells.
    pub(super) fn set_type(&mut self, data_type: DataType) {
        self.data_type = Some(data_type);
        self.cells = Cells::new(data_type);
        self.valid = NullBufferBuilder::new(0);
    }

    pub(super) fn clear_type(&mut self) {
        self.data_type = None;
        self.cells = Cells::None;
        self.valid = NullBufferBuilder::new(0);
    }

    /// Makes the column exactly `rows` long, so that the next value is that of the current row.
    #[inline]
    pub(super) fn go_to(&mut self, rows: usize) {
        if self.len() != rows && self.data_type.is_some() {
            self.resize(rows);
        }
    }

    #[inline(never)]
    fn resize(&mut self, rows: usize) {
        let length = self.len();
        if length > rows {
            self.truncate(rows);
        } else {
            self.cells.fill(rows - length);
            self.valid.append_n_nulls(rows - length);
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if self.len() > rows {
            self.cells.truncate(rows);
            self.valid.truncate(rows);
        }
    }

    /// A text for a column of texts; this and the next four: `None`, and nothing is added, when the column is of another type or
    /// cannot hold the value: a text that is too long, an INT that overflows, the first LONG beyond what a DOUBLE holds exactly.
    #[inline]
    pub(super) fn push_text(&mut self, text: &str) -> Option<usize> {
        let fits = self.data_type == Some(DataType::String);
        let bytes = if fits { self.cells.push_bytes(text.as_bytes())? } else { return None };
        self.valid.append_non_null();
        Some(bytes)
    }

    #[inline]
    pub(super) fn push_json(&mut self, text: &str) -> Option<usize> {
        let fits = self.data_type == Some(DataType::Json);
        let bytes = if fits { self.cells.push_bytes(text.as_bytes())? } else { return None };
        self.valid.append_non_null();
        Some(bytes)
    }

    /// What a DOUBLE does not hold exactly is noted first, the slow way.
    #[inline]
    pub(super) fn push_int(&mut self, number: i64) -> Option<usize> {
        let noted = !self.fits_double || number.unsigned_abs() <= widen::EXACT_DOUBLE_MAX;
        let bytes = match &mut self.cells {
            Cells::Long(cells) if noted => push(cells, number),
            Cells::Int(cells) => push(cells, i32::try_from(number).ok()?),
            _ => return None,
        };
        self.valid.append_non_null();
        Some(bytes)
    }

    #[inline]
    pub(super) fn push_double(&mut self, number: f64) -> Option<usize> {
        let Cells::Double(cells) = &mut self.cells else { return None };
        let bytes = push(cells, number);
        self.valid.append_non_null();
        Some(bytes)
    }

    #[inline]
    pub(super) fn push_bool(&mut self, flag: bool) -> Option<usize> {
        let Cells::Boolean(cells) = &mut self.cells else { return None };
        cells.append(flag);
        self.valid.append_non_null();
        Some(1)
    }

    /// The quick way for a value that already is of the column's type; `None` means that rules are needed.
    pub(super) fn try_push(&mut self, value: Value<'_>) -> Option<usize> {
        match value {
            Value::Str(text) | Value::Text(text) => self.push_text(text),
            Value::Int(number) => self.push_int(number).or_else(|| self.push_narrow(value)),
            Value::Float(number) => self.push_double(number).or_else(|| self.push_narrow(value)),
            Value::Bool(flag) => self.push_bool(flag),
            Value::Json(text) => self.push_json(text),
            other => self.push_narrow(other),
        }
    }

    /// The same for the types that are rarer.
    fn push_narrow(&mut self, value: Value<'_>) -> Option<usize> {
        let data_type = self.data_type?;
        let bytes = match (&mut self.cells, value) {
            (Cells::Short(cells), Value::Int(value)) => push(cells, i16::try_from(value).ok()?),
            #[expect(clippy::cast_possible_truncation, reason = "declared so, or asked for; overflow was ruled out")]
            (Cells::Float(cells), Value::Float(value)) if widen::fits_float(value) => push(cells, value as f32),
            (Cells::Bytes { .. }, Value::Bytes(bytes)) if data_type == DataType::Binary => {
                self.cells.push_bytes(bytes)?
            }
            (Cells::Date(cells), Value::Date(days)) => push(cells, days),
            (Cells::Micros(cells), Value::Micros(micros))
                if data_type != DataType::NaiveTime && temporal::in_calendar(micros) =>
            {
                push(cells, micros)
            }
            _ => return None,
        };
        self.valid.append_non_null();
        Some(bytes)
    }

    /// The quick way for a declared column of numbers or moments that gets them as text.
    pub(super) fn try_push_spelled(&mut self, text: &str) -> Option<usize> {
        let data_type = self.data_type?;
        let bytes = match (&mut self.cells, data_type) {
            (Cells::Decimal(cells), DataType::Decimal { precision, scale }) => {
                push(cells, accept::parse_scaled(text.as_bytes(), precision, scale)?.into())
            }
            (Cells::Micros(cells), DataType::UtcDatetime) => push(cells, temporal::parse_utc_datetime(text)?),
            (Cells::Micros(cells), DataType::NaiveDatetime) => push(cells, temporal::parse_naive_datetime(text)?),
            (Cells::Date(cells), DataType::NaiveDate) => push(cells, temporal::parse_date(text)?),
            _ => return None,
        };
        self.valid.append_non_null();
        Some(bytes)
    }

    /// A value whose type the column's type holds. `None` when it is too long.
    pub(super) fn push(&mut self, typed: &Typed<'_>) -> Option<usize> {
        #[expect(clippy::cast_precision_loss, reason = "the lattice let only exact numbers through")]
        let bytes = match (&mut self.cells, typed) {
            (Cells::Boolean(cells), Typed::Bool(value)) => {
                cells.append(*value);
                1
            }
            (Cells::Short(cells), Typed::Int(value)) => push(cells, i16::try_from(*value).ok()?),
            (Cells::Int(cells), Typed::Int(value)) => push(cells, i32::try_from(*value).ok()?),
            (Cells::Long(cells), Typed::Int(value)) => push(cells, *value),
            (Cells::Decimal(cells), Typed::Int(value)) => push(cells, shift(i128::from(*value), 0, self.data_type)?),
            (Cells::Decimal(cells), Typed::Decimal { mantissa, scale }) => {
                push(cells, shift(*mantissa, *scale, self.data_type)?)
            }
            (Cells::Float(cells), Typed::Float(value)) => push(cells, *value),
            (Cells::Double(cells), Typed::Double(value)) => push(cells, *value),
            (Cells::Double(cells), Typed::Float(value)) => push(cells, f64::from(*value)),
            (Cells::Double(cells), Typed::Int(value)) => push(cells, *value as f64),
            (Cells::Double(cells), Typed::Decimal { mantissa, scale }) => {
                push(cells, *mantissa as f64 / 10_f64.powi(i32::from(*scale)))
            }
            (Cells::Date(cells), Typed::Date(days)) => push(cells, *days),
            (Cells::Micros(cells), Typed::Micros(micros) | Typed::Utc(micros) | Typed::Time(micros)) => {
                push(cells, *micros)
            }
            (Cells::Micros(cells), Typed::Date(days)) => push(cells, i64::from(*days) * MICROS_PER_DAY),
            (Cells::Bytes { .. }, Typed::Text(text)) => self.cells.push_bytes(text.as_bytes())?,
            (Cells::Bytes { .. }, Typed::Bytes(bytes)) if self.data_type == Some(DataType::Binary) => {
                self.cells.push_bytes(bytes)?
            }
            (Cells::Bytes { .. }, typed) => {
                self.scratch.clear();
                write_text(&mut self.scratch, typed);
                self.cells.push_bytes(self.scratch.as_bytes())?
            }
            _ => return None,
        };
        self.valid.append_non_null();
        Some(bytes)
    }

    /// The cells as an array; the column keeps its type and starts again at row 0.
    pub(super) fn freeze(&mut self) -> ArrayRef {
        let data_type = self.data_type.expect("only columns with a type are frozen");
        let cells = std::mem::replace(&mut self.cells, Cells::new(data_type));
        self.before = (self.valid.len(), cells.text_bytes());
        let nulls = self.valid.finish();
        match cells {
            Cells::None => unreachable!("a column with a type has cells"),
            Cells::Boolean(mut cells) => Arc::new(BooleanArray::new(cells.finish(), nulls)),
            Cells::Short(cells) => Arc::new(PrimitiveArray::<Int16Type>::new(cells.into(), nulls)),
            Cells::Int(cells) => Arc::new(PrimitiveArray::<Int32Type>::new(cells.into(), nulls)),
            Cells::Long(cells) => Arc::new(PrimitiveArray::<Int64Type>::new(cells.into(), nulls)),
            Cells::Float(cells) => Arc::new(PrimitiveArray::<Float32Type>::new(cells.into(), nulls)),
            Cells::Double(cells) => Arc::new(PrimitiveArray::<Float64Type>::new(cells.into(), nulls)),
            Cells::Date(cells) => Arc::new(PrimitiveArray::<Date32Type>::new(cells.into(), nulls)),
            Cells::Decimal(cells) => {
                let array = PrimitiveArray::<Decimal128Type>::new(cells.into(), nulls);
                Arc::new(array.with_data_type(data_type.to_arrow()))
            }
            Cells::Micros(cells) if data_type == DataType::NaiveTime => {
                Arc::new(PrimitiveArray::<Time64MicrosecondType>::new(cells.into(), nulls))
            }
            Cells::Micros(cells) => {
                let array = PrimitiveArray::<TimestampMicrosecondType>::new(cells.into(), nulls);
                let zone = (data_type == DataType::UtcDatetime).then(types::utc);
                Arc::new(array.with_timezone_opt(zone))
            }
            Cells::Bytes { ends, data } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let data = Buffer::from_vec(data);
                if data_type == DataType::Binary {
                    Arc::new(BinaryArray::new(offsets, data, nulls))
                } else {
                    Arc::new(StringArray::new(offsets, data, nulls))
                }
            }
        }
    }

    /// The cells with their type, leaving the column untyped; `None` when it was.
    pub(super) fn take(&mut self) -> Option<(DataType, ArrayRef)> {
        let data_type = self.data_type?;
        let array = self.freeze();
        self.clear_type();
        Some((data_type, array))
    }

    /// The opposite of [`Column::take`].
    pub(super) fn restore(&mut self, data_type: DataType, array: &ArrayRef) {
        self.set_type(data_type);
        match array.nulls() {
            Some(nulls) => self.valid.append_buffer(nulls),
            None => self.valid.append_n_non_nulls(array.len()),
        }
        match &mut self.cells {
            Cells::None => {}
            Cells::Boolean(cells) => cells.append_buffer(array.as_boolean().values()),
            Cells::Short(cells) => copy::<Int16Type>(cells, array),
            Cells::Int(cells) => copy::<Int32Type>(cells, array),
            Cells::Long(cells) => copy::<Int64Type>(cells, array),
            Cells::Decimal(cells) => copy::<Decimal128Type>(cells, array),
            Cells::Float(cells) => copy::<Float32Type>(cells, array),
            Cells::Double(cells) => copy::<Float64Type>(cells, array),
            Cells::Date(cells) => copy::<Date32Type>(cells, array),
            Cells::Micros(cells) if data_type == DataType::NaiveTime => copy::<Time64MicrosecondType>(cells, array),
            Cells::Micros(cells) => copy::<TimestampMicrosecondType>(cells, array),
            Cells::Bytes { ends, data } if data_type == DataType::Binary => {
                let array = array.as_binary::<i32>();
                ends.clone_from(&array.value_offsets().to_vec());
                data.extend_from_slice(array.value_data());
            }
            Cells::Bytes { ends, data } => {
                let array = array.as_string::<i32>();
                ends.clone_from(&array.value_offsets().to_vec());
                data.extend_from_slice(array.value_data());
            }
        }
    }
}

fn push<T>(cells: &mut Vec<T>, value: T) -> usize {
    cells.push(value);
    size_of::<T>()
}

fn copy<T: ArrowPrimitiveType>(cells: &mut Vec<T::Native>, array: &ArrayRef) {
    cells.extend_from_slice(array.as_primitive::<T>().values());
}

fn shift(mantissa: i128, scale: i8, to: Option<DataType>) -> Option<i128> {
    let Some(DataType::Decimal { scale: wanted, .. }) = to else { return None };
    mantissa.checked_mul(10_i128.checked_pow(u32::try_from(wanted.checked_sub(scale)?).ok()?)?)
}

fn write_text(out: &mut String, typed: &Typed<'_>) {
    match typed {
        Typed::Bool(value) => render::write_boolean(out, *value),
        Typed::Int(value) => render::write_integer(out, i128::from(*value)),
        Typed::Decimal { mantissa, scale } => render::write_decimal(out, *mantissa, *scale),
        Typed::Float(value) => render::write_float(out, *value),
        Typed::Double(value) => render::write_double(out, *value),
        Typed::Date(days) => temporal::write_date(out, i64::from(*days)),
        Typed::Micros(micros) => temporal::write_datetime(out, *micros),
        Typed::Utc(micros) => render::write_utc(out, *micros),
        Typed::Time(micros) => temporal::write_time(out, *micros),
        Typed::Bytes(bytes) => render::write_binary(out, bytes),
        Typed::Text(text) => out.push_str(text),
    }
}
