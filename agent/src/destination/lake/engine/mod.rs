//! What a chain entry does to one version of a table, as files: which rows it names (`find`), the files that replace those
//! it touches (`replace`) or the marks that rows of them are gone (`marks`), the files it adds. A pure function of (table
//! version, entry), but for the names of new files.
//!
//! Its memory is bounded whatever the size of the table: keys come in groups, files in row groups.

mod code;
mod find;
pub(super) mod index;
mod input;
mod keys;
mod marks;
mod reader;
mod replace;
mod rewrite;

use std::sync::Arc;

use bytes::Bytes;
use inshore_columnar::TableSchema;
use object_store::path::Path;

use self::code::Kind;
use self::keys::Hit;
use self::reader::{KeyColumns, KeyFile};
use self::rewrite::{Columns, Source};
use super::apply::{Applier, blocking};
use super::snapshot::{Changes, DataFile, Snapshot, columns_of};
use super::stats::Stats;
use crate::destination::chain::entry::{Commit, Hash, Op, StagedFile, Step};
use crate::destination::error::Error;

/// Files that are worked on at once, cores permitting.
const FILES_PARALLEL_MAX: usize = 4;

/// One entry on its way into one version of a table.
struct Work<'a> {
    applier: &'a Applier,
    snapshot: &'a Snapshot,
    commit: &'a Commit,
    columns: Arc<Columns>,
    keyed: Vec<Keyed<'a>>,
    sources: Arc<Vec<Source>>,
    truncate_before_ms: Option<i64>,
}

/// A file of the entry that names rows by key, with what is known about it.
struct Keyed<'a> {
    staged: &'a StagedFile,
    path: Path,
    op: Op,
    stats: Arc<Stats>,
}

/// A data file of the table that the entry may touch.
struct Target {
    file: DataFile,
    truncated: bool,
    /// Rows that an upsert replaces.
    dropped: Vec<u32>,
    /// Rows that other steps name.
    patched: Vec<Hit>,
}

impl Applier {
    /// What the entry does to this version.
    pub(super) async fn changes(&self, snapshot: &Snapshot, commit: &Commit) -> Result<Changes, Error> {
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
        let named = steps.iter().flat_map(|step| step.files.iter().map(move |_| step));
        let sources = named.map(|step| Source { op: step.op, columns: step.columns.clone() }).collect();
        let truncates = steps.iter().filter(|step| step.op == Op::Truncate);
        let truncate_before_ms = truncates.filter_map(|step| step.bound_at_ms).max();
        let work =
            Work { applier: self, snapshot, commit, columns, keyed, sources: Arc::new(sources), truncate_before_ms };
        let mut changes = Changes::default();
        let targets = work.find().await?;
        work.replace(targets, &mut changes).await?;
        let prefix = format!("{}/", snapshot.folder);
        for upsert in work.keyed.iter().filter(|keyed| keyed.op == Op::Upsert) {
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
                let path = key_path(staged)?;
                let stats = match self.known.get(&staged.key) {
                    Some(stats) => {
                        if self.store.size(&path).await? != Some(staged.bytes) {
                            return Err(missing(snapshot, staged));
                        }
                        stats
                    }
                    None => self.verified(snapshot, staged, &path).await?,
                };
                keyed.push(Keyed { staged, path, op: step.op, stats });
            }
        }
        Ok(keyed)
    }

    /// A file that another process wrote: are its bytes those of the entry?
    async fn verified(&self, snapshot: &Snapshot, staged: &StagedFile, path: &Path) -> Result<Arc<Stats>, Error> {
        let bytes: Bytes = self.store.get(path).await?.ok_or_else(|| missing(snapshot, staged))?;
        let (sha256, path, table) = (staged.sha256, path.to_string(), snapshot.table.clone());
        let stats = blocking(move || {
            if Hash::of(&bytes) != sha256 {
                return Err(Error::FileDamaged { path });
            }
            Stats::of(&bytes).map_err(|error| Error::parquet(&table, error))
        });
        Ok(Arc::new(stats.await?))
    }
}

impl Work<'_> {
    /// How keys are read from files of the table before the entry, or from those of the entry.
    fn key_columns(&self, of_entry: bool) -> KeyColumns {
        let key = self.columns.key_columns();
        let from = if of_entry { &self.columns.after } else { &self.columns.before };
        KeyColumns {
            table: self.snapshot.table.clone(),
            kind: Kind::of(&key),
            key: Arc::new(key),
            from: Arc::new(from.clone()),
        }
    }

    fn key_file(&self, columns: &KeyColumns, file: &DataFile) -> KeyFile {
        let (path, rows) = (self.snapshot.key_of(&file.path), file.stats.num_records);
        let index = columns.index_of(&self.snapshot.folder, &file.path, rows);
        KeyFile { path, bytes: file.bytes, rows, index }
    }

    /// Files that are worked on at once.
    fn parallel() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(FILES_PARALLEL_MAX)
    }
}

fn missing(snapshot: &Snapshot, staged: &StagedFile) -> Error {
    Error::FileMissing { table: snapshot.table.clone(), path: staged.key.clone() }
}

/// A key in an entry is a path as it was written; it is not encoded again.
fn key_path(staged: &StagedFile) -> Result<Path, Error> {
    Path::parse(&staged.key).map_err(|_| Error::FileDamaged { path: staged.key.clone() })
}
