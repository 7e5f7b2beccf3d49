//! Checkpoints of a table's log: written behind the commits, believed only when whole, and good enough for independent
//! readers that have nothing else.

use serde_json::{Value, json};

use super::readers::{check_with_other_readers, switch};
use super::*;
use crate::destination::LakeSettings;
use crate::destination::lake::Snapshot;
use crate::destination::lake::delta::Table;

/// One more than from one checkpoint to the next.
const COMMITS: i64 = 101;
const LOG: &str = "shop/orders/_delta_log";
const CHECKPOINT: &str = "shop/orders/_delta_log/00000000000000000100.checkpoint.parquet";

/// Commits one row each. Every tenth rewrites the file of the row before it, so that files are removed too.
async fn grow(lake: &mut Lake, name: &TableName, commits: std::ops::Range<i64>) {
    for n in commits {
        let text = format!("note {n}");
        let rows = [(n, text.as_str()), (n - 1, "again")];
        let window = upserts(if n % 10 == 9 { &rows } else { &rows[..1] });
        commit(lake, &notes(name), &window, 1_700_000_000_000 + n, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
}

async fn load(store: &Store) -> Result<Table, Error> {
    Table::load(store, "con_1", &table("orders")).await
}

/// What two snapshots of one version must agree in.
fn content(snapshot: &Snapshot) -> String {
    let Snapshot { version, schema, files, removed, marker, .. } = snapshot;
    format!("{version:?}\n{schema:?}\n{marker:?}\n{removed:?}\n{files:#?}")
}

/// The table opens as it did; its content is too long to print.
async fn assert_same(store: &Store, before: &str, what: &str) {
    let after = content(&load(store).await.unwrap());
    assert!(after == before, "{what}: {} characters, expected {}", after.len(), before.len());
}

async fn grown() -> (Arc<Scripted>, Store, String) {
    let scripted = Scripted::new();
    let store = scripted.store();
    let mut lake = open(&store, 1).await.unwrap();
    grow(&mut lake, &table("orders"), 0..COMMITS + 5).await;
    assert!(store.get(&Path::from(CHECKPOINT)).await.unwrap().is_some());
    let hint = Path::from(format!("{LOG}/_last_checkpoint"));
    let hint = store.get(&hint).await.unwrap().expect("a hint");
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!(hint["version"], 100);
    for object in store.list(&Path::from(LOG), None).await.unwrap() {
        if object.location.filename().is_some_and(|name| name.contains("checkpoint")) {
            hide(&store, &object.location).await;
        }
    }
    let replayed = content(&load(&store).await.unwrap());
    for object in store.list(&Path::from("aside"), None).await.unwrap() {
        let bytes = store.get(&object.location).await.unwrap().unwrap();
        let name = object.location.filename().unwrap();
        store.overwrite(&Path::from(format!("{LOG}/{name}")), bytes).await.unwrap();
    }
    (scripted, store, replayed)
}

/// Moves an object out of the table.
async fn hide(store: &Store, path: &Path) {
    let bytes = store.get(path).await.unwrap().unwrap();
    store.overwrite(&Path::from(format!("aside/{}", path.filename().unwrap())), bytes).await.unwrap();
    store.delete(path).await.unwrap();
}

async fn delete_versions(store: &Store, up_to: u64) {
    for version in 0..=up_to {
        store.delete(&Path::from(format!("{LOG}/{version:020}.json"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_opens_from_its_checkpoint_as_it_would_from_its_whole_log() {
    let (scripted, store, replayed) = grown().await;
    scripted.reads.lock().unwrap().clear();
    assert_same(&store, &replayed, "as it was").await;
    let reads = std::mem::take(&mut *scripted.reads.lock().unwrap());
    assert_eq!(reads.len(), 2 + 5, "the hint, the checkpoint, and the versions above it: {reads:?}");
    // A crash between the checkpoint and the hint.
    store.delete(&Path::from(format!("{LOG}/_last_checkpoint"))).await.unwrap();
    scripted.reads.lock().unwrap().clear();
    assert_same(&store, &replayed, "as it was").await;
    assert_eq!(scripted.reads.lock().unwrap().len(), 1 + 1 + 5, "the hint is looked for");
    delete_versions(&store, 100).await;
    assert_same(&store, &replayed, "as it was").await;
    let mut lake = open(&store, 2).await.unwrap();
    grow(&mut lake, &table("orders"), 200..201).await;
    assert_eq!(read(&store, &table("orders")).await.len(), 107);
}

#[tokio::test]
async fn a_hint_that_is_wrong_costs_time_and_nothing_else() {
    let (_, store, replayed) = grown().await;
    for hint in ["", "{", "{}", "[1]", r#"{"version":5,"size":1}"#, r#"{"version":18446744073709551615,"size":1}"#] {
        store.overwrite(&Path::from(format!("{LOG}/_last_checkpoint")), hint.into()).await.unwrap();
        assert_same(&store, &replayed, hint).await;
        let mut snapshot = load(&store).await.unwrap();
        crate::destination::lake::checkpoint::keep(&store, &mut snapshot, RETENTION).await;
    }
}

/// A crash between a checkpoint and its hint, then a log that was cut behind it: the hint is older than the log's begin.
#[tokio::test]
async fn a_hint_to_an_older_checkpoint_does_not_hide_the_newer_one() {
    let (_, store, _) = grown().await;
    let hint = Path::from(format!("{LOG}/_last_checkpoint"));
    let older = store.get(&hint).await.unwrap().unwrap();
    let mut lake = open(&store, 2).await.unwrap();
    grow(&mut lake, &table("orders"), 200..310).await;
    let newer = Path::from(format!("{LOG}/00000000000000000200.checkpoint.parquet"));
    assert!(store.get(&newer).await.unwrap().is_some());
    let before = content(&load(&store).await.unwrap());
    store.overwrite(&hint, older).await.unwrap();
    delete_versions(&store, 150).await;
    assert_same(&store, &before, "versions above the hinted one are gone").await;
    // All are: the newest version is the newer checkpoint's, never the hinted one's.
    let last = load(&store).await.unwrap().version.unwrap();
    for version in 151..=last {
        store.delete(&Path::from(format!("{LOG}/{version:020}.json"))).await.unwrap();
    }
    assert_eq!(load(&store).await.unwrap().version, Some(200));
    store.overwrite(&newer, Bytes::from_static(b"PAR1PAR1")).await.unwrap();
    let error = load(&store).await.unwrap_err();
    assert!(matches!(error, Error::TableLog { .. }), "nothing is begun anew in a table that exists: {error}");
}

#[tokio::test]
async fn a_damaged_checkpoint_is_never_a_wrong_table() {
    let (_, store, replayed) = grown().await;
    let whole = store.get(&Path::from(CHECKPOINT)).await.unwrap().unwrap();
    let every = whole.len() / 150 + 1;
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), whole[..whole.len() / 2].to_vec(), b"PAR1PAR1".to_vec()];
    damaged.extend((0..whole.len()).step_by(every).map(|at| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        bytes
    }));
    for (number, bytes) in damaged.into_iter().enumerate() {
        store.overwrite(&Path::from(CHECKPOINT), bytes.into()).await.unwrap();
        assert_same(&store, &replayed, &format!("damage {number}")).await;
    }
    store.overwrite(&Path::from(CHECKPOINT), whole.slice(..whole.len() - 9)).await.unwrap();
    delete_versions(&store, 100).await;
    let error = load(&store).await.unwrap_err();
    assert!(matches!(error, Error::TableLog { .. }), "{error}");
}

#[tokio::test]
async fn a_checkpoint_of_another_program_counts_only_where_the_first_versions_are_gone() {
    let (_, store, replayed) = grown().await;
    let ours = store.get(&Path::from(CHECKPOINT)).await.unwrap().unwrap();
    // Without its digest, ours could be anybody's; this one lacks a file.
    let foreign = crate::destination::lake::checkpoint::as_foreign(&ours, 1);
    store.overwrite(&Path::from(CHECKPOINT), foreign).await.unwrap();
    assert_same(&store, &replayed, "as it was").await;
    // Nor does its hint keep ours from being written.
    let hint = Path::from(format!("{LOG}/_last_checkpoint"));
    store.overwrite(&hint, r#"{"version":104,"size":9}"#.into()).await.unwrap();
    let mut snapshot = load(&store).await.unwrap();
    assert_eq!(snapshot.checkpoint, None);
    crate::destination::lake::checkpoint::keep(&store, &mut snapshot, RETENTION).await;
    let own = format!("{LOG}/{:020}.checkpoint.parquet", snapshot.version.unwrap());
    store.delete(&Path::from(own)).await.expect("it was written");
    assert!(String::from_utf8(store.get(&hint).await.unwrap().unwrap().to_vec()).unwrap().contains("inshore"));
    let foreign = crate::destination::lake::checkpoint::as_foreign(&ours, 0);
    store.overwrite(&Path::from(CHECKPOINT), foreign).await.unwrap();
    delete_versions(&store, 100).await;
    assert_same(&store, &replayed, "as it was").await;
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_cannot_be_written_fails_nothing() {
    for (key, fault) in [
        (".checkpoint.parquet", Fault::Reject),
        (".checkpoint.parquet", Fault::FailAfterWrite),
        (".checkpoint.parquet", Fault::Hold),
        ("_last_checkpoint", Fault::Reject),
        ("_last_checkpoint", Fault::FailAfterWrite),
        ("_last_checkpoint", Fault::Hold),
    ] {
        let scripted = Scripted::new();
        let store = scripted.store();
        scripted.plan(key, fault);
        let mut lake = open(&store, 1).await.unwrap();
        grow(&mut lake, &table("orders"), 0..COMMITS + 5).await;
        assert_eq!(scripted.unused_faults(), 0, "{key} {fault:?}");
        scripted.land_late().await;
        assert_eq!(load(&store).await.unwrap().version, Some(105), "{key} {fault:?}");
        // The next process does not wait for the next hundred.
        let mut lake = open(&store, 2).await.unwrap();
        grow(&mut lake, &table("orders"), 200..201).await;
        assert!(load(&store).await.unwrap().checkpoint.is_some(), "{key} {fault:?}");
        assert_eq!(read(&store, &table("orders")).await.len(), 107, "{key} {fault:?}");
    }
}

#[tokio::test]
async fn the_markers_of_all_writers_and_removed_files_within_retention_are_kept() {
    let store = Scripted::new().store();
    let name = TableName::new("inshore_log", "lines");
    let terms = Terms { retention: Duration::from_secs(7 * 24 * 3600), ..terms() };
    let mut other = writer("agt_1", 1);
    other.connection_id = "con_2".to_owned();
    let mut first = Lake::open(store.clone(), terms.clone(), writer("agt_1", 1)).await.unwrap();
    let mut second = Lake::open(store.clone(), terms, other).await.unwrap();
    let day_ms = 24 * 3_600_000;
    commit(&mut second, &notes(&name), &upserts(&[(-1, "second")]), day_ms, "{}").await.unwrap();
    second.apply().await.unwrap();
    for (n, days) in [(1, 1), (1, 2), (1, 20), (2, 21), (2, 22)] {
        commit(&mut first, &notes(&name), &upserts(&[(n, "first")]), days * day_ms, "{}").await.unwrap();
        first.apply().await.unwrap();
    }
    grow_plainly(&mut first, &name, 100, 23 * day_ms).await;
    let marker = Table::load(&store, "con_2", &name).await.unwrap().marker;
    let folder = Path::from("inshore_log/lines/_delta_log");
    for version in 0..=100 {
        store.delete(&folder.clone().join(format!("{version:020}.json"))).await.unwrap();
    }
    let reread = Table::load(&store, "con_2", &name).await.unwrap();
    assert_eq!((reread.marker, reread.checkpoint), (marker, Some(100)));
    assert!(marker.is_some());
    let removed: Vec<i64> = reread.removed.values().copied().collect();
    assert_eq!(removed, [20 * day_ms, 22 * day_ms], "not what was removed 21 days before the newest commit");
}

async fn grow_plainly(lake: &mut Lake, name: &TableName, commits: i64, from_ms: i64) {
    for n in 0..commits {
        commit(lake, &notes(name), &upserts(&[(1000 + n, "more")]), from_ms + n, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
}

#[tokio::test]
async fn the_rest_of_an_interrupted_checkpoint_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let root = url::Url::from_directory_path(folder.path()).unwrap();
    let settings = LakeSettings { fsync: false, ..LakeSettings::new(root) };
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    grow(&mut lake, &table("orders"), 0..3).await;
    let log = folder.path().join(LOG);
    let rest = |name: &str| log.join(name);
    let (old, newer) = ("00000000000000000002.checkpoint.parquet#1", "00000000000000000003.checkpoint.parquet#1");
    for name in [old, "_last_checkpoint#1", newer] {
        std::fs::write(rest(name), "torn").unwrap();
    }
    lake.collect_garbage().await.unwrap();
    assert_eq!([old, "_last_checkpoint#1", newer].map(|name| rest(name).exists()), [false, false, true]);
}

/// The versions that the checkpoint stands for are deleted: a reader that does not understand it finds no table.
#[tokio::test]
async fn independent_readers_read_through_a_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let root = url::Url::from_directory_path(temporary.path()).unwrap();
    let settings = LakeSettings { fsync: false, ..LakeSettings::new(root) };
    let name = table("orders");
    let narrow = schema(&name, &[("id", DataType::Int), ("note", DataType::String)]);
    // The later column needs protocol 3/7, whose features are lists.
    let columns = [("id", DataType::Int), ("note", DataType::String), ("local", DataType::NaiveDatetime)];
    let wide = schema(&name, &columns);
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    let synced = 1_700_000_000_000;
    for n in 0..COMMITS + 2 {
        let note = if n % 7 == 0 { None } else { some(format!("note \"{n}\"")) };
        let key = if n % 10 == 9 { n - 1 } else { n };
        let values = BTreeMap::from([("note".to_owned(), note)]);
        let window = Window { upserts: BTreeMap::from([(key, values)]), ..Window::default() };
        let schema = if n < 50 { &narrow } else { &wide };
        commit(&mut lake, schema, &window, synced + n, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
    let log = temporary.path().join(LOG);
    for version in 0..=100 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let store = Store::open(&settings.root, false).unwrap();
    let mut rows: Vec<Value> = Vec::new();
    for (key, row) in read(&store, &name).await {
        let synced = chrono::DateTime::from_timestamp_millis(row.synced_ms).unwrap().format("T:%Y-%m-%dT%H:%M:%S%.6fZ");
        let note = row.values["note"].as_ref().map(|note| format!("s:{note}"));
        rows.push(json!([format!("i:{key}"), note, null, "b:false", synced.to_string()]));
    }
    assert_eq!(rows.len(), 93);
    let expected = temporary.path().join("expected.json");
    std::fs::write(&expected, json!({"shop/orders": rows}).to_string()).unwrap();
    let Some(python) = switch("INSHORE_TEST_PYTHON") else { return };
    check_with_other_readers(&python, temporary.path());
    // And the other way round: a table whose log another program has cut off behind a checkpoint of its own.
    let (before, rows_before) = (load(&store).await.unwrap(), read(&store, &name).await);
    let script = "import sys, deltalake; deltalake.DeltaTable(sys.argv[1]).create_checkpoint()";
    let table = temporary.path().join("shop/orders");
    let made = std::process::Command::new(python).args(["-c", script]).arg(&table).status().unwrap();
    assert!(made.success());
    for name in ["00000000000000000100.checkpoint.parquet", "00000000000000000101.json", "00000000000000000102.json"] {
        std::fs::remove_file(log.join(name)).unwrap();
    }
    let after = load(&store).await.unwrap();
    assert_eq!((after.version, after.marker, &after.schema), (before.version, before.marker, &before.schema));
    assert_eq!(read(&store, &name).await, rows_before);
}
