//! Every pair of types joined, and every cast along the lattice.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;

use super::*;
use crate::types::all;

const EXACT: ColumnFacts = ColumnFacts { long_fits_double: true };
const BEYOND: ColumnFacts = ColumnFacts { long_fits_double: false };

/// Every pair of types; `.` is STRING, `=` the type itself. Columns in the order of `types::all`, D being DECIMAL(10,2)
/// and M DECIMAL(38,0); * marks a join that needs the facts.
#[test]
fn the_whole_table() {
    let names =
        ["bool", "s", "i", "l", "D", "M", "f", "d", "date", "naive", "utc", "time", "bin", "xml", "str", "json"];
    let rows = [
        "= . . . . . . . . . . . . . . .",
        ". = i l D M d d . . . . . . . .",
        ". i = l 12 M d d . . . . . . . .",
        ". l l = 21 M *d *d . . . . . . . .",
        ". D 12 21 = . d d . . . . . . . .",
        ". M M M . = . . . . . . . . . .",
        ". d d *d d . = d . . . . . . . .",
        ". d d *d d . d = . . . . . . . .",
        ". . . . . . . . = naive . . . . . .",
        ". . . . . . . . naive = . . . . . .",
        ". . . . . . . . . . = . . . . .",
        ". . . . . . . . . . . = . . . .",
        ". . . . . . . . . . . . = . . .",
        ". . . . . . . . . . . . . = . .",
        ". . . . . . . . . . . . . . = .",
        ". . . . . . . . . . . . . . . =",
    ];
    let types = all();
    let named = |name: &str, own: DataType| match name {
        "." => DataType::String,
        "=" => own,
        "12" => DataType::Decimal { precision: 12, scale: 2 },
        "21" => DataType::Decimal { precision: 21, scale: 2 },
        name => types[names.iter().position(|known| *known == name).unwrap()],
    };
    for (a, row) in types.iter().zip(rows) {
        let cells: Vec<&str> = row.split(' ').collect();
        assert_eq!(cells.len(), types.len());
        for (b, cell) in types.iter().zip(cells) {
            let expected = named(cell.trim_start_matches('*'), *a);
            assert_eq!(join(a, b, EXACT), expected, "{a} with {b}");
            let beyond = if cell.starts_with('*') { DataType::String } else { expected };
            assert_eq!(join(a, b, BEYOND), beyond, "{a} with {b}, beyond 2^53");
        }
    }
}

#[test]
fn decimals_widen_digits_and_scale_apart() {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let cases = [
        (decimal(10, 2), decimal(5, 4), decimal(12, 4)),
        (decimal(38, 0), decimal(1, 1), DataType::String),
        (decimal(37, 37), decimal(1, 0), decimal(38, 37)),
        (decimal(37, 37), DataType::Short, DataType::String),
        (decimal(20, 18), DataType::Long, decimal(37, 18)),
        (decimal(20, 20), DataType::Long, DataType::String),
        (decimal(15, 2), DataType::Double, DataType::Double),
        (decimal(16, 2), DataType::Double, DataType::String),
        (decimal(3, 1), DataType::Short, decimal(6, 1)),
    ];
    for (a, b, expected) in cases {
        assert_eq!(join(&a, &b, EXACT), expected, "{a} with {b}");
    }
}

#[test]
fn promotion_keeps_its_documented_course() {
    let first = join(&DataType::Int, &DataType::Double, EXACT);
    let second = join(&first, &DataType::String, EXACT);
    assert_eq!((first, second), (DataType::Double, DataType::String));
    assert_eq!(join(&second, &DataType::Double, EXACT), DataType::String);
}

fn any_type() -> impl Strategy<Value = DataType> {
    prop_oneof![
        4 => proptest::sample::select(all()),
        1 => (1_u8..=38).prop_flat_map(|precision| (Just(precision), 0..=precision.min(37)))
            .prop_map(|(precision, scale)| DataType::Decimal { precision, scale: i8::try_from(scale).unwrap() }),
    ]
}

/// A decimal counts digits that a DOUBLE then refuses, so only joins without that mix are free of order.
fn order_matters(types: &[DataType]) -> bool {
    let any = |test: fn(&DataType) -> bool| types.iter().any(test);
    any(|t| matches!(t, DataType::Decimal { .. })) && any(|t| matches!(t, DataType::Float | DataType::Double))
        || any(|t| matches!(t, DataType::Long)) && any(|t| matches!(t, DataType::Float | DataType::Double))
}

proptest! {
    #[test]
    fn join_is_commutative(a in any_type(), b in any_type(), fits: bool) {
        let facts = ColumnFacts { long_fits_double: fits };
        prop_assert_eq!(join(&a, &b, facts), join(&b, &a, facts));
    }

    #[test]
    fn join_is_idempotent_and_absorbs(a in any_type(), b in any_type(), fits: bool) {
        let facts = ColumnFacts { long_fits_double: fits };
        prop_assert_eq!(join(&a, &a, facts), a);
        let joined = join(&a, &b, facts);
        prop_assert_eq!(join(&joined, &joined, facts), joined);
        if !order_matters(&[a, b]) {
            prop_assert_eq!(join(&joined, &a, facts), joined);
        }
    }

    #[test]
    fn join_is_associative_where_facts_allow(a in any_type(), b in any_type(), c in any_type(), fits: bool) {
        prop_assume!(!order_matters(&[a, b, c]));
        let facts = ColumnFacts { long_fits_double: fits };
        prop_assert_eq!(join(&join(&a, &b, facts), &c, facts), join(&a, &join(&b, &c, facts), facts));
    }

    #[test]
    fn everything_casts_to_its_join(a in any_type(), b in any_type()) {
        let joined = join(&a, &b, EXACT);
        let sample = sample(a);
        let cast = cast(&sample, &a, &joined).unwrap();
        prop_assert_eq!(cast.data_type(), &joined.to_arrow());
        prop_assert_eq!(cast.len(), sample.len());
        prop_assert_eq!(cast.null_count(), sample.null_count());
    }

    #[test]
    fn text_of_a_long_does_not_depend_on_the_way(values in proptest::collection::vec(-(1_i64 << 53)..=(1 << 53), 1..20)) {
        let longs: ArrayRef = Arc::new(Int64Array::from(values));
        let direct = cast(&longs, &DataType::Long, &DataType::String).unwrap();
        for between in [DataType::Double, DataType::Decimal { precision: 25, scale: 6 }] {
            let by_way = cast(&longs, &DataType::Long, &between).unwrap();
            prop_assert_eq!(&cast(&by_way, &between, &DataType::String).unwrap(), &direct);
        }
    }
}

fn sample(data_type: DataType) -> ArrayRef {
    match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![Some(true), None])),
        DataType::Short => Arc::new(Int16Array::from(vec![Some(-7), None])),
        DataType::Int => Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        DataType::Long => Arc::new(Int64Array::from(vec![Some(1 << 53), None])),
        DataType::Decimal { precision, scale } => {
            Arc::new(Decimal128Array::from(vec![Some(9), None]).with_precision_and_scale(precision, scale).unwrap())
        }
        DataType::Float => Arc::new(Float32Array::from(vec![Some(0.5), None])),
        DataType::Double => Arc::new(Float64Array::from(vec![Some(0.1), None])),
        DataType::NaiveDate => Arc::new(Date32Array::from(vec![Some(-1), None])),
        DataType::NaiveDatetime => Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None])),
        DataType::UtcDatetime => {
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("UTC"))
        }
        DataType::NaiveTime => Arc::new(Time64MicrosecondArray::from(vec![Some(1), None])),
        DataType::Binary => Arc::new(BinaryArray::from(vec![Some(b"ab\xff".as_slice()), None])),
        DataType::Xml | DataType::String | DataType::Json => Arc::new(StringArray::from(vec![Some("[ 1]"), None])),
    }
}

#[test]
fn text_of_every_type() {
    let expected = [
        "true",
        "-7",
        "-2147483648",
        "9007199254740992",
        "0.09",
        "9",
        "0.5",
        "0.1",
        "1969-12-31",
        "1969-12-31T23:59:59.999999",
        "1970-01-01T00:00:01.500Z",
        "00:00:00.000001",
        "YWL/",
        "[ 1]",
        "[ 1]",
        "[ 1]",
    ];
    for (data_type, expected) in all().into_iter().zip(expected) {
        let text = cast(&sample(data_type), &data_type, &DataType::String).unwrap();
        assert_eq!(text.as_string::<i32>().iter().collect::<Vec<_>>(), [Some(expected), None], "{data_type}");
    }
}

#[test]
fn values_survive_casts() {
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![Some(-5), None]));
    let decimal = DataType::Decimal { precision: 21, scale: 2 };
    let decimals = cast(&longs, &DataType::Long, &decimal).unwrap();
    assert_eq!(decimals.as_primitive::<Decimal128Type>().value(0), -500);
    let wider = DataType::Decimal { precision: 23, scale: 4 };
    assert_eq!(cast(&decimals, &decimal, &wider).unwrap().as_primitive::<Decimal128Type>().value(0), -50_000);
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    let midnights = cast(&dates, &DataType::NaiveDate, &DataType::NaiveDatetime).unwrap();
    assert_eq!(midnights.as_primitive::<TimestampMicrosecondType>().value(0), 86_400_000_000);
    let small = DataType::Decimal { precision: 5, scale: 3 };
    let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![12_345]).with_precision_and_scale(5, 3).unwrap());
    let doubles = cast(&decimals, &small, &DataType::Double).unwrap();
    assert_eq!(doubles.as_primitive::<arrow::datatypes::Float64Type>().value(0).to_bits(), 12.345_f64.to_bits());
}

#[test]
fn what_is_not_wider_is_refused() {
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![(1 << 53) + 1]));
    let refuse = |to: DataType| cast(&longs, &DataType::Long, &to).unwrap_err();
    assert!(matches!(refuse(DataType::Double), CastError::Lossy { .. }));
    assert!(matches!(refuse(DataType::Decimal { precision: 10, scale: 2 }), CastError::Lossy { .. }));
    assert!(matches!(refuse(DataType::Int), CastError::NotWider { .. }));
    assert!(matches!(refuse(DataType::Boolean), CastError::NotWider { .. }));
    let wrong = cast(&longs, &DataType::Int, &DataType::Long).unwrap_err();
    assert!(matches!(wrong, CastError::WrongArray { .. }));
}
