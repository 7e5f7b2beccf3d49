//! The text of values, and row ids.

use std::sync::Arc;

use super::*;
use crate::schema::TableName;
use crate::schema::TableSchema;

fn text(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}

#[test]
fn floats_are_shortest_and_integral_ones_have_no_fraction() {
    let cases = [
        (0.1, "0.1"),
        (42.0, "42"),
        (-0.0, "-0"),
        (42.42, "42.42"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (1e16, "1e16"),
        (1.5e-7, "1.5e-7"),
        (1e300, "1e300"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, expected) in cases {
        assert_eq!(text(|out| write_double(out, value)), expected);
    }
    assert_eq!(text(|out| write_float(out, 0.1)), "0.1");
}

#[test]
fn decimals_are_plain() {
    let cases = [
        (0, 0, "0"),
        (0, 2, "0"),
        (150, 2, "1.5"),
        (-150, 2, "-1.5"),
        (4200, 2, "42"),
        (5, 3, "0.005"),
        (-5, 3, "-0.005"),
        (1000, 0, "1000"),
        (i128::from(u64::MAX) * 1000, 1, "1844674407370955161500"),
    ];
    for (value, scale, expected) in cases {
        assert_eq!(text(|out| write_decimal(out, value, scale)), expected);
    }
}

fn ids(columns: Vec<(&str, DataType, ArrayRef)>) -> Vec<String> {
    let (columns, arrays): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|(name, data_type, array)| (Column::new(name, data_type), array)).unzip();
    let schema = TableSchema { name: TableName::new("s", "t"), key: vec![], columns };
    let batch = RecordBatch::try_new(schema.arrow_schema(), arrays).unwrap();
    row_ids(&batch, &schema.columns).iter().flatten().map(str::to_owned).collect()
}

#[test]
fn id_is_the_hash_of_names_and_texts() {
    let id = ids(vec![
        ("b", DataType::Int, Arc::new(Int32Array::from(vec![7]))),
        ("a", DataType::String, Arc::new(StringArray::from(vec!["x"]))),
    ]);
    let expected = Sha256::digest(b"\x01\0\0\0a\x01\0\0\0x\x01\0\0\0b\x01\0\0\x007");
    assert_eq!(id, [hex::encode(expected)]);
}

#[test]
fn id_survives_widening_and_new_null_columns() {
    let narrow = ids(vec![("a", DataType::Int, Arc::new(Int32Array::from(vec![42])))]);
    let double = ids(vec![("a", DataType::Double, Arc::new(Float64Array::from(vec![42.0])))]);
    let decimal = Decimal128Array::from(vec![4200]).with_precision_and_scale(12, 2).unwrap();
    let decimal = ids(vec![("a", DataType::Decimal { precision: 12, scale: 2 }, Arc::new(decimal))]);
    let wide = ids(vec![
        ("a", DataType::String, Arc::new(StringArray::from(vec!["42"]))),
        ("new", DataType::Boolean, Arc::new(BooleanArray::from(vec![None]))),
        ("_fivetran_file_path", DataType::String, Arc::new(StringArray::from(vec!["/x"]))),
    ]);
    assert_eq!(narrow, double);
    assert_eq!(narrow, decimal);
    assert_eq!(narrow, wide);
}

#[test]
fn id_of_json_ignores_order_and_spaces() {
    let json = |text: &str| ids(vec![("a", DataType::Json, Arc::new(StringArray::from(vec![text])))]);
    assert_eq!(json(r#"{"x": 1, "y": 2}"#), json(r#"{"y":2,"x":1}"#));
    assert_ne!(json(r#"{"x": 1}"#), json(r#"{"x": 2}"#));
}
