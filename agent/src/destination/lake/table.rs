//! A table in the formats that its destination exposes. What an entry does to it is decided on its `Snapshot` (`apply`);
//! this is the one place that knows which format stores the result.
//!
//! The primary format is the one that roll-forward reads and commits: Delta where it is exposed, else Iceberg. Where both
//! are, Iceberg follows: it is brought to what the Delta log says, so a crash between the two is caught up.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use inshore_columnar::TableName;

use super::snapshot::{Changes, Snapshot};
use super::{checkpoint, delta, iceberg, switch};
use crate::destination::Formats;
use crate::destination::error::Error;
use crate::destination::store::{Created, Store, classify};
use crate::failpoint;

/// How the tables of a destination are kept.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The destination's address, as readers write it: without a slash at its end, nothing in it encoded.
    pub(crate) root: Arc<str>,
    pub(crate) formats: Formats,
    /// Whether rows that go may be marked in delete files.
    pub(crate) marks: bool,
    /// How long what was removed stays for readers of older versions.
    pub(crate) retention: Duration,
}

/// A table at the version that we know.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    primary: Primary,
    follower: Option<iceberg::Table>,
    marks: bool,
}

#[derive(Debug, Clone)]
enum Primary {
    Delta(delta::Table),
    Iceberg(iceberg::Table),
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
        match &self.primary {
            Primary::Delta(table) => table,
            Primary::Iceberg(table) => table,
        }
    }
}

impl Table {
    /// Loads the newest version. A table that is not there yet is one without version.
    pub(crate) async fn load(store: &Store, terms: &Terms, connection: &str, name: &TableName) -> Result<Table, Error> {
        // Boxed, as all of what switches formats: rare, and large for a future.
        let delta = || Box::pin(delta::Table::load(store, connection, name));
        let iceberg = || Box::pin(iceberg::Table::load(store, &terms.root, connection, name));
        let (primary, follower) = match terms.formats {
            Formats::Delta => (
                Primary::Delta(
                    Box::pin(switch::retire_iceberg(store, delta().await?, iceberg(), terms.retention)).await?,
                ),
                None,
            ),
            Formats::Both => {
                let mut follower = iceberg().await?;
                let delta = Box::pin(switch::delta_beside(store, delta().await?, &mut follower)).await?;
                (Primary::Delta(delta), Some(follower))
            }
            Formats::Iceberg => {
                let mut table = iceberg().await?;
                if !table.went_on_alone() {
                    Box::pin(table.follow(store, &delta().await?, terms.retention)).await?;
                }
                table.read_files(store).await?;
                (Primary::Iceberg(table), None)
            }
        };
        Ok(Table { primary, follower, marks: terms.marks })
    }

    /// The table's Delta log, where it is the primary format.
    pub(super) fn delta(&self) -> Option<&delta::Table> {
        match &self.primary {
            Primary::Delta(table) => Some(table),
            Primary::Iceberg(_) => None,
        }
    }

    /// The table's Iceberg metadata, where that is exposed.
    pub(super) fn iceberg(&self) -> Option<&iceberg::Table> {
        match &self.primary {
            Primary::Delta(_) => self.follower.as_ref(),
            Primary::Iceberg(table) => Some(table),
        }
    }

    /// Whether every exposed format has what the primary one has.
    pub(super) fn is_level(&self) -> bool {
        match (&self.primary, &self.follower) {
            (Primary::Delta(delta), Some(iceberg)) => iceberg.shows(delta),
            _ => true,
        }
    }

    /// Reads the versions above the known one.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), Error> {
        match &mut self.primary {
            Primary::Delta(table) => table.refresh(store).await,
            Primary::Iceberg(table) => {
                if table.refresh(store).await? {
                    table.read_files(store).await?;
                }
                Ok(())
            }
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
        if !self.marks && !changes.marked.is_empty() {
            let reason = format!("the readers of {} know no delete files", self.table);
            return Err(Error::BadRequest { reason });
        }
        let table = match &mut self.primary {
            Primary::Delta(table) => table,
            Primary::Iceberg(table) => {
                return Box::pin(table.commit(store, changes, (seq, timestamp_ms), retention)).await;
            }
        };
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
        Ok(Landed::Ours)
    }

    /// Brings the format that follows to what the primary one says.
    pub(crate) async fn follow(&mut self, store: &Store, retention: Duration) -> Result<(), Error> {
        if let (Primary::Delta(delta), Some(iceberg)) = (&self.primary, &mut self.follower) {
            Box::pin(iceberg.follow(store, delta, retention)).await?;
        }
        Ok(())
    }
}
