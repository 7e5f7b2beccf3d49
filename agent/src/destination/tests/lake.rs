//! Tables: roll-forward after a crash, what is read and what is not, garbage collection, local folders that fail.

use super::*;
use crate::destination::LakeSettings;

#[tokio::test]
async fn an_initial_load_reads_nothing_back() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    for window in 0..4 {
        let rows: Vec<(i64, &str)> = (window * 100..window * 100 + 50).map(|key| (key, "x")).collect();
        commit(&mut lake, &notes(&name), &upserts(&rows), 1000 + window, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
    assert_eq!(scripted.data_reads(), Vec::<String>::new());
    commit(&mut lake, &notes(&name), &upserts(&[(120, "y")]), 9000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let mut read = scripted.data_reads();
    read.sort();
    read.dedup();
    assert_eq!(read.len(), 2, "the new file and the one old file whose bounds hold the key: {read:?}");
}

#[tokio::test]
async fn a_crash_after_any_step_is_rolled_forward() {
    for stop_after in 0..4 {
        let store = Scripted::new().store();
        let name = table("orders");
        let mut lake = open(&store, 1).await.unwrap();
        commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b")]), 1000, "{\"n\":1}").await.unwrap();
        lake.apply().await.unwrap();
        let (sealed, files) = upserts(&[(2, "B"), (3, "c")]).seal(&notes(&name), 2000, 0);
        let mut written = Vec::new();
        for file in files.into_iter().take(if stop_after == 0 { 1 } else { usize::MAX }) {
            written.push(lake.write(file).await.unwrap());
        }
        if stop_after >= 2 {
            let (state, tables) = ("{\"n\":2}".to_owned(), vec![sealed]);
            lake.commit(CommitRequest { state, synced_at_ms: 2000, tables, files: written }).await.unwrap();
        }
        if stop_after >= 3 {
            lake.apply().await.unwrap();
        }
        drop(lake);
        let mut next = open(&store, 1).await.unwrap();
        let (state, rows) = if stop_after >= 2 {
            ("{\"n\":2}", want(&[(1, "a"), (2, "B"), (3, "c")]))
        } else {
            ("{\"n\":1}", want(&[(1, "a"), (2, "b")]))
        };
        assert_eq!(next.state(), state, "stopped after step {stop_after}");
        assert_eq!(live_notes(&store, &name).await, rows, "stopped after step {stop_after}");
        next.apply().await.unwrap();
        next.collect_garbage().await.unwrap();
        assert_eq!(orphans(&store, &name).await, Vec::<String>::new(), "stopped after step {stop_after}");
        assert_eq!(live_notes(&store, &name).await, rows);
    }
}

/// Data files that no version of the table names.
async fn orphans(store: &Store, name: &TableName) -> Vec<String> {
    let snapshot = delta::Table::load(store, "con_1", name).await.unwrap();
    let listed = store.list(&snapshot.data_folder(), None).await.unwrap();
    let relative = |meta: &ObjectMeta| snapshot.relative(meta.location.filename().unwrap());
    let known = |path: &String| snapshot.files.contains_key(path) || snapshot.removed.contains_key(path);
    listed.iter().map(relative).filter(|path| !known(path)).collect()
}

#[tokio::test]
async fn collection_keeps_what_readers_may_want_and_frees_the_rest() {
    let store = Scripted::new().store();
    let name = table("orders");
    let day_ms = 24 * 3_600_000;
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b")]), day_ms, "{}").await.unwrap();
    lake.apply().await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "A"), (2, "B")]), day_ms + 1, "{}").await.unwrap();
    lake.apply().await.unwrap();
    assert_eq!(lake.collect_garbage().await.unwrap().files_deleted, 0, "within the retention");
    commit(&mut lake, &notes(&name), &upserts(&[(3, "c")]), 2 * day_ms, "{}").await.unwrap();
    lake.apply().await.unwrap();
    assert_eq!(lake.collect_garbage().await.unwrap().files_deleted, 4, "two files, their manifest and its list");
    assert_eq!(lake.collect_garbage().await.unwrap().files_deleted, 0, "a second run finds nothing");
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "A"), (2, "B"), (3, "c")]));
}

#[tokio::test]
async fn collection_never_touches_files_of_the_own_or_a_newer_claim() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut old = open(&store, 1).await.unwrap();
    commit(&mut old, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    old.apply().await.unwrap();
    let mut new = open(&store, 2).await.unwrap();
    let (sealed, files) = upserts(&[(2, "b")]).seal(&notes(&name), 2000, 0);
    let mut written = Vec::new();
    for file in files {
        written.push(new.write(file).await.unwrap());
    }
    // A writer that does not know that it is fenced collects garbage between the upload and the commit of the new one.
    assert_eq!(old.collect_garbage().await.unwrap(), Collected::default());
    new.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms: 2000, tables: vec![sealed], files: written })
        .await
        .unwrap();
    new.apply().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn collection_keeps_files_in_flight_and_files_that_wait_to_be_applied() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(2, "b")]), 2000, "{}").await.unwrap();
    let (_, files) = upserts(&[(3, "c")]).seal(&notes(&name), 3000, 0);
    for file in files {
        lake.write(file).await.unwrap();
    }
    assert_eq!(lake.collect_garbage().await.unwrap(), Collected::default());
    lake.apply().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "a"), (2, "b")]));
}

#[tokio::test]
async fn a_data_file_of_another_size_in_the_place_of_ours_is_noticed() {
    let store = Scripted::new().store();
    let lake = open(&store, 1).await.unwrap();
    let (_, files) = upserts(&[(1, "a")]).seal(&notes(&table("orders")), 1000, 0);
    let file = files.into_iter().next().unwrap();
    let [a, b, c, d, e, f, g, h, ..] = file.sha256;
    let name = format!("shop/orders/data/con_1/1-2-0-{}.parquet", hex::encode([a, b, c, d, e, f, g, h]));
    store.overwrite(&Path::from(name), Bytes::from_static(b"torn")).await.unwrap();
    let error = lake.write(file).await.unwrap_err();
    assert!(matches!(error, Error::FileDamaged { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_staged_file_stops_the_roll_forward() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    let staged = store.list(&Path::from("shop/orders/data/con_1"), None).await.unwrap();
    store.delete(&staged[0].location).await.unwrap();
    let error = lake.apply().await.unwrap_err();
    assert!(matches!(error, Error::FileMissing { .. }), "{error}");
    assert_eq!(error.code(), "DST-006");
    assert!(matches!(open(&store, 1).await.unwrap_err(), Error::FileMissing { .. }));
}

#[tokio::test]
async fn a_staged_file_with_other_bytes_is_never_applied() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    let staged = store.list(&Path::from("shop/orders/data/con_1"), None).await.unwrap().remove(0);
    let mut bytes = store.get(&staged.location).await.unwrap().unwrap().to_vec();
    bytes[4] ^= 1;
    store.overwrite(&staged.location, bytes.into()).await.unwrap();
    let error = open(&store, 1).await.unwrap_err();
    assert!(matches!(error, Error::FileDamaged { .. }), "{error}");
}

#[tokio::test]
async fn files_of_a_first_window_that_never_committed_are_collected() {
    let store = Scripted::new().store();
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&table("orders")), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    let (_, files) = upserts(&[(1, "a")]).seal(&notes(&table("never")), 1000, 0);
    for file in files {
        lake.write(file).await.unwrap();
    }
    drop(lake);
    let mut next = open(&store, 2).await.unwrap();
    assert_eq!(next.collect_garbage().await.unwrap().files_deleted, 1);
    assert!(store.list(&Path::from("shop/never"), None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_table_of_another_connection_is_left_alone() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let mut other = writer("agt_1", 1);
    other.connection_id = "con_2".to_owned();
    let mut other = Lake::open(store.clone(), terms(), other).await.unwrap();
    let error = commit(&mut other, &notes(&name), &upserts(&[(1, "x")]), 1000, "{}").await.unwrap_err();
    assert!(matches!(&error, Error::NotOwned { owner, .. } if owner == "con_1"), "{error}");
    assert_eq!(error.code(), "DST-008");
    let reserved = TableName { schema: "_inshore".to_owned(), table: "t".to_owned() };
    let error = commit(&mut other, &notes(&reserved), &upserts(&[(1, "x")]), 1000, "{}").await.unwrap_err();
    assert!(matches!(error, Error::NameReserved { .. }), "{error}");
}

#[tokio::test]
async fn facts_about_long_columns_follow_the_data_also_before_it_is_applied() {
    let store = Scripted::new().store();
    let name = table("orders");
    let schema = schema(&name, &[("id", DataType::Int), ("n", DataType::Long)]);
    let row = |key: i64, n: i64| Window {
        upserts: BTreeMap::from([(key, BTreeMap::from([("n".to_owned(), some(n))]))]),
        ..Window::default()
    };
    let fits = |lake: &Lake| lake.current(&name).unwrap().facts["n"].long_fits_double;
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &schema, &row(1, 1 << 53), 1000, "{}").await.unwrap();
    assert!(fits(&lake));
    lake.apply().await.unwrap();
    assert!(fits(&lake));
    commit(&mut lake, &schema, &row(2, (1 << 53) + 1), 2000, "{}").await.unwrap();
    assert!(!fits(&lake), "committed, not yet applied");
    lake.apply().await.unwrap();
    assert!(!fits(&lake));
    assert!(!fits(&open(&store, 1).await.unwrap()), "read from the table's log");
}

fn local(folder: &std::path::Path) -> LakeSettings {
    let root = url::Url::from_directory_path(folder).unwrap();
    LakeSettings { retention: RETENTION, ..LakeSettings::new(root) }
}

#[tokio::test]
async fn a_local_folder_works_with_fsync_and_interrupted_writes_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let settings = local(folder.path());
    let name = table("orders");
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let residue = folder.path().join("shop/orders/data/con_1/1-9-0-0011223344556677.parquet#1");
    std::fs::write(&residue, "torn").unwrap();
    let mut next = crate::destination::open(&settings, writer("agt_1", 2)).await.unwrap();
    next.collect_garbage().await.unwrap();
    assert!(!residue.exists());
    let store = Store::open(&settings.root, true).unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "a")]));
}

#[tokio::test]
async fn a_vanished_folder_is_neither_opened_nor_made_anew() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("lake");
    let error = crate::destination::open(&local(&folder), writer("agt_1", 1)).await.unwrap_err();
    assert_eq!(error.code(), "DST-003", "{error}");
    std::fs::create_dir(&folder).unwrap();
    let name = table("orders");
    let mut lake = crate::destination::open(&local(&folder), writer("agt_1", 1)).await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let error = commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap_err();
    assert_eq!(error.code(), "DST-003", "{error}");
    assert!(!folder.exists());
}

/// `/sys` refuses new folders, whoever asks.
#[tokio::test]
async fn a_folder_that_refuses_writes_is_read_only() {
    let error = crate::destination::open(&local(std::path::Path::new("/sys")), writer("agt_1", 1)).await.unwrap_err();
    assert_eq!(error.code(), "DST-001", "{error}");
    let error = crate::destination::probe(&local(std::path::Path::new("/sys"))).await.unwrap_err();
    assert_eq!(error.code(), "DST-001", "{error}");
}

#[test]
fn refusals_are_told_apart() {
    for (kind, code) in [
        (std::io::ErrorKind::PermissionDenied, "DST-001"),
        (std::io::ErrorKind::ReadOnlyFilesystem, "DST-001"),
        (std::io::ErrorKind::StorageFull, "DST-002"),
        (std::io::ErrorKind::QuotaExceeded, "DST-002"),
        (std::io::ErrorKind::TimedOut, "DST-003"),
    ] {
        let source = object_store::Error::Generic { store: "local", source: std::io::Error::from(kind).into() };
        assert_eq!(crate::destination::store::classify(&Path::from("x"), source).code(), code, "{kind:?}");
    }
}

fn batch(schema: &TableSchema, rows: &[&[&str]]) -> SealedFile {
    let names: Vec<String> = schema.with_system_columns().fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows: Vec<Vec<Text>> = rows.iter().map(|row| row.iter().map(some).collect()).collect();
    sealed(schema, 0, &names, &rows)
}

/// Commits and applies one upsert file; returns the table's rows as text, sorted.
async fn upsert_and_read(lake: &mut Lake, store: &Store, schema: &TableSchema, file: SealedFile) -> Vec<Vec<Text>> {
    let files = vec![lake.write(file).await.unwrap()];
    let steps = vec![SealedStep { op: StepOp::Upsert, columns: None, files: vec![0] }];
    let tables = vec![SealedTable { schema: schema.clone(), steps }];
    let synced_at_ms = lake.last_synced_ms() + 1;
    lake.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms, tables, files }).await.unwrap();
    lake.apply().await.unwrap();
    let snapshot = delta::Table::load(store, "con_1", &schema.name).await.unwrap();
    let columns = crate::destination::lake::snapshot::columns_of(schema);
    let mut rows = Vec::new();
    for file in snapshot.files.values() {
        let bytes = store.get(&snapshot.key_of(&file.path)).await.unwrap().unwrap();
        for found in crate::destination::lake::files::FileReader::open(&schema.name, bytes, &columns, &columns).unwrap()
        {
            let (arrays, count) = found.unwrap();
            rows.extend((0..count).map(|row| arrays.iter().map(|array| text(array, row)).collect::<Vec<_>>()));
        }
    }
    rows.sort();
    rows
}

#[tokio::test]
async fn a_keyless_table_replaces_by_its_id() {
    let store = Scripted::new().store();
    let mut schema = schema(&table("lines"), &[("a", DataType::String)]);
    schema.key.clear();
    let mut lake = open(&store, 1).await.unwrap();
    upsert_and_read(
        &mut lake,
        &store,
        &schema,
        batch(&schema, &[&["h1", "x", "false", "1"], &["h2", "y", "true", "1"]]),
    )
    .await;
    let rows = upsert_and_read(&mut lake, &store, &schema, batch(&schema, &[&["h2", "y", "false", "2"]])).await;
    let want = [["h1", "x", "false", "1"], ["h2", "y", "false", "2"]].map(|row| row.map(some).to_vec());
    assert_eq!(rows, want);
}

#[tokio::test]
async fn text_keys_are_looked_up_in_the_index_and_without_one_in_the_file() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let schema = schema(&table("orders"), &[("id", DataType::String), ("v", DataType::Int)]);
    let mut lake = open(&store, 1).await.unwrap();
    let first = batch(&schema, &[&["a", "1", "false", "7"], &["c", "3", "false", "7"], &["e", "5", "false", "7"]]);
    upsert_and_read(&mut lake, &store, &schema, first).await;
    let indices = async || store.list(&Path::from("shop/orders/_index/con_1"), None).await.unwrap();
    assert_eq!(indices().await.len(), 1);
    for (key, is_indexed) in [("b", true), ("d", false)] {
        let file = batch(&schema, &[&[key, "0", "false", "8"]]);
        if !is_indexed {
            store.delete(&indices().await[0].location).await.unwrap();
        }
        let old = store.list(&Path::from("shop/orders/data"), None).await.unwrap();
        let old: Vec<String> = old.into_iter().map(|file| file.location.to_string()).collect();
        scripted.data_reads();
        let files = vec![lake.write(file).await.unwrap()];
        let steps = vec![SealedStep { op: StepOp::Upsert, columns: None, files: vec![0] }];
        let tables = vec![SealedTable { schema: schema.clone(), steps }];
        let synced_at_ms = lake.last_synced_ms() + 1;
        lake.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms, tables, files }).await.unwrap();
        lake.apply().await.unwrap();
        let read = scripted.data_reads();
        assert_eq!(read.iter().any(|key| *key == old[0]), !is_indexed, "{read:?}");
        assert_eq!(indices().await.len(), 1, "made again");
    }
    let replaced = batch(&schema, &[&["c", "33", "false", "9"]]);
    let rows = upsert_and_read(&mut lake, &store, &schema, replaced).await;
    let keys: Vec<(Text, Text)> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected = [("a", "1"), ("b", "0"), ("c", "33"), ("d", "0"), ("e", "5")];
    assert_eq!(keys, expected.map(|(key, value)| (some(key), some(value))));
}

#[tokio::test]
async fn rows_behind_a_damaged_part_of_an_index_are_found_and_the_index_is_made_again() {
    let store = Scripted::new().store();
    let schema = schema(&table("orders"), &[("id", DataType::String), ("v", DataType::Int)]);
    let mut lake = open(&store, 1).await.unwrap();
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rows: Vec<[&str; 4]> = keys.iter().map(|key| [*key, "1", "false", "7"]).collect();
    let rows: Vec<&[&str]> = rows.iter().map(|row| row.as_slice()).collect();
    upsert_and_read(&mut lake, &store, &schema, batch(&schema, &rows)).await;
    let indices = async || store.list(&Path::from("shop/orders/_index/con_1"), None).await.unwrap();
    let index = indices().await[0].location.clone();
    let whole = store.get(&index).await.unwrap().unwrap();
    // Three blocks; the second one is hurt, and the key stands in the third.
    let mut hurt = whole.to_vec();
    hurt[16 + 52 + 5] ^= 1;
    store.overwrite(&index, hurt.into()).await.unwrap();
    let read = upsert_and_read(&mut lake, &store, &schema, batch(&schema, &[&["h", "2", "false", "8"]])).await;
    let read: Vec<(Text, Text)> = read.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let expected = keys.map(|key| (some(key), some(if key == "h" { 2 } else { 1 })));
    assert_eq!(read, expected);
    // The hurt one is gone: whoever reads the file next makes it anew.
    let left = indices().await;
    assert!(left.iter().all(|object| object.location != index), "{left:?}");
}

#[tokio::test]
async fn a_key_of_two_columns_matches_on_both_and_widens() {
    let store = Scripted::new().store();
    let mut schema = schema(&table("pairs"), &[("n", DataType::Int), ("t", DataType::String), ("v", DataType::Int)]);
    schema.key = vec!["t".to_owned(), "n".to_owned()];
    let mut lake = open(&store, 1).await.unwrap();
    let first = batch(
        &schema,
        &[&["1", "a", "10", "false", "1"], &["1", "b", "11", "false", "1"], &["2", "a", "12", "false", "1"]],
    );
    upsert_and_read(&mut lake, &store, &schema, first).await;
    let second = batch(&schema, &[&["1", "b", "21", "false", "2"], &["2", "b", "22", "false", "2"]]);
    let rows = upsert_and_read(&mut lake, &store, &schema, second).await;
    let values = |rows: &[Vec<Text>]| rows.iter().map(|row| row[2].clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(values(&rows), ["10", "21", "12", "22"]);
    // The key widens to text: old keys match by their text.
    schema.columns[0].data_type = DataType::String;
    let third = batch(&schema, &[&["2", "a", "32", "false", "3"], &["x", "a", "33", "false", "3"]]);
    let rows = upsert_and_read(&mut lake, &store, &schema, third).await;
    assert_eq!(values(&rows), ["10", "21", "32", "22", "33"]);
}

#[tokio::test]
async fn a_naive_time_is_refused_before_anything_is_durable() {
    let store = Scripted::new().store();
    let name = table("times");
    let mut lake = open(&store, 1).await.unwrap();
    let schema = schema(&name, &[("id", DataType::Int), ("t", DataType::NaiveTime)]);
    let error = commit(&mut lake, &schema, &Window::default(), 1000, "{}").await.unwrap_err();
    assert!(matches!(error, Error::TypeNotSupported { .. }), "{error}");
    assert_eq!(lake.state(), "{}");
    assert!(lake.current(&name).is_none());
}

/// A sync that fails again and again must not fill the disk until one ends well.
#[tokio::test]
async fn staged_files_of_a_sync_that_failed_go_with_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = local(folder.path());
    let staged = || std::fs::read_dir(folder.path().join("_inshore/con_1/stage")).map_or(0, Iterator::count);
    let docs = table("docs");
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    lake.file_chunk(1, b"committed".to_vec()).await.unwrap();
    lake.file_end(1, docs.clone(), "kept".to_owned()).await.unwrap();
    commit(&mut lake, &notes(&docs), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.file_chunk(2, b"whole".to_vec()).await.unwrap();
    lake.file_end(2, docs.clone(), "lost".to_owned()).await.unwrap();
    lake.file_chunk(3, b"not whole".to_vec()).await.unwrap();
    assert_eq!(staged(), 3);
    drop(lake);
    let mut next = crate::destination::open(&settings, writer("agt_1", 2)).await.unwrap();
    assert_eq!(staged(), 0);
    let published = folder.path().join("shop/docs/_files");
    assert_eq!(std::fs::read(published.join("kept")).unwrap(), b"committed");
    assert_eq!(std::fs::read_dir(published).unwrap().count(), 1);
    next.file_chunk(1, b"lost too".to_vec()).await.unwrap();
    next.discard().await.unwrap();
    assert_eq!(staged(), 0, "a sync that fails in order leaves nothing");
}

/// What was written for a window that is never committed goes at the end of its sync; what a commit may name stays.
#[tokio::test(start_paused = true)]
async fn data_files_that_no_commit_names_go_when_a_sync_fails() {
    let store = Scripted::new().store();
    let docs = table("docs");
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&docs), &upserts(&[(1, "a")]), 1000, "{}").await.unwrap();
    lake.apply().await.unwrap();
    let (_, files) = upserts(&[(2, "b")]).seal(&notes(&docs), 2000, 0);
    for file in files {
        lake.write(file).await.unwrap();
    }
    assert!(!orphans(&store, &docs).await.is_empty());
    lake.discard().await.unwrap();
    assert_eq!(orphans(&store, &docs).await, Vec::<String>::new());
    assert_eq!(live_notes(&store, &docs).await, want(&[(1, "a")]));
}
