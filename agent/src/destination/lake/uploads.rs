//! Files that travel beside rows: staged under their hash while a window is open, named by the Commit of their rows, and
//! published at `<schema>/<table>/_files/<path>` by the roll-forward of that Commit, before the table's own commit.
//!
//! Staged names begin with the claim, so garbage is judged as that of data files is. A file is linked into its place and
//! never copied there in parts: readers see the old content or the new one. Only local folders can do that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inshore_columnar::TableName;
use sha2::{Digest, Sha256};

use super::apply::blocking;
use crate::destination::Collected;
use crate::destination::chain::entry::{Hash, Upload};
use crate::destination::chain::view::View;
use crate::destination::error::Error;
use crate::destination::store::{Store, file_error};
use crate::failpoint;

/// A larger file ends the sync: SDK-021. The connector's runtime refuses it before.
pub(crate) const FILE_BYTES_MAX: u64 = 5 << 30;
/// Files between two checkpoints: all of them stand in one chain entry. More end the sync: SDK-022.
pub(crate) const FILES_PER_WINDOW_MAX: usize = 10_000;
/// The path of one file, and one name in it, as the connector's runtime bounds them.
const PATH_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 255;
/// Uploads that are on their way at once; the connector's runtime lets fewer run.
const OPEN_MAX: usize = 256;

/// Where a table's published files lie, below its folder.
const PUBLISHED: &str = "_files";

/// The folder of one connection's staged files, with what is in hand.
#[derive(Debug)]
pub(super) struct Stage {
    store: Store,
    root: PathBuf,
    folder: PathBuf,
    prefix: String,
    claim_seq: u64,
    bytes_max: u64,
    open: HashMap<u64, Part>,
    /// Whole files of the open window. The last content of a path wins.
    pending: BTreeMap<(TableName, String), Upload>,
    /// Staged files that a Commit names and no table needs once it is applied.
    named: Vec<String>,
}

/// A file whose end has not come yet.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
}

impl Stage {
    /// `None` where the store has no place for files.
    pub(super) fn new(store: &Store, connection: &str, claim_seq: u64) -> Option<Stage> {
        let root = store.local_root()?.to_owned();
        let prefix = stage_prefix(connection);
        Some(Stage {
            store: store.clone(),
            folder: root.join(&prefix),
            root,
            prefix,
            claim_seq,
            bytes_max: FILE_BYTES_MAX,
            open: HashMap::new(),
            pending: BTreeMap::new(),
            named: Vec::new(),
        })
    }

    #[cfg(test)]
    pub(super) fn bound(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Appends to a file; its first bytes begin it.
    pub(super) async fn append(&mut self, upload: u64, bytes: Vec<u8>) -> Result<(), Error> {
        let mut part = self.part(upload).await?;
        part.bytes += bytes.len() as u64;
        if part.bytes > self.bytes_max {
            let limit_bytes = self.bytes_max;
            blocking(move || remove(&part.path)).await?;
            return Err(Error::UploadTooLarge { limit_bytes });
        }
        let part = blocking(move || {
            part.file.write_all(&bytes).map_err(|source| file_error(&part.path, source))?;
            part.digest.update(&bytes);
            Ok(part)
        });
        self.open.insert(upload, part.await?);
        Ok(())
    }

    /// Gives a whole file its name and keeps it for the next commit.
    pub(super) async fn finish(&mut self, upload: u64, table: TableName, path: String) -> Result<(), Error> {
        super::check_name(&table)?;
        self.check(&table, &path)?;
        let part = self.part(upload).await?;
        let place = (published(&self.root, &table), table.clone(), path.clone());
        let name = |hash: Hash| format!("{:020}-{hash}", self.claim_seq);
        let (folder, store) = (self.folder.clone(), self.store.clone());
        let (bytes, hash) = (part.bytes, Hash(part.digest.finalize().into()));
        let staged = folder.join(name(hash));
        blocking(move || {
            check_place(place)?;
            let failed = |source| file_error(&part.path, source);
            if store.fsync() {
                part.file.sync_all().map_err(failed)?;
            }
            failpoint::hit("P21");
            // One object per content: the same bytes under the same name change nothing.
            std::fs::rename(&part.path, &staged).map_err(failed)?;
            store.sync_folder(&folder)
        })
        .await?;
        let key = format!("{}/{}", self.prefix, name(hash));
        let replaced = self.pending.insert((table, path.clone()), Upload { path, key, bytes, sha256: hash });
        let needed =
            |old: &Upload| self.named.contains(&old.key) || self.pending.values().any(|upload| upload.key == old.key);
        // A file that every row sends anew would fill the disk before the next checkpoint.
        match replaced.filter(|old| !needed(old)) {
            Some(old) => {
                let staged = self.root.join(old.key);
                blocking(move || remove(&staged)).await
            }
            None => Ok(()),
        }
    }

    pub(super) async fn abandon(&mut self, upload: u64) -> Result<(), Error> {
        let Some(part) = self.open.remove(&upload) else { return Ok(()) };
        blocking(move || remove(&part.path)).await
    }

    /// What the next Commit names, by table. The open window has no files afterwards.
    pub(super) fn take(&mut self) -> BTreeMap<TableName, Vec<Upload>> {
        let mut tables: BTreeMap<TableName, Vec<Upload>> = BTreeMap::new();
        for ((table, _), upload) in std::mem::take(&mut self.pending) {
            self.named.push(upload.key.clone());
            tables.entry(table).or_default().push(upload);
        }
        tables
    }

    /// Every table has what its Commits named: the staged names are of no use any more.
    pub(super) async fn release(&mut self) -> Result<(), Error> {
        let named: BTreeSet<PathBuf> = std::mem::take(&mut self.named).iter().map(|key| self.root.join(key)).collect();
        if named.is_empty() {
            return Ok(());
        }
        blocking(move || named.iter().try_for_each(|staged| remove(staged))).await
    }

    /// Deletes what no Commit can need any more. Call with no window open.
    pub(super) async fn collect(
        &mut self,
        view: &View,
        applied: impl Fn(&TableName, u64) -> bool,
    ) -> Result<Collected, Error> {
        self.open.clear();
        self.pending.clear();
        let mut needed = BTreeSet::new();
        for commit in view.commits.values() {
            for steps in commit.tables.iter().filter(|steps| !applied(&steps.name(), commit.seq)) {
                needed.extend(steps.uploads.iter().map(|upload| upload.key.clone()));
            }
        }
        let (folder, prefix, claim_seq) = (self.folder.clone(), self.prefix.clone(), self.claim_seq);
        blocking(move || {
            let mut collected = Collected::default();
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(collected),
                Err(source) => return Err(file_error(&folder, source)),
            };
            for entry in entries {
                let entry = entry.map_err(|source| file_error(&folder, source))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let claim = name.split_once('-').and_then(|(claim, _)| claim.parse::<u64>().ok());
                if claim.is_none_or(|claim| claim > claim_seq) || needed.contains(&format!("{prefix}/{name}")) {
                    continue;
                }
                failpoint::hit("P16");
                let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                remove(&entry.path())?;
                collected.add(Collected { files_deleted: 1, bytes });
            }
            Ok(collected)
        })
        .await
    }

    async fn part(&mut self, upload: u64) -> Result<Part, Error> {
        if let Some(part) = self.open.remove(&upload) {
            return Ok(part);
        }
        if self.open.len() >= OPEN_MAX {
            return Err(refused(format!("more than {OPEN_MAX} files are on their way at once")));
        }
        let (folder, path) = (self.folder.clone(), self.folder.join(format!("{:020}-{upload}.part", self.claim_seq)));
        blocking(move || {
            let made = std::fs::create_dir_all(&folder).and_then(|()| File::create(&path));
            let file = made.map_err(|source| file_error(&path, source))?;
            Ok(Part { file, path, digest: Sha256::new(), bytes: 0 })
        })
        .await
    }

    /// Whatever is committed can be published: a path that could not is refused while nothing depends on it.
    fn check(&self, table: &TableName, path: &str) -> Result<(), Error> {
        if !is_plain(path) {
            return Err(refused(format!("the path {path:?} is not a relative path of plain names")));
        }
        if self.pending.len() >= FILES_PER_WINDOW_MAX {
            let what = "files since the last checkpoint pass the limit: checkpoint more often";
            return Err(refused(format!("{what} (at most {FILES_PER_WINDOW_MAX})")));
        }
        let has_file = |folder: &str| self.pending.contains_key(&(table.clone(), folder.to_owned()));
        if folders(path).any(has_file) {
            return Err(clash(table, path, FOLDER_NEEDED));
        }
        let below = format!("{path}/");
        let mut later = self.pending.range((table.clone(), below.clone())..);
        if later.next().is_some_and(|((other, found), _)| other == table && found.starts_with(&below)) {
            return Err(clash(table, path, IS_FOLDER));
        }
        Ok(())
    }
}

const FOLDER_NEEDED: &str = "needs a folder where a file lies";
const IS_FOLDER: &str = "is a folder of other files";

/// The same among the files that are published already. Blocks.
fn check_place((published, table, path): (PathBuf, TableName, String)) -> Result<(), Error> {
    let is_file = |folder: &str| std::fs::symlink_metadata(published.join(folder)).is_ok_and(|found| !found.is_dir());
    if folders(&path).any(is_file) {
        return Err(clash(&table, &path, FOLDER_NEEDED));
    }
    if published.join(&path).is_dir() { Err(clash(&table, &path, IS_FOLDER)) } else { Ok(()) }
}

fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end))
}

fn clash(table: &TableName, path: &str, what: &str) -> Error {
    refused(format!("the path {path:?} of {table} {what}"))
}

/// Puts the files of one Commit to one table in their places. Repeating it changes nothing.
pub(super) async fn publish(store: &Store, table: &TableName, claim_seq: u64, uploads: &[Upload]) -> Result<(), Error> {
    let (Some(root), false) = (store.local_root(), uploads.is_empty()) else { return Ok(()) };
    let (root, store, table, uploads) = (root.to_owned(), store.clone(), table.clone(), uploads.to_vec());
    blocking(move || {
        let folder = published(&root, &table);
        let mut changed = BTreeSet::new();
        for upload in &uploads {
            let (staged, place) = (root.join(&upload.key), folder.join(&upload.path));
            link(&table, &staged, &place, claim_seq)?;
            // All of them, also when the file was there: whoever put it may have ended before this.
            changed.extend(place.ancestors().skip(1).take_while(|at| at.starts_with(&folder)).map(Path::to_owned));
            failpoint::hit("P22");
        }
        changed.extend(folder.parent().map(Path::to_owned));
        changed.iter().try_for_each(|folder| store.sync_folder(folder))?;
        failpoint::hit("P23");
        Ok(())
    })
    .await
}

/// The place has the old content or the new one, at every instant.
fn link(table: &TableName, staged: &Path, place: &Path, claim_seq: u64) -> Result<(), Error> {
    // The names of the user's files are values of rows: messages name the staged object.
    let failed = |source| file_error(staged, source);
    let key = || staged.display().to_string();
    let found = match std::fs::metadata(staged) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::FileMissing { table: table.clone(), path: key() });
        }
        Err(source) => return Err(failed(source)),
    };
    let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (found.dev(), found.ino());
    if std::fs::symlink_metadata(place).is_ok_and(same) {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let beside = staged.with_file_name(format!("{claim_seq:020}-link-{}", uuid::Uuid::new_v4().simple()));
    if std::fs::hard_link(staged, &beside).is_err() {
        // Too many names for one file, most likely: an own copy is as good.
        std::fs::copy(staged, &beside).and_then(|_| File::open(&beside)?.sync_all()).map_err(failed)?;
    }
    std::fs::rename(&beside, place).map_err(failed)
}

fn published(root: &Path, table: &TableName) -> PathBuf {
    root.join(&table.schema).join(&table.table).join(PUBLISHED)
}

fn stage_prefix(connection: &str) -> String {
    format!("_inshore/{connection}/stage")
}

fn is_plain(path: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && name.len() <= NAME_BYTES_MAX;
    path.len() <= PATH_BYTES_MAX && !path.chars().any(char::is_control) && path.split('/').all(plain)
}

fn refused(what: String) -> Error {
    Error::UploadRefused { what }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
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
}
