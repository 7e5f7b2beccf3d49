//! What the inbox and outbox keep over restarts, and how they answer repeats.

use super::*;
use crate::channel::fixture::outcome;
use crate::fixture::spec;

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(&folder.path().join("channel.db")).expect("store");
    (folder, store)
}

fn reopen(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("channel.db")).expect("store again")
}

fn outbox(store: &Store) -> Vec<Up> {
    let mut messages = Vec::new();
    let mut seq = 0;
    while let Some((next, message)) = store.next_after(seq).expect("outbox") {
        assert_eq!(message.outbox_seq(), Some(next));
        messages.push(message);
        seq = next;
    }
    messages
}

#[test]
fn a_repeated_offer_meets_its_recorded_acceptance_then_its_outcome() {
    let (folder, store) = open();
    let offer = spec("job_1", 3);
    assert_eq!(store.lookup(&offer.job_ref()).expect("lookup"), Known::New);
    assert_eq!(store.accept(&offer).expect("accept"), Acceptance::New);
    assert_eq!(store.accept(&offer).expect("accept"), Acceptance::Repeated);
    let accepted = Up::Accepted { outbox_seq: 1, job_id: offer.job_id.clone(), generation: 3 };
    let store = reopen(&folder);
    assert_eq!(store.lookup(&offer.job_ref()).expect("lookup"), Known::Answered(Box::new(accepted.clone())));
    assert_eq!(store.unfinished().expect("unfinished"), vec![offer.clone()]);
    store.finish(&outcome("job_1", 3)).expect("finish");
    store.finish(&outcome("job_1", 3)).expect("a second outcome changes nothing");
    let finished = Up::Outcome(Box::new(Outcome { outbox_seq: 2, ..outcome("job_1", 3) }));
    assert_eq!(outbox(&store), vec![accepted, finished.clone()]);
    store.acknowledge(2).expect("acknowledge");
    let store = reopen(&folder);
    assert!(store.outbox_is_empty().expect("outbox") && store.unfinished().expect("unfinished").is_empty());
    assert_eq!(store.lookup(&offer.job_ref()).expect("lookup"), Known::Answered(Box::new(finished)));
}

#[test]
fn generations_only_rise_and_not_without_bound() {
    let (_folder, store) = open();
    store.accept(&spec("job_1", 5)).expect("accept");
    for (generation, known) in [
        (4, Known::WrongGeneration),
        (6, Known::New),
        (5 + GENERATION_STEP_MAX, Known::New),
        (6 + GENERATION_STEP_MAX, Known::WrongGeneration),
        (u64::MAX, Known::WrongGeneration),
    ] {
        assert_eq!(store.lookup(&spec("job_1", generation).job_ref()).expect("lookup"), known, "{generation}");
    }
    assert_eq!(store.lookup(&spec("job_2", 1).job_ref()).expect("lookup"), Known::New);
    // Two offers that were both new when they came: the older one is accepted last, and must not be.
    assert_eq!(store.accept(&spec("job_1", 4)).expect("accept"), Acceptance::WrongGeneration);
    assert_eq!(store.unfinished().expect("unfinished").len(), 1);
}

#[test]
fn numbers_are_never_used_twice_and_a_refusal_is_not_remembered_as_an_answer() {
    let (folder, store) = open();
    let offer = spec("job_1", 1);
    store.refuse(&offer.job_ref(), RefusalReason::Capacity, Some(60_000)).expect("refuse");
    assert_eq!(store.lookup(&offer.job_ref()).expect("lookup"), Known::New);
    store.acknowledge(u64::MAX).expect("acknowledge");
    assert!(outbox(&store).is_empty());
    let store = reopen(&folder);
    assert_eq!(store.newest_seq().expect("newest"), 1);
    store.accept(&offer).expect("accept");
    assert_eq!(outbox(&store).first().and_then(Up::outbox_seq), Some(2));
    let finish = store.finish(&outcome("job_9", 1)).expect_err("never accepted");
    assert!(matches!(finish, Error::NotAccepted { .. }));
}

#[test]
fn the_renewal_counter_survives_a_restart() {
    let (folder, store) = open();
    assert_eq!(store.next_renewal_counter().expect("counter"), 1);
    assert_eq!(store.next_renewal_counter().expect("counter"), 2);
    assert_eq!(reopen(&folder).next_renewal_counter().expect("counter"), 3);
}

#[test]
fn finished_attempts_are_listed_until_acknowledged() {
    let (_folder, store) = open();
    store.accept(&spec("job_1", 1)).expect("accept");
    assert!(store.finished_unacknowledged().expect("list").is_empty());
    store.finish(&outcome("job_1", 1)).expect("finish");
    let listed = store.finished_unacknowledged().expect("list");
    assert_eq!(
        listed.iter().map(|job| (job.job_id.as_str(), job.phase)).collect::<Vec<_>>(),
        [("job_1", Phase::Finished)]
    );
    store.acknowledge(1).expect("acknowledge the acceptance only");
    assert_eq!(store.finished_unacknowledged().expect("list").len(), 1);
    store.acknowledge(2).expect("acknowledge");
    assert!(store.finished_unacknowledged().expect("list").is_empty());
}

#[test]
fn nobody_else_can_read_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, store) = open();
    store.accept(&spec("job_1", 1)).expect("accept");
    for entry in std::fs::read_dir(folder.path()).expect("folder") {
        let entry = entry.expect("entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[test]
fn a_file_that_is_no_store_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("channel.db");
    std::fs::write(&path, vec![b'x'; 8_192]).expect("write");
    assert!(matches!(Store::open(&path), Err(Error::Sqlite { .. })));
}
