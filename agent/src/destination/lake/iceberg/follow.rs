//! Iceberg as the follower of a Delta table: one commit brings file set, schema and markers to exactly one version of the
//! Delta table. A pure function of the two; what a crash left behind is caught up by the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::manifest::Content;
use super::plan::live_paths;
use super::{Facts, Table, marked_connection, marker_property, table_uuid};
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::lake::delta;
use crate::destination::lake::snapshot::{Changes, DataFile};
use crate::destination::lake::stats::Stats;
use crate::destination::lake::table::Landed;
use crate::destination::store::{Store, backoff};
use crate::failpoint;

/// The version of the Delta table that this is, and which Delta table.
const DELTA_VERSION_PROPERTY: &str = "inshore.delta.version";
pub(super) const DELTA_ID_PROPERTY: &str = "inshore.delta.id";
/// How often one commit meets another writer before we stop.
const ATTEMPTS_MAX: u32 = 12;
/// The same for a table that all connections write.
const SHARED_ATTEMPTS_MAX: u32 = 200;

impl Table {
    /// Brings the table to this version of the Delta table. Says whether a version was written.
    pub(crate) async fn follow(
        &mut self,
        store: &Store,
        delta: &delta::Table,
        retention: Duration,
    ) -> Result<bool, Error> {
        let attempts_max = if self.is_shared() { SHARED_ATTEMPTS_MAX } else { ATTEMPTS_MAX };
        for attempt in 1..=attempts_max {
            if self.shows(delta) {
                return Ok(attempt > 1);
            }
            self.ensure_manifests(store).await?;
            let changes = self.behind(store, delta).await?;
            let facts = facts(delta);
            let version = self.next_version(&changes, &delta.files, &facts, retention)?;
            failpoint::hit("P26");
            match self.put(store, version).await? {
                Landed::Ours => return Ok(true),
                Landed::Unknown => {
                    tokio::time::sleep(backoff(attempt.min(4))).await;
                    self.refresh(store).await?;
                }
            }
        }
        Err(Error::Contended { table: self.table.clone(), attempts: attempts_max })
    }

    /// Whether the table is at this version of the Delta table, or was brought further by another writer.
    pub(crate) fn shows(&self, delta: &delta::Table) -> bool {
        let Some(version) = delta.version else { return true };
        let Some(metadata) = &self.metadata else { return delta.schema.is_none() };
        let id = metadata.properties.get(DELTA_ID_PROPERTY).map(String::as_str);
        let known = metadata.properties.get(DELTA_VERSION_PROPERTY).and_then(|version| version.parse::<u64>().ok());
        id == delta.id() && known >= Some(version) && !self.is_relocated()
    }

    /// Whether the newest version was no version of a Delta table.
    pub(crate) fn went_on_alone(&self) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| !metadata.properties.contains_key(DELTA_ID_PROPERTY))
    }

    /// The connections that write the table, each with its marker.
    pub(crate) fn markers(&self) -> impl Iterator<Item = (&str, i64)> {
        let properties = self.metadata.iter().flat_map(|metadata| &metadata.properties);
        properties.filter_map(|(key, marker)| Some((marked_connection(key)?, marker.parse().ok()?)))
    }

    /// What the Delta table has and this one lacks, and the other way round.
    async fn behind(&self, store: &Store, delta: &delta::Table) -> Result<Changes, Error> {
        let manifests = self.manifests.as_deref().unwrap_or_default();
        let known = live_paths(manifests, Content::Data);
        let mut added = Vec::new();
        for file in delta.files.values().filter(|file| !known.contains(file.path.as_str())) {
            added.push(counted(store, delta, file).await?);
        }
        let gone = known.into_iter().filter(|path| !delta.files.contains_key(*path));
        let removed = gone.map(|path| DataFile::new(path.to_owned(), 0, Stats::default())).collect();
        let schema = delta.schema.clone().filter(|schema| self.schema.as_ref() != Some(schema));
        Ok(Changes { schema, removed, added, marked: Vec::new() })
    }
}

/// The file with its count of rows, which Iceberg asks for: another program may have left it out.
async fn counted(store: &Store, delta: &delta::Table, file: &DataFile) -> Result<DataFile, Error> {
    if file.foreign.is_none() || file.stats.num_records > 0 {
        return Ok(file.clone());
    }
    let key = delta.key_of(&file.path);
    let missing = || Error::FileMissing { table: delta.table.clone(), path: key.to_string() };
    let (bytes, table) = (store.get(&key).await?.ok_or_else(missing)?, delta.table.clone());
    let stats = blocking(move || Stats::of(&bytes).map_err(|error| Error::parquet(&table, error))).await?;
    Ok(DataFile { stats, ..file.clone() })
}

fn facts(delta: &delta::Table) -> Facts {
    let mut properties: BTreeMap<String, String> =
        delta.markers().map(|(connection, marker)| (marker_property(connection), marker.to_string())).collect();
    let id = delta.id().unwrap_or_default().to_owned();
    properties.insert(DELTA_VERSION_PROPERTY.to_owned(), delta.version.unwrap_or(0).to_string());
    properties.insert(DELTA_ID_PROPERTY.to_owned(), id.clone());
    let table_uuid = if uuid::Uuid::parse_str(&id).is_ok() { id } else { table_uuid(&id) };
    Facts { properties, timestamp_ms: delta.timestamp_ms, table_uuid }
}
