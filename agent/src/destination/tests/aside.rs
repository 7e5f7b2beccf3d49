//! A table of all connections that cannot be used costs no connection its own data, and gets what it was promised once it
//! can be used again: each row once.

use super::*;

const LOG: &str = "inshore_log/lines/_delta_log/00000000000000000000.json";

fn lines() -> TableName {
    TableName::new("inshore_log", "lines")
}

/// One row for the connection's own table, and one for each of two shared ones.
async fn commit_row(lake: &mut Lake, n: i64) {
    let (mut tables, mut files) = (Vec::new(), Vec::new());
    for name in [table("orders"), lines(), TableName::new("inshore_log", "others")] {
        let (sealed, sealed_files) = upserts(&[(n, "row")]).seal(&notes(&name), 1000 + n, files.len());
        tables.push(sealed);
        for file in sealed_files {
            files.push(lake.write(file).await.unwrap());
        }
    }
    let request = CommitRequest { state: format!(r#"{{"n":{n}}}"#), synced_at_ms: 1000 + n, tables, files };
    lake.commit(request).await.unwrap();
}

async fn keys(store: &Store, name: &TableName) -> Vec<i64> {
    read(store, name).await.into_keys().collect()
}

async fn overwrite(store: &Store, path: &str, bytes: impl Into<Bytes>) -> Bytes {
    let path = Path::from(path);
    let before = store.get(&path).await.unwrap().expect("it was there");
    store.overwrite(&path, bytes.into()).await.unwrap();
    before
}

/// A lake with one row in each table.
async fn begun() -> (Store, Lake) {
    let store = Scripted::new().store();
    let mut lake = open(&store, 1).await.unwrap();
    commit_row(&mut lake, 1).await;
    lake.apply().await.unwrap();
    assert!(lake.set_aside().is_none());
    (store, lake)
}

#[tokio::test]
async fn rows_of_shared_tables_are_no_rows_of_the_connection() {
    let (store, mut lake) = begun().await;
    let request = CommitRequest { state: "{}".to_owned(), synced_at_ms: 2000, tables: Vec::new(), files: Vec::new() };
    lake.commit(request).await.unwrap();
    let history = crate::destination::History::read(&store, "con_1", root(), (9, None)).await.unwrap();
    let seen = history.commits.iter().map(|past| (past.rows.upserts, past.tables.clone()));
    assert_eq!(seen.collect::<Vec<_>>(), [(0, vec![]), (1, vec![table("orders")])]);
}

#[tokio::test]
async fn a_shared_table_that_cannot_be_opened_is_left_out_and_taken_up_later() {
    let whole = begun().await.0.get(&Path::from(LOG)).await.unwrap().unwrap();
    let whole = String::from_utf8(whole.to_vec()).unwrap();
    for damage in [
        "{".to_owned(),
        whole.replace(r#""inshore.owner":"shared""#, r#""inshore.owner":"con_9""#),
        whole.replace(r#""minWriterVersion":2"#, r#""minWriterVersion":6"#),
        whole.replace(r#""version":2"#, r#""version":2000"#),
    ] {
        let (store, lake) = begun().await;
        drop(lake);
        let before = overwrite(&store, LOG, damage.clone()).await;
        let mut lake = open(&store, 2).await.unwrap();
        let why = lake.set_aside().unwrap_or_else(|| panic!("{damage} was not noticed"));
        assert!(lake.set_aside().is_none(), "said once: {why}");
        commit_row(&mut lake, 2).await;
        lake.apply().await.unwrap();
        lake.collect_garbage().await.unwrap();
        assert_eq!(lake.state(), r#"{"n":2}"#);
        assert_eq!(keys(&store, &table("orders")).await, [1, 2]);
        overwrite(&store, LOG, before).await;
        let mut lake = open(&store, 3).await.unwrap();
        commit_row(&mut lake, 3).await;
        lake.apply().await.unwrap();
        assert!(lake.set_aside().is_none());
        assert_eq!(keys(&store, &lines()).await, [1, 3], "the second row's commit did not name the table");
        assert_eq!(keys(&store, &table("orders")).await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn rows_that_a_commit_named_wait_for_their_table_and_come_once() {
    let (store, mut lake) = begun().await;
    commit_row(&mut lake, 2).await;
    commit_row(&mut lake, 3).await;
    drop(lake);
    let before = overwrite(&store, LOG, "{").await;
    let mut lake = open(&store, 2).await.unwrap();
    assert!(lake.set_aside().is_some());
    commit_row(&mut lake, 4).await;
    lake.apply().await.unwrap();
    lake.collect_garbage().await.unwrap();
    assert_eq!(keys(&store, &table("orders")).await, [1, 2, 3, 4]);
    overwrite(&store, LOG, before).await;
    for generation in [3, 4] {
        let mut lake = open(&store, generation).await.unwrap();
        assert!(lake.set_aside().is_none());
        lake.collect_garbage().await.unwrap();
        assert_eq!(keys(&store, &lines()).await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_missing_file_of_a_shared_table_stops_that_table_only_and_in_order() {
    let (store, mut lake) = begun().await;
    commit_row(&mut lake, 2).await;
    let second = "inshore_log/lines/data/con_1";
    let listed = store.list(&Path::from(second), None).await.unwrap();
    let named = listed.iter().find(|object| object.location.as_ref().contains("/1-3-")).expect("the second row's");
    let bytes = store.get(&named.location).await.unwrap().unwrap();
    store.delete(&named.location).await.unwrap();
    commit_row(&mut lake, 3).await;
    lake.apply().await.unwrap();
    assert!(matches!(lake.set_aside(), Some(Error::FileMissing { .. })));
    assert_eq!(keys(&store, &table("orders")).await, [1, 2, 3]);
    assert_eq!(keys(&store, &lines()).await, [1], "the third row waits for the second");
    store.overwrite(&named.location, bytes).await.unwrap();
    open(&store, 2).await.unwrap();
    assert_eq!(keys(&store, &lines()).await, [1, 2, 3]);
}

/// What the error's page calls safe.
#[tokio::test]
async fn a_shared_table_that_was_deleted_begins_anew() {
    let (store, mut lake) = begun().await;
    commit_row(&mut lake, 2).await;
    drop(lake);
    for object in store.list(&Path::from("inshore_log/lines"), None).await.unwrap() {
        store.delete(&object.location).await.unwrap();
    }
    for (generation, n) in [(2, 3), (3, 4)] {
        let mut lake = open(&store, generation).await.unwrap();
        commit_row(&mut lake, n).await;
        lake.apply().await.unwrap();
        assert!(lake.set_aside().is_none(), "row {n}");
    }
    assert_eq!(keys(&store, &table("orders")).await, [1, 2, 3, 4]);
    assert_eq!(keys(&store, &lines()).await, [3, 4], "the others went with the table");
}

#[tokio::test(start_paused = true)]
async fn a_shared_table_whose_commits_are_never_answered_holds_up_no_sync() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let mut lake = open(&store, 1).await.unwrap();
    (0..1000).for_each(|_| scripted.plan("lines/_delta_log", Fault::Reject));
    commit_row(&mut lake, 1).await;
    lake.apply().await.unwrap();
    assert!(matches!(lake.set_aside(), Some(Error::Contended { .. })));
    let asked = scripted.unused_faults();
    commit_row(&mut lake, 2).await;
    lake.apply().await.unwrap();
    assert_eq!(scripted.unused_faults(), asked, "once is enough for one process");
    assert_eq!(keys(&store, &table("orders")).await, [1, 2]);
}

#[tokio::test]
async fn an_anchor_waits_for_a_shared_table_but_not_for_ever() {
    let (store, mut lake) = begun().await;
    commit_row(&mut lake, 2).await;
    drop(lake);
    let before = overwrite(&store, LOG, "{").await;
    let mut lake = open(&store, 2).await.unwrap();
    let mut now = 2000;
    for (commits, anchored) in [(1100, false), (3000, true)] {
        for _ in 0..commits {
            now += 1;
            let request = CommitRequest {
                state: format!(r#"{{"n":{now}}}"#),
                synced_at_ms: now,
                tables: Vec::new(),
                files: Vec::new(),
            };
            lake.commit(request).await.unwrap();
            lake.apply().await.unwrap();
        }
        let hint = store.get(&Path::from("_inshore/con_1/hint.json")).await.unwrap();
        assert_eq!(hint.is_some(), anchored, "after {now}");
    }
    overwrite(&store, LOG, before).await;
    let mut lake = open(&store, 3).await.unwrap();
    assert!(lake.set_aside().is_none());
    now += 1;
    commit_row(&mut lake, now).await;
    lake.apply().await.unwrap();
    assert_eq!(keys(&store, &lines()).await, [1, now], "the second row was given up");
    assert_eq!(keys(&store, &table("orders")).await, [1, 2, now]);
}
