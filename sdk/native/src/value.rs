//! One Python value → one value for a column. Two ways: `plain` borrows what needs no Python code (nearly every
//! value), `converted` runs the value's own code and therefore must be called without any lock.

use inshore_columnar::{DataType, Inference, Value};
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDate, PyDict, PyFloat, PyInt, PyList, PyString, PyType};

use crate::borrowed;

/// Days from 0001-01-01 to 1970-01-01, in Python's ordinals.
const EPOCH_ORDINAL: i32 = 719_163;
const DAY_SECONDS: i64 = 86_400;
/// Decimals further than this from 1 keep their exponent as text.
const DECIMAL_ZEROS_MAX: i64 = 100;

/// What a column takes, as far as the conversion of Python values depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Inferred,
    /// Inferred, with a type of their own for decimals, dates and numpy's scalars.
    Rich,
    /// The builder judges plain values of these four.
    Boolean,
    Integer,
    Float,
    Decimal,
    Text,
    Json,
    Xml,
    Binary,
    Date,
    /// Zones are shifted to UTC; then the zone is dropped or kept by the column.
    Datetime,
}

impl Target {
    pub(crate) fn of(declared: Option<DataType>, inference: Inference) -> Target {
        match declared {
            None if inference == Inference::Rich => Target::Rich,
            None => Target::Inferred,
            Some(DataType::Boolean) => Target::Boolean,
            Some(DataType::Short | DataType::Int | DataType::Long) => Target::Integer,
            Some(DataType::Float | DataType::Double) => Target::Float,
            Some(DataType::Decimal { .. }) => Target::Decimal,
            Some(DataType::String | DataType::NaiveTime) => Target::Text,
            Some(DataType::Json) => Target::Json,
            Some(DataType::Xml) => Target::Xml,
            Some(DataType::Binary) => Target::Binary,
            Some(DataType::NaiveDate) => Target::Date,
            Some(DataType::NaiveDatetime | DataType::UtcDatetime) => Target::Datetime,
        }
    }

    /// Whether the value becomes JSON in this column; the exact types only, the slow way knows the others.
    #[inline]
    pub(crate) fn takes_as_json(self, item: &Bound<'_, PyAny>) -> bool {
        match self {
            Target::Json => true,
            Target::Inferred | Target::Rich => {
                item.is_exact_instance_of::<PyDict>() || item.is_exact_instance_of::<PyList>()
            }
            _ => false,
        }
    }

    /// The kinds of plain values that go to the builder as they are.
    pub(crate) fn takes(self) -> Kinds {
        let numbers = Kinds::TEXT | Kinds::INT | Kinds::FLOAT | Kinds::BOOL;
        Kinds(
            Kinds::NULL
                | match self {
                    Target::Inferred | Target::Rich => numbers | Kinds::BYTES,
                    Target::Boolean | Target::Integer | Target::Float | Target::Decimal => numbers,
                    Target::Text | Target::Xml | Target::Date | Target::Datetime => Kinds::TEXT,
                    Target::Json => 0,
                    Target::Binary => Kinds::BYTES,
                },
        )
    }
}

/// A set of kinds of plain values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const INT: u8 = 2;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const BOOL: u8 = 8;
    pub(crate) const BYTES: u8 = 16;
    const NULL: u8 = 32;

    #[inline]
    pub(crate) fn has(self, kind: u8) -> bool {
        self.0 & kind != 0
    }
}

/// The value as it lies in Python's memory, if taking it needs no code of the connector.
pub(crate) fn plain<'a>(item: &'a Bound<'_, PyAny>, target: Target) -> Option<Value<'a>> {
    let (value, kind) = if let Some(text) = exactly::<PyString>(item) {
        (Value::Str(text.to_str().ok()?), Kinds::TEXT)
    } else if let Some(number) = exactly::<PyInt>(item) {
        (Value::Int(borrowed::whole(number)?), Kinds::INT)
    } else if let Some(number) = exactly::<PyFloat>(item) {
        (Value::Float(number.value()), Kinds::FLOAT)
    } else if item.is_none() {
        (Value::Null, Kinds::NULL)
    } else if let Some(flag) = exactly::<PyBool>(item) {
        (Value::Bool(flag.is_true()), Kinds::BOOL)
    } else if let Some(bytes) = exactly::<PyBytes>(item) {
        (Value::Bytes(bytes.as_bytes()), Kinds::BYTES)
    } else {
        return None;
    };
    target.takes().has(kind).then_some(value)
}

/// A cast that builds no error object when the type is another.
#[inline]
pub(crate) fn exactly<'a, 'py, T: PyTypeInfo>(item: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    if item.is_exact_instance_of::<T>() { item.cast_exact::<T>().ok() } else { None }
}

/// A value that was made by running Python code.
pub(crate) enum Converted {
    Null,
    Bool(bool),
    Int(i64),
    Digits(String),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Json(String),
    Date(i32),
    Micros(i64),
    Utc(i64),
    Decimal(String),
    /// `str(v)` of something that has no type of its own.
    Text(String),
}

impl Converted {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Converted::Null => Value::Null,
            Converted::Bool(flag) => Value::Bool(*flag),
            Converted::Int(number) => Value::Int(*number),
            Converted::Digits(digits) => Value::BigInt(digits),
            Converted::Float(number) => Value::Float(*number),
            Converted::Str(text) => Value::Str(text),
            Converted::Bytes(bytes) => Value::Bytes(bytes),
            Converted::Json(text) => Value::Json(text),
            Converted::Date(days) => Value::Date(*days),
            Converted::Micros(micros) => Value::Micros(*micros),
            Converted::Utc(micros) => Value::Utc(*micros),
            Converted::Decimal(text) => Value::Decimal(text),
            Converted::Text(text) => Value::Text(text),
        }
    }
}

/// Any value, by the rules for undeclared columns (SDK_CONTRACT 9.1) or for the declared type (9.2).
pub(crate) fn converted(item: &Bound<'_, PyAny>, target: Target) -> PyResult<Converted> {
    if item.is_none() {
        return Ok(Converted::Null);
    }
    match target {
        Target::Inferred => inferred(item),
        Target::Rich => rich(item),
        Target::Boolean => boolean(item),
        Target::Integer => whole(item),
        Target::Float => number(item),
        Target::Decimal => decimal(item),
        Target::Text => match item.cast::<PyString>() {
            Ok(text) => Ok(Converted::Str(text.to_str()?.to_owned())),
            Err(_) => Ok(Converted::Text(text_of(item)?)),
        },
        Target::Json => json(item),
        Target::Xml => xml(item),
        Target::Binary => binary(item),
        Target::Date => date(item),
        Target::Datetime => datetime(item),
    }
}

fn inferred(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    if item.is_instance_of::<PyDict>() || item.is_instance_of::<PyList>() {
        return json(item);
    }
    match base(item)? {
        Some(value) => Ok(value),
        None => Ok(Converted::Text(text_of(item)?)),
    }
}

/// What has a type of its own keeps it; numpy's scalars count as the Python values they hold.
fn rich(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    if is_decimal(item)? {
        return Ok(Converted::Decimal(plain_decimal(item)?));
    }
    match temporal(item)? {
        // pandas' NaT is a datetime that equals nothing: a missing value.
        Temporal::Datetime if item.ne(item)? => Ok(Converted::Null),
        Temporal::Datetime if item.call_method0("utcoffset")?.is_none() => Ok(Converted::Micros(micros(item)?)),
        Temporal::Datetime => Ok(Converted::Utc(micros(item)?)),
        Temporal::Date => Ok(Converted::Date(days(item)?)),
        Temporal::Text(_) | Temporal::Neither => match numpy_scalar(item)? {
            Some(value) => inferred(&value),
            None => inferred(item),
        },
    }
}

/// The Python value in a scalar of numpy; its own moments and spans hold none without loss.
fn numpy_scalar<'py>(item: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let kind = item.get_type();
    let name = kind.name()?;
    let moment = matches!(name.to_str()?, "datetime64" | "timedelta64");
    if kind.module()?.to_str()? != "numpy" || moment || !item.hasattr("ndim")? {
        return Ok(None);
    }
    let scalar = item.getattr("ndim")?.extract::<u32>()? == 0;
    scalar.then(|| item.call_method0("item")).transpose()
}

/// Subclasses count as their base: bool, int, float, str, bytes.
fn base(item: &Bound<'_, PyAny>) -> PyResult<Option<Converted>> {
    Ok(Some(if let Ok(flag) = item.cast::<PyBool>() {
        Converted::Bool(flag.is_true())
    } else if item.is_instance_of::<PyInt>() {
        integer(item)?
    } else if let Ok(number) = item.cast::<PyFloat>() {
        Converted::Float(number.value())
    } else if let Ok(text) = item.cast::<PyString>() {
        Converted::Str(text.to_str()?.to_owned())
    } else if let Ok(bytes) = item.cast::<PyBytes>() {
        Converted::Bytes(bytes.as_bytes().to_vec())
    } else {
        return Ok(None);
    }))
}

fn integer(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    match item.extract::<i64>() {
        Ok(number) => Ok(Converted::Int(number)),
        Err(_) => {
            let digits = PyInt::type_object(item.py()).getattr("__repr__")?.call1((item,))?;
            Ok(Converted::Digits(digits.extract()?))
        }
    }
}

/// bool, int, float, str and their subclasses, which the builder judges; `None` for all others.
fn judged(item: &Bound<'_, PyAny>, wanted: &str) -> PyResult<Option<Converted>> {
    match base(item)? {
        Some(Converted::Bytes(_)) => Err(unfit(item, wanted)),
        other => Ok(other),
    }
}

fn boolean(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    const WANTED: &str = "a boolean";
    match judged(item, WANTED)? {
        Some(value) => Ok(value),
        None if is_numpy_bool(item)? => Ok(Converted::Bool(item.is_truthy()?)),
        None => Err(unfit(item, WANTED)),
    }
}

/// numpy's integers offer `__index__`. A Decimal or another fraction is refused: its digits may not survive.
fn whole(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    const WANTED: &str = "a whole number";
    match judged(item, WANTED)? {
        Some(value) => Ok(value),
        None if item.hasattr("__index__")? => integer(&item.call_method0("__index__")?),
        None => Err(unfit(item, WANTED)),
    }
}

/// numpy scalars and other numbers offer `__index__` or `__float__`.
fn number(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    const WANTED: &str = "a number";
    if let Some(value) = judged(item, WANTED)? {
        return Ok(value);
    }
    if item.hasattr("__index__")? {
        return integer(&item.call_method0("__index__")?);
    }
    if item.hasattr("__float__")? {
        return Ok(Converted::Float(item.call_method0("__float__")?.extract()?));
    }
    Err(unfit(item, WANTED))
}

fn is_numpy_bool(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = item.get_type();
    let module = kind.module()?;
    let name = kind.name()?;
    Ok(module.to_str()? == "numpy" && matches!(name.to_str()?, "bool" | "bool_"))
}

fn decimal(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    if is_decimal(item)? {
        return Ok(Converted::Str(plain_decimal(item)?));
    }
    match base(item)? {
        Some(value @ (Converted::Int(_) | Converted::Digits(_) | Converted::Str(_) | Converted::Float(_))) => Ok(value),
        None if !is_numpy_bool(item)? => number(item),
        _ => Err(unfit(item, "a decimal number")),
    }
}

fn is_decimal(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    item.is_instance(DECIMAL.import(item.py(), "decimal", "Decimal")?)
}

/// Without an exponent, unless that takes more zeros than any column holds digits.
fn plain_decimal(item: &Bound<'_, PyAny>) -> PyResult<String> {
    let text = text_of(item)?;
    if !text.contains('E') || item.call_method0("adjusted")?.extract::<i64>()?.abs() > DECIMAL_ZEROS_MAX {
        return Ok(text);
    }
    item.call_method1("__format__", ("f",))?.extract()
}

fn json(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = item.py();
    let dumps = DUMPS.get_or_try_init(py, || py.import("json")?.getattr("dumps").map(Bound::unbind))?;
    Ok(Converted::Json(dumps.bind(py).call1((item,))?.extract()?))
}

fn xml(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    match base(item)? {
        Some(value @ Converted::Str(_)) => Ok(value),
        Some(Converted::Bytes(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Converted::Str(text)),
            Err(_) => Err(unfit(item, "XML text in UTF-8")),
        },
        _ => Err(unfit(item, "XML text")),
    }
}

fn binary(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    if let Some(Converted::Bytes(bytes)) = base(item)? {
        return Ok(Converted::Bytes(bytes));
    }
    match item.cast::<pyo3::types::PyByteArray>() {
        Ok(bytes) => Ok(Converted::Bytes(bytes.to_vec())),
        Err(_) => Err(unfit(item, "bytes")),
    }
}

fn date(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    match temporal(item)? {
        Temporal::Text(text) => Ok(Converted::Str(text)),
        Temporal::Date | Temporal::Datetime => Ok(Converted::Date(days(item)?)),
        Temporal::Neither => Err(unfit(item, "a date or its text")),
    }
}

fn datetime(item: &Bound<'_, PyAny>) -> PyResult<Converted> {
    match temporal(item)? {
        Temporal::Text(text) => Ok(Converted::Str(text)),
        Temporal::Date => Ok(Converted::Micros(i64::from(days(item)?) * DAY_SECONDS * 1_000_000)),
        Temporal::Datetime => Ok(Converted::Micros(micros(item)?)),
        Temporal::Neither => Err(unfit(item, "a datetime or its text")),
    }
}

enum Temporal {
    Text(String),
    Date,
    Datetime,
    Neither,
}

fn temporal(item: &Bound<'_, PyAny>) -> PyResult<Temporal> {
    if let Ok(text) = item.cast::<PyString>() {
        return Ok(Temporal::Text(text.to_str()?.to_owned()));
    }
    if item.is_instance(DATETIME.import(item.py(), "datetime", "datetime")?)? {
        return Ok(Temporal::Datetime);
    }
    Ok(if item.is_instance_of::<PyDate>() { Temporal::Date } else { Temporal::Neither })
}

fn days(item: &Bound<'_, PyAny>) -> PyResult<i32> {
    Ok(item.call_method0("toordinal")?.extract::<i32>()? - EPOCH_ORDINAL)
}

/// A naive datetime counts as UTC; an aware one is shifted there.
fn micros(item: &Bound<'_, PyAny>) -> PyResult<i64> {
    let part = |name: &str| item.getattr(name)?.extract::<i64>();
    let clock = part("hour")? * 3600 + part("minute")? * 60 + part("second")?;
    let local = (i64::from(days(item)?) * DAY_SECONDS + clock) * 1_000_000 + part("microsecond")?;
    let offset = item.call_method0("utcoffset")?;
    if offset.is_none() {
        return Ok(local);
    }
    let part = |name: &str| offset.getattr(name)?.extract::<i64>();
    Ok(local - (part("days")? * DAY_SECONDS + part("seconds")?) * 1_000_000 - part("microseconds")?)
}

fn text_of(item: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(item.str()?.to_str()?.to_owned())
}

/// The value itself is never in the text: it may be a row's content, and the text may be logged.
fn unfit(item: &Bound<'_, PyAny>, wanted: &str) -> PyErr {
    let kind = item.get_type().name().map_or_else(|_| "value".to_owned(), |name| name.to_string());
    marked(item.py(), PyTypeError::new_err(format!("a {kind} is not {wanted}")), "value")
}

/// A builder's refusal, for the caller's thread.
pub(crate) fn refused(py: Python<'_>, error: &impl std::fmt::Display, kind: &str) -> PyErr {
    marked(py, PyValueError::new_err(error.to_string()), kind)
}

/// Marks an error with the failure kind the job reports when user code lets it through.
fn marked(py: Python<'_>, error: PyErr, kind: &str) -> PyErr {
    match error.value(py).setattr("inshore_kind", kind) {
        Ok(()) => error,
        Err(other) => other,
    }
}

static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
