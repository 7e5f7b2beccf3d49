//! The lake in the project's `files` folder, with the state beside it in `state.json`: rewritten at every commit, so
//! that a run that is killed starts again from its last checkpoint.

use std::path::{Path, PathBuf};

use inshore_columnar::TableName;

use super::happening::{Happening, Tables, Tell};
use crate::batch::{CurrentTable, SealedFile};
use crate::destination::{Applied, Collected, CommitRequest, Committed, Destination, Error, FileRef, Lake, Resync};

/// A lake, the file that shows its state, and who is told what becomes durable.
pub(super) struct Local<'a> {
    pub(super) lake: Lake,
    /// None where the lake alone keeps the state.
    state_file: Option<PathBuf>,
    tables: Tables,
    tell: Tell<'a>,
}

impl<'a> Local<'a> {
    pub(super) fn new(lake: Lake, state_file: Option<PathBuf>, tell: Tell<'a>) -> Self {
        let tables = Tables::before(lake.live_tables());
        Self { lake, state_file, tables, tell }
    }
}

impl Destination for Local<'_> {
    fn state(&self) -> &str {
        self.lake.state()
    }

    fn resync(&self) -> Option<&Resync> {
        self.lake.resync()
    }

    fn set_resync(&mut self, resync: Option<Resync>) {
        self.lake.set_resync(resync);
    }

    fn tables(&self) -> Vec<TableName> {
        self.lake.tables()
    }

    fn current(&self, table: &TableName) -> Option<CurrentTable> {
        self.lake.current(table)
    }

    fn last_synced_ms(&self) -> i64 {
        self.lake.last_synced_ms()
    }

    fn takes_files(&self) -> bool {
        self.lake.takes_files()
    }

    async fn file_chunk(&mut self, upload: u64, bytes: Vec<u8>) -> Result<(), Error> {
        self.lake.file_chunk(upload, bytes).await
    }

    async fn file_end(&mut self, upload: u64, table: TableName, path: String) -> Result<(), Error> {
        self.lake.file_end(upload, table, path).await
    }

    async fn file_abandoned(&mut self, upload: u64) -> Result<(), Error> {
        self.lake.file_abandoned(upload).await
    }

    async fn write(&self, file: SealedFile) -> Result<FileRef, Error> {
        self.lake.write(file).await
    }

    async fn commit(&mut self, request: CommitRequest) -> Result<Committed, Error> {
        let state = request.state.clone();
        let committed = self.lake.commit(request).await?;
        if let Some(path) = &self.state_file {
            replace(path, &state).map_err(|error| Error::BadRequest {
                reason: format!("{} could not be written: {error}", path.display()),
            })?;
        }
        (self.tell)(Happening::Checkpoint { state_bytes: state.len() });
        Ok(committed)
    }

    async fn apply(&mut self) -> Result<Applied, Error> {
        let applied = self.lake.apply().await?;
        for change in self.tables.changes(self.lake.live_tables()) {
            (self.tell)(Happening::Table(change));
        }
        Ok(applied)
    }

    async fn collect_garbage(&mut self) -> Result<Collected, Error> {
        self.lake.collect_garbage().await
    }

    async fn discard(&mut self) -> Result<(), Error> {
        self.lake.discard().await
    }

    fn set_aside(&mut self) -> Option<Error> {
        self.lake.set_aside()
    }
}

/// Whoever looks at the file sees the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
