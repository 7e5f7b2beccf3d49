//! Where rows arrive, and where the connection's state lives. The destination is the authority: data and state commit in
//! one step, the creation of one small object at the next slot of the connection's chain (`chain`). Committed entries are
//! rolled forward into tables, whose marker moves in the same commit as their rows (`lake`).
//!
//! `write` makes a file accepted, `commit` makes a checkpoint durable, `apply` makes it visible.

mod chain;
mod error;
mod formats;
mod lake;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use inshore_columnar::TableName;
use inshore_config::StoreOptions;
use inshore_trust::{JobSigner, PublicKey};
use url::Url;

pub(crate) use self::chain::history::{History, Past};
use self::chain::probe::Effort;
pub(crate) use self::chain::probe::{Label, Step};
pub(crate) use self::error::Error;
pub(crate) use self::formats::{Formats, Merge};
pub(crate) use self::lake::Lake;
use crate::batch::{CurrentTable, SealedFile, SealedTable};

/// Removed files stay this long for readers of older table versions (Delta's own default).
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The schema of tables that all connections write. No connector may name it, and no sync fails over them.
pub(crate) const SHARED_SCHEMA: &str = "inshore_log";

/// A lake under one root address.
#[derive(Debug, Clone)]
pub(crate) struct LakeSettings {
    /// `file:///…`, `s3://…`, `gs://…`, `az://…`, `abfss://…`
    pub(crate) root: Url,
    /// How this host reaches an object store.
    pub(crate) options: StoreOptions,
    /// fsync of file and directory before a write counts as done. Off only where a test wants speed.
    pub(crate) fsync: bool,
    /// How long removed files stay for readers of older versions, measured by the table's own commits.
    pub(crate) retention: Duration,
    pub(crate) formats: Formats,
    pub(crate) merge: Merge,
}

/// Who writes: signed into every entry.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection_id: String,
    pub(crate) agent_id: String,
    pub(crate) job_id: String,
    pub(crate) generation: u64,
    pub(crate) signer: JobSigner,
    pub(crate) trusted_root: PublicKey,
}

/// An accepted data file: stored and verified, named by no entry yet.
#[derive(Debug, Clone)]
pub(crate) struct FileRef {
    pub(crate) table: TableName,
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) sha256: [u8; 32],
}

/// One checkpoint: the state and everything emitted before it.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) state: String,
    pub(crate) synced_at_ms: i64,
    pub(crate) tables: Vec<SealedTable>,
    /// What `write` answered, in the order of the sealed files; the steps name files by their place here.
    pub(crate) files: Vec<FileRef>,
}

/// Reading again what is there: from an empty state, with the old rows in place until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resync {
    /// Above every instant of a row from before. What is below at the end is marked deleted.
    pub(crate) bound_at_ms: i64,
    /// None: all tables of the connection.
    pub(crate) tables: Option<Vec<TableName>>,
    /// The state that the connection goes on from afterwards; none: the one that was reached.
    pub(crate) kept: Option<String>,
}

/// The slot that made a checkpoint durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) seq: u64,
}

/// A table as its readers find it: columns in order with their types, and the data files below the root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LiveTable {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<(String, String)>,
    pub(crate) files: Vec<String>,
}

/// What a roll-forward did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) table_commits: u64,
}

/// What garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) files_deleted: u64,
    pub(crate) bytes: u64,
}

/// What a sync needs of a destination. Every method may be dropped at any await: the next open puts things right.
pub(crate) trait Destination {
    /// The state of the last commit; `{}` when there is none.
    fn state(&self) -> &str;

    /// The re-sync that the next commit belongs to: at first that of the last commit.
    fn resync(&self) -> Option<&Resync>;

    /// Makes the next commits part of a re-sync, or the next one its end.
    fn set_resync(&mut self, resync: Option<Resync>);

    /// The connection's own tables at the head.
    fn tables(&self) -> Vec<TableName>;

    /// The logical schema of a table at the head: committed, perhaps not yet applied.
    fn current(&self, table: &TableName) -> Option<CurrentTable>;

    /// The newest `synced_at_ms` of the chain; a commit must be above it.
    fn last_synced_ms(&self) -> i64;

    /// Whether there is a place for files beside rows.
    fn takes_files(&self) -> bool;

    /// Bytes of a file beside a row, in their order.
    fn file_chunk(&mut self, upload: u64, bytes: Vec<u8>) -> impl Future<Output = Result<(), Error>> + Send;

    /// The file is whole: the next commit names it, and `apply` publishes it under its path.
    fn file_end(
        &mut self,
        upload: u64,
        table: TableName,
        path: String,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Nothing of this file is wanted any more.
    fn file_abandoned(&mut self, upload: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// Stores one sealed file. Done means accepted: size verified, content named by its hash.
    fn write(&self, file: SealedFile) -> impl Future<Output = Result<FileRef, Error>> + Send;

    /// Makes a checkpoint durable. `Error::is_fenced` says that a newer writer holds the connection: drop the batch.
    fn commit(&mut self, request: CommitRequest) -> impl Future<Output = Result<Committed, Error>> + Send;

    /// Rolls every table forward to the head.
    fn apply(&mut self) -> impl Future<Output = Result<Applied, Error>> + Send;

    /// Deletes what no entry and no retained table version can need. Call after `apply`.
    fn collect_garbage(&mut self) -> impl Future<Output = Result<Collected, Error>> + Send;

    /// Drops what was stored for the open window, rows and files beside them: nothing will be committed any more.
    fn discard(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Why a table of `SHARED_SCHEMA` could not be read or written; said once. The connection's own data went on.
    fn set_aside(&mut self) -> Option<Error>;
}

impl FileRef {
    /// Stands for a file that was not accepted, so that those after it keep their places. No step may name it.
    pub(crate) fn none(table: TableName) -> FileRef {
        FileRef { table, key: String::new(), bytes: 0, rows: 0, sha256: [0; 32] }
    }
}

impl Collected {
    fn add(&mut self, more: Collected) {
        self.files_deleted += more.files_deleted;
        self.bytes += more.bytes;
    }
}

impl LakeSettings {
    pub(crate) fn new(root: Url) -> LakeSettings {
        let (formats, merge) = (Formats::Both, Merge::Auto);
        LakeSettings { root, options: StoreOptions::default(), fsync: true, retention: RETENTION, formats, merge }
    }

    /// How the tables are kept.
    fn terms(&self) -> lake::Terms {
        let local = self.root.to_file_path().map(|folder| format!("file://{}", folder.display()));
        let address = local.unwrap_or_else(|()| self.root.to_string());
        let root = address.trim_end_matches('/').into();
        let marks = self.formats.marks(self.merge);
        lake::Terms { root, formats: self.formats, marks, retention: self.retention }
    }
}

/// Opens a lake for writing: reads the chain, rolls tables forward, claims the connection.
pub(crate) async fn open(settings: &LakeSettings, writer: Writer) -> Result<Lake, Error> {
    let store = store::Store::open_with(&settings.root, &settings.options, settings.fsync)?;
    Lake::open(store, settings.terms(), writer).await
}

/// Reads what a connection committed, without claiming it: the newest `commits_max`, and on to the slot `back_to`.
pub(crate) async fn history(
    settings: &LakeSettings,
    connection_id: &str,
    trusted_root: PublicKey,
    reach: (usize, Option<u64>),
) -> Result<History, Error> {
    let store = store::Store::open_with(&settings.root, &settings.options, settings.fsync)?;
    History::read(&store, connection_id, trusted_root, reach).await
}

/// Checks what the store behind an address can promise; the label is shown wherever the destination is.
pub(crate) async fn probe(settings: &LakeSettings) -> Result<Label, Error> {
    chain::probe::probe(settings, Effort::FULL).await
}

/// The same, with every step told as it ends.
pub(crate) async fn examine(settings: &LakeSettings, told: &mut (dyn FnMut(Step) + Send)) -> Result<Label, Error> {
    chain::probe::examine(settings, Effort::FULL, told).await
}
