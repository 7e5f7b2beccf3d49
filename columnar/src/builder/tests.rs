//! Values become typed rows, by tables.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::accept::Number;
use super::*;

const DECIMAL: DataType = DataType::Decimal { precision: 10, scale: 2 };

fn builder(key: &[&str], declared: &[(&str, DataType)]) -> TableBuilder {
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    let declared: Vec<_> = declared.iter().map(|(name, data_type)| ((*name).to_owned(), *data_type)).collect();
    TableBuilder::new(TableName::new("shop", "orders"), &key, &declared, Naming::Fivetran)
}

fn row(builder: &mut TableBuilder, op: Op, values: &[(&str, Value<'_>)]) -> Result<(), String> {
    builder.begin_row(op);
    for (name, value) in values {
        let slot = builder.column_index(name);
        if let Err(error) = builder.set(slot, *value) {
            builder.abandon_row();
            return Err(error.to_string());
        }
    }
    builder.end_row().map_err(|error| error.to_string())
}

/// The type and the texts of the only column after the values came, undeclared or declared.
fn column(declared: Option<DataType>, values: &[Value<'_>]) -> (DataType, Vec<Option<String>>) {
    let declared: Vec<_> = declared.iter().map(|data_type| ("x", *data_type)).collect();
    let mut builder = builder(&[], &declared);
    for value in values {
        row(&mut builder, Op::Upsert, &[("x", *value)]).unwrap();
    }
    let batch = builder.finish().unwrap();
    batch.validate().unwrap();
    let data_type = batch.schema.columns[0].data_type;
    let text = widen::cast(batch.rows.column(0), &data_type, &DataType::String).unwrap();
    (data_type, text.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn check(declared: Option<DataType>, values: &[Value<'_>], expected: DataType, texts: &[&str]) {
    let (data_type, actual) = column(declared, values);
    assert_eq!(data_type, expected, "{declared:?} {values:?}");
    let actual: Vec<_> = actual.iter().map(|text| text.as_deref().unwrap_or("NULL")).collect();
    assert_eq!(actual, texts, "{declared:?} {values:?}");
}

#[test]
fn undeclared_columns_take_the_smallest_type_and_widen() {
    const BIG: &str = "170141183460469231731687303715884105727";
    const NINES: &str = "99999999999999999999999999999999999999";
    use Value::{BigInt, Bool, Bytes, Float, Int, Json, Null, Str, Text};
    let cases: Vec<(&[Value<'_>], DataType, &[&str])> = vec![
        (&[Bool(true)], DataType::Boolean, &["true"]),
        (&[Int(15)], DataType::Int, &["15"]),
        (&[Int(1), Int(1 << 40)], DataType::Long, &["1", "1099511627776"]),
        (&[Int(i64::MIN)], DataType::Long, &["-9223372036854775808"]),
        (&[BigInt(NINES), Int(7)], DataType::Decimal { precision: 38, scale: 0 }, &[NINES, "7"]),
        (&[Int(7), BigInt(NINES)], DataType::Decimal { precision: 38, scale: 0 }, &["7", NINES]),
        (&[Int(7), BigInt(BIG)], DataType::String, &["7", BIG]),
        (&[Float(0.1), Float(f64::NAN)], DataType::Double, &["0.1", "NaN"]),
        (&[Int(42), Float(42.42), Str("text"), Float(42.43)], DataType::String, &["42", "42.42", "text", "42.43"]),
        (&[Int(1 << 53), Float(0.5)], DataType::Double, &["9007199254740992", "0.5"]),
        (&[Int((1 << 53) + 1), Float(0.5)], DataType::String, &["9007199254740993", "0.5"]),
        (&[Float(0.5), Int((1 << 53) + 1)], DataType::String, &["0.5", "9007199254740993"]),
        (&[Float(0.5), Int(1 << 40)], DataType::Double, &["0.5", "1099511627776"]),
        (&[Str("42"), Int(1), Bool(false)], DataType::String, &["42", "1", "false"]),
        (&[Bytes(b"ab\xff"), Null], DataType::Binary, &["YWL/", "NULL"]),
        (&[Bytes(b"ab\xff"), Str("x")], DataType::String, &["YWL/", "x"]),
        (&[Json("{}"), Json("[1]")], DataType::Json, &["{}", "[1]"]),
        (&[Json("{\"a\": 1}"), Str("x")], DataType::String, &["{\"a\": 1}", "x"]),
        (&[Text("(1, 2)")], DataType::String, &["(1, 2)"]),
        (&[Null, Int(1), Null], DataType::Int, &["NULL", "1", "NULL"]),
        (&[Bool(true), Int(1)], DataType::String, &["true", "1"]),
    ];
    for (values, expected, texts) in cases {
        check(None, values, expected, texts);
    }
}

#[test]
fn declared_columns_accept_the_lenient_union() {
    use Value::{BigInt, Bool, Bytes, Date, Float, Int, Json, Micros, Str, Text};
    const LONG: &str = "123456789012345678901234567890123456789";
    let cases: Vec<(DataType, &[Value<'_>], DataType, &[&str])> = vec![
        (
            DataType::Boolean,
            &[Bool(true), Int(5), Float(0.0), Str("1")],
            DataType::Boolean,
            &["true", "true", "false", "true"],
        ),
        (DataType::Short, &[Int(7), Bool(true), Str(" 8 "), Float(9.0)], DataType::Short, &["7", "1", "8", "9"]),
        (DataType::Short, &[Int(7), Int(40_000)], DataType::Int, &["7", "40000"]),
        (DataType::Int, &[Str("3000000000")], DataType::Long, &["3000000000"]),
        (DataType::Long, &[Int(5)], DataType::Long, &["5"]),
        (
            DataType::Long,
            &[Int(5), BigInt("9223372036854775808")],
            DataType::Decimal { precision: 38, scale: 0 },
            &["5", "9223372036854775808"],
        ),
        (DataType::Long, &[Float(1e20)], DataType::Decimal { precision: 38, scale: 0 }, &["100000000000000000000"]),
        (DataType::Int, &[Text("7")], DataType::Int, &["7"]),
        (DECIMAL, &[Str("1.50"), Int(3), Float(0.1), Text("1E+3")], DECIMAL, &["1.5", "3", "0.1", "1000"]),
        (DECIMAL, &[Str("1.500")], DECIMAL, &["1.5"]),
        (DECIMAL, &[Str("1.234")], DataType::Decimal { precision: 11, scale: 3 }, &["1.234"]),
        (DECIMAL, &[Int(1_000_000_000)], DataType::Decimal { precision: 12, scale: 2 }, &["1000000000"]),
        (DECIMAL, &[Str("1.50"), Str("n/a")], DataType::String, &["1.5", "n/a"]),
        (DECIMAL, &[Str(LONG)], DataType::String, &[LONG]),
        (DataType::Float, &[Float(0.5), Int(3), Str("0.25")], DataType::Float, &["0.5", "3", "0.25"]),
        (DataType::Float, &[Float(0.5), Float(1e300)], DataType::Double, &["0.5", "1e300"]),
        (DataType::Double, &[Int(3), Str("1e3"), Text("2.5")], DataType::Double, &["3", "1000", "2.5"]),
        (DataType::Binary, &[Bytes(b"a")], DataType::Binary, &["YQ=="]),
        (DataType::Xml, &[Str("<a/>"), Bytes(b"<b/>")], DataType::Xml, &["<a/>", "<b/>"]),
        (
            DataType::String,
            &[Str("a"), Text("{'a': 1}"), Bool(true), Int(4)],
            DataType::String,
            &["a", "{'a': 1}", "True", "4"],
        ),
        (DataType::Json, &[Json("\"a\""), Json("NaN")], DataType::Json, &["\"a\"", "NaN"]),
        (DataType::NaiveDate, &[Str("2024-02-29"), Date(0)], DataType::NaiveDate, &["2024-02-29", "1970-01-01"]),
        (
            DataType::NaiveDatetime,
            &[Str("2024-01-01 00:00:00"), Date(1), Micros(5)],
            DataType::NaiveDatetime,
            &["2024-01-01T00:00:00", "1970-01-02T00:00:00", "1970-01-01T00:00:00.000005"],
        ),
        (
            DataType::UtcDatetime,
            &[Str("1970-01-01T05:30:00+05:30"), Date(1), Micros(-1)],
            DataType::UtcDatetime,
            &["1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", "1969-12-31T23:59:59.999999Z"],
        ),
    ];
    for (declared, values, expected, texts) in cases {
        check(Some(declared), values, expected, texts);
    }
}

#[test]
fn declared_columns_refuse_the_rest() {
    use Value::{Bool, Bytes, Float, Int, Json, Micros, Str, Text};
    let cases: Vec<(DataType, &[Value<'_>])> = vec![
        (DataType::Boolean, &[Str("true"), Bytes(b"1"), Json("1"), Text("True")]),
        (DataType::Int, &[Str("1.5"), Str("abc"), Str(""), Float(1.5), Float(f64::NAN), Bytes(b"1"), Text("x")]),
        (DECIMAL, &[Bool(true), Float(f64::INFINITY), Bytes(b"1"), Json("1")]),
        (DataType::Double, &[Str("abc"), Bytes(b"1"), Json("1"), Text("[1]")]),
        (DataType::Binary, &[Str("a"), Int(1)]),
        (DataType::Xml, &[Int(1), Bytes(b"\xff")]),
        (DataType::Json, &[Str("{}"), Int(1)]),
        (DataType::NaiveDate, &[Str("2024-01-01T00:00:00"), Int(0), Str("x")]),
        (DataType::NaiveDatetime, &[Str("2024-01-01"), Str("2024-01-01T00:00:00Z"), Int(0), Float(0.5)]),
        (DataType::UtcDatetime, &[Str("2024-01-01T00:00:00"), Str("2024-01-01T00:00:00.123456789Z"), Int(0)]),
        (DataType::String, &[Bytes(b"a"), Micros(1)]),
    ];
    for (declared, values) in cases {
        for value in values {
            let mut builder = builder(&[], &[("x", declared)]);
            assert!(row(&mut builder, Op::Upsert, &[("x", *value)]).is_err(), "{declared} {value:?}");
            assert_eq!((builder.rows(), builder.bytes()), (0, 0));
        }
    }
}

#[test]
fn lenient_values_are_counted() {
    let mut builder = builder(&[], &[("x", DataType::Int)]);
    for value in [Value::Int(1), Value::Str("2"), Value::Float(3.0)] {
        row(&mut builder, Op::Upsert, &[("x", value)]).unwrap();
    }
    let table = TableName::new("shop", "orders");
    assert_eq!(builder.warnings(), [Warning::Lenient { table, column: "x".to_owned(), count: 2 }]);
    assert_eq!(builder.warnings(), []);
}

#[test]
fn null_never_creates_a_column_but_an_update_carries_it() {
    let mut builder = builder(&["id"], &[]);
    row(&mut builder, Op::Upsert, &[("id", Value::Int(1)), ("gone", Value::Null)]).unwrap();
    row(&mut builder, Op::Update, &[("id", Value::Int(1)), ("gone", Value::Null), ("n", Value::Int(2))]).unwrap();
    let batch = builder.finish().unwrap();
    batch.validate().unwrap();
    let names: Vec<_> = batch.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "n"]);
    assert_eq!(batch.untyped, ["gone"]);
    assert_eq!(batch.sets, [vec![1, 2]]);
    assert_eq!(batch.set_of_rows().unwrap(), [NO_SET, 0]);
}

#[test]
fn a_failed_row_leaves_no_trace() {
    let mut builder = builder(&["id"], &[("day", DataType::NaiveDate)]);
    row(&mut builder, Op::Upsert, &[("id", Value::Int(1)), ("n", Value::Int(1))]).unwrap();
    let (schema, bytes) = (builder.schema(), builder.bytes());
    let bad: Vec<Vec<(&str, Value<'_>)>> = vec![
        vec![("id", Value::Str("a")), ("n", Value::Float(0.5)), ("new", Value::Int(1)), ("day", Value::Str("x"))],
        vec![("id", Value::Null), ("n", Value::Int((1 << 53) + 1)), ("new", Value::Str("long text"))],
        vec![("n", Value::Bool(true))],
    ];
    for values in bad {
        row(&mut builder, Op::Upsert, &values).unwrap_err();
        assert_eq!((builder.schema(), builder.bytes(), builder.rows()), (schema.clone(), bytes, 1), "{values:?}");
    }
    row(&mut builder, Op::Upsert, &[("n", Value::Float(0.5)), ("id", Value::Int(2))]).unwrap();
    let batch = builder.finish().unwrap();
    batch.validate().unwrap();
    assert_eq!(batch.rows.column(batch.schema.index_of("id").unwrap()).as_primitive::<Int32Type>().values(), &[1, 2]);
    assert_eq!(
        batch.rows.column(batch.schema.index_of("n").unwrap()).as_primitive::<Float64Type>().values(),
        &[1.0, 0.5]
    );
}

#[test]
fn keys_must_be_whole() {
    let message = |key: &[&str], op, values: &[(&str, Value<'_>)]| row(&mut builder(key, &[]), op, values).unwrap_err();
    assert!(message(&["a", "b"], Op::Upsert, &[("a", Value::Int(1))]).contains("b of shop.orders is null"));
    assert!(message(&["a"], Op::Delete, &[("a", Value::Null)]).contains("is null"));
    assert!(message(&["a", "b"], Op::Delete, &[("a", Value::Int(1))]).contains("b of shop.orders is missing"));
    assert!(message(&["a", "b"], Op::Update, &[("b", Value::Int(1))]).contains("a of shop.orders is missing"));
    assert!(message(&[], Op::Update, &[("b", Value::Int(1))]).contains("no key"));
}

#[test]
fn keyed_deletes_bring_no_columns() {
    let mut builder = builder(&["id"], &[]);
    row(&mut builder, Op::Delete, &[("id", Value::Int(1)), ("x", Value::Int(1))]).unwrap();
    let batch = builder.finish().unwrap();
    assert_eq!(batch.schema.columns.len(), 1);
    assert_eq!(batch.ops(), [2]);
    assert!(batch.set_of_rows().is_none());
}

#[test]
fn names_that_collide_merge_and_the_last_value_wins() {
    let mut builder = builder(&[], &[]);
    for _ in 0..2 {
        let values = [("userData", Value::Str("a")), ("n", Value::Int(1)), ("user.data", Value::Str("b"))];
        row(&mut builder, Op::Upsert, &values).unwrap();
    }
    let table = TableName::new("shop", "orders");
    let names = ["userData".to_owned(), "user.data".to_owned()];
    assert_eq!(builder.warnings(), [Warning::NamesCollide { table, column: "user_data".to_owned(), names }]);
    let batch = builder.finish().unwrap();
    assert_eq!(batch.rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["b", "b"]);
}

#[test]
fn system_columns_are_dropped_with_a_warning() {
    let mut builder = builder(&[], &[]);
    let own =
        [("_fivetran_file_path", Value::Str("/a")), ("_fivetran_synced_key", Value::Int(2)), ("a", Value::Int(1))];
    let values = [&[("_fivetran_synced", Value::Int(1))], own.as_slice()].concat();
    row(&mut builder, Op::Upsert, &values).unwrap();
    let table = TableName::new("shop", "orders");
    assert_eq!(builder.warnings(), [Warning::SystemColumnDropped { table, name: "_fivetran_synced".to_owned() }]);
    let names: Vec<_> = builder.schema().columns.into_iter().map(|column| column.name).collect();
    assert_eq!(names, ["_fivetran_file_path", "_fivetran_synced_key", "a"]);
}

#[test]
fn types_outlive_a_batch() {
    let mut builder = builder(&[], &[("at", DataType::UtcDatetime)]);
    row(&mut builder, Op::Upsert, &[("at", Value::Micros(5)), ("n", Value::Int((1 << 53) + 1))]).unwrap();
    let first = builder.finish().unwrap();
    assert_eq!(first.rows.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 5);
    assert!(builder.finish().is_none());
    assert_eq!((builder.rows(), builder.bytes()), (0, 0));
    row(&mut builder, Op::Upsert, &[("n", Value::Float(0.5))]).unwrap();
    let second = builder.finish().unwrap();
    assert_eq!(second.schema.columns[1].data_type, DataType::String, "the first batch had a LONG beyond 2^53");
    assert!(second.rows.column(0).is_null(0));
}

#[test]
fn decimal_texts() {
    let cases = [
        ("0", Number::Fits { mantissa: 0, precision: 1, scale: 0 }),
        ("-0.00", Number::Fits { mantissa: 0, precision: 1, scale: 0 }),
        ("007.10", Number::Fits { mantissa: 71, precision: 2, scale: 1 }),
        (".5", Number::Fits { mantissa: 5, precision: 1, scale: 1 }),
        ("5.", Number::Fits { mantissa: 5, precision: 1, scale: 0 }),
        ("-1.5e-3", Number::Fits { mantissa: -15, precision: 4, scale: 4 }),
        ("+1E+2", Number::Fits { mantissa: 100, precision: 3, scale: 0 }),
        ("1e38", Number::TooLong),
        ("1e-38", Number::TooLong),
        ("1e999999999999", Number::NotOne),
        ("", Number::NotOne),
        (".", Number::NotOne),
        ("-", Number::NotOne),
        ("1.2.3", Number::NotOne),
        ("NaN", Number::NotOne),
        ("1_000", Number::NotOne),
    ];
    for (text, expected) in cases {
        assert_eq!(accept::parse_decimal(text), expected, "{text:?}");
    }
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-100_i64..100).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        proptest::sample::select(vec!["", "a", "42", "ü"]).prop_map(Value::Str),
        proptest::sample::select(vec!["[]", "{\"a\": 1}"]).prop_map(Value::Json),
        Just(Value::BigInt("123456789012345678901234567890")),
        Just(Value::Bytes(b"\x00\xff")),
    ]
}

proptest! {
    /// The way without an allocation and the other one read the same numbers.
    #[test]
    fn short_decimals_are_no_special_case(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?") {
        prop_assert_eq!(accept::parse_decimal(&text), accept::parse_any_decimal(&text));
    }

    /// Declared columns take text on a quick way of their own: type and value are those of the rules.
    #[test]
    fn spelled_values_are_no_special_case(
        text in "-?[0-9]{0,6}(\\.[0-9]{0,6})?|20(24|25)-[01]?[0-9]-[0-3]?[0-9]([T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,7})?(Z|[+-]0[0-9]:?30)?)?",
        which in 0_usize..5,
    ) {
        let declared = [
            DataType::Decimal { precision: 7, scale: 3 },
            DataType::Decimal { precision: 38, scale: 0 },
            DataType::NaiveDate,
            DataType::NaiveDatetime,
            DataType::UtcDatetime,
        ][which];
        let mut quick = Column::new("x".to_owned());
        quick.set_type(declared);
        let pushed = quick.try_push_spelled(&text);
        let accepted = accept::accept(Value::Str(&text), Some(declared), Inference::Compatible);
        prop_assert!(accepted.is_ok() || pushed.is_none());
        let Ok(accepted) = accepted else { return Ok(()) };
        let fits = widen::join(&declared, &accepted.data_type, ColumnFacts { long_fits_double: true }) == declared;
        if pushed.is_some() {
            let mut slow = Column::new("x".to_owned());
            slow.set_type(declared);
            prop_assert_eq!((fits, accepted.lenient, slow.push(&accepted.typed)), (true, false, pushed));
            prop_assert_eq!(quick.freeze().to_data(), slow.freeze().to_data());
        } else {
            prop_assert!(!fits, "{} could have gone the quick way", text);
        }
    }

    /// The setters of one type each do what the one for all values does, whatever came before in their column.
    #[test]
    fn setters_by_type_are_no_special_case(
        rows in proptest::collection::vec((any_value(), any_value(), 0_usize..6, any::<bool>()), 1..30),
        declared in 0_usize..6,
        strict in any::<bool>(),
    ) {
        let types = [None, Some(DataType::String), Some(DataType::Double), Some(DECIMAL), Some(DataType::Int), Some(DataType::Json)];
        let declared: Vec<_> = types[declared].iter().map(|data_type| ("a", *data_type)).collect();
        let inference = if strict { Inference::Strict } else { Inference::Compatible };
        let made = || builder(&["k"], &declared).with_inference(inference);
        let (mut one, mut all) = (made(), made());
        for (key, a, op, twice) in rows {
            let op = [Op::Upsert, Op::Upsert, Op::Upsert, Op::Upsert, Op::Update, Op::Delete][op];
            // The second raw name shares the column of the first.
            let values = [("k", key), ("a", a), ("A", if twice { a } else { Value::Null })];
            let expected = row(&mut all, op, &values);
            one.begin_row(op);
            let set = values.iter().try_for_each(|(name, value)| {
                let slot = one.column_index(name);
                match *value {
                    Value::Null => one.set_null(slot),
                    Value::Bool(flag) => one.set_bool(slot, flag),
                    Value::Int(number) => one.set_int(slot, number),
                    Value::Float(number) => one.set_float(slot, number),
                    Value::Str(text) => one.set_text(slot, text),
                    Value::Json(text) => one.set_json(slot, text),
                    other => one.set(slot, other),
                }
            });
            let got = match set {
                Ok(()) => one.end_row().map_err(|error| error.to_string()),
                Err(error) => {
                    one.abandon_row();
                    Err(error.to_string())
                }
            };
            prop_assert_eq!(got, expected);
            prop_assert_eq!((one.schema(), one.bytes(), one.rows()), (all.schema(), all.bytes(), all.rows()));
        }
        let (one, all) = (one.finish(), all.finish());
        let data = |batch: &Option<RowBatch>| batch.as_ref().map(|batch| batch.rows.columns().iter().map(|column| column.to_data()).collect::<Vec<_>>());
        prop_assert_eq!(data(&one), data(&all));
        if let Some(batch) = one {
            batch.validate().unwrap();
        }
    }

    /// However the rows are cut into batches and whichever rows fail, the texts are those of the values, in order.
    #[test]
    fn rows_survive_cuts_and_failures(rows in proptest::collection::vec((any_value(), any_value(), any::<bool>(), any::<bool>()), 1..40)) {
        let mut builder = builder(&[], &[("z", DataType::NaiveDate)]);
        let mut expected = 0;
        let mut received = 0;
        for (a, b, fails, cut) in rows {
            let last = if fails { Value::Str("not a date") } else { Value::Null };
            let before = (builder.schema(), builder.bytes(), builder.rows());
            let ended = row(&mut builder, Op::Upsert, &[("a", a), ("b", b), ("z", last)]);
            prop_assert_eq!(ended.is_err(), fails);
            if fails {
                prop_assert_eq!((builder.schema(), builder.bytes(), builder.rows()), before);
            } else {
                expected += 1;
            }
            if cut && let Some(batch) = builder.finish() {
                batch.validate().unwrap();
                received += batch.row_count();
            }
        }
        received += builder.finish().map_or(0, |batch| batch.row_count());
        prop_assert_eq!(received, expected);
    }

    /// The type of a column is the join of its values' types, and a value keeps its text.
    #[test]
    fn widening_in_place_equals_widening_at_once(values in proptest::collection::vec(any_value(), 1..20)) {
        prop_assume!(values.iter().any(|value| *value != Value::Null));
        let (data_type, texts) = column(None, &values);
        if data_type == DataType::String {
            for (value, text) in values.iter().zip(texts) {
                let alone = if *value == Value::Null { None } else { column(None, &[*value]).1.remove(0) };
                prop_assert_eq!(text, alone);
            }
        }
    }
}

/// Readers take them as equal, so two rows of such keys would be one row twice.
#[test]
fn zeros_and_nans_are_one_key_each_and_stay_as_they_are_elsewhere() {
    let mut builder = builder(&["id"], &[]);
    let nan = -f64::NAN;
    for value in [0.0, -0.0, f64::NAN, nan] {
        row(&mut builder, Op::Upsert, &[("id", Value::Float(value)), ("x", Value::Float(value))]).unwrap();
    }
    let batch = builder.finish().unwrap();
    let bits = |column: usize| -> Vec<u64> {
        batch.rows.column(column).as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(0), [0.0, 0.0, f64::NAN, f64::NAN].map(f64::to_bits));
    assert_eq!(bits(1), [0.0, -0.0, f64::NAN, nan].map(f64::to_bits));
}
