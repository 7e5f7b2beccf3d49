//! Files beside rows from their first bytes to their place, on real folders.

use super::*;

fn stage(root: &Path) -> (Store, Stage) {
    let address = url::Url::from_directory_path(root).expect("an absolute folder");
    let store = Store::open(&address, false).expect("a folder");
    let stage = Stage::new(&store, "con_1", 3).expect("a local store takes files");
    (store, stage)
}

fn docs() -> TableName {
    TableName::new("shop", "docs")
}

fn content(root: &Path, path: &str) -> String {
    std::fs::read_to_string(published(root, &docs()).join(path)).expect("a published file")
}

#[tokio::test]
async fn a_staged_file_is_published_once_however_often_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, mut stage) = stage(folder.path());
    for (upload, path) in [(1, "a/b"), (2, "c")] {
        stage.append(upload, b"one ".to_vec()).await.expect("taken");
        stage.append(upload, b"content".to_vec()).await.expect("taken");
        stage.finish(upload, docs(), path.to_owned()).await.expect("whole");
    }
    let uploads = stage.take().remove(&docs()).expect("two files");
    assert_eq!(uploads[0].key, uploads[1].key, "one content, one object");
    for _ in 0..2 {
        publish(&store, &docs(), 3, &uploads).await.expect("published");
    }
    assert_eq!(
        (content(folder.path(), "a/b"), content(folder.path(), "c")),
        ("one content".into(), "one content".into())
    );
    let left = || std::fs::read_dir(folder.path().join("_inshore/con_1/stage")).expect("the stage").count();
    assert_eq!(left(), 1, "a repeat leaves no second name");
    stage.release().await.expect("released");
    assert_eq!(left(), 0);
    let gone = publish(&store, &docs(), 3, &uploads).await;
    assert!(matches!(gone, Err(Error::FileMissing { .. })), "{gone:?}");
}

#[tokio::test]
async fn what_nobody_commits_is_collected_and_a_newer_writers_files_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, mut stage) = stage(folder.path());
    stage.append(1, b"left".to_vec()).await.expect("taken");
    stage.append(2, b"whole".to_vec()).await.expect("taken");
    stage.finish(2, docs(), "a".to_owned()).await.expect("whole");
    stage.append(3, b"unwanted".to_vec()).await.expect("taken");
    stage.abandon(3).await.expect("abandoned");
    let own = folder.path().join("_inshore/con_1/stage");
    std::fs::write(own.join(format!("{:020}-newer", 4)), "x").expect("a newer writer's");
    let collected = stage.collect(&View::empty("con_1"), |_, _| true).await.expect("collected");
    assert_eq!((collected.files_deleted, collected.bytes), (2, 9));
    assert_eq!(std::fs::read_dir(own).expect("the stage").count(), 1);
    assert!(stage.take().is_empty());
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_before_it_is_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, mut stage) = stage(folder.path());
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    for path in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "a\nb", long.as_str()] {
        let refused = stage.finish(1, docs(), path.to_owned()).await;
        assert!(matches!(refused, Err(Error::UploadRefused { .. })), "{path:?}: {refused:?}");
    }
    stage.finish(1, docs(), "a".to_owned()).await.expect("an empty file");
    stage.finish(2, docs(), "d/e".to_owned()).await.expect("an empty file");
    for published in [false, true] {
        if published {
            let uploads = stage.take().remove(&docs()).expect("two files");
            publish(&store, &docs(), 3, &uploads).await.expect("published");
        }
        for path in ["a/b", "d"] {
            let refused = stage.finish(3, docs(), path.to_owned()).await;
            assert!(matches!(refused, Err(Error::UploadRefused { .. })), "{path}: {refused:?}");
        }
    }
    stage.bound(5);
    stage.append(4, vec![0; 3]).await.expect("three bytes");
    let large = stage.append(4, vec![0; 3]).await;
    assert!(matches!(large, Err(Error::UploadTooLarge { limit_bytes: 5 })), "{large:?}");
    for upload in 10..10 + OPEN_MAX as u64 {
        stage.append(upload, Vec::new()).await.expect("few enough");
    }
    assert!(matches!(stage.append(9999, Vec::new()).await, Err(Error::UploadRefused { .. })));
}

async fn staged(stage: &mut Stage, path: &str, content: &[u8]) -> Vec<Upload> {
    stage.append(1, content.to_vec()).await.expect("taken");
    stage.finish(1, docs(), path.to_owned()).await.expect("whole");
    stage.take().remove(&docs()).expect("one file")
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A link cannot reach another disk: the committed file is copied there, and replaced at once like any other.
#[tokio::test]
async fn a_table_on_another_disk_gets_its_files() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir_in("/dev/shm").expect("a folder"));
    let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).expect("is there"));
    assert_ne!(device(folder.path()), device(other.path()), "/dev/shm is a disk of its own");
    std::os::unix::fs::symlink(other.path(), folder.path().join("shop")).expect("a link");
    let (store, mut stage) = stage(folder.path());
    for text in ["old", "the new content"] {
        for path in ["a/b", "a/_stage", "a/_files/b"] {
            let uploads = staged(&mut stage, path, text.as_bytes()).await;
            for _ in 0..2 {
                publish(&store, &docs(), 3, &uploads).await.expect("published");
                assert_eq!(content(folder.path(), path), text);
            }
        }
    }
    assert_eq!(names(&other.path().join("docs/_files/a")), ["_files", "_stage", "b"]);
    assert_eq!(names(&other.path().join("docs")), ["_files"], "no copy is left on its way");
    stage.release().await.expect("released");
    assert!(names(&folder.path().join("_inshore/con_1/stage")).is_empty());

    let copies = other.path().join("docs/_stage");
    std::fs::create_dir(&copies).expect("a folder");
    let of_claim = |claim: u64| format!("{claim:020}-link-0");
    for claim in [2, 3] {
        std::fs::write(copies.join(of_claim(claim)), "cut off").expect("a file");
    }
    let collected = stage.collect_copies(vec![docs(), TableName::new("shop", "none")]).await.expect("collected");
    assert_eq!((collected.files_deleted, collected.bytes), (1, 7));
    assert_eq!(names(&copies), [of_claim(3)], "the own claim's may be on its way");
}

/// What a commit names is found after a crash: every folder on the way to it is made durable.
#[tokio::test]
async fn new_folders_are_durable_up_to_the_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = url::Url::from_directory_path(folder.path()).expect("an absolute folder");
    let store = Store::open(&address, true).expect("a folder");
    let mut stage = Stage::new(&store, "con_1", 3).expect("a local store takes files");
    let synced = || -> BTreeSet<String> {
        let mut synced = store.synced.lock().expect("no test panics with it");
        let below = |path: PathBuf| path.strip_prefix(folder.path()).expect("below").display().to_string();
        synced.drain(..).map(below).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let uploads = staged(&mut stage, "a/b", b"content").await;
    assert_eq!(synced(), set(&["", "_inshore", "_inshore/con_1", "_inshore/con_1/stage"]));
    publish(&store, &docs(), 3, &uploads).await.expect("published");
    assert_eq!(synced(), set(&["", "shop", "shop/docs", "shop/docs/_files", "shop/docs/_files/a"]));
    staged(&mut stage, "c", b"more").await;
    assert_eq!(synced(), set(&["_inshore/con_1/stage"]), "they are there already");
}

/// Nobody knows of it any more: on a full disk the next sync would need its room.
#[tokio::test]
async fn a_file_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, mut stage) = stage(folder.path());
    let uploads = staged(&mut stage, "a", b"content").await;
    publish(&store, &docs(), 3, &uploads).await.expect("published");
    stage.release().await.expect("released");
    stage.append(2, b"more".to_vec()).await.expect("taken");
    let error = stage.finish(2, docs(), "a/below a file".to_owned()).await.expect_err("refused");
    assert_eq!(error.code(), "SDK-022", "{error}");
    assert_eq!(names(&folder.path().join("_inshore/con_1/stage")), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_discarded_leaves_what_a_commit_may_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, mut stage) = stage(folder.path());
    let uploads = staged(&mut stage, "a", b"committed, perhaps").await;
    stage.append(1, b"never whole".to_vec()).await.expect("taken");
    for (upload, text) in [(2, "whole"), (3, "committed, perhaps")] {
        stage.append(upload, text.as_bytes().to_vec()).await.expect("taken");
        stage.finish(upload, docs(), format!("path {upload}")).await.expect("whole");
    }
    assert_eq!(names(&folder.path().join("_inshore/con_1/stage")).len(), 3);
    stage.discard().await.expect("discarded");
    assert_eq!(names(&folder.path().join("_inshore/con_1/stage")).len(), 1);
    publish(&store, &docs(), 3, &uploads).await.expect("published");
    assert_eq!(content(folder.path(), "a"), "committed, perhaps");
}
