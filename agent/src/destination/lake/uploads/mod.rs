//! Files that travel beside rows: staged under their hash while a window is open, named by the Commit of their rows, and
//! published at `<schema>/<table>/_files/<path>` by the roll-forward of that Commit, before the table's own commit.
//!
//! Staged names begin with the claim, so garbage is judged as that of data files is. A file is linked into its place and
//! never copied there in parts: readers see the old content or the new one. Only local folders can do that.

mod pending;
mod publish;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use inshore_columnar::TableName;
use sha2::{Digest, Sha256};

use self::pending::Pending;
pub(super) use self::publish::publish;
use self::publish::{FOLDER_NEEDED, IS_FOLDER, check_place, published, sweep_copies};
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
    /// Whole files of the open window.
    pending: Pending,
    /// Staged files that a Commit names and no table needs once it is applied.
    named: HashSet<String>,
}

/// A file whose end has not come yet.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
}

/// A file that failed goes at once: on a full disk the next sync needs its room.
fn or_removed(path: &Path, result: Result<(), Error>) -> Result<(), Error> {
    if result.is_err() {
        drop(std::fs::remove_file(path));
    }
    result
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
            pending: Pending::default(),
            named: HashSet::new(),
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
            let written = part.file.write_all(&bytes).map_err(|source| file_error(&part.path, source));
            or_removed(&part.path, written)?;
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
            let failed = |source| file_error(&part.path, source);
            let is_whole = || {
                check_place(place)?;
                if store.fsync() {
                    part.file.sync_all().map_err(failed)?;
                }
                failpoint::hit("P21");
                // One object per content: the same bytes under the same name change nothing.
                std::fs::rename(&part.path, &staged).map_err(failed)
            };
            or_removed(&part.path, is_whole())?;
            store.sync_folder(&folder)
        })
        .await?;
        let key = format!("{}/{}", self.prefix, name(hash));
        let unused = self.pending.put(table, Upload { path, key, bytes, sha256: hash });
        // A file that every row sends anew would fill the disk before the next checkpoint.
        match unused.filter(|key| !self.named.contains(key)) {
            Some(key) => {
                let staged = self.root.join(key);
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
        let tables = std::mem::take(&mut self.pending).into_tables();
        self.named.extend(tables.values().flatten().map(|upload| upload.key.clone()));
        tables
    }

    /// Drops the open window's files: its writer commits no more.
    pub(super) async fn discard(&mut self) -> Result<(), Error> {
        let open = std::mem::take(&mut self.open).into_values().map(|part| part.path);
        let pending = std::mem::take(&mut self.pending);
        let staged = pending.keys().filter(|key| !self.named.contains(*key)).map(|key| self.root.join(key));
        let unwanted: Vec<PathBuf> = open.chain(staged).collect();
        blocking(move || unwanted.iter().try_for_each(|path| remove(path))).await
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
        self.pending = Pending::default();
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

    /// Deletes what older writers left on other disks than the chain's.
    pub(super) async fn collect_copies(&self, tables: Vec<TableName>) -> Result<Collected, Error> {
        let (root, claim_seq) = (self.root.clone(), self.claim_seq);
        blocking(move || {
            let mut collected = Collected::default();
            for table in &tables {
                collected.add(sweep_copies(&root, table, claim_seq)?);
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
        let (store, root) = (self.store.clone(), self.root.clone());
        blocking(move || {
            if !folder.is_dir() {
                std::fs::create_dir_all(&folder).map_err(|source| file_error(&folder, source))?;
                // A commit may name what lies in it: the way to it must survive a crash too.
                let made = folder.ancestors().skip(1).take_while(|at| at.starts_with(&root));
                made.into_iter().try_for_each(|folder| store.sync_folder(folder))?;
            }
            let file = File::create(&path).map_err(|source| file_error(&path, source))?;
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
        if folders(path).any(|folder| self.pending.has(table, folder)) {
            return Err(clash(table, path, FOLDER_NEEDED));
        }
        if self.pending.has_below(table, path) {
            return Err(clash(table, path, IS_FOLDER));
        }
        Ok(())
    }
}

fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end))
}

fn clash(table: &TableName, path: &str, what: &str) -> Error {
    refused(format!("the path {path:?} of {table} {what}"))
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
mod tests;
