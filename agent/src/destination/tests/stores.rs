//! The destination over real object stores: what the scripted store proves by cases, these prove on the wire.

use super::servers::{Kind, Server};
use super::*;
use crate::destination::chain::probe::{Effort, Label, probe_stores};

/// Everything a destination asks of a store, over one server.
async fn suite(kind: Kind) {
    let server = Server::start(kind);
    let (first, second) = (server.store("probe"), server.store("probe"));
    let label = probe_stores(&first, &second, Effort { rounds: 4, reads: 20 }, &mut |_| {}).await.expect("usable");
    assert_eq!(label, Label::ExactlyOnce, "{kind:?}");
    assert!(first.list(&Path::default(), None).await.expect("listed").is_empty(), "the probe leaves nothing");
    objects(&server.store("plain folder/ü#%")).await;
    interrupted_uploads(&server.store("uploads")).await;
    takeover(&server.store("takeover")).await;
    model::run_some((0..4).map(|number| server.store(&format!("model/{number}")))).await;
    missing_bucket(&server).await;
}

async fn objects(store: &Store) {
    let path = Path::from("t/data/large.parquet");
    assert_eq!(store.get(&path).await.expect("asked"), None);
    assert_eq!(store.size(&path).await.expect("asked"), None);
    assert!(store.ranges(&path, &[0..5, 7..9]).await.expect("asked").is_none());
    let content: Bytes = (0..(17 << 20) + 5).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>().into();
    let mut upload = store.upload(&path).await.expect("begun");
    for piece in content.chunks(3_000_001) {
        upload.write(content.slice_ref(piece)).await.expect("written");
    }
    assert_eq!(store.size(&path).await.expect("asked"), None, "nothing is visible before the end");
    assert_eq!(upload.finish().await.expect("finished"), content.len() as u64);
    assert!(store.upload(&path).await.is_err(), "a taken name");
    let got = store.ranges(&path, &[5..9, 10_000_000..10_000_005, 0..3]).await.expect("asked").expect("there");
    let cut = |from: usize, to: usize| content.slice(from..to);
    assert_eq!(got, [cut(5, 9), cut(10_000_000, 10_000_005), cut(0, 3)]);
    assert_eq!(store.get(&path).await.expect("asked"), Some(content.clone()));
    let behind = store.ranges(&path, &[0..4, 17 << 20..18 << 20]).await.expect_err("behind the end");
    assert_eq!(behind.code(), "DST-006", "{behind}");
    for name in ["b", "a", "c"] {
        store.put_file(&Path::from("list").join("x y").join(name), &Bytes::from_static(b"1")).await.expect("stored");
    }
    let listed = store.list(&Path::from("list"), Some(&Path::from("list/x y/a"))).await.expect("listed");
    let names: Vec<String> = listed.iter().map(|object| object.location.to_string()).collect();
    assert_eq!(names, ["list/x y/b", "list/x y/c"]);
    store.overwrite(&Path::from("hint"), Bytes::from_static(b"1")).await.expect("written");
    store.overwrite(&Path::from("hint"), Bytes::from_static(b"22")).await.expect("written");
    assert_eq!(store.size(&Path::from("hint")).await.expect("asked"), Some(2));
    store.delete(&Path::from("hint")).await.expect("deleted");
    store.delete(&Path::from("hint")).await.expect("an absent one is as good as deleted");
}

/// A kill leaves uploads that no listing shows; those of older claims are aborted, and no others.
async fn interrupted_uploads(store: &Store) {
    let folder = Path::from("shop/orders/data/con_1");
    for name in ["3-1-0-aa.parquet", "r2-1-0-bb.parquet", "9-1-0-cc.parquet"] {
        let mut upload = store.upload(&folder.clone().join(name)).await.expect("begun");
        upload.write(Bytes::from(vec![1; 9 << 20])).await.expect("written");
        drop(upload);
    }
    assert!(store.list(&folder, None).await.expect("listed").is_empty());
    let aborted = store.abort_uploads(&folder, |name| !name.starts_with('9')).await.expect("asked");
    let again = store.abort_uploads(&folder, |name| !name.starts_with('9')).await.expect("asked");
    let want = if store.keeps_unfinished() { 2 } else { 0 };
    assert_eq!((aborted, again), (want, 0));
}

/// The newer claim fences the older writer; nothing is lost or doubled.
async fn takeover(store: &Store) {
    let name = table("orders");
    let mut first = open(store, 1).await.expect("opened");
    commit(&mut first, &notes(&name), &upserts(&[(1, "a"), (2, "b")]), 1000, "{\"n\":1}").await.expect("committed");
    first.apply().await.expect("applied");
    let mut second = open(store, 2).await.expect("opened");
    assert_eq!(second.state(), "{\"n\":1}");
    let lost = commit(&mut first, &notes(&name), &upserts(&[(1, "zombie")]), 2000, "{\"n\":2}").await;
    assert!(lost.expect_err("fenced").is_fenced());
    commit(&mut second, &notes(&name), &upserts(&[(2, "B"), (3, "c")]), 3000, "{\"n\":3}").await.expect("committed");
    second.apply().await.expect("applied");
    second.collect_garbage().await.expect("collected");
    assert_eq!(live_notes(store, &name).await, want(&[(1, "a"), (2, "B"), (3, "c")]));
}

async fn missing_bucket(server: &Server) {
    let mut root = server.url("x");
    root.set_host(Some("no-such-bucket")).expect("an address");
    let store = Store::open_with(&root, &server.options(), true).expect("a store");
    let error = store.put_file(&Path::from("x"), &Bytes::from_static(b"1")).await.expect_err("no bucket");
    assert_eq!(error.code(), "DST-013", "{error}: {}", crate::context::chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destination_works_over_s3() {
    suite(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destination_works_over_azure() {
    suite(Kind::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destination_works_over_google_cloud_storage() {
    suite(Kind::Gcs).await;
}
