//! Type locking: a column keeps its type, and a value of another type is converted to it or becomes NULL. Nothing is
//! converted that would change what the value says: 1.5 is no INT, and no date is a number.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};

use crate::render;
use crate::temporal::{parse_date, parse_naive_datetime, parse_utc_datetime};
use crate::types::DataType;
use crate::widen::{self, CastError, ColumnFacts};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The type of a locked column after values of `other` came: its own. Only the digits of a DECIMAL may grow.
#[must_use]
pub fn locked(own: &DataType, other: &DataType) -> DataType {
    let numbers =
        matches!(own, DataType::Decimal { .. }) && (other.is_integer() || matches!(other, DataType::Decimal { .. }));
    let joined = widen::join(own, other, ColumnFacts { long_fits_double: false });
    if numbers && matches!(joined, DataType::Decimal { .. }) { joined } else { *own }
}

/// The array in the locked type; what cannot be said in it is NULL.
pub fn convert(array: &ArrayRef, from: &DataType, to: &DataType) -> Result<ArrayRef, CastError> {
    match widen::cast(array, from, to) {
        Err(CastError::NotWider { .. } | CastError::Lossy { .. }) => {}
        cast => return cast,
    }
    if !accepts(from, to) {
        return Ok(new_null_array(&to.to_arrow(), array.len()));
    }
    Ok(parsed(&render::render_array(array, *from)?, to))
}

fn accepts(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, Boolean, Decimal, Double, Float, Int, Json, Long, NaiveDate, NaiveDatetime, NaiveTime, Short, String,
        UtcDatetime, Xml,
    };
    match to {
        Boolean | Short | Int | Long | Decimal { .. } | Float | Double => {
            matches!(from, Boolean | Short | Int | Long | Decimal { .. } | Float | Double | String)
        }
        String | Json => true,
        UtcDatetime | NaiveDate => matches!(from, String | UtcDatetime | NaiveDate | NaiveDatetime),
        NaiveDatetime => matches!(from, String | UtcDatetime | NaiveDate | NaiveTime),
        Xml => matches!(from, String),
        Binary | NaiveTime => false,
    }
}

/// Texts as values of a type. A text that says no such value is NULL.
fn parsed(texts: &StringArray, to: &DataType) -> ArrayRef {
    match *to {
        DataType::Boolean => each::<_, BooleanArray>(texts, boolean),
        DataType::Short => each::<_, Int16Array>(texts, |text| i16::try_from(integer(text)?).ok()),
        DataType::Int => each::<_, Int32Array>(texts, |text| i32::try_from(integer(text)?).ok()),
        DataType::Long => each::<_, Int64Array>(texts, |text| i64::try_from(integer(text)?).ok()),
        DataType::Float => each::<_, Float32Array>(texts, float),
        DataType::Double => each::<_, Float64Array>(texts, double),
        DataType::Decimal { precision, scale } => decimals(texts, precision, scale),
        DataType::NaiveDate => each::<_, Date32Array>(texts, date),
        DataType::NaiveDatetime => each::<_, TimestampMicrosecondArray>(texts, instant),
        DataType::UtcDatetime => {
            let instants: TimestampMicrosecondArray = texts.iter().map(|text| instant(text?)).collect();
            Arc::new(instants.with_timezone("UTC"))
        }
        DataType::Json => each::<_, StringArray>(texts, |text| Some(json(text))),
        DataType::String | DataType::Xml => Arc::new(texts.clone()),
        DataType::Binary | DataType::NaiveTime => new_null_array(&to.to_arrow(), texts.len()),
    }
}

fn each<T, A>(texts: &StringArray, value: impl Fn(&str) -> Option<T>) -> ArrayRef
where
    A: FromIterator<Option<T>> + Array + 'static,
{
    Arc::new(texts.iter().map(|text| value(text?)).collect::<A>())
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "1" | "1.0" => Some(true),
        "0" | "0.0" => Some(false),
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A whole number, however it is written: 42, 42.0, true.
fn integer(text: &str) -> Option<i128> {
    let text = numeric(text);
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    let (whole, fraction) = text.split_once('.')?;
    if !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0') { whole.parse().ok() } else { None }
}

fn float(text: &str) -> Option<f32> {
    let value = nearest(text)?;
    #[expect(clippy::cast_possible_truncation, reason = "a FLOAT holds what is nearest")]
    widen::fits_float(value).then_some(value as f32)
}

/// Only a number that reads back with the same digits.
fn double(text: &str) -> Option<f64> {
    nearest(text).filter(|value| digits(&format!("{value:e}")) == digits(numeric(text)))
}

/// Numerals alone: words such as `inf` and `nan` are none, nor is what is beyond all numbers.
fn nearest(text: &str) -> Option<f64> {
    numeric(text).parse().ok().filter(|value: &f64| value.is_finite())
}

/// The digits of a numeral, without its zeros at either end and its exponent.
fn digits(text: &str) -> String {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

fn numeric(text: &str) -> &str {
    match text.trim() {
        word if word.eq_ignore_ascii_case("true") => "1",
        word if word.eq_ignore_ascii_case("false") => "0",
        number => number,
    }
}

fn decimals(texts: &StringArray, precision: u8, scale: i8) -> ArrayRef {
    let values: Decimal128Array = texts.iter().map(|text| decimal(numeric(text?), precision, scale)).collect();
    let fitted = values.with_precision_and_scale(precision, scale);
    fitted.map_or_else(
        |_| new_null_array(&DataType::Decimal { precision, scale }.to_arrow(), texts.len()),
        |values| Arc::new(values),
    )
}

/// Plain notation only; a digit too many on either side makes it NULL.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction.len())?;
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let value: i128 = format!("0{whole}{fraction}{}", "0".repeat(missing)).parse().ok()?;
    let limit = 10_i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

fn date(text: &str) -> Option<i32> {
    parse_date(text).or_else(|| i32::try_from(instant(text)?.div_euclid(MICROS_PER_DAY)).ok())
}

/// Without a zone it is taken for UTC; a date is its midnight.
fn instant(text: &str) -> Option<i64> {
    let day = || Some(i64::from(parse_date(text)?) * MICROS_PER_DAY);
    parse_utc_datetime(text).or_else(|| parse_naive_datetime(text)).or_else(day)
}

/// What is JSON stays as it is; any other text becomes a JSON text.
fn json(text: &str) -> String {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(from: DataType, values: &ArrayRef, to: DataType) -> Vec<Option<String>> {
        let converted = convert(values, &from, &to).expect("converted");
        assert_eq!(*converted.data_type(), to.to_arrow(), "{from} to {to}");
        let texts = render::render_array(&converted, to).expect("rendered");
        texts.iter().map(|text| text.map(str::to_owned)).collect()
    }

    fn strings(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn check(to: DataType, cases: &[(&str, Option<&str>)]) {
        let values: Vec<&str> = cases.iter().map(|(value, _)| *value).collect();
        let wanted: Vec<Option<String>> = cases.iter().map(|(_, wanted)| wanted.map(str::to_owned)).collect();
        assert_eq!(text(DataType::String, &strings(&values), to), wanted, "to {to}");
    }

    #[test]
    fn texts_become_values_or_null() {
        let decimal = DataType::Decimal { precision: 5, scale: 2 };
        check(DataType::Boolean, &[("TRUE", Some("true")), ("0", Some("false")), ("2", None), ("yes", None)]);
        check(
            DataType::Short,
            &[("7", Some("7")), ("7.00", Some("7")), ("7.5", None), ("40000", None), ("true", Some("1"))],
        );
        check(DataType::Int, &[(" 7 ", Some("7")), ("-2147483649", None), ("", None), ("2024-01-02", None)]);
        check(DataType::Long, &[("9223372036854775807", Some("9223372036854775807")), ("9223372036854775808", None)]);
        check(
            DataType::Double,
            &[
                ("1.5", Some("1.5")),
                ("0.10", Some("0.1")),
                ("9007199254740992", Some("9007199254740992")),
                ("9007199254740993", None),
                ("0.1234567890123456789", None),
                ("1e999", None),
                ("inf", None),
                ("NaN", None),
                ("abc", None),
            ],
        );
        check(
            decimal,
            &[("1.5", Some("1.5")), ("-999.99", Some("-999.99")), ("1000", None), ("1.001", None), ("-", None)],
        );
        check(
            DataType::NaiveDate,
            &[("2024-02-29", Some("2024-02-29")), ("2024-02-29T12:00:00Z", Some("2024-02-29")), ("x", None)],
        );
        check(
            DataType::UtcDatetime,
            &[
                ("2024-02-29", Some("2024-02-29T00:00:00Z")),
                ("2024-02-29T01:00:00+01:00", Some("2024-02-29T00:00:00Z")),
            ],
        );
        check(DataType::NaiveDatetime, &[("2024-02-29T01:00:00+01:00", Some("2024-02-29T00:00:00")), ("1", None)]);
        check(DataType::Json, &[("{\"a\": 1}", Some("{\"a\": 1}")), ("a", Some("\"a\"")), ("1", Some("1"))]);
        check(DataType::Xml, &[("<a/>", Some("<a/>"))]);
        check(DataType::Binary, &[("YQ==", None)]);
    }

    #[test]
    fn numbers_and_times_keep_to_their_kind() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(42.0), Some(1.5), None, Some(1e300)]));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(text(DataType::Double, &doubles, DataType::Int), [some("42"), None, None, None]);
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![0, 1]));
        assert_eq!(text(DataType::NaiveDate, &dates, DataType::Int), [None, None]);
        assert_eq!(
            text(DataType::NaiveDate, &dates, DataType::UtcDatetime),
            [some("1970-01-01T00:00:00Z"), some("1970-01-02T00:00:00Z")]
        );
        assert_eq!(text(DataType::NaiveDate, &dates, DataType::String), [some("1970-01-01"), some("1970-01-02")]);
        let truths: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        assert_eq!(text(DataType::Boolean, &truths, DataType::Long), [some("1"), some("0")]);
        assert_eq!(text(DataType::Boolean, &truths, DataType::NaiveDate), [None, None]);
    }

    #[test]
    fn only_a_decimals_digits_grow() {
        let decimal = |precision, scale| DataType::Decimal { precision, scale };
        let cases = [
            (DataType::Int, DataType::String, DataType::Int),
            (DataType::Int, DataType::Long, DataType::Int),
            (decimal(5, 2), decimal(7, 3), decimal(7, 3)),
            (decimal(5, 2), DataType::Long, decimal(21, 2)),
            (decimal(5, 2), DataType::Double, decimal(5, 2)),
            (decimal(38, 37), decimal(38, 0), decimal(38, 37)),
        ];
        for (own, other, wanted) in cases {
            assert_eq!(locked(&own, &other), wanted, "{own} and {other}");
        }
    }
}
