//! Tables as our own readers see them.

use super::*;
use crate::destination::lake::files;
use crate::destination::lake::snapshot::{DataFile, Snapshot, columns_of};

/// The table's newest version. Where it is in two formats, they say the same.
pub(super) async fn current(store: &Store, name: &TableName) -> Snapshot {
    let delta = delta::Table::load(store, "con_1", name).await.unwrap();
    let mut iceberg = iceberg::Table::load(store, &root_of(store), "con_1", name).await.unwrap();
    iceberg.read_files(store).await.unwrap();
    if delta.version.is_none() {
        return Snapshot::clone(&iceberg);
    }
    if iceberg.version.is_some() {
        let files = |snapshot: &Snapshot| {
            let file = |file: &DataFile| (file.path.clone(), file.bytes, file.stats.num_records);
            snapshot.files.values().map(file).collect::<Vec<_>>()
        };
        assert_eq!(files(&iceberg), files(&delta), "{name}");
        assert_eq!((&iceberg.schema, iceberg.marker), (&delta.schema, delta.marker), "{name}");
    }
    Snapshot::clone(&delta)
}

/// The table as our own reader sees it. A key that stands twice is a failure.
pub(super) async fn read(store: &Store, name: &TableName) -> BTreeMap<i64, Row> {
    let snapshot = current(store, name).await;
    let Some(schema) = &snapshot.schema else { return BTreeMap::new() };
    let columns = columns_of(schema);
    let mut rows = BTreeMap::new();
    for file in snapshot.files.values() {
        let bytes = store.get(&snapshot.key_of(&file.path)).await.unwrap().expect("a live file is there");
        assert_eq!(bytes.len() as u64, file.bytes, "{}", file.path);
        let (gone, mut count) = (gone(store, &snapshot, file).await, 0);
        for batch in files::FileReader::open(name, bytes, &columns, &columns).unwrap() {
            let (arrays, batch_rows) = batch.unwrap();
            let first = count;
            count += batch_rows as u64;
            for row in (0..batch_rows).filter(|row| !gone.contains(&(first + *row as u64))) {
                let mut values: BTreeMap<String, Text> = columns
                    .iter()
                    .zip(&arrays)
                    .map(|(column, array)| (column.name.clone(), text(array, row)))
                    .collect();
                let mut system = |name: &str| values.remove(name).flatten().expect("system columns are never null");
                let deleted = system("_fivetran_deleted") == "true";
                let synced_ms = system("_fivetran_synced").parse::<i64>().unwrap() / 1000;
                let key: i64 = values.remove("id").flatten().expect("keys are never null").parse().unwrap();
                let before = rows.insert(key, Row { values, deleted, synced_ms });
                assert_eq!(before, None, "key {key} stands twice");
            }
        }
        assert_eq!(count, file.stats.num_records, "{}", file.path);
    }
    rows
}

/// The rows of a data file that its delete file names, each once and in order.
async fn gone(store: &Store, snapshot: &Snapshot, file: &DataFile) -> Vec<u64> {
    let Some(deletes) = &file.deletes else { return Vec::new() };
    let bytes = store.get(&snapshot.key_of(&deletes.path)).await.unwrap().expect("a delete file is there");
    assert_eq!(bytes.len() as u64, deletes.bytes, "{}", deletes.path);
    let root = root_of(store);
    let columns = [Column::new("file_path", DataType::String), Column::new("pos", DataType::Long)];
    let mut rows: Vec<u64> = Vec::new();
    for batch in files::FileReader::open(&snapshot.table, bytes, &columns, &columns).unwrap() {
        let (arrays, count) = batch.unwrap();
        for row in 0..count {
            assert_eq!(text(&arrays[0], row), Some(format!("{root}/{}", snapshot.key_of(&file.path))));
            rows.push(text(&arrays[1], row).unwrap().parse().unwrap());
        }
    }
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
    assert_eq!(rows.len() as u64, deletes.rows);
    rows
}

/// The lake's address, as its tables name it.
fn root_of(store: &Store) -> String {
    let local = store.local_root().map(|folder| format!("file://{}", folder.display()));
    local.unwrap_or_else(|| ROOT.to_owned())
}
