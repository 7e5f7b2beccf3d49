//! Requests that take their time, ranges, and uploads in parts.

#![expect(clippy::single_range_in_vec_init, reason = "a list of ranges is what is meant")]

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use url::Url;

use super::patience::{STANDSTILL, timed_for};
use super::read::joined;
use super::{Store, classify};
use crate::destination::tests::{Fault, Scripted};

#[tokio::test]
async fn a_request_may_go_on_after_a_standstill_and_not_for_ever() {
    let (patience, path) = (Duration::from_millis(50), Path::from("x"));
    let stood_still = async {
        std::thread::sleep(STANDSTILL + Duration::from_millis(200));
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok("there")
    };
    assert_eq!(timed_for(patience, &path, stood_still).await.expect("in time"), "there");
    let slow = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    };
    let error = timed_for(patience, &path, slow).await.expect_err("too late");
    assert_eq!(classify(&path, error).code(), "DST-003");
}

/// A store in memory, one on disk, and the folder that keeps the second.
fn stores() -> (Store, Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Url::from_directory_path(folder.path()).expect("an address");
    (Scripted::new().store(), Store::open(&root, true).expect("a folder"), folder)
}

fn content(bytes: usize) -> Bytes {
    (0..bytes).map(|n| (n % 251) as u8).collect::<Vec<_>>().into()
}

#[test]
fn near_ranges_are_asked_for_together() {
    type Ranges<'a> = &'a [Range<u64>];
    let cases: [(Ranges<'_>, Ranges<'_>); 5] = [
        (&[], &[]),
        (&[5..5], &[]),
        (&[10..20, 0..5, 15..30], &[0..30]),
        (&[0..10, 10_000_000..10_000_010], &[0..10, 10_000_000..10_000_010]),
        (&[0..8_000_000, 8_000_100..16_000_000], &[0..8_000_000, 8_000_100..16_000_000]),
    ];
    for (ranges, want) in cases {
        assert_eq!(joined(ranges), want, "{ranges:?}");
    }
}

#[tokio::test]
async fn ranges_come_in_their_order_and_one_behind_the_end_is_damage() {
    let (memory, local, _folder) = stores();
    let (path, whole) = (Path::from("a/b"), content(1_000_000));
    for store in [memory, local] {
        assert!(store.ranges(&path, &[0..1]).await.expect("an answer").is_none());
        store.put_file(&path, &whole).await.expect("stored");
        let ranges = [999_990..1_000_000, 0..4, 2..600_000, 7..7];
        let got = store.ranges(&path, &ranges).await.expect("an answer").expect("there");
        let want: Vec<Bytes> = ranges.iter().map(|r| whole.slice(r.start as usize..r.end as usize)).collect();
        assert_eq!(got, want);
        for behind in [999_990..1_000_001, 1_000_000..1_000_010, 2_000_000..2_000_001] {
            let error = store.ranges(&path, std::slice::from_ref(&behind)).await.expect_err("behind the end");
            assert_eq!(error.code(), "DST-006", "{behind:?}: {error}");
        }
    }
}

#[tokio::test]
async fn an_upload_is_there_whole_once_it_is_finished_and_not_before() {
    let (memory, local, folder) = stores();
    // Nothing, less than a part, one part, parts with and without a rest; in pieces that fit no part.
    for bytes in [0, 5, 8 << 20, 24 << 20, (40 << 20) + 3] {
        let (path, whole) = (Path::from(format!("t/data/{bytes}.parquet")), content(bytes));
        for store in [&memory, &local] {
            let mut upload = store.upload(&path).await.expect("begun");
            for piece in whole.chunks(3_000_001) {
                upload.write(whole.slice_ref(piece)).await.expect("written");
            }
            assert_eq!(store.size(&path).await.expect("asked"), None);
            assert!(store.list(&Path::from("t"), None).await.expect("listed").iter().all(|o| o.location != path));
            assert_eq!(upload.finish().await.expect("finished"), bytes as u64);
            assert_eq!(store.get(&path).await.expect("asked"), Some(whole.clone()));
            assert!(store.upload(&path).await.is_err(), "a taken name");
        }
    }
    let names = std::fs::read_dir(folder.path().join("t/data")).expect("a folder");
    assert_eq!(names.count(), 5, "no temporary file stays");
    let synced = local.synced.lock().expect("a list").clone();
    for made in [folder.path().to_owned(), folder.path().join("t"), folder.path().join("t/data")] {
        assert!(synced.contains(&made), "{}", made.display());
    }
}

#[tokio::test]
async fn an_upload_that_is_left_leaves_nothing() {
    let (memory, local, folder) = stores();
    for store in [&memory, &local] {
        for aborted in [true, false] {
            let mut upload = store.upload(&Path::from("t/x")).await.expect("begun");
            upload.write(content(20 << 20)).await.expect("written");
            if aborted {
                upload.abort().await;
            } else {
                drop(upload);
            }
            assert_eq!(store.size(&Path::from("t/x")).await.expect("asked"), None);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path().join("t")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn of_two_uploads_of_one_name_the_second_is_refused_and_the_first_stays() {
    let (_, local, _folder) = stores();
    let path = Path::from("t/x");
    let (mut one, mut two) = (local.upload(&path).await.expect("begun"), local.upload(&path).await.expect("begun"));
    one.write(Bytes::from_static(b"one")).await.expect("written");
    two.write(Bytes::from_static(b"two")).await.expect("written");
    one.finish().await.expect("finished");
    assert_eq!(two.finish().await.expect_err("taken").code(), "AGT-003");
    assert_eq!(local.get(&path).await.expect("asked"), Some(Bytes::from_static(b"one")));
}

#[tokio::test(start_paused = true)]
async fn lost_answers_while_an_upload_runs_do_no_harm() {
    let scripted = Scripted::new();
    let (store, path, whole) = (scripted.store(), Path::from("t/x"), content(20 << 20));
    let faults = [Fault::Reject, Fault::FailAfterWrite, Fault::Hold, Fault::Slow];
    for fault in faults {
        scripted.plan("part 0", fault);
        scripted.plan("part 2", fault);
    }
    for fault in [Fault::Reject, Fault::FailAfterWrite] {
        scripted.plan("complete", fault);
    }
    let mut upload = store.upload(&path).await.expect("begun");
    upload.write(whole.clone()).await.expect("written");
    assert_eq!(upload.finish().await.expect("finished"), whole.len() as u64);
    assert_eq!(scripted.unused_faults(), 0);
    assert_eq!(store.get(&path).await.expect("asked"), Some(whole));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_never_gets_through_says_how_often_it_was_tried() {
    let scripted = Scripted::new();
    (0..6).for_each(|_| scripted.plan("part 1", Fault::Reject));
    let mut upload = scripted.store().upload(&Path::from("t/x")).await.expect("begun");
    upload.write(content(16 << 20)).await.expect("written");
    let error = upload.finish().await.expect_err("refused");
    assert_eq!(error.code(), "DST-003");
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).expect("a cause").to_string();
    assert!(cause.starts_with("gave up after 6 attempts in "), "{cause}");
}
