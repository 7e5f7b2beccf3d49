//! Which values a column accepts, and what they become: inference for undeclared columns, the lenient union of
//! Fivetran's runtimes for declared ones. Knows nothing of rows.

use std::borrow::Cow;

use super::Value;
use crate::inference::Inference;
use crate::temporal::{self, MICROS_PER_DAY};
use crate::types::{self, DECIMAL_PRECISION_MAX, DECIMAL_SCALE_MAX, DataType};
use crate::widen;

/// A value in the form of its own smallest type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed<'a> {
    Bool(bool),
    Int(i64),
    Decimal {
        mantissa: i128,
        scale: i8,
    },
    Float(f32),
    Double(f64),
    Date(i32),
    Micros(i64),
    Utc(i64),
    Time(i64),
    Bytes(&'a [u8]),
    /// STRING, XML and JSON.
    Text(Cow<'a, str>),
}

pub(super) struct Accepted<'a> {
    pub(super) typed: Typed<'a>,
    pub(super) data_type: DataType,
    /// Fivetran's own runtime would have refused the value.
    pub(super) lenient: bool,
}

pub(super) enum Problem {
    WrongType { expected: DataType, got: &'static str },
    Malformed { expected: DataType, problem: &'static str },
}

type Answer<'a> = Result<Accepted<'a>, Problem>;

fn plain(typed: Typed<'_>, data_type: DataType) -> Answer<'_> {
    Ok(Accepted { typed, data_type, lenient: false })
}

fn lenient(answer: Answer<'_>) -> Answer<'_> {
    answer.map(|accepted| Accepted { lenient: true, ..accepted })
}

/// What a value that is not NULL becomes in a column.
pub(super) fn accept<'a>(value: Value<'a>, declared: Option<DataType>, inference: Inference) -> Answer<'a> {
    let Some(expected) = declared else {
        return if inference == Inference::Strict { infer_strictly(value) } else { infer(value) };
    };
    let wrong = || Problem::WrongType { expected, got: kind(value) };
    match expected {
        DataType::Boolean => boolean(value, wrong),
        DataType::Short | DataType::Int | DataType::Long => integer(value, expected, wrong),
        DataType::Decimal { .. } => decimal(value, expected, wrong),
        DataType::Float | DataType::Double => float(value, expected, wrong),
        DataType::NaiveDate | DataType::NaiveDatetime | DataType::UtcDatetime | DataType::NaiveTime => {
            temporal(value, expected, wrong)
        }
        DataType::Binary => match value {
            Value::Bytes(bytes) => plain(Typed::Bytes(bytes), expected),
            _ => Err(wrong()),
        },
        DataType::Xml => match value {
            Value::Str(text) => plain(Typed::Text(text.into()), expected),
            Value::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => plain(Typed::Text(text.into()), expected),
                Err(_) => Err(Problem::Malformed { expected, problem: "the bytes are not UTF-8" }),
            },
            _ => Err(wrong()),
        },
        DataType::Json => match value {
            Value::Json(text) => plain(Typed::Text(text.into()), expected),
            _ => Err(wrong()),
        },
        DataType::String => string(value, wrong),
    }
}

fn kind(value: Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::BigInt(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::Json(_) => "JSON value",
        Value::Date(_) => "date",
        Value::Micros(_) | Value::Utc(_) => "datetime",
        Value::Decimal(_) => "Decimal",
        Value::Text(_) => "value of another type",
    }
}

fn infer(value: Value<'_>) -> Answer<'_> {
    match value {
        Value::Null => Err(Problem::WrongType { expected: DataType::String, got: "null" }),
        Value::Bool(value) => plain(Typed::Bool(value), DataType::Boolean),
        Value::Int(value) => plain(Typed::Int(value), narrowest(value, DataType::Int)),
        Value::BigInt(digits) => match parse_decimal(digits) {
            Number::Fits { mantissa, scale: 0, .. } => plain(Typed::Decimal { mantissa, scale: 0 }, BIG_INTEGER),
            _ => plain(Typed::Text(digits.into()), DataType::String),
        },
        Value::Float(value) => plain(Typed::Double(value), DataType::Double),
        Value::Str(text) | Value::Text(text) => plain(Typed::Text(text.into()), DataType::String),
        Value::Bytes(bytes) => plain(Typed::Bytes(bytes), DataType::Binary),
        Value::Json(text) => plain(Typed::Text(text.into()), DataType::Json),
        Value::Date(days) => plain(Typed::Date(days), DataType::NaiveDate),
        Value::Micros(micros) => plain(Typed::Micros(micros), DataType::NaiveDatetime),
        Value::Utc(micros) if temporal::in_calendar(micros) => plain(Typed::Utc(micros), DataType::UtcDatetime),
        Value::Utc(_) => Err(Problem::Malformed { expected: DataType::UtcDatetime, problem: OUT_OF_CALENDAR }),
        Value::Decimal(text) => match parse_decimal(text) {
            Number::Fits { mantissa, precision, scale } => {
                let data_type = types::decimal(precision, scale).unwrap_or(BIG_INTEGER);
                plain(Typed::Decimal { mantissa, scale }, data_type)
            }
            Number::TooLong | Number::NotOne => plain(Typed::Text(text.into()), DataType::String),
        },
    }
}

const OUT_OF_CALENDAR: &str = "in UTC the moment is outside of the years 1 to 9999";

/// As the original: every float has 32 bits, and what is no 64-bit integer without -2^63 is a float.
fn infer_strictly(value: Value<'_>) -> Answer<'_> {
    let double = match value {
        Value::Float(value) => value,
        #[expect(clippy::cast_precision_loss, reason = "a power of two")]
        Value::Int(i64::MIN) => i64::MIN as f64,
        Value::BigInt(digits) => match digits.parse::<f64>() {
            Ok(double) if double.is_finite() => double,
            _ => return Err(Problem::Malformed { expected: DataType::Float, problem: "the integer is too large" }),
        },
        other => return infer(other),
    };
    #[expect(clippy::cast_possible_truncation, reason = "the loss is what is asked for")]
    plain(Typed::Float(double as f32), DataType::Float)
}

const BIG_INTEGER: DataType = DataType::Decimal { precision: 38, scale: 0 };

fn narrowest(value: i64, least: DataType) -> DataType {
    if least == DataType::Short && i16::try_from(value).is_ok() {
        DataType::Short
    } else if least != DataType::Long && i32::try_from(value).is_ok() {
        DataType::Int
    } else {
        DataType::Long
    }
}

fn boolean<'a>(value: Value<'a>, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let truth = |value| plain(Typed::Bool(value), DataType::Boolean);
    match value {
        Value::Bool(value) => truth(value),
        Value::Int(value) => truth(value != 0),
        Value::BigInt(_) => truth(true),
        Value::Float(value) => lenient(truth(value != 0.0)),
        Value::Str("0") => lenient(truth(false)),
        Value::Str("1") => lenient(truth(true)),
        Value::Str(_) => Err(Problem::Malformed { expected: DataType::Boolean, problem: "text is \"0\" or \"1\"" }),
        _ => Err(wrong()),
    }
}

fn integer<'a>(value: Value<'a>, expected: DataType, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let malformed = |problem| Problem::Malformed { expected, problem };
    match value {
        Value::Bool(value) => plain(Typed::Int(value.into()), expected),
        Value::Int(value) => plain(Typed::Int(value), narrowest(value, expected)),
        Value::BigInt(digits) => lenient(infer(Value::BigInt(digits))),
        Value::Float(value) if value.is_finite() && value.fract() == 0.0 => {
            lenient(integer_text(&format!("{value:.0}"), expected).ok_or_else(wrong))
        }
        Value::Float(_) => Err(malformed("the number is not whole")),
        Value::Str(text) => {
            lenient(integer_text(text.trim(), expected).ok_or_else(|| malformed("the text is not a whole number")))
        }
        // numpy integers arrive as their text.
        Value::Text(text) => integer_text(text, expected).map_or_else(|| Err(wrong()), Ok),
        _ => Err(wrong()),
    }
}

fn integer_text(text: &str, expected: DataType) -> Option<Accepted<'static>> {
    if let Ok(value) = text.parse::<i64>() {
        return plain(Typed::Int(value), narrowest(value, expected)).ok();
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match parse_decimal(text) {
        Number::Fits { mantissa, scale: 0, .. } => plain(Typed::Decimal { mantissa, scale: 0 }, BIG_INTEGER).ok(),
        _ => plain(Typed::Text(text.to_owned().into()), DataType::String).ok(),
    }
}

fn decimal<'a>(value: Value<'a>, expected: DataType, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let number = |text: Cow<'a, str>| match parse_decimal(&text) {
        Number::Fits { mantissa, precision, scale } => {
            let data_type = types::decimal(precision, scale).unwrap_or(BIG_INTEGER);
            plain(Typed::Decimal { mantissa, scale }, data_type)
        }
        Number::TooLong | Number::NotOne => plain(Typed::Text(text), DataType::String),
    };
    match value {
        Value::Str(text) => number(text.into()),
        Value::Text(text) | Value::BigInt(text) => lenient(number(text.into())),
        Value::Int(value) => lenient(number(value.to_string().into())),
        Value::Float(value) if value.is_finite() => {
            lenient(number(ryu::Buffer::new().format_finite(value).to_owned().into()))
        }
        Value::Float(_) => Err(Problem::Malformed { expected, problem: "the number is not finite" }),
        _ => Err(wrong()),
    }
}

fn float<'a>(value: Value<'a>, expected: DataType, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let malformed = || Problem::Malformed { expected, problem: "the text is not a number" };
    #[expect(clippy::cast_precision_loss, reason = "as in Python: the declared type says how exact a number is")]
    let double = match value {
        Value::Bool(value) => f64::from(u8::from(value)),
        Value::Int(value) => value as f64,
        Value::BigInt(digits) => digits.parse().map_err(|_| malformed())?,
        Value::Float(value) => value,
        Value::Str(text) => text.trim().parse().map_err(|_| malformed())?,
        Value::Text(text) => text.parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    let answer = if expected == DataType::Float && widen::fits_float(double) {
        #[expect(clippy::cast_possible_truncation, reason = "declared so; overflow was ruled out")]
        plain(Typed::Float(double as f32), DataType::Float)
    } else {
        plain(Typed::Double(double), DataType::Double)
    };
    if matches!(value, Value::Str(_)) { lenient(answer) } else { answer }
}

fn temporal<'a>(value: Value<'a>, expected: DataType, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let malformed = |problem| Problem::Malformed { expected, problem };
    let midnight = |days: i32| i64::from(days) * MICROS_PER_DAY;
    if matches!(value, Value::Micros(micros) if !temporal::in_calendar(micros)) {
        return Err(malformed(OUT_OF_CALENDAR));
    }
    match (expected, value) {
        (DataType::NaiveDate, Value::Date(days)) => plain(Typed::Date(days), expected),
        (DataType::NaiveDate, Value::Micros(micros)) => match i32::try_from(micros.div_euclid(MICROS_PER_DAY)) {
            Ok(days) => plain(Typed::Date(days), expected),
            Err(_) => Err(malformed("the date is out of range")),
        },
        (DataType::NaiveDate, Value::Str(text)) => {
            let days = temporal::parse_date(text).ok_or_else(|| malformed("the text is not YYYY-MM-DD"))?;
            plain(Typed::Date(days), expected)
        }
        (DataType::NaiveDatetime, Value::Date(days)) => lenient(plain(Typed::Micros(midnight(days)), expected)),
        (DataType::NaiveDatetime, Value::Micros(micros)) => plain(Typed::Micros(micros), expected),
        (DataType::NaiveDatetime, Value::Str(text)) => {
            let micros = temporal::parse_naive_datetime(text)
                .ok_or_else(|| malformed("the text is not YYYY-MM-DDTHH:MM:SS without a zone, to microseconds"))?;
            plain(Typed::Micros(micros), expected)
        }
        (DataType::UtcDatetime, Value::Date(days)) => lenient(plain(Typed::Utc(midnight(days)), expected)),
        (DataType::UtcDatetime, Value::Micros(micros)) => plain(Typed::Utc(micros), expected),
        (DataType::UtcDatetime, Value::Str(text)) => {
            let micros = temporal::parse_utc_datetime(text)
                .ok_or_else(|| malformed("the text is not YYYY-MM-DDTHH:MM:SS with a zone, to microseconds"))?;
            plain(Typed::Utc(micros), expected)
        }
        (DataType::NaiveTime, Value::Micros(micros)) if (0..MICROS_PER_DAY).contains(&micros) => {
            plain(Typed::Time(micros), expected)
        }
        _ => Err(wrong()),
    }
}

/// The caller passes `str(v)` as text; the others are here so that no value is lost if it does not.
fn string<'a>(value: Value<'a>, wrong: impl Fn() -> Problem) -> Answer<'a> {
    let text: Cow<'a, str> = match value {
        Value::Str(text) | Value::Text(text) | Value::Json(text) | Value::BigInt(text) => text.into(),
        Value::Bool(value) => if value { "True" } else { "False" }.into(),
        Value::Int(value) => value.to_string().into(),
        _ => return Err(wrong()),
    };
    plain(Typed::Text(text), DataType::String)
}

/// The number that a text spells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Without trailing zeros in the fraction.
    Fits {
        mantissa: i128,
        precision: u8,
        scale: i8,
    },
    TooLong,
    NotOne,
}

/// Digits with an optional point and exponent, as `str(Decimal)` writes them.
pub(super) fn parse_decimal(text: &str) -> Number {
    match parse_short_decimal(text.as_bytes()) {
        Some((mantissa, precision, fraction)) => {
            Number::Fits { mantissa: mantissa.into(), precision, scale: fraction.cast_signed() }
        }
        None => parse_any_decimal(text),
    }
}

/// The common form, without an allocation: up to 18 digits with an optional sign and point. Mantissa, precision, and
/// how many of its digits are behind the point; no trailing zeros there.
fn parse_short_decimal(text: &[u8]) -> Option<(i64, u8, u8)> {
    let (negative, mut mantissa, mut fraction) = short_digits(text)?;
    while fraction > 0 && mantissa % 10 == 0 {
        (mantissa, fraction) = (mantissa / 10, fraction - 1);
    }
    let precision = mantissa.checked_ilog10().map_or(1, |log| log + 1);
    Some((if negative { -mantissa } else { mantissa }, u8::try_from(precision).ok()?.max(fraction), fraction))
}

/// The common form for a DECIMAL of this precision and scale: the value times ten to the power of the scale. `None` where
/// rules are needed: the number has more digits than fit, before or behind the point.
#[inline]
pub(super) fn parse_scaled(text: &[u8], precision: u8, scale: i8) -> Option<i64> {
    let (negative, mut mantissa, mut fraction) = short_digits(text)?;
    let scale = u8::try_from(scale).ok()?;
    while fraction > scale && mantissa % 10 == 0 {
        (mantissa, fraction) = (mantissa / 10, fraction - 1);
    }
    let zeros = usize::from(scale.checked_sub(fraction)?);
    let scaled = mantissa.checked_mul(*TENS.get(zeros)?)?;
    // Beyond the table nothing of 64 bits is too long.
    let fits = TENS.get(usize::from(precision)).is_none_or(|limit| scaled < *limit);
    fits.then_some(if negative { -scaled } else { scaled })
}

/// The powers of ten of 64 bits.
const TENS: [i64; 19] = {
    let mut tens = [1; 19];
    let mut power = 1;
    while power < tens.len() {
        tens[power] = tens[power - 1] * 10;
        power += 1;
    }
    tens
};

/// Whether there is a minus, up to 18 digits, and how many of them are behind the point.
#[inline]
fn short_digits(text: &[u8]) -> Option<(bool, i64, u8)> {
    const DIGITS_MAX: u8 = 18;
    let (negative, unsigned) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (mut mantissa, mut digits, mut point) = (0_i64, 0_u8, None);
    for byte in unsigned {
        match byte {
            b'0'..=b'9' if digits < DIGITS_MAX => {
                mantissa = mantissa * 10 + i64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            _ => return None,
        }
    }
    (digits > 0).then(|| (negative, mantissa, point.map_or(0, |point| digits - point)))
}

/// The same for every form.
pub(super) fn parse_any_decimal(text: &str) -> Number {
    split_number(text.trim()).map_or(Number::NotOne, |(negative, digits, exponent)| {
        assemble(negative, &digits, exponent).unwrap_or(Number::TooLong)
    })
}

/// Sign, significant digits without leading zeros, and the power of ten of the last one.
fn split_number(text: &str) -> Option<(bool, String, i64)> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(integer) || !all_digits(fraction) || integer.len() + fraction.len() == 0 {
        return None;
    }
    let mut digits = format!("{integer}{fraction}").trim_start_matches('0').to_owned();
    let mut exponent = i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
    let significant = digits.trim_end_matches('0').len();
    exponent += i64::try_from(digits.len() - significant).ok()?;
    digits.truncate(significant);
    Some((negative, digits, exponent))
}

fn assemble(negative: bool, digits: &str, exponent: i64) -> Option<Number> {
    if digits.is_empty() {
        return Some(Number::Fits { mantissa: 0, precision: 1, scale: 0 });
    }
    let scale = u8::try_from((-exponent).max(0)).ok().filter(|scale| *scale <= DECIMAL_SCALE_MAX.unsigned_abs())?;
    let zeros = u8::try_from(exponent.max(0)).ok().filter(|zeros| *zeros < DECIMAL_PRECISION_MAX)?;
    let length = u8::try_from(digits.len()).ok()?.checked_add(zeros)?.max(scale);
    if length > DECIMAL_PRECISION_MAX {
        return None;
    }
    let magnitude = digits.parse::<i128>().ok()?.checked_mul(10_i128.pow(zeros.into()))?;
    let mantissa = if negative { -magnitude } else { magnitude };
    Some(Number::Fits { mantissa, precision: length, scale: i8::try_from(scale).ok()? })
}
