//! Two formats over one set of files: what a crash leaves between them is caught up, and neither goes back.

use serde_json::Value;

use super::*;

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
