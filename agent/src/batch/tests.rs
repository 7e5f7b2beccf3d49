//! Windows folded, spilled and sealed, read back from the Parquet files they made.

mod cuts;
mod memory;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::AsArray;
use inshore_columnar::schema::{Column, DELETED_COLUMN, ID_COLUMN, SYNCED_COLUMN, SchemaError};
use inshore_columnar::widen;
use inshore_columnar::{ColumnFacts, DataType, Naming, TableBuilder, Value};

use super::*;

const SYNCED_MS: i64 = 1_700_000_000_000;
const BOUND_MS: i64 = SYNCED_MS - 1;

fn name() -> TableName {
    TableName::new("shop", "orders")
}

fn settings(memory_bytes_max: u64, file_bytes_target: u64) -> BatchSettings {
    BatchSettings {
        type_locked: false,
        memory_bytes_max,
        file_bytes_target,
        row_group_rows: 1000,
        spool_dir: std::env::temp_dir(),
        spool_bytes_max: 1 << 30,
    }
}

/// What a connector does, and where its batches and windows are cut.
#[derive(Clone, Debug)]
enum Step {
    Row(Op, Vec<(&'static str, Value<'static>)>),
    Truncate,
    Batch,
    Seal,
}

fn upsert(values: &[(&'static str, Value<'static>)]) -> Step {
    Step::Row(Op::Upsert, values.to_vec())
}

fn update(values: &[(&'static str, Value<'static>)]) -> Step {
    Step::Row(Op::Update, values.to_vec())
}

fn delete(values: &[(&'static str, Value<'static>)]) -> Step {
    Step::Row(Op::Delete, values.to_vec())
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    values: BTreeMap<String, String>,
    deleted: bool,
}

/// A naive destination: applies sealed steps one row at a time, values as text.
#[derive(Default)]
struct Lake {
    schema: Option<TableSchema>,
    rows: BTreeMap<Vec<String>, Row>,
    /// One line per row of every step, for the case table.
    log: Vec<String>,
    files: usize,
}

impl Lake {
    fn current(&self) -> Option<CurrentTable> {
        let schema = self.schema.clone()?;
        let exact = ColumnFacts { long_fits_double: true };
        let facts = schema.columns.iter().map(|column| (column.name.clone(), exact)).collect();
        Some(CurrentTable { schema, facts })
    }

    fn seal(&mut self, window: &mut Window) {
        let current = self.current();
        let mut files = Vec::new();
        let sealed = window
            .seal(&|_| current.clone(), SYNCED_MS, BOUND_MS, &mut |file| {
                assert_eq!(file.index, files.len());
                files.push(file);
                Ok(())
            })
            .unwrap();
        assert!(window.is_empty());
        self.files += files.len();
        for table in sealed {
            for step in &table.steps {
                self.apply(&table.schema, step, &files);
            }
            self.schema = Some(table.schema);
        }
    }

    fn apply(&mut self, schema: &TableSchema, step: &SealedStep, files: &[SealedFile]) {
        if let StepOp::Truncate { before_ms } = step.op {
            assert_eq!(before_ms, BOUND_MS);
            self.log.push("truncate".to_owned());
            self.rows.values_mut().for_each(|row| row.deleted = true);
            return;
        }
        let mut last: Option<Vec<String>> = None;
        let mut seen = HashSet::new();
        for file in step.files.iter().map(|index| &files[*index]) {
            for values in read(schema, file) {
                let key: Vec<String> = schema.effective_key().iter().map(|name| values[name].clone()).collect();
                assert!(seen.insert(key.clone()), "{key:?} appears twice in {:?}", step.op);
                let numeric = schema.column("id").is_some_and(|column| column.data_type == DataType::Int);
                let in_order = last.as_ref().is_none_or(|last| match (numeric, last[0].parse::<i64>()) {
                    (true, Ok(last)) => last < key[0].parse().unwrap(),
                    _ => schema.column("id").is_some_and(|column| column.data_type != DataType::String) || *last < key,
                });
                assert!(in_order, "{last:?} before {key:?}");
                last = Some(key.clone());
                self.apply_row(step, key, values);
            }
        }
    }

    fn apply_row(&mut self, step: &SealedStep, key: Vec<String>, mut values: BTreeMap<String, String>) {
        assert_eq!(values.remove(SYNCED_COLUMN).unwrap(), "2023-11-14T22:13:20Z");
        let text: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let carried = step.columns.as_ref().map(|columns| format!("[{}]", columns.join(","))).unwrap_or_default();
        self.log.push(format!("{:?}{carried} {}", step.op, text.join(" ")).to_lowercase());
        match step.op {
            StepOp::Truncate { .. } => unreachable!("has no files"),
            StepOp::Upsert => {
                let deleted = values.remove(DELETED_COLUMN).unwrap() == "true";
                self.rows.insert(key, Row { values, deleted });
            }
            StepOp::Update => {
                let Some(row) = self.rows.get_mut(&key).filter(|row| !row.deleted) else { return };
                for column in step.columns.iter().flatten() {
                    row.values.remove(column);
                }
                row.values.extend(values);
            }
            StepOp::Delete => {
                if let Some(row) = self.rows.get_mut(&key) {
                    row.deleted = true;
                }
            }
        }
    }
}

/// The rows of a file; NULLs are left out.
fn read(schema: &TableSchema, file: &SealedFile) -> Vec<BTreeMap<String, String>> {
    assert_eq!(file.table, schema.name);
    assert_eq!(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&file.bytes)), file.sha256);
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let first = rows.len();
        rows.resize(first + batch.num_rows(), BTreeMap::new());
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            let data_type = match field.name().as_str() {
                ID_COLUMN => DataType::String,
                DELETED_COLUMN => DataType::Boolean,
                SYNCED_COLUMN => DataType::UtcDatetime,
                user => schema.column(user).unwrap().data_type,
            };
            let text = widen::cast(array, &data_type, &DataType::String).unwrap();
            for (row, value) in text.as_string::<i32>().iter().enumerate() {
                if let Some(value) = value {
                    rows[first + row].insert(field.name().clone(), value.to_owned());
                }
            }
        }
    }
    assert_eq!(file.rows, rows.len() as u64);
    rows
}

fn builder(key: &[&str]) -> TableBuilder {
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    TableBuilder::new(name(), &key, &[], Naming::Fivetran)
}

fn flush(builder: &mut TableBuilder, window: &mut Window) {
    if let Some(batch) = builder.finish() {
        window.push(batch).unwrap();
    }
}

fn run(key: &[&str], steps: &[Step], settings: BatchSettings) -> Lake {
    let mut lake = Lake::default();
    let mut window = Window::new(settings);
    let mut builder = builder(key);
    for step in steps {
        match step {
            Step::Row(op, values) => {
                builder.begin_row(*op);
                for (name, value) in values {
                    let slot = builder.column_index(name);
                    builder.set(slot, *value).unwrap();
                }
                builder.end_row().unwrap();
            }
            Step::Truncate => {
                flush(&mut builder, &mut window);
                window.truncate(&name()).unwrap();
            }
            Step::Batch => flush(&mut builder, &mut window),
            Step::Seal => {
                flush(&mut builder, &mut window);
                lake.seal(&mut window);
            }
        }
    }
    flush(&mut builder, &mut window);
    lake.seal(&mut window);
    lake
}

/// The steps of one window, in memory and, to the letter, when every batch is spilled.
fn check(key: &[&str], steps: &[Step], expected: &[&str]) {
    let lake = run(key, steps, settings(1 << 30, 1 << 20));
    assert_eq!(lake.log, expected, "{steps:?}");
    let batches: Vec<Step> = steps.iter().flat_map(|step| [step.clone(), Step::Batch]).collect();
    let spilled = run(key, &batches, settings(1, 1));
    assert_eq!(spilled.log, expected, "spilled: {steps:?}");
}

#[test]
fn folds_of_one_key() {
    use Value::{Int, Null};
    let id = ("id", Int(1));
    let full = |a, b| upsert(&[id, ("a", Int(a)), ("b", Int(b))]);
    let a = |a| update(&[id, ("a", Int(a))]);
    let gone = || delete(&[id]);
    check(&["id"], &[full(1, 2)], &["upsert _fivetran_deleted=false a=1 b=2 id=1"]);
    check(&["id"], &[full(1, 2), full(3, 4)], &["upsert _fivetran_deleted=false a=3 b=4 id=1"]);
    check(&["id"], &[full(1, 2), upsert(&[id, ("a", Int(5))])], &["upsert _fivetran_deleted=false a=5 id=1"]);
    check(&["id"], &[full(1, 2), a(3)], &["upsert _fivetran_deleted=false a=3 b=2 id=1"]);
    check(&["id"], &[full(1, 2), update(&[id, ("a", Null)])], &["upsert _fivetran_deleted=false b=2 id=1"]);
    check(&["id"], &[full(1, 2), gone()], &["upsert _fivetran_deleted=true a=1 b=2 id=1"]);
    check(&["id"], &[full(1, 2), a(3), gone(), a(9)], &["upsert _fivetran_deleted=true a=3 b=2 id=1"]);
    check(&["id"], &[gone(), full(1, 2)], &["upsert _fivetran_deleted=false a=1 b=2 id=1"]);
    check(&["id"], &[a(1)], &["update[a] a=1 id=1"]);
    check(&["id"], &[a(1), update(&[id, ("b", Int(2))]), a(3)], &["update[a,b] a=3 b=2 id=1"]);
    check(&["id"], &[a(1), update(&[id, ("a", Null)])], &["update[a] id=1"]);
    check(&["id"], &[a(1), gone()], &["update[a] a=1 id=1", "delete id=1"]);
    check(&["id"], &[gone(), a(1)], &["delete id=1"]);
    check(&["id"], &[gone(), gone()], &["delete id=1"]);
    check(&["id"], &[update(&[id])], &["update[] id=1"]);
    check(&["id"], &[update(&[id, ("unknown", Null)])], &["update[] id=1"]);
}

#[test]
fn sets_that_come_down_to_the_same_columns_share_a_file() {
    use Value::{Int, Null};
    let steps = [
        update(&[("id", Int(1)), ("unknown", Null), ("b", Int(5))]),
        Step::Batch,
        update(&[("id", Int(0)), ("b", Null)]),
        update(&[("id", Int(2)), ("c", Int(1))]),
    ];
    check(&["id"], &steps, &["update[b] id=0", "update[b] b=5 id=1", "update[c] c=1 id=2"]);
}

#[test]
fn truncate_drops_pending_rows_and_comes_first() {
    use Value::Int;
    let steps = [upsert(&[("id", Int(1))]), Step::Truncate, upsert(&[("id", Int(2))]), delete(&[("id", Int(3))])];
    check(&["id"], &steps, &["truncate", "upsert _fivetran_deleted=false id=2", "delete id=3"]);
    assert!(run(&["id"], &[Step::Truncate], settings(1 << 20, 1 << 20)).log.is_empty(), "nobody knows the table");
    let later = [upsert(&[("id", Int(1))]), Step::Seal, Step::Truncate];
    let lake = run(&["id"], &later, settings(1 << 20, 1 << 20));
    assert_eq!(lake.log, ["upsert _fivetran_deleted=false id=1", "truncate"]);
}

#[test]
fn keys_fold_across_widened_types() {
    use Value::{Float, Int, Str};
    let steps = [
        upsert(&[("id", Int(10)), ("a", Int(1))]),
        upsert(&[("id", Int(9)), ("a", Int(2))]),
        Step::Batch,
        update(&[("id", Float(9.0)), ("a", Int(3))]),
        Step::Batch,
        update(&[("id", Str("10")), ("a", Int(4))]),
        delete(&[("id", Str("x"))]),
    ];
    let expected =
        ["upsert _fivetran_deleted=false a=4 id=10", "upsert _fivetran_deleted=false a=3 id=9", "delete id=x"];
    check(&["id"], &steps, &expected);
}

#[test]
fn keys_sort_in_the_type_of_the_destination() {
    use Value::{Int, Str};
    let steps =
        [upsert(&[("id", Str("x"))]), Step::Seal, upsert(&[("id", Int(10))]), Step::Batch, upsert(&[("id", Int(9))])];
    for memory in [1, 1 << 30] {
        let mut lake = Lake::default();
        let mut window = Window::new(settings(memory, 1));
        // Two builders: the second sync knows nothing of the first one's types.
        for part in steps.split(|step| matches!(step, Step::Seal)) {
            let mut builder = builder(&["id"]);
            for step in part {
                if let Step::Row(op, values) = step {
                    builder.begin_row(*op);
                    let slot = builder.column_index("id");
                    builder.set(slot, values[0].1).unwrap();
                    builder.end_row().unwrap();
                } else {
                    flush(&mut builder, &mut window);
                }
            }
            flush(&mut builder, &mut window);
            lake.seal(&mut window);
        }
        let ids: Vec<&str> = lake.log.iter().map(|line| line.rsplit('=').next().unwrap()).collect();
        assert_eq!(ids, ["x", "10", "9"], "text order");
    }
}

#[test]
fn keys_sort_in_the_column_order_of_the_destination() {
    use Value::Int;
    let row = |a, b| [("a", Int(a)), ("b", Int(b))];
    for memory in [1, 1 << 30] {
        let mut lake = Lake::default();
        let mut window = Window::new(settings(memory, 1));
        window.push(batch_of(&["b", "a"], &row(0, 0))).unwrap();
        lake.seal(&mut window);
        for (a, b) in [(1, 9), (2, 8)] {
            window.push(batch_of(&["a", "b"], &row(a, b))).unwrap();
        }
        lake.seal(&mut window);
        assert_eq!(lake.log[1..], ["upsert _fivetran_deleted=false a=2 b=8", "upsert _fivetran_deleted=false a=1 b=9"]);
    }
}

#[test]
fn columns_widen_to_the_destination_and_back_down_never() {
    use Value::{Float, Int};
    let mut lake = Lake::default();
    let mut window = Window::new(settings(1 << 20, 1 << 20));
    for value in [Float(0.5), Int(3), Int(1 << 40)] {
        let mut builder = builder(&["id"]);
        builder.begin_row(Op::Upsert);
        for (name, value) in [("id", Int(1)), ("a", value)] {
            let slot = builder.column_index(name);
            builder.set(slot, value).unwrap();
        }
        builder.end_row().unwrap();
        flush(&mut builder, &mut window);
        lake.seal(&mut window);
    }
    assert_eq!(lake.schema.unwrap().columns[1].data_type, DataType::Double);
    assert_eq!(lake.log[2], "upsert _fivetran_deleted=false a=1099511627776 id=1");
}

#[test]
fn long_beyond_2_53_meets_double_as_text() {
    use Value::{Float, Int};
    let long = (1 << 53) + 1;
    let steps = [
        upsert(&[("id", Int(1)), ("a", Int(5))]),
        upsert(&[("id", Int(2)), ("a", Float(0.5))]),
        Step::Batch,
        upsert(&[("id", Int(3)), ("a", Int(long))]),
    ];
    let expected = [
        "upsert _fivetran_deleted=false a=5 id=1",
        "upsert _fivetran_deleted=false a=0.5 id=2",
        "upsert _fivetran_deleted=false a=9007199254740993 id=3",
    ];
    check(&["id"], &steps, &expected);
}

#[test]
fn keyless_rows_collapse_and_full_deletes_find_them() {
    use Value::{Int, Str};
    let row = [("a", Int(1)), ("b", Str("x"))];
    let lake =
        run(&[], &[upsert(&row), upsert(&row), upsert(&[("a", Int(2))]), Step::Seal, delete(&row)], settings(1, 1));
    let states: Vec<(bool, Vec<&str>)> = lake
        .rows
        .values()
        .map(|row| (row.deleted, row.values.iter().skip(1).map(|(_, value)| value.as_str()).collect()))
        .collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&(true, vec!["1", "x"])) && states.contains(&(false, vec!["2"])), "{states:?}");
}

#[test]
fn declared_tables_are_sealed_without_rows() {
    let mut window = Window::new(settings(1 << 20, 1 << 20));
    assert!(window.is_empty());
    let columns = vec![Column::new("id", DataType::Int)];
    let schema = TableSchema { name: name(), key: vec!["id".to_owned()], columns };
    window.declare(std::slice::from_ref(&schema)).unwrap();
    assert!(!window.is_empty());
    let sealed = window.seal(&|_| None, 1, 0, &mut |_| panic!("no files")).unwrap();
    assert_eq!((sealed[0].schema.clone(), sealed[0].steps.len()), (schema, 0));
}

fn batch_of(key: &[&str], values: &[(&str, Value<'_>)]) -> RowBatch {
    let mut builder = builder(key);
    builder.begin_row(Op::Upsert);
    for (name, value) in values {
        let slot = builder.column_index(name);
        builder.set(slot, *value).unwrap();
    }
    builder.end_row().unwrap();
    builder.finish().unwrap()
}

#[test]
fn rows_that_are_refused() {
    let values = [("id", Value::Int(1)), ("a", Value::Int(2))];
    let push = |batch: RowBatch| Window::new(settings(1 << 20, 1 << 20)).push(batch).unwrap_err();

    let mut null_key = batch_of(&[], &[("a", Value::Int(2)), ("id", Value::Null)]);
    null_key.schema.key = vec!["id".to_owned()];
    null_key.schema.columns.push(Column::new("id", DataType::Int));
    let nulls = arrow::array::Int32Array::from(vec![None]);
    let op = Arc::clone(null_key.rows.column(1));
    null_key.rows = arrow::array::RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::clone(null_key.rows.column(0)), true),
        ("id", Arc::new(nulls) as _, true),
        ("#op", op, false),
    ])
    .unwrap();
    let error = push(null_key);
    assert!(matches!(&error, Error::PrimaryKeyNull { table, column } if *table == name() && column == "id"), "{error}");

    let mut window = Window::new(settings(1 << 20, 1 << 20));
    window.push(batch_of(&["id"], &values)).unwrap();
    let error = window.push(batch_of(&["a"], &values)).unwrap_err();
    assert!(matches!(error, Error::Schema(SchemaError::PrimaryKeyChanged { .. })), "{error}");

    let mut lake = Lake::default();
    let mut window = Window::new(settings(1 << 20, 1 << 20));
    window.push(batch_of(&["id"], &values)).unwrap();
    lake.seal(&mut window);
    window.push(batch_of(&[], &values)).unwrap();
    let error = window.seal(&|_| lake.current(), 1, 0, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Schema(SchemaError::PrimaryKeyChanged { .. })), "{error}");

    let mut reserved = batch_of(&["id"], &values);
    reserved.untyped.push(DELETED_COLUMN.to_owned());
    assert!(matches!(push(reserved), Error::ReservedColumn { .. }));
}

#[test]
fn the_spool_has_a_limit() {
    let mut window = Window::new(BatchSettings { spool_bytes_max: 5000, ..settings(1, 1) });
    let text = "x".repeat(1000);
    let error = (0..10)
        .find_map(|id| window.push(batch_of(&["id"], &[("id", Value::Int(id)), ("a", Value::Str(&text))])).err());
    assert!(matches!(error, Some(Error::SpoolFull { limit_bytes: 5000 })), "{error:?}");
}

#[test]
fn counts_are_as_received() {
    let mut window = Window::new(settings(1 << 20, 1 << 20));
    for _ in 0..3 {
        window.push(batch_of(&["id"], &[("id", Value::Int(1))])).unwrap();
    }
    window.truncate(&name()).unwrap();
    assert_eq!(window.counts()[&name()], Counts { upserts: 3, truncates: 1, ..Counts::default() });
    window.seal(&|_| None, 1, 0, &mut |_| Ok(())).unwrap();
    assert_eq!(window.counts()[&name()].upserts, 3, "of the whole job");
}

#[test]
fn a_window_can_be_lent_to_a_worker_thread() {
    fn check<T: Send + 'static>() {}
    check::<Window>();
}
