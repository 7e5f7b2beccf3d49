//! Which objects of a table's Iceberg metadata nobody needs any more, by DELIVERY §8: no clock. An object's name says
//! which version was to name it first. Once that version is there, an object that no kept snapshot leads to can never be
//! named; one of a version to come is left to whoever is writing it.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::manifest::{ManifestFile, decode_list};
use super::read::{READ_AHEAD, version_number};
use super::{METADATA_LOG_MAX, Table};
use crate::destination::Collected;
use crate::destination::error::Error;
use crate::destination::store::Store;
use crate::failpoint;

/// A sweep reads the manifest list of every kept snapshot, so it waits for as many versions.
const EVERY: usize = 64;
/// Of so few snapshots the lists are read whenever something may be free.
const FEW: usize = 8;

impl Table {
    /// Whether a sweep is worth its reading. `listed` is the metadata folder.
    fn is_due(&self, listed: &[ObjectMeta]) -> bool {
        let versions = listed.iter().filter(|object| version_number(&object.location).is_some()).count();
        versions >= METADATA_LOG_MAX + EVERY || self.has_few_snapshots() || self.has_losers(listed)
    }

    /// Whether two writers made one version: the objects of the one who lost lie there.
    fn has_losers(&self, listed: &[ObjectMeta]) -> bool {
        let mut seen = BTreeSet::new();
        let lists = listed.iter().filter_map(|object| list_number(&object.location));
        lists.filter(|number| Some(*number) <= self.version).any(|number| !seen.insert(number))
    }

    /// What was removed after this instant, some kept snapshot may still reference.
    pub(crate) fn oldest_snapshot_ms(&self) -> i64 {
        let snapshots = self.metadata.as_ref().map(|metadata| metadata.snapshots.as_slice()).unwrap_or_default();
        snapshots.iter().map(|snapshot| snapshot.timestamp_ms).min().unwrap_or(i64::MAX)
    }

    fn has_few_snapshots(&self) -> bool {
        self.metadata.as_ref().is_none_or(|metadata| metadata.snapshots.len() <= FEW)
    }

    /// Deletes the metadata that nobody needs. Says what went, and the live files of all kept snapshots where it was time to
    /// look at them; they are asked for only where this is the table's only format.
    pub(crate) async fn sweep(
        &self,
        store: &Store,
        with_files: bool,
    ) -> Result<(Collected, Option<BTreeSet<String>>), Error> {
        let mut collected = Collected::default();
        let listed = store.list(&self.metadata_folder(), None).await?;
        let Some(current) = self.version else { return Ok((collected, with_files.then(BTreeSet::new))) };
        if !self.is_due(&listed) {
            return Ok((collected, None));
        }
        let (lists, manifests) = self.kept_manifests(store).await?;
        let named: BTreeSet<&str> =
            manifests.iter().map(|file| file.path.as_str()).chain(lists.iter().map(String::as_str)).collect();
        let mut needed = BTreeSet::new();
        for address in named {
            needed.insert(self.key_of(&self.relative_path(address)?));
        }
        let oldest = current.saturating_sub(METADATA_LOG_MAX as u64);
        for object in &listed {
            let is_free = match (version_number(&object.location), object_number(&object.location)) {
                (Some(version), _) => version < oldest,
                (None, Some(number)) => number <= current && !needed.contains(&object.location),
                (None, None) => false,
            };
            if is_free {
                failpoint::hit("P16");
                store.delete(&object.location).await?;
                collected.add(Collected { files_deleted: 1, bytes: object.size });
            }
        }
        let files = if with_files { Some(self.kept_files(store, manifests).await?) } else { None };
        Ok((collected, files))
    }

    /// The manifest lists of all kept snapshots, and every manifest that they name, once.
    async fn kept_manifests(&self, store: &Store) -> Result<(Vec<String>, Vec<ManifestFile>), Error> {
        let snapshots = self.metadata.as_ref().map(|metadata| metadata.snapshots.as_slice()).unwrap_or_default();
        let lists: Vec<String> = snapshots.iter().map(|snapshot| snapshot.manifest_list.clone()).collect();
        let mut read = futures::stream::iter(lists.clone())
            .map(|list| async move {
                let bytes = self.object(store, &list).await?;
                decode_list(&bytes).map_err(|error| self.unreadable(error))
            })
            .buffered(READ_AHEAD);
        let (mut seen, mut manifests) = (BTreeSet::new(), Vec::new());
        while let Some(files) = read.try_next().await? {
            manifests.extend(files.into_iter().filter(|file| seen.insert(file.path.clone())));
        }
        drop(read);
        Ok((lists, manifests))
    }

    /// The data files and delete files of these manifests, below the table's folder.
    async fn kept_files(&self, store: &Store, manifests: Vec<ManifestFile>) -> Result<BTreeSet<String>, Error> {
        let mut read = futures::stream::iter(manifests)
            .map(|file| async move { self.read_manifest(store, file).await })
            .buffered(READ_AHEAD);
        let mut files = BTreeSet::new();
        while let Some((_, entries)) = read.try_next().await? {
            for entry in entries {
                files.insert(self.relative_path(&entry.path)?);
            }
        }
        drop(read);
        Ok(files)
    }
}

/// The version that was to name a manifest or a list first.
fn object_number(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".avro")?.split_once('-')?.0.parse().ok()
}

/// The version of a manifest list.
fn list_number(path: &Path) -> Option<u64> {
    path.filename()?.split_once("-snap-")?.0.parse().ok()
}

/// Whether the rest of an interrupted write under this name is of a version that nobody can be writing any more.
pub(crate) fn is_residue(table: &Table) -> impl Fn(&str) -> bool {
    let (alone, version) = (!table.is_shared(), table.version.unwrap_or(0));
    move |name| {
        let path = Path::from(name);
        let number = version_number(&path).or_else(|| object_number(&path));
        number.is_some_and(|number| number <= version) || (alone && name == super::HINT)
    }
}
