//! Where windows are cut, and when they spill, does not show in the table: random operations against one fold without cuts.

use std::collections::HashMap;

use inshore_columnar::Value;
use proptest::prelude::*;

use super::*;

fn any_key() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        8 => (0_i64..6).prop_map(Value::Int),
        1 => Just(Value::Float(3.0)),
        1 => proptest::sample::select(vec!["1", "4", "x"]).prop_map(Value::Str),
    ]
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        1 => Just(Value::Null),
        4 => (0_i64..9).prop_map(Value::Int),
        1 => Just(Value::Int(1 << 40)),
        1 => Just(Value::Float(0.5)),
        1 => proptest::sample::select(vec!["5", "text"]).prop_map(Value::Str),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let values = || proptest::collection::vec((proptest::sample::select(vec!["a", "b", "c"]), any_value()), 0..4);
    let row = |op| {
        (any_key(), values()).prop_map(move |(key, mut values)| {
            let mut names = HashSet::new();
            values.retain(|(name, _)| names.insert(*name));
            values.insert(0, ("id", key));
            Step::Row(op, values)
        })
    };
    prop_oneof![
        6 => row(Op::Upsert),
        6 => row(Op::Update),
        4 => row(Op::Delete),
        1 => Just(Step::Truncate),
        3 => Just(Step::Batch),
        2 => Just(Step::Seal),
    ]
}

fn rows_of(lake: &Lake, deleted_too: bool) -> HashMap<Vec<String>, Row> {
    lake.rows
        .iter()
        .filter(|(_, row)| deleted_too || !row.deleted)
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Seals and spills anywhere lead to the same table. Rows that a truncate removed may be missing or soft-deleted,
    /// depending on whether an earlier window had committed them; live rows never differ.
    #[test]
    fn cuts_and_spills_do_not_show(steps in proptest::collection::vec(any_step(), 1..60)) {
        let uncut: Vec<Step> = steps.iter().filter(|step| !matches!(step, Step::Seal | Step::Batch)).cloned().collect();
        let truncates = steps.iter().any(|step| matches!(step, Step::Truncate));
        let expected = rows_of(&run(&["id"], &uncut, settings(1 << 30, 1 << 20)), !truncates);
        for (memory, file) in [(1, 1), (4000, 1 << 20), (1 << 30, 1 << 20)] {
            let lake = run(&["id"], &steps, settings(memory, file));
            prop_assert_eq!(&rows_of(&lake, !truncates), &expected);
        }
        let mut spilled: Vec<Step> = uncut.clone();
        for at in (0..spilled.len()).rev().step_by(2) {
            spilled.insert(at, Step::Batch);
        }
        prop_assert_eq!(&rows_of(&run(&["id"], &spilled, settings(1, 1)), !truncates), &expected);
    }
}

/// The files of a window at a destination that has no tables yet.
fn sealed_files(window: &mut Window) -> Vec<SealedFile> {
    let mut files = Vec::new();
    let mut take = |file| {
        files.push(file);
        Ok(())
    };
    window.seal(&|_| None, 1, 0, &mut take).unwrap();
    files
}

fn encodings(file: &SealedFile) -> Vec<(String, Vec<::parquet::basic::Encoding>)> {
    let file = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
    let columns = file.metadata().row_group(0).columns().iter();
    columns.map(|column| (column.column_path().string(), column.encodings().collect())).collect()
}

#[test]
fn files_are_cut_by_size_and_have_statistics_and_delta_keys() {
    let mut window = Window::new(settings(1 << 30, 200_000));
    let mut builder = builder(&["id"]);
    for id in (0..50_000).rev() {
        builder.begin_row(Op::Upsert);
        let slot = builder.column_index("id");
        builder.set(slot, Value::Int(id)).unwrap();
        let text = format!("{:x}", id * 7_919_777_777);
        let slot = builder.column_index("a");
        builder.set(slot, Value::Str(&text)).unwrap();
        builder.end_row().unwrap();
        if id % 3000 == 0 {
            flush(&mut builder, &mut window);
        }
    }
    let files = sealed_files(&mut window);
    assert!(files.len() > 1 && files.iter().all(|file| file.bytes.len() < 600_000), "{}", files.len());
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 50_000);
    let metadata = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
    let metadata = metadata.metadata();
    let id = metadata.row_group(0).column(0);
    assert!(id.statistics().unwrap().min_bytes_opt().is_some());
    assert!(id.encodings().any(|encoding| encoding == ::parquet::basic::Encoding::DELTA_BINARY_PACKED));
    assert!(metadata.row_groups().iter().all(|group| group.num_rows() <= 1000));
}

#[test]
fn keys_that_ascend_give_what_any_order_gives() {
    use Value::Int;
    let step = |id: i64| match id % 4 {
        0 => update(&[("id", Int(id)), ("a", Int(id))]),
        1 => delete(&[("id", Int(id))]),
        _ => upsert(&[("id", Int(id)), ("a", Int(id)), ("b", Int(-id))]),
    };
    let batched = |ids: &mut dyn Iterator<Item = i64>| {
        let steps = ids.flat_map(|id| [Some(step(id)), (id % 70 == 69).then_some(Step::Batch)]);
        steps.flatten().collect::<Vec<_>>()
    };
    let ascending = batched(&mut (0..300));
    let descending = batched(&mut (0..300).rev());
    let late = [upsert(&[("id", Int(7)), ("a", Int(1))]), delete(&[("id", Int(100))]), upsert(&[("id", Int(300))])];
    for late in [&late[..0], &late[..1], &late] {
        let [expected, got, spilled] = [(&descending, 1 << 30), (&ascending, 1 << 30), (&ascending, 1)]
            .map(|(steps, memory)| run(&["id"], &[&steps[..], late].concat(), settings(memory, 1 << 20)));
        assert_eq!(got.log, expected.log);
        assert_eq!(spilled.log, expected.log);
    }
}

#[test]
fn values_that_repeat_have_a_dictionary_and_others_have_none() {
    use ::parquet::basic::Encoding;
    let mut window = Window::new(settings(1 << 30, 1 << 20));
    let mut builder = builder(&["id"]);
    for id in 0..5_000_i64 {
        let text = id.to_string();
        let values = [("id", Value::Int(id)), ("text", Value::Str(&text)), ("number", Value::Int(id * 977))];
        builder.begin_row(Op::Upsert);
        for (name, value) in values.into_iter().chain([
            ("kind", Value::Str(["new", "paid", "sent"][usize::try_from(id).unwrap() % 3])),
            ("size", Value::Int(id % 9)),
        ]) {
            let slot = builder.column_index(name);
            builder.set(slot, value).unwrap();
        }
        builder.end_row().unwrap();
    }
    flush(&mut builder, &mut window);
    let files = sealed_files(&mut window);
    for (column, encodings) in encodings(&files[0]) {
        let (dictionary, differences) =
            (encodings.contains(&Encoding::RLE_DICTIONARY), encodings.contains(&Encoding::DELTA_BINARY_PACKED));
        let expected = match column.as_str() {
            "id" | "number" => (false, true),
            "text" | "_fivetran_deleted" => (false, false),
            _ => (true, false),
        };
        assert_eq!((dictionary, differences), expected, "{column}");
    }
}

/// The contexts of thousands of columns would take gigabytes for a few bytes of each.
#[test]
fn only_very_wide_files_are_not_compressed() {
    use ::parquet::basic::Compression;
    for (columns, compressed) in [(1, true), (1_998, true), (1_999, false)] {
        let mut window = Window::new(settings(1 << 30, 1 << 20));
        let mut builder = builder(&["id"]);
        builder.begin_row(Op::Upsert);
        let names = ["id".to_owned()].into_iter().chain((1..columns).map(|column| format!("column_{column}")));
        for name in names {
            let slot = builder.column_index(&name);
            builder.set(slot, Value::Int(7)).unwrap();
        }
        builder.end_row().unwrap();
        flush(&mut builder, &mut window);
        let files = sealed_files(&mut window);
        let file = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
        let found = file.metadata().row_group(0).columns().iter().map(|column| column.compression());
        let found: Vec<bool> = found.map(|compression| compression != Compression::UNCOMPRESSED).collect();
        assert_eq!(found, vec![compressed; columns + 2], "{columns} columns beside two of the system");
    }
}

#[test]
fn a_file_of_few_rows_has_no_dictionary_however_equal_they_are() {
    use ::parquet::basic::Encoding;
    for (rows, dictionary) in [(1, false), (31, false), (32, true)] {
        let mut window = Window::new(settings(1 << 30, 1 << 20));
        let mut builder = builder(&["id"]);
        for id in 0..rows {
            builder.begin_row(Op::Upsert);
            for (name, value) in [("id", Value::Int(id)), ("kind", Value::Str("new"))] {
                let slot = builder.column_index(name);
                builder.set(slot, value).unwrap();
            }
            builder.end_row().unwrap();
        }
        flush(&mut builder, &mut window);
        let found = encodings(&sealed_files(&mut window)[0]);
        let (_, kind) = found.iter().find(|(column, _)| column == "kind").unwrap();
        assert_eq!(kind.contains(&Encoding::RLE_DICTIONARY), dictionary, "{rows} rows: {kind:?}");
    }
}
