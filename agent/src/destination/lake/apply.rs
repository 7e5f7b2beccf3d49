//! Roll-forward of one table by one chain entry: a pure function of (table version, entry), committed with the marker in
//! the same Delta version. An unanswered commit is settled by the marker of the version that is there afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use inshore_columnar::TableSchema;
use object_store::path::Path;

use super::merge::{Columns, Hit, Keys, Patch, Source, has_older_rows, rewrite};
use super::snapshot::{Changes, DataFile, Snapshot, columns_of};
use super::stats::Stats;
use super::table::{Landed, Table};
use super::uploads::publish;
use crate::destination::chain::entry::{Commit, Hash, Op, StagedFile, Step};
use crate::destination::error::Error;
use crate::destination::store::{Store, backoff};

/// How often one table commit meets another writer before we stop.
const ATTEMPTS_MAX: u32 = 12;
/// The same for a table that all connections write.
const SHARED_ATTEMPTS_MAX: u32 = 200;

/// What applying needs beside the table and the entry.
#[derive(Debug, Clone)]
pub(crate) struct Applier {
    pub(crate) store: Store,
    /// The claim under which rewritten files are named.
    pub(crate) claim_seq: u64,
    /// How long removed files stay for readers of older versions.
    pub(crate) retention: Duration,
    /// Statistics of the files that this process wrote, so that they need not be read back.
    pub(crate) known: Known,
}

/// Statistics by key below the destination's root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<Mutex<HashMap<String, Arc<Stats>>>>);

impl Known {
    pub(crate) fn insert(&self, key: String, stats: Stats) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, Arc::new(stats));
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Stats>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }

    /// The statistics of all files below a folder.
    pub(crate) fn below(&self, folder: &Path) -> Vec<Arc<Stats>> {
        let folder = format!("{folder}/");
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.iter().filter(|(key, _)| key.starts_with(&folder)).map(|(_, stats)| Arc::clone(stats)).collect()
    }
}

/// A file of the entry that names rows by key, with what is known about it.
struct Keyed<'a> {
    staged: &'a StagedFile,
    source: Source,
    stats: Arc<Stats>,
}

/// A data file of the table that the entry may touch.
struct Target<'a> {
    file: &'a DataFile,
    hits: Vec<Hit>,
    truncated: bool,
}

impl Applier {
    /// Brings the table to the entry. Says whether a version was written.
    pub(crate) async fn apply(&self, snapshot: &mut Table, commit: &Commit) -> Result<bool, Error> {
        let uploads = commit.uploads(&snapshot.table);
        if !uploads.is_empty() {
            // Another writer may have gone further: what it published must not give way to older content.
            snapshot.refresh(&self.store).await?;
        }
        let attempts_max = if snapshot.is_shared() { SHARED_ATTEMPTS_MAX } else { ATTEMPTS_MAX };
        for attempt in 1..=attempts_max {
            if snapshot.marker >= Some(commit.seq) {
                return Ok(attempt > 1);
            }
            let prepared = async {
                publish(&self.store, &snapshot.table, self.claim_seq, uploads).await?;
                self.changes(snapshot, commit).await
            };
            let changes = match prepared.await {
                Err(Error::FileMissing { table, path }) => {
                    snapshot.refresh(&self.store).await?;
                    if snapshot.marker >= Some(commit.seq) {
                        return Ok(false);
                    }
                    return Err(Error::FileMissing { table, path });
                }
                changes => changes?,
            };
            let at = (commit.seq, commit.synced_at_ms);
            match snapshot.commit(&self.store, &changes, at, self.retention).await? {
                Landed::Ours => {
                    let files = commit.steps(&snapshot.table).iter().flat_map(|step| &step.files);
                    files.for_each(|file| self.known.forget(&file.key));
                    return Ok(true);
                }
                Landed::Unknown => {
                    if snapshot.is_shared() {
                        tokio::time::sleep(backoff(attempt.min(4))).await;
                    }
                    self.look_again(snapshot, attempt).await?;
                }
            }
        }
        Err(Error::Contended { table: snapshot.table.clone(), attempts: attempts_max })
    }

    /// Reads the versions that are there now; the marker on them says whether ours landed.
    async fn look_again(&self, snapshot: &mut Table, attempt: u32) -> Result<(), Error> {
        for tries in 1..=ATTEMPTS_MAX {
            match snapshot.refresh(&self.store).await {
                Ok(()) => return Ok(()),
                Err(error) if tries == ATTEMPTS_MAX => return Err(error),
                Err(_) => tokio::time::sleep(backoff(attempt + tries)).await,
            }
        }
        Ok(())
    }

    /// What the entry does to this version.
    async fn changes(&self, snapshot: &Snapshot, commit: &Commit) -> Result<Changes, Error> {
        let before = snapshot.schema.clone();
        let op = commit.schema_op(&snapshot.table).map(TableSchema::from);
        let after = op.or_else(|| before.clone());
        let after = after.ok_or_else(|| Error::TableAbsent { table: snapshot.table.clone() })?;
        let columns = Arc::new(Columns {
            table: snapshot.table.clone(),
            before: before.as_ref().map(columns_of).unwrap_or_default(),
            after: columns_of(&after),
            key: after.effective_key(),
        });
        let steps = commit.steps(&snapshot.table);
        let keyed = self.keyed(snapshot, steps).await?;
        let mut changes = Changes::default();
        self.rewrite_targets(snapshot, commit, &columns, &keyed, &mut changes).await?;
        let prefix = format!("{}/", snapshot.folder);
        for upsert in keyed.iter().filter(|keyed| keyed.source.op == Op::Upsert) {
            let path = upsert.staged.key.strip_prefix(&prefix).ok_or_else(|| missing(snapshot, upsert.staged))?;
            let stats = upsert.stats.as_ref().clone();
            changes.added.push(DataFile::new(path.to_owned(), upsert.staged.bytes, stats));
        }
        changes.schema = (before.as_ref() != Some(&after)).then_some(after);
        Ok(changes)
    }

    /// The entry's files, in step order. What this process wrote is confirmed by HEAD, anything else is read and verified.
    async fn keyed<'a>(&self, snapshot: &Snapshot, steps: &'a [Step]) -> Result<Vec<Keyed<'a>>, Error> {
        let mut keyed = Vec::new();
        for step in steps {
            for staged in &step.files {
                let stats = match self.known.get(&staged.key) {
                    Some(stats) => {
                        let size = self.store.size(&key_path(staged)?).await?;
                        if size != Some(staged.bytes) {
                            return Err(missing(snapshot, staged));
                        }
                        stats
                    }
                    None => {
                        let bytes = self.staged(snapshot, staged).await?;
                        Arc::new(footer(snapshot, bytes).await?)
                    }
                };
                keyed.push(Keyed { staged, source: Source { op: step.op, columns: step.columns.clone() }, stats });
            }
        }
        Ok(keyed)
    }

    async fn rewrite_targets(
        &self,
        snapshot: &Snapshot,
        commit: &Commit,
        columns: &Arc<Columns>,
        keyed: &[Keyed<'_>],
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let steps = commit.steps(&snapshot.table);
        let truncate = steps.iter().filter(|step| step.op == Op::Truncate).filter_map(|step| step.bound_at_ms).max();
        let mut targets: Vec<Target<'_>> =
            snapshot.files.values().map(|file| Target { file, hits: Vec::new(), truncated: false }).collect();
        if let Some(bound) = truncate {
            self.find_older(snapshot, columns, bound, &mut targets).await?;
        }
        self.find_hits(snapshot, columns, keyed, &mut targets).await?;
        let widened = columns.widened();
        for (part, target) in targets.into_iter().enumerate() {
            if !widened && !target.truncated && target.hits.is_empty() {
                continue;
            }
            let replaced = self.rewritten(snapshot, columns, truncate, keyed, &target).await?;
            if let Some(bytes) = replaced {
                let name = format!("r{}-{}-{part}-{}.parquet", self.claim_seq, commit.seq, Hash::of(&bytes).short());
                self.store.put_file(&snapshot.data_folder().join(name.as_str()), &bytes).await?;
                let size = bytes.len() as u64;
                let stats = footer(snapshot, bytes).await?;
                changes.added.push(DataFile::new(snapshot.relative(&name), size, stats));
            }
            changes.removed.push(target.file.clone());
        }
        Ok(())
    }

    /// Marks the files that a truncate changes. Files whose oldest row is younger than the bound are not read.
    async fn find_older(
        &self,
        snapshot: &Snapshot,
        columns: &Arc<Columns>,
        bound: i64,
        targets: &mut [Target<'_>],
    ) -> Result<(), Error> {
        for target in targets.iter_mut().filter(|target| target.file.stats.may_be_older(bound)) {
            let (bytes, columns) = (self.data(snapshot, target.file).await?, Arc::clone(columns));
            target.truncated = blocking(move || has_older_rows(&columns, bytes, bound)).await?;
        }
        Ok(())
    }

    /// Finds the rows that the entry names. Only pairs of files whose key bounds overlap are read.
    async fn find_hits(
        &self,
        snapshot: &Snapshot,
        columns: &Arc<Columns>,
        keyed: &[Keyed<'_>],
        targets: &mut [Target<'_>],
    ) -> Result<(), Error> {
        let unbounded = columns.key_widened();
        let meets =
            |file: &DataFile, keyed: &Keyed<'_>| unbounded || file.stats.may_share_key(&keyed.stats, &columns.key);
        let mut keys = Keys::default();
        let mut group = Vec::new();
        for (number, source) in keyed.iter().enumerate() {
            if !targets.iter().any(|target| meets(target.file, source)) {
                continue;
            }
            let bytes = self.staged(snapshot, source.staged).await?;
            let number = u32::try_from(number).expect("an entry has few files");
            let mut from = Some(0);
            while let Some(row) = from {
                let (bytes, logical) = (bytes.clone(), Arc::clone(columns));
                let load = move || keys.load(&logical, number, bytes, row).map(|rest| (keys, rest));
                (keys, from) = blocking(load).await?;
                group.push(source);
                if keys.is_full() {
                    let touched = |file: &DataFile| group.iter().any(|source| meets(file, source));
                    self.probe(snapshot, columns, std::mem::take(&mut keys), targets, touched).await?;
                    group.clear();
                }
            }
        }
        let touched = |file: &DataFile| group.iter().any(|source| meets(file, source));
        self.probe(snapshot, columns, keys, targets, touched).await?;
        targets.iter_mut().for_each(|target| target.hits.sort_unstable());
        Ok(())
    }

    /// Notes which rows of the files that may be touched these keys name.
    async fn probe(
        &self,
        snapshot: &Snapshot,
        columns: &Arc<Columns>,
        keys: Keys,
        targets: &mut [Target<'_>],
        touched: impl Fn(&DataFile) -> bool,
    ) -> Result<(), Error> {
        let keys = Arc::new(keys);
        for target in targets.iter_mut().filter(|target| touched(target.file)) {
            let (bytes, columns, keys) =
                (self.data(snapshot, target.file).await?, Arc::clone(columns), Arc::clone(&keys));
            target.hits.extend(blocking(move || keys.probe(&columns, bytes)).await?);
        }
        Ok(())
    }

    async fn rewritten(
        &self,
        snapshot: &Snapshot,
        columns: &Arc<Columns>,
        truncate: Option<i64>,
        keyed: &[Keyed<'_>],
        target: &Target<'_>,
    ) -> Result<Option<Bytes>, Error> {
        let mut patches = BTreeMap::new();
        for (number, source) in keyed.iter().enumerate().filter(|(_, keyed)| keyed.source.op != Op::Upsert) {
            let number = u32::try_from(number).expect("an entry has few files");
            let hits: Vec<Hit> = target.hits.iter().filter(|hit| hit.source == number).copied().collect();
            if hits.is_empty() {
                continue;
            }
            let (bytes, columns, source) =
                (self.staged(snapshot, source.staged).await?, Arc::clone(columns), source.source.clone());
            patches.insert(number, blocking(move || Patch::load(&columns, &source, bytes, &hits)).await?);
        }
        let sources: Vec<Source> = keyed.iter().map(|keyed| keyed.source.clone()).collect();
        let (hits, columns) = (target.hits.clone(), Arc::clone(columns));
        let bytes = self.data(snapshot, target.file).await?;
        blocking(move || rewrite(&columns, bytes, truncate, &hits, &sources, &patches)).await
    }

    /// A file of the entry, verified by its hash.
    async fn staged(&self, snapshot: &Snapshot, staged: &StagedFile) -> Result<Bytes, Error> {
        let path = key_path(staged)?;
        let bytes = self.store.get(&path).await?.ok_or_else(|| missing(snapshot, staged))?;
        let sha256 = staged.sha256;
        blocking(move || {
            if Hash::of(&bytes) == sha256 { Ok(bytes) } else { Err(Error::FileDamaged { path: path.to_string() }) }
        })
        .await
    }

    async fn data(&self, snapshot: &Snapshot, file: &DataFile) -> Result<Bytes, Error> {
        let path = snapshot.key_of(&file.path);
        let missing = || Error::FileMissing { table: snapshot.table.clone(), path: path.to_string() };
        self.store.get(&path).await?.ok_or_else(missing)
    }
}

fn missing(snapshot: &Snapshot, staged: &StagedFile) -> Error {
    Error::FileMissing { table: snapshot.table.clone(), path: staged.key.clone() }
}

/// A key in an entry is a path as it was written; it is not encoded again.
fn key_path(staged: &StagedFile) -> Result<Path, Error> {
    Path::parse(&staged.key).map_err(|_| Error::FileDamaged { path: staged.key.clone() })
}

async fn footer(snapshot: &Snapshot, bytes: Bytes) -> Result<Stats, Error> {
    let table = snapshot.table.clone();
    blocking(move || Stats::of(&bytes).map_err(|error| Error::parquet(&table, error))).await
}

/// Decoding, hashing and compression run off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::Worker { source })?
}
