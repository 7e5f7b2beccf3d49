//! Two formats over one set of files: what a crash leaves between them is caught up, and neither goes back.

use serde_json::Value;

use super::readers::{check_with_other_readers, switch};
use super::*;
use crate::destination::lake::snapshot::{Changes, DeleteFile, Marked};
use crate::destination::lake::table::{Landed, Table};

const FOLDER: &str = "shop/orders/_iceberg/metadata";

async fn json(store: &Store, number: u64) -> Value {
    let path = Path::from(format!("{FOLDER}/v{number}.metadata.json"));
    let text = store.get(&path).await.unwrap().expect("a version");
    serde_json::from_slice(&text).unwrap()
}

async fn hint(store: &Store) -> String {
    let text = store.get(&Path::from(format!("{FOLDER}/version-hint.text"))).await.unwrap().expect("a hint");
    String::from_utf8(text.into()).unwrap()
}

fn open_as(terms: Terms, store: &Store, generation: u64) -> impl Future<Output = Result<Lake, Error>> {
    Lake::open(store.clone(), terms, writer("agt_1", generation))
}

#[tokio::test]
async fn a_run_of_entries_is_one_iceberg_commit() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    for window in 0..3 {
        commit(&mut lake, &notes(&name), &upserts(&[(window, "x"), (9, "y")]), 1000 + window, "{}").await.unwrap();
    }
    lake.apply().await.unwrap();
    lake.apply().await.unwrap();
    let metadata = json(&store, 1).await;
    assert_eq!(current(&store, &name).await.version, Some(2), "three versions of the Delta table");
    assert_eq!(hint(&store).await, "1", "and one of Iceberg");
    assert_eq!(metadata["properties"]["inshore.con_1.applied"], "4");
    assert_eq!(metadata["properties"]["inshore.owner"], "con_1");
    assert_eq!(metadata["properties"]["inshore.delta.version"], "2");
    assert_eq!(metadata["location"], "memory://lake/shop/orders/_iceberg");
    assert_eq!(metadata["snapshots"][0]["summary"]["total-records"], "4");
    let ids: Vec<i64> =
        metadata["schemas"][0]["fields"].as_array().unwrap().iter().map(|f| f["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [100, 101, 2, 3]);
}

#[tokio::test]
async fn a_crash_between_the_formats_is_caught_up_at_the_next_open() {
    for lost in ["1-m-", "1-snap-", "v1.metadata.json"] {
        let scripted = Scripted::new();
        let store = scripted.store();
        let name = table("orders");
        let mut lake = open(&store, 1).await.unwrap();
        commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b")]), 1000, "{}").await.unwrap();
        scripted.plan(lost, Fault::Hold);
        let applied = tokio::time::timeout(Duration::from_millis(200), lake.apply()).await;
        assert!(applied.is_err(), "{lost}: killed while it was written");
        let delta = delta::Table::load(&store, "con_1", &name).await.unwrap();
        let iceberg = iceberg::Table::load(&store, ROOT, "con_1", &name).await.unwrap();
        assert_eq!((delta.version, iceberg.version), (Some(0), None), "{lost}");
        let mut next = open(&store, 2).await.unwrap();
        assert_eq!(current(&store, &name).await.marker, Some(2), "{lost}");
        assert_eq!(live_notes(&store, &name).await, want(&[(1, "a"), (2, "b")]), "{lost}");
        // What was on its way lands now, and changes nothing.
        scripted.land_late().await;
        commit(&mut next, &notes(&name), &upserts(&[(2, "B")]), 2000, "{}").await.unwrap();
        next.apply().await.unwrap();
        assert_eq!(live_notes(&store, &name).await, want(&[(1, "a"), (2, "B")]), "{lost}");
    }
}

#[tokio::test]
async fn a_format_that_is_switched_on_later_starts_from_the_current_version() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open_as(Terms { formats: Formats::Delta, ..terms() }, &store, 1).await.unwrap();
    for window in 0..3 {
        commit(&mut lake, &notes(&name), &upserts(&[(window, "x")]), 1000 + window, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
    assert!(store.list(&Path::from(FOLDER), None).await.unwrap().is_empty());
    open(&store, 1).await.unwrap();
    assert_eq!(hint(&store).await, "1");
    assert_eq!(live_notes(&store, &name).await, want(&[(0, "x"), (1, "x"), (2, "x")]));
}

#[tokio::test]
async fn formats_come_and_go_and_each_starts_from_what_the_table_is() {
    use Formats::{Both, Delta, Iceberg};
    for order in [[Both, Iceberg, Both], [Iceberg, Delta, Iceberg], [Delta, Iceberg, Delta], [Iceberg, Both, Iceberg]] {
        let store = Scripted::new().store();
        let (name, log) = (table("orders"), TableName::new("inshore_log", "lines"));
        let mut rows: Vec<(i64, &str)> = Vec::new();
        for (turn, formats) in (0..).zip(order) {
            let terms = Terms { formats, retention: Duration::ZERO, ..terms() };
            let mut lake = open_as(terms.clone(), &store, 1).await.unwrap();
            for window in 0..3 {
                let key = 10 * turn + window;
                rows.push((key, "x"));
                // One row each time anew, so that files go, and are collected.
                let at = 1000 * (turn * 10 + window + 1);
                commit(&mut lake, &notes(&name), &upserts(&[(key, "x"), (100, "y")]), at, "{}").await.unwrap();
                commit(&mut lake, &notes(&log), &upserts(&[(key, "x")]), at + 1, "{}").await.unwrap();
                lake.apply().await.unwrap();
                lake.collect_garbage().await.unwrap();
            }
            drop(lake);
            for (name, wanted) in [(&name, rows.len() + 1), (&log, rows.len())] {
                let table = Table::load(&store, &terms, "con_1", name).await.unwrap();
                let counted: u64 = table.files.values().map(|file| file.stats.num_records).sum();
                assert_eq!(counted, wanted as u64, "{order:?}, turn {turn}, {name}");
                for file in table.files.values() {
                    let size = store.size(&table.key_of(&file.path)).await.unwrap();
                    assert_eq!(size, Some(file.bytes), "{order:?}, turn {turn}: {}", file.path);
                }
            }
            let has_hint = store.size(&Path::from(format!("{FOLDER}/version-hint.text"))).await.unwrap().is_some();
            assert_eq!(has_hint, formats != Delta, "{order:?}, turn {turn}");
        }
    }
}

#[tokio::test]
async fn a_lake_that_moved_names_its_files_where_they_are() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    open_as(Terms { root: "memory://elsewhere".into(), ..terms() }, &store, 1).await.unwrap();
    let metadata = json(&store, 2).await;
    assert_eq!(metadata["location"], "memory://elsewhere/shop/orders/_iceberg");
    assert_eq!(metadata["snapshots"].as_array().unwrap().len(), 1, "older ones name files that are elsewhere");
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "a")]));
}

#[tokio::test]
async fn metadata_of_another_program_is_not_written_over() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    for (field, value, code) in [
        ("format-version", Value::from(3), "DST-006"),
        ("properties", Value::from(serde_json::Map::new()), "DST-008"),
        ("partition-specs", serde_json::json!([{"spec-id": 0, "fields": [{"name": "x"}]}]), "DST-006"),
        ("location", Value::from(7), "DST-006"),
    ] {
        let mut metadata = json(&store, 1).await;
        metadata[field] = value;
        let path = Path::from(format!("{FOLDER}/v2.metadata.json"));
        store.overwrite(&path, metadata.to_string().into()).await.unwrap();
        let error = open(&store, 1).await.unwrap_err();
        assert_eq!(error.code(), code, "{field}: {error}");
        store.delete(&path).await.unwrap();
    }
    open(&store, 1).await.unwrap();
}

/// Positions of one data file, as the specification has them.
fn delete_file(data_file: &str, positions: &[i64]) -> Bytes {
    let field = |name: &str, data_type, id: &str| {
        arrow::datatypes::Field::new(name, data_type, false)
            .with_metadata(std::collections::HashMap::from([("PARQUET:field_id".to_owned(), id.to_owned())]))
    };
    let schema = Schema::new(vec![
        field("file_path", arrow::datatypes::DataType::Utf8, "2147483546"),
        field("pos", arrow::datatypes::DataType::Int64, "2147483545"),
    ]);
    let paths: ArrayRef = Arc::new(StringArray::from(vec![data_file; positions.len()]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![paths, Arc::new(Int64Array::from(positions.to_vec()))]);
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

/// Marks rows of a data file in the table's next version, under the entry `seq`.
async fn mark(store: &Store, terms: &Terms, (path, seq): (&str, u64), positions: &[i64]) {
    let name = table("orders");
    let mut table = Table::load(store, terms, "con_1", &name).await.unwrap();
    let bytes = delete_file(&format!("{}/shop/orders/{path}", terms.root), positions);
    let deletes = DeleteFile {
        path: table.relative_deletes(&format!("r1-{seq}-0-{}.parquet", positions.len())),
        bytes: bytes.len() as u64,
        rows: positions.len() as u64,
    };
    store.put_file(&table.key_of(&deletes.path), &bytes).await.unwrap();
    let marked = vec![Marked { path: path.to_owned(), deletes }];
    let changes = Changes { marked, ..Changes::default() };
    let at = (seq, 1000 * i64::try_from(seq).unwrap());
    assert_eq!(table.commit(store, &changes, at, RETENTION).await.unwrap(), Landed::Ours);
}

#[tokio::test]
async fn marked_rows_are_gone_for_every_reader_of_iceberg() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&url::Url::from_directory_path(folder.path()).unwrap(), false).unwrap();
    let root = format!("file://{}", folder.path().display()).into();
    let terms = Terms { root, formats: Formats::Iceberg, marks: true, ..terms() };
    let name = table("orders");
    let mut lake = open_as(terms.clone(), &store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]), 2000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let files: Vec<String> = current(&store, &name).await.files.into_keys().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    mark(&store, &terms, (&files[0], 3), &[0]).await;
    mark(&store, &terms, (&files[1], 4), &[1]).await;
    // One delete file a data file: the next one has the rows of the one before too.
    mark(&store, &terms, (&files[1], 5), &[0, 1]).await;
    let table = current(&store, &name).await;
    let deletes: Vec<_> = files.iter().map(|file| table.files[file].deletes.clone().map(|file| file.rows)).collect();
    assert_eq!((deletes, table.marker), (vec![Some(1), Some(2)], Some(5)));
    let expected = serde_json::json!({"shop/orders": [["i:2", "s:b", "b:false", "T:1970-01-01T00:00:02.000000Z"]]});
    std::fs::write(folder.path().join("expected.json"), expected.to_string()).unwrap();
    if let Some(python) = switch("INSHORE_TEST_PYTHON") {
        check_with_other_readers(&python, folder.path());
    }
    // A data file that goes takes its delete file along.
    let mut table = Table::load(&store, &terms, "con_1", &name).await.unwrap();
    let removed = vec![table.files[&files[1]].clone()];
    let changes = Changes { removed, ..Changes::default() };
    assert_eq!(table.commit(&store, &changes, (6, 9000), RETENTION).await.unwrap(), Landed::Ours);
    let summary = &json(&store, 5).await["snapshots"][4]["summary"];
    assert_eq!((&summary["total-data-files"], &summary["total-delete-files"]), (&"1".into(), &"1".into()), "{summary}");
    assert_eq!(summary["total-position-deletes"], "1");
}

#[tokio::test]
async fn rows_are_not_marked_where_delta_readers_look() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 2000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let mut table = Table::load(&store, &terms(), "con_1", &name).await.unwrap();
    let path = table.files.keys().next().unwrap().clone();
    let deletes = DeleteFile { path: table.relative_deletes("x"), bytes: 1, rows: 1 };
    let changes = Changes { marked: vec![Marked { path, deletes }], ..Changes::default() };
    let error = table.commit(&store, &changes, (3, 3000), RETENTION).await.unwrap_err();
    assert!(error.to_string().contains("know no delete files"), "{error}");
}

#[tokio::test]
async fn what_a_writer_left_who_lost_a_version_goes_with_the_next_collection() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    for window in 0..12 {
        commit(&mut lake, &notes(&name), &upserts(&[(window, "x")]), 1000 + window, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
    let lost = ["5-m-00000000000000ff.avro", "5-snap-00000000000000ff.avro"].map(|name| format!("{FOLDER}/{name}"));
    for object in &lost {
        store.overwrite(&Path::from(object.as_str()), Bytes::from_static(b"lost")).await.unwrap();
    }
    lake.collect_garbage().await.unwrap();
    for object in &lost {
        assert_eq!(store.size(&Path::from(object.as_str())).await.unwrap(), None, "{object}");
    }
    assert_eq!(live_notes(&store, &name).await.len(), 12);
}
