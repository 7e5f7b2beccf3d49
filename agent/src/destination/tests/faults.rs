//! Every fault at every write of a sync: the answer may be lost, late or wrong, the table is always exact.

use super::*;

/// One sync of two commits through a store that misbehaves once at `key`; then a second writer looks at the result.
async fn check(key: &'static str, fault: Fault, formats: Formats) {
    let terms = Terms { formats, ..terms() };
    let open = |store: &Store, generation| Lake::open(store.clone(), terms.clone(), writer("agt_1", generation));
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let large_state = format!("{{\"cursor\":\"{}\"}}", "x".repeat(300_000));
    scripted.plan(key, fault);
    let mut lake = open(&store, 1).await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b"), (3, "c")]), 1000, "{\"n\":1}").await.unwrap();
    lake.apply().await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(2, "B"), (4, "d")]), 2000, &large_state).await.unwrap();
    lake.apply().await.unwrap();
    assert_eq!(scripted.unused_faults(), 0, "{key} was never written");
    scripted.land_late().await;
    let exact = want(&[(1, "a"), (2, "B"), (3, "c"), (4, "d")]);
    assert_eq!(live_notes(&store, &name).await, exact, "{fault:?} at {key}");
    let mut next = open(&store, 2).await.unwrap();
    assert_eq!(next.state(), large_state, "{fault:?} at {key}");
    next.apply().await.unwrap();
    next.collect_garbage().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, exact, "{fault:?} at {key}, read by the next writer");
    let versions = if formats == Formats::Iceberg { 2 } else { 1 };
    let version = current(&store, &name).await.version;
    assert_eq!(version, Some(versions), "{fault:?} at {key}: each entry is applied by one table version");
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_write_leaves_the_table_exact() {
    let keys = [
        "chain/00000000000000000001", // claim
        "chain/00000000000000000002", // commit
        "chain/00000000000000000003", // commit with its state apart
        "state/",
        "data/con_1/1-",                        // data file
        "data/con_1/r1-",                       // rewritten file
        "_delta_log/00000000000000000000.json", // first table commit
        "_delta_log/00000000000000000001.json", // table commit that rewrites
        "_iceberg/metadata/1-m-",               // what Iceberg's first version names
        "_iceberg/metadata/2-snap-",
        "_iceberg/metadata/v1.metadata.json", // Iceberg's first version
        "_iceberg/metadata/v2.metadata.json",
    ];
    for key in keys {
        for fault in [Fault::Reject, Fault::FailAfterWrite, Fault::Hold, Fault::Slow] {
            check(key, fault, Formats::Both).await;
            if !key.starts_with("_delta_log") {
                check(key, fault, Formats::Iceberg).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_that_lands_after_a_takeover_is_read_by_the_next_writer() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let mut first = open(&store, 1).await.unwrap();
    scripted.plan("chain/00000000000000000002", Fault::Hold);
    let schema = notes(&name);
    let window = upserts(&[(1, "a")]);
    let put = commit(&mut first, &schema, &window, 1000, "{\"n\":1}");
    // The writer freezes while its commit is on the wire; it lands before the takeover reads the chain.
    assert!(tokio::time::timeout(Duration::from_secs(5), put).await.is_err());
    scripted.land_late().await;
    let mut second = open(&store, 2).await.unwrap();
    assert_eq!(second.state(), "{\"n\":1}");
    second.apply().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "a")]));
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_that_lands_after_the_next_claim_changes_nothing() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let mut first = open(&store, 1).await.unwrap();
    scripted.plan("chain/00000000000000000002", Fault::Hold);
    let schema = notes(&name);
    let window = upserts(&[(1, "a")]);
    let put = commit(&mut first, &schema, &window, 1000, "{\"n\":1}");
    assert!(tokio::time::timeout(Duration::from_secs(5), put).await.is_err());
    let mut second = open(&store, 2).await.unwrap();
    scripted.land_late().await;
    assert_eq!(second.state(), "{}");
    commit(&mut second, &notes(&name), &upserts(&[(1, "again")]), 2000, "{\"n\":2}").await.unwrap();
    second.apply().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "again")]));
}
