//! Values that readers get wrong, in tables for the independent readers of `tests/python/read_tables.py`. `./dev test`
//! names a Python that has them in `INSHORE_TEST_PYTHON`; without, the test writes, and reads with our own reader only.
//! With `INSHORE_READERS_DIR` set, the tables stay there, beside `expected.json`.

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, Float32Array, Int16Array, TimestampMicrosecondArray as Micros,
};
use serde_json::{Value, json};

use super::*;
use crate::destination::LakeSettings;

const SECOND: i64 = 1_000_000;
const YEAR_ONE: i64 = -62_135_596_800 * SECOND;
const LAST_MICROSECOND: i64 = 253_402_300_799 * SECOND + 999_999;

fn all_types(name: &TableName) -> TableSchema {
    let columns = [
        ("id", DataType::Int),
        ("boolean", DataType::Boolean),
        ("short", DataType::Short),
        ("long", DataType::Long),
        ("money", DataType::Decimal { precision: 5, scale: 2 }),
        ("huge", DataType::Decimal { precision: 38, scale: 10 }),
        ("float", DataType::Float),
        ("double", DataType::Double),
        ("day", DataType::NaiveDate),
        ("local", DataType::NaiveDatetime),
        ("instant", DataType::UtcDatetime),
        ("binary", DataType::Binary),
        ("xml", DataType::Xml),
        ("text", DataType::String),
        ("json", DataType::Json),
    ];
    schema(name, &columns)
}

fn rows(schema: &TableSchema) -> RecordBatch {
    let decimal = |values: [Option<i128>; 3], precision, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
    };
    let strings = |values: [Option<&str>; 3]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let huge = 10_i128.pow(38) - 1;
    let synced = 1_700_000_000_123_000;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![i32::MIN, 0, i32::MAX])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
        decimal([Some(-99_999), None, Some(150)], 5, 2),
        decimal([Some(-huge), None, Some(huge)], 38, 10),
        Arc::new(Float32Array::from(vec![Some(f32::NAN), None, Some(1.5)])),
        Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(f64::NEG_INFINITY), Some(0.1)])),
        Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)])),
        Arc::new(Micros::from(vec![Some(YEAR_ONE), Some(-1), Some(LAST_MICROSECOND)])),
        Arc::new(Micros::from(vec![Some(YEAR_ONE + 1), None, Some(1_709_211_600_123_456)]).with_timezone("UTC")),
        Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(&b""[..]), None])),
        strings([Some("<a b=\"1\"/>"), None, Some("")]),
        strings([Some("žluťoučký 🐎 \u{0}\n\"'"), Some(""), None]),
        strings([Some("{\"a\": [1, {\"b\": null}], \"n\": NaN}"), Some("\"\""), None]),
        Arc::new(BooleanArray::from(vec![false; 3])),
        Arc::new(Micros::from(vec![synced; 3]).with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema.with_system_columns(), columns).unwrap()
}

/// The rows as the readers must print them.
fn expected() -> Value {
    let synced = "T:2023-11-14T22:13:20.123000Z";
    json!([
        [
            "i:-2147483648",
            "b:true",
            "i:-32768",
            "i:-9223372036854775808",
            "d:-999.99",
            "d:-9999999999999999999999999999.9999999999",
            "f:nan",
            "f:nan",
            "D:0001-01-01",
            "N:0001-01-01T00:00:00.000000",
            "T:0001-01-01T00:00:00.000001Z",
            "x:00ff",
            "s:<a b=\"1\"/>",
            "s:žluťoučký 🐎 \u{0}\n\"'",
            "s:{\"a\": [1, {\"b\": null}], \"n\": NaN}",
            "b:false",
            synced
        ],
        [
            "i:0",
            null,
            null,
            null,
            null,
            null,
            null,
            "f:-inf",
            null,
            "N:1969-12-31T23:59:59.999999",
            null,
            "x:",
            null,
            "s:",
            "s:\"\"",
            "b:false",
            synced
        ],
        [
            "i:2147483647",
            "b:false",
            "i:32767",
            "i:9223372036854775807",
            "d:1.50",
            "d:9999999999999999999999999999.9999999999",
            "f:1.5",
            "f:0.1",
            "D:9999-12-31",
            "N:9999-12-31T23:59:59.999999",
            "T:2024-02-29T13:00:00.123456Z",
            null,
            "s:",
            null,
            null,
            "b:false",
            synced
        ]
    ])
}

#[expect(clippy::disallowed_methods, reason = "test-only switches: which Python reads, and where the tables stay")]
pub(super) fn switch(name: &str) -> Option<std::path::PathBuf> {
    std::env::var_os(name).map(Into::into)
}

/// Has every independent reader compare the tables below a folder with `expected.json`.
pub(super) fn check_with_other_readers(python: &std::path::Path, folder: &std::path::Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/python/read_tables.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(folder).arg("--expected").arg(folder.join("expected.json"));
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn values_that_readers_get_wrong_are_stored_as_they_are() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = switch("INSHORE_READERS_DIR").unwrap_or_else(|| temporary.path().to_owned());
    let root = url::Url::from_directory_path(&folder).unwrap();
    let settings = LakeSettings { fsync: false, ..LakeSettings::new(root) };
    let (types, merged) = (table("all_types"), table("merged"));
    let schema = all_types(&types);
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    let upsert = SealedStep { op: StepOp::Upsert, columns: None, files: vec![0] };
    let files = vec![lake.write(sealed_batch(&schema, 0, &rows(&schema))).await.unwrap()];
    let tables = vec![SealedTable { schema: schema.clone(), steps: vec![upsert] }];
    lake.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms: 1_700_000_000_123, tables, files })
        .await
        .unwrap();
    lake.apply().await.unwrap();

    // Every step, an added column and a widened one, so that rewritten files are read too.
    let narrow = self::schema(&merged, &[("id", DataType::Int), ("n", DataType::Int)]);
    let wide = self::schema(&merged, &[("id", DataType::Int), ("n", DataType::Double), ("note", DataType::String)]);
    let n = |key: i64, n: &str| (key, BTreeMap::from([("n".to_owned(), some(n))]));
    let first =
        Window { upserts: BTreeMap::from([n(1, "10"), n(2, "20"), n(3, "30"), n(4, "40")]), ..Window::default() };
    let second = Window {
        upserts: BTreeMap::from([n(4, "4.5"), n(5, "50")]),
        updates: vec![(vec!["note".to_owned()], BTreeMap::from([(1, vec![some("patched")]), (9, vec![None])]))],
        deletes: vec![2, 8],
        truncate_before_ms: None,
    };
    commit(&mut lake, &narrow, &first, 1_700_000_001_000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    commit(&mut lake, &wide, &second, 1_700_000_002_000, "{}").await.unwrap();
    lake.apply().await.unwrap();

    let (before, after) = ("T:2023-11-14T22:13:21.000000Z", "T:2023-11-14T22:13:22.000000Z");
    let merged_rows = json!([
        ["i:1", "f:10.0", "s:patched", "b:false", after],
        ["i:2", "f:20.0", null, "b:true", after],
        ["i:3", "f:30.0", null, "b:false", before],
        ["i:4", "f:4.5", null, "b:false", after],
        ["i:5", "f:50.0", null, "b:false", after],
    ]);
    let text = json!({"shop/all_types": expected(), "shop/merged": merged_rows}).to_string();
    std::fs::write(folder.join("expected.json"), text).unwrap();
    let reopened = crate::destination::open(&settings, writer("agt_1", 2)).await.unwrap();
    assert_eq!(reopened.current(&types).unwrap().schema, schema);
    assert_eq!(reopened.current(&merged).unwrap().schema, wide);
    let store = Store::open(&settings.root, false).unwrap();
    assert_eq!(read(&store, &merged).await.len(), 5);
    if let Some(python) = switch("INSHORE_TEST_PYTHON") {
        check_with_other_readers(&python, &folder);
    }
}
