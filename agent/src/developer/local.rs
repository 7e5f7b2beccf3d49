//! The lake in the project's `files` folder, with the state beside it in `state.json`: rewritten at every commit, so
//! that a run that is killed starts again from its last checkpoint.

use std::path::{Path, PathBuf};

use inshore_columnar::TableName;

use crate::batch::{CurrentTable, SealedFile};
use crate::destination::{Applied, Collected, CommitRequest, Committed, Destination, Error, FileRef, Lake};

/// A lake and the file that shows its state.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) lake: Lake,
    pub(super) state_file: PathBuf,
}

impl Destination for Local {
    fn state(&self) -> &str {
        self.lake.state()
    }

    fn current(&self, table: &TableName) -> Option<CurrentTable> {
        self.lake.current(table)
    }

    fn last_synced_ms(&self) -> i64 {
        self.lake.last_synced_ms()
    }

    async fn write(&self, file: SealedFile) -> Result<FileRef, Error> {
        self.lake.write(file).await
    }

    async fn commit(&mut self, request: CommitRequest) -> Result<Committed, Error> {
        let state = request.state.clone();
        let committed = self.lake.commit(request).await?;
        replace(&self.state_file, &state).map_err(|error| Error::BadRequest {
            reason: format!("{} could not be written: {error}", self.state_file.display()),
        })?;
        Ok(committed)
    }

    async fn apply(&mut self) -> Result<Applied, Error> {
        self.lake.apply().await
    }

    async fn collect_garbage(&mut self) -> Result<Collected, Error> {
        self.lake.collect_garbage().await
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}
