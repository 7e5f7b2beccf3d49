//! Reading a table's Iceberg metadata: the newest version by a listing, its manifests when somebody asks for them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use inshore_columnar::TableName;
use object_store::path::Path;

use super::manifest::{Content, Entry, ManifestFile, Unreadable, decode, decode_list};
use super::metadata::{Metadata, OWNER_PROPERTY, columns_with_ids};
use super::plan::{Live, Manifest};
use super::{FOLDER, Table, marker_property};
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::lake::snapshot::{DataFile, DeleteFile, Snapshot};
use crate::destination::store::Store;

/// Manifests that are fetched ahead.
pub(super) const READ_AHEAD: usize = 8;

impl Table {
    /// Loads the newest version, without its files. `root` is the destination's address.
    pub(crate) async fn load(store: &Store, root: &str, connection: &str, table: &TableName) -> Result<Table, Error> {
        let folder = Path::from_iter([table.schema.as_str(), table.table.as_str()]);
        let location = format!("{root}/{folder}");
        let snapshot = Snapshot::empty(connection, table, folder);
        let mut loaded = Table { snapshot, location, metadata: None, manifests: None };
        // By a listing: the hint may be anything.
        let listed = store.list(&loaded.metadata_folder(), None).await?;
        let newest = listed.iter().filter_map(|object| version_number(&object.location)).max();
        if let Some(newest) = newest {
            loaded.read_version(store, newest).await?;
        }
        loaded.check_owner()?;
        Ok(loaded)
    }

    /// Reads the versions above the known one. Says whether there were any.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<bool, Error> {
        let known = self.version;
        while store.size(&self.metadata_path(self.next_number())).await?.is_some() {
            // Each has all that the ones before it had.
            self.version = Some(self.next_number());
        }
        let newest = std::mem::replace(&mut self.snapshot.version, known);
        match newest {
            Some(newest) if self.version != Some(newest) => {
                self.read_version(store, newest).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn read_version(&mut self, store: &Store, number: u64) -> Result<(), Error> {
        let text = store.get(&self.metadata_path(number)).await?;
        let text = text.ok_or_else(|| self.bad_metadata(number, "it vanished while it was read".to_owned()))?;
        let metadata: Result<Metadata, _> = serde_json::from_slice(&text);
        let metadata = metadata.map_err(|error| self.bad_metadata(number, error.to_string()))?;
        metadata.check().map_err(|reason| self.bad_metadata(number, reason))?;
        self.take_metadata(number, metadata).map_err(|reason| self.bad_metadata(number, reason))?;
        self.manifests = None;
        Ok(())
    }

    /// Makes this the known version; its files are another matter.
    pub(super) fn take_metadata(&mut self, number: u64, metadata: Metadata) -> Result<(), String> {
        let marker = metadata.properties.get(&marker_property(&self.connection)).map(|marker| marker.parse::<u64>());
        self.snapshot.marker = marker.transpose().map_err(|_| "its marker is not a number".to_owned())?;
        self.snapshot.schema = metadata.table_schema(&self.table)?;
        self.snapshot.timestamp_ms = metadata.last_updated_ms;
        self.snapshot.version = Some(number);
        self.metadata = Some(metadata);
        Ok(())
    }

    fn check_owner(&self) -> Result<(), Error> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        match metadata.properties.get(OWNER_PROPERTY) {
            Some(owner) if owner == self.owner() => Ok(()),
            owner => Err(Error::NotOwned {
                table: self.table.clone(),
                owner: owner.cloned().unwrap_or_else(|| "another program".to_owned()),
            }),
        }
    }

    /// Reads what the manifests of the current snapshot name.
    pub(crate) async fn read_files(&mut self, store: &Store) -> Result<(), Error> {
        let entries = self.read_manifests(store).await?;
        let columns = self.schema.as_ref().map(columns_with_ids).unwrap_or_default();
        let (mut files, mut deletes) = (BTreeMap::new(), Vec::new());
        for (content, entry) in entries {
            let (path, bytes, rows) = (self.relative_path(&entry.path)?, entry.bytes, entry.rows.unsigned_abs());
            let bytes = bytes.unsigned_abs();
            match (content, entry.data_file) {
                (Content::Data, _) => {
                    let stats = entry.columns.to_stats(rows, &columns);
                    files.insert(path.clone(), DataFile::new(path, bytes, stats));
                }
                (Content::Deletes, Some(of)) => {
                    deletes.push((self.relative_path(&of)?, DeleteFile { path, bytes, rows }))
                }
                (Content::Deletes, None) => {
                    let reason = format!("{path} deletes rows of more than one data file");
                    return Err(self.unreadable(Unreadable::Content(reason)));
                }
            }
        }
        for (of, file) in deletes {
            if let Some(of) = files.get_mut(&of) {
                of.deletes = Some(file);
            }
        }
        self.snapshot.files = files;
        Ok(())
    }

    /// Reads which files the manifests of the current snapshot name, where that is not known yet.
    pub(super) async fn ensure_manifests(&mut self, store: &Store) -> Result<(), Error> {
        if self.manifests.is_none() {
            self.read_manifests(store).await?;
        }
        Ok(())
    }

    /// The live entries of all manifests, which are known from here on.
    async fn read_manifests(&mut self, store: &Store) -> Result<Vec<(Content, Entry)>, Error> {
        let list = self.metadata.as_ref().and_then(Metadata::current).map(|current| current.manifest_list.clone());
        let listed = match list {
            None => Vec::new(),
            Some(list) => {
                let bytes = self.object(store, &list).await?;
                decode_list(&bytes).map_err(|error| self.unreadable(error))?
            }
        };
        let table = &*self;
        let mut read = futures::stream::iter(listed)
            .map(|file| async move { table.read_manifest(store, file).await })
            .buffered(READ_AHEAD);
        let (mut manifests, mut all) = (Vec::new(), Vec::new());
        while let Some((file, entries)) = read.try_next().await? {
            let live = entries.iter().map(|entry| self.live(entry)).collect::<Result<Vec<Live>, Error>>()?;
            let content = file.content;
            all.extend(entries.into_iter().map(|entry| (content, entry)));
            manifests.push(Manifest { file, live });
        }
        drop(read);
        self.manifests = Some(manifests);
        Ok(all)
    }

    pub(super) async fn read_manifest(
        &self,
        store: &Store,
        file: ManifestFile,
    ) -> Result<(ManifestFile, Vec<Entry>), Error> {
        let bytes = self.object(store, &file.path).await?;
        let decoded = blocking(move || Ok(decode(&bytes, &file).map(|entries| (file, entries)))).await?;
        decoded.map_err(|error| self.unreadable(error))
    }

    fn live(&self, entry: &Entry) -> Result<Live, Error> {
        Ok(Live {
            path: self.relative_path(&entry.path)?,
            snapshot_id: entry.snapshot_id,
            sequence_number: entry.sequence_number,
            file_sequence_number: entry.file_sequence_number,
            rows: entry.rows,
            bytes: entry.bytes,
        })
    }

    /// An object that the metadata names by its address.
    pub(super) async fn object(&self, store: &Store, address: &str) -> Result<Bytes, Error> {
        let key = self.key_of(&self.relative_path(address)?);
        let missing = || Error::FileMissing { table: self.table.clone(), path: key.to_string() };
        store.get(&key).await?.ok_or_else(missing)
    }

    /// An address in the metadata as a path below the table's folder, wherever the table was when it was written.
    pub(super) fn relative_path(&self, address: &str) -> Result<String, Error> {
        let location = self.metadata.as_ref().map_or("", |metadata| metadata.location.as_str());
        let folder = location.strip_suffix(FOLDER).unwrap_or(location);
        let path = address.strip_prefix(folder).filter(|path| !path.is_empty());
        let outside = || self.unreadable(Unreadable::Content(format!("{address} lies outside of the table")));
        path.map(str::to_owned).ok_or_else(outside)
    }

    pub(super) fn unreadable(&self, source: Unreadable) -> Error {
        let path = self.metadata_path(self.version.unwrap_or(0)).to_string();
        Error::TableMetadata { table: self.table.clone(), path, source: Box::new(source) }
    }
}

/// The number of a metadata file.
pub(super) fn version_number(path: &Path) -> Option<u64> {
    path.filename()?.strip_prefix('v')?.strip_suffix(".metadata.json")?.parse().ok()
}
