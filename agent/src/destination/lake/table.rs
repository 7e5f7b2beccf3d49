//! A table in the format that roll-forward reads and commits. What an entry does to it is decided on its `Snapshot`
//! (`apply`); this is the one place that knows which format stores the result.

use std::ops::Deref;
use std::time::Duration;

use inshore_columnar::TableName;

use super::snapshot::{Changes, Snapshot};
use super::{checkpoint, delta};
use crate::destination::error::Error;
use crate::destination::store::{Created, Store, classify};
use crate::failpoint;

/// A table at the version that we know.
#[derive(Debug, Clone)]
pub(crate) enum Table {
    Delta(delta::Table),
}

/// What became of a table commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landed {
    /// It is the table's version now, and the snapshot shows it.
    Ours,
    /// Another writer's version stands there, or nobody answered: refresh, and ask the marker.
    Unknown,
}

impl Deref for Table {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        match self {
            Table::Delta(table) => table,
        }
    }
}

impl Table {
    /// Loads the newest version. A table that is not there yet is one without version.
    pub(crate) async fn load(store: &Store, connection: &str, table: &TableName) -> Result<Table, Error> {
        delta::Table::load(store, connection, table).await.map(Table::Delta)
    }

    /// Reads the versions above the known one.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), Error> {
        match self {
            Table::Delta(table) => table.refresh(store).await,
        }
    }

    /// Puts the changes and the marker `seq` on the known version, in one step.
    pub(crate) async fn commit(
        &mut self,
        store: &Store,
        changes: &Changes,
        (seq, timestamp_ms): (u64, i64),
        retention: Duration,
    ) -> Result<Landed, Error> {
        match self {
            Table::Delta(table) => {
                if !changes.marked.is_empty() || changes.added.iter().any(|file| file.deletes.is_some()) {
                    let reason = format!("{} is a Delta table, whose readers know no delete files", table.table);
                    return Err(Error::BadRequest { reason });
                }
                let body = table.next_version(changes, seq, timestamp_ms);
                let path = table.next_log_path();
                failpoint::hit("P13");
                let answer = store.create(&path, body.clone()).await;
                failpoint::hit("P13b");
                match answer {
                    Created::Mine => table.replay(table.next_number(), &body)?,
                    Created::Refused(source) => return Err(classify(&path, source)),
                    Created::Taken | Created::Unknown(_) => return Ok(Landed::Unknown),
                }
                checkpoint::keep(store, table, retention).await;
            }
        }
        Ok(Landed::Ours)
    }
}
