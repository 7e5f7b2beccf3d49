//! Fencing, generations, tampering, anchors: what a reader of the chain accepts.

use super::*;
use crate::destination::LakeSettings;

async fn slot(store: &Store, seq: u64) -> (Path, String) {
    let path = Path::from(format!("_inshore/con_1/chain/{seq:020}.json"));
    let bytes = store.get(&path).await.unwrap().expect("a taken slot");
    (path, String::from_utf8(bytes.to_vec()).unwrap())
}

/// A connection with two commits, and its store.
async fn two_commits() -> (Arc<Scripted>, Store) {
    let scripted = Scripted::new();
    let store = scripted.store();
    let mut lake = open(&store, 1).await.unwrap();
    let name = table("orders");
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 1000, "{\"n\":1}").await.unwrap();
    commit(&mut lake, &notes(&name), &upserts(&[(2, "b")]), 2000, "{\"n\":2}").await.unwrap();
    lake.apply().await.unwrap();
    (scripted, store)
}

#[tokio::test]
async fn a_newer_claim_fences_the_old_writer() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut old = open(&store, 1).await.unwrap();
    let mut new = open(&store, 2).await.unwrap();
    let lost = commit(&mut old, &notes(&name), &upserts(&[(1, "old")]), 1000, "{\"n\":1}").await.unwrap_err();
    assert!(lost.is_fenced(), "{lost}");
    assert_eq!(lost.code(), "DST-009");
    commit(&mut new, &notes(&name), &upserts(&[(1, "new")]), 1000, "{\"n\":1}").await.unwrap();
    new.apply().await.unwrap();
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "new")]));
}

#[tokio::test]
async fn a_lower_generation_never_claims_over_a_higher_one() {
    let store = Scripted::new().store();
    drop(open(&store, 5).await.unwrap());
    let error = open(&store, 4).await.unwrap_err();
    assert!(matches!(error, Error::FencedByGeneration { head: 5, mine: 4 }), "{error}");
    drop(open(&store, 5).await.unwrap());
    let error = open(&store, 5 + (1 << 20) + 1).await.unwrap_err();
    assert!(matches!(error, Error::GenerationJump { .. }), "{error}");
    assert_eq!(error.code(), "DST-010");
    drop(open(&store, 5 + (1 << 20)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn racing_writers_end_with_one_holder() {
    let store = Scripted::new().store();
    let openers = (0..6).map(|_| open(&store, 3));
    let lakes: Vec<Lake> = futures::future::join_all(openers).await.into_iter().map(Result::unwrap).collect();
    let name = table("orders");
    let mut committed = 0;
    for mut lake in lakes {
        match commit(&mut lake, &notes(&name), &upserts(&[(1, "x")]), 1000, "{}").await {
            Ok(_) => committed += 1,
            Err(error) => assert!(error.is_fenced(), "{error}"),
        }
    }
    assert_eq!(committed, 1);
}

#[tokio::test]
async fn an_entry_edited_by_hand_is_refused_and_named() {
    for seq in 1..=3 {
        let (_, store) = two_commits().await;
        let (path, text) = slot(&store, seq).await;
        let edited = text.replacen("\"v\":1", "\"v\": 1", 1);
        assert_ne!(edited, text);
        store.overwrite(&path, edited.into()).await.unwrap();
        let error = open(&store, 2).await.unwrap_err();
        assert!(matches!(error, Error::Altered { slot, .. } if slot == seq), "{error}");
        assert_eq!(error.code(), "DST-004");
    }
}

#[tokio::test]
async fn a_missing_a_moved_and_a_foreign_entry_are_refused() {
    let (_, store) = two_commits().await;
    let (path, _) = slot(&store, 2).await;
    store.delete(&path).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert!(matches!(error, Error::Altered { slot: 2, .. }), "{error}");

    let (_, store) = two_commits().await;
    let (_, second) = slot(&store, 2).await;
    let (third, _) = slot(&store, 3).await;
    store.overwrite(&third, second.into()).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert!(matches!(error, Error::Altered { slot: 3, .. }), "{error}");

    let (_, store) = two_commits().await;
    let (path, text) = slot(&store, 3).await;
    let last = Path::from(path.as_ref().replace(&format!("{:020}", 3), &u64::MAX.to_string()));
    store.overwrite(&last, text.into()).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert!(matches!(error, Error::Altered { slot: 4, .. }), "{error}");

    let (_, store) = two_commits().await;
    let mut stranger = writer("agt_1", 2);
    stranger.trusted_root = SigningKey::from_bytes(&[8; 32]).public();
    let error = Lake::open(store, terms(), stranger).await.unwrap_err();
    assert!(matches!(error, Error::Altered { slot: 1, .. }), "{error}");
}

#[tokio::test]
async fn an_entry_that_another_job_of_the_same_agent_has_signed_is_refused() {
    let (_, store) = two_commits().await;
    let (path, text) = slot(&store, 2).await;
    let line = text.lines().next().unwrap().replacen("{\\\"n\\\":1}", "{\\\"n\\\":7}", 1);
    assert_ne!(line, text.lines().next().unwrap());
    let signed = writer("agt_1", 1).signer.sign(line.as_bytes()).to_json();
    store.overwrite(&path, format!("{line}\n{signed}\n").into()).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert!(matches!(&error, Error::Altered { slot: 2, reason } if reason.contains("another key")), "{error}");
}

#[tokio::test]
async fn unknown_fields_and_newer_versions_are_refused_even_when_signed() {
    for (from, to) in [("\"v\":1", "\"v\":4"), ("\"kind\":", "\"extra\":0,\"kind\":")] {
        let store = Scripted::new().store();
        drop(open(&store, 1).await.unwrap());
        let (path, text) = slot(&store, 1).await;
        let line = text.lines().next().unwrap().replacen(from, to, 1);
        let signed = writer("agt_1", 1).signer.sign(line.as_bytes()).to_json();
        store.overwrite(&path, format!("{line}\n{signed}\n").into()).await.unwrap();
        let error = open(&store, 2).await.unwrap_err();
        assert!(matches!(error, Error::Altered { slot: 1, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_marker_above_the_head_stops_everything() {
    let (_, store) = two_commits().await;
    for seq in 1..=3 {
        let (path, _) = slot(&store, seq).await;
        store.delete(&path).await.unwrap();
    }
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    let error = commit(&mut lake, &notes(&name), &upserts(&[(9, "x")]), 9000, "{}").await.unwrap_err();
    assert!(matches!(error, Error::MarkerAboveHead { marker: 3, head: 1, .. }), "{error}");
    assert_eq!(error.code(), "DST-005");
}

#[tokio::test]
async fn a_truncated_chain_is_noticed_at_the_next_open() {
    let (_, store) = two_commits().await;
    let (path, _) = slot(&store, 3).await;
    store.delete(&path).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert!(matches!(error, Error::MarkerAboveHead { marker: 3, head: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_reader_starts_at_the_anchor_and_a_bad_hint_costs_nothing_but_time() {
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    for number in 0..1_005 {
        let empty = CommitRequest {
            state: format!("{{\"n\":{number}}}"),
            synced_at_ms: 1 + number,
            tables: Vec::new(),
            files: Vec::new(),
        };
        lake.commit(empty).await.unwrap();
    }
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a")]), 5000, "{\"n\":\"last\"}").await.unwrap();
    lake.apply().await.unwrap();
    scripted.reads.lock().unwrap().clear();
    let mut next = open(&store, 2).await.unwrap();
    let slots = scripted.reads.lock().unwrap().iter().filter(|key| key.contains("/chain/")).count();
    assert!(slots < 5, "{slots} slots were read");
    assert_eq!(next.state(), "{\"n\":\"last\"}");
    assert_eq!(next.last_synced_ms(), 5000);
    assert_eq!(next.current(&name).unwrap().schema, notes(&name));
    commit(&mut next, &notes(&name), &upserts(&[(1, "b")]), 6000, "{}").await.unwrap();
    next.apply().await.unwrap();
    for hint in ["", "{\"v\":1,\"anchor\":2}", "{\"v\":1,\"anchor\":999999}", "no json"] {
        store.overwrite(&Path::from("_inshore/con_1/hint.json"), Bytes::from(hint)).await.unwrap();
        let lake = open(&store, 3).await.unwrap();
        assert_eq!(lake.last_synced_ms(), 6000, "{hint}");
    }
    assert_eq!(live_notes(&store, &name).await, want(&[(1, "b")]));
}

#[tokio::test]
async fn a_table_put_back_to_an_older_copy_is_found_though_an_anchor_covers_what_it_lacks() {
    let store = Scripted::new().store();
    let name = table("orders");
    let mut lake = open(&store, 1).await.unwrap();
    for number in 0..2 {
        commit(&mut lake, &notes(&name), &upserts(&[(number, "a")]), 1 + number, "{}").await.unwrap();
        lake.apply().await.unwrap();
    }
    for number in 0..1_005 {
        let state = format!("{{\"n\":{number}}}");
        let empty = CommitRequest { state, synced_at_ms: 10 + number, tables: Vec::new(), files: Vec::new() };
        lake.commit(empty).await.unwrap();
    }
    lake.apply().await.unwrap();
    store.delete(&Path::from("shop/orders/_delta_log/00000000000000000001.json")).await.unwrap();
    let error = open(&store, 2).await.unwrap_err();
    assert_eq!(error.code(), "DST-006", "{error}");
}

#[tokio::test]
async fn the_probe_labels_a_good_store_exactly_once_and_leaves_nothing() {
    use crate::destination::chain::probe::{Effort, Label, probe, probe_stores};
    let scripted = Scripted::new();
    let effort = Effort { rounds: 3, reads: 5 };
    assert_eq!(
        probe_stores(&scripted.store(), &scripted.store(), effort, &mut |_| {}).await.unwrap(),
        Label::ExactlyOnce
    );
    assert!(scripted.store().list(&Path::from("_inshore"), None).await.unwrap().is_empty());

    let folder = tempfile::tempdir().unwrap();
    let root = url::Url::from_directory_path(folder.path()).unwrap();
    assert_eq!(probe(&LakeSettings::new(root), effort).await.unwrap(), Label::ExactlyOnce);
    assert!(!folder.path().join("_inshore/_probe").read_dir().is_ok_and(|mut left| left.next().is_some()));
}

#[tokio::test]
async fn the_probe_names_the_check_that_failed() {
    use crate::destination::chain::probe::{Effort, Label, probe_stores};
    let effort = Effort { rounds: 2, reads: 5 };
    // A store that takes every create, whatever stands there.
    let lying = Scripted::new();
    lying.overwrite_everything();
    let label = probe_stores(&lying.store(), &lying.store(), effort, &mut |_| {}).await.unwrap();
    assert_eq!(label, Label::AtLeastOnce { failed_check: "one winner among concurrent creators" });
    let label =
        probe_stores(&lying.store(), &lying.store(), Effort { rounds: 0, ..effort }, &mut |_| {}).await.unwrap();
    assert_eq!(label.to_string(), "at-least-once (create over an existing key is refused)");
    // Two clients that do not see the same store.
    let blind = Effort { rounds: 0, ..effort };
    let read = probe_stores(&Scripted::new().store(), &Scripted::new().store(), blind, &mut |_| {}).await;
    assert_eq!(read.unwrap_err().code(), "DST-003", "what was written is not there");
    // A busy store is asked again: its answers say nothing about its promises.
    let scripted = Scripted::new();
    for key in ["seen/000003", "race-1", "taken"] {
        scripted.plan(key, Fault::Reject);
    }
    let mut steps = Vec::new();
    let label = probe_stores(&scripted.store(), &scripted.store(), effort, &mut |step| steps.push(step)).await.unwrap();
    assert_eq!((label, scripted.unused_faults()), (Label::ExactlyOnce, 0));
    assert_eq!((steps.len(), steps.iter().all(|step| step.passed)), (8, true), "{steps:?}");
}
