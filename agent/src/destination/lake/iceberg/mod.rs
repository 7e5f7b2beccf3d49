//! Iceberg v2 metadata of one table, in `<table>/_iceberg/`, over the data files that the Delta log names too. Owns reading
//! it into a snapshot and committing the next version: `v<N>.metadata.json`, created by put-if-absent, is the step.
//!
//! What is written before that step is named after the version and its content, and belongs to nobody until the version
//! names it. The files of other versions are `sweep`'s business.

mod bounds;
mod expiry;
mod follow;
mod manifest;
mod metadata;
mod plan;
mod read;
mod schemas;
pub(super) mod sweep;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use sha2::{Digest, Sha256};

use self::manifest::{Content, Counts, ManifestFile, Unreadable, encode, encode_list};
use self::metadata::{Metadata, MetadataLogged, OWNER_PROPERTY, TableSnapshot, columns_with_ids};
use self::plan::{Fresh, Making, Manifest, Next};
use super::snapshot::{Changes, DataFile, Snapshot};
use super::table::Landed;
use crate::destination::chain::entry::Hash;
use crate::destination::error::Error;
use crate::destination::store::{Created, Store, classify};
use crate::failpoint;

/// Below the table's folder. Delta's own clean-up leaves folders alone whose names begin so.
const FOLDER: &str = "_iceberg";
/// Where a catalog without a server looks for the newest version.
const HINT: &str = "version-hint.text";
/// How the properties begin that say which version of a Delta table this is.
const DELTA_PROPERTIES: &str = "inshore.delta.";
/// Earlier metadata files that stay for readers that have begun on them.
const METADATA_LOG_MAX: usize = 20;

/// A table in its Iceberg metadata, at one version.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    snapshot: Snapshot,
    /// The absolute address of the table's folder, as this destination names it.
    location: String,
    metadata: Option<Metadata>,
    /// The manifests of the current snapshot; `None` while nobody has asked for them.
    manifests: Option<Vec<Manifest>>,
}

/// What one commit brings beside its files.
#[derive(Debug)]
struct Facts {
    properties: BTreeMap<String, String>,
    timestamp_ms: i64,
    /// For the first version.
    table_uuid: String,
}

/// The next version, made but not yet there.
#[derive(Debug)]
struct Version {
    metadata: Metadata,
    manifests: Vec<Manifest>,
    /// What the version names, in the order in which it is written.
    objects: Vec<(Path, Bytes)>,
}

impl Deref for Table {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

impl Table {
    /// Puts the changes and the marker `seq` on the known version.
    pub(super) async fn commit(
        &mut self,
        store: &Store,
        changes: &Changes,
        (seq, timestamp_ms): (u64, i64),
        retention: Duration,
    ) -> Result<Landed, Error> {
        let marker = (marker_property(&self.connection), seq.to_string());
        let table_uuid = table_uuid(&format!("{}\n{}\n{timestamp_ms}", self.connection, self.folder));
        let facts = Facts { properties: BTreeMap::from([marker]), timestamp_ms, table_uuid };
        let files = std::mem::take(&mut self.snapshot.files);
        let version = self.next_version(changes, &files, &facts, retention);
        self.snapshot.files = files;
        failpoint::hit("P13");
        let landed = self.put(store, version?).await?;
        failpoint::hit("P13b");
        if landed == Landed::Ours {
            self.snapshot.take(changes, seq, timestamp_ms);
        }
        Ok(landed)
    }

    /// Writes what the version names, then the version itself, then the hint.
    async fn put(&mut self, store: &Store, version: Version) -> Result<Landed, Error> {
        let number = self.next_number();
        for (path, bytes) in &version.objects {
            store.put_file(path, bytes).await?;
        }
        failpoint::hit("P27");
        let path = self.metadata_path(number);
        let text = serde_json::to_string(&version.metadata).expect("plain structs always serialise");
        match store.create(&path, text.into()).await {
            Created::Mine => {}
            Created::Refused(source) => return Err(classify(&path, source)),
            Created::Taken | Created::Unknown(_) => return Ok(Landed::Unknown),
        }
        failpoint::hit("P27b");
        self.take_metadata(number, version.metadata).map_err(|reason| self.bad_metadata(number, reason))?;
        self.manifests = Some(version.manifests);
        let hint = hint_path(&self.folder);
        if let Err(error) = store.overwrite(&hint, number.to_string().into()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(table = %self.table, number, error, "the version hint could not be written");
        }
        Ok(Landed::Ours)
    }

    /// The version after this one. `files` are the live data files, before the changes or after them.
    fn next_version(
        &self,
        changes: &Changes,
        files: &BTreeMap<String, DataFile>,
        facts: &Facts,
        retention: Duration,
    ) -> Result<Version, Error> {
        let number = self.next_number();
        let relocated = self.is_relocated();
        let mut metadata = self.based(facts);
        if let Some(schema) = &changes.schema {
            metadata.set_schema(schema);
        }
        metadata.properties.insert(OWNER_PROPERTY.to_owned(), self.owner().to_owned());
        metadata.properties.retain(|key, _| !key.starts_with(DELTA_PROPERTIES));
        metadata.properties.extend(facts.properties.clone());
        let manifests = self.manifests.as_deref().unwrap_or_default();
        let has_files = !(changes.added.is_empty() && changes.removed.is_empty() && changes.marked.is_empty());
        if !(has_files || changes.schema.is_some() || relocated || metadata.current().is_none()) {
            return Ok(Version { metadata, manifests: manifests.to_vec(), objects: Vec::new() });
        }
        let schema = changes.schema.as_ref().or(self.schema.as_ref());
        let columns = schema.map(columns_with_ids).unwrap_or_default();
        let making = Making {
            snapshot_id: snapshot_id(&metadata.table_uuid, number),
            sequence_number: metadata.last_sequence_number + 1,
            location: &self.location,
            columns: &columns,
            base: files,
            marked: marked(files, changes),
            anew: relocated,
        };
        let next = making.next(manifests, changes);
        let at_ms = metadata.last_updated_ms;
        let parent = metadata.current_snapshot_id;
        let mut version = self.written(next, &making, metadata).map_err(|error| self.unwritable(error))?;
        let list: Vec<&ManifestFile> = version.manifests.iter().map(|manifest| &manifest.file).collect();
        let (id, sequence_number) = (making.snapshot_id, making.sequence_number);
        let bytes = encode_list(id, parent, sequence_number, &list).map_err(|error| self.unwritable(error))?;
        let path = self.object_path(number, "snap", &list);
        let metadata = &mut version.metadata;
        metadata.set_snapshot(TableSnapshot {
            snapshot_id: id,
            parent_snapshot_id: parent,
            sequence_number,
            timestamp_ms: at_ms,
            manifest_list: self.absolute(&path),
            summary: summary(changes, &list, id),
            schema_id: metadata.current_schema_id,
        });
        let known: Vec<(i64, i64)> = metadata.snapshots.iter().map(|s| (s.snapshot_id, s.timestamp_ms)).collect();
        let kept = expiry::retained(&known, at_ms, retention);
        metadata.keep(|snapshot| kept.contains(&snapshot.snapshot_id));
        version.objects.push((path, bytes));
        Ok(version)
    }

    /// The metadata that the next version starts from.
    fn based(&self, facts: &Facts) -> Metadata {
        let location = format!("{}/{FOLDER}", self.location);
        let new = || Metadata::new(facts.table_uuid.clone(), location.clone());
        let mut metadata = self.metadata.clone().unwrap_or_else(new);
        if self.is_relocated() {
            // What the old snapshots name is no longer where they say.
            metadata.location = location;
            metadata.metadata_log.clear();
            metadata.keep(|_| false);
            metadata.current_snapshot_id = None;
            metadata.refs.clear();
        } else if let Some(version) = self.version {
            let metadata_file = self.absolute(&self.metadata_path(version));
            metadata.metadata_log.push(MetadataLogged { timestamp_ms: metadata.last_updated_ms, metadata_file });
            let surplus = metadata.metadata_log.len().saturating_sub(METADATA_LOG_MAX);
            metadata.metadata_log.drain(..surplus);
        }
        metadata.last_updated_ms = metadata.last_updated_ms.max(facts.timestamp_ms);
        metadata
    }

    /// Encodes the new manifests and names them.
    fn written(&self, next: Next, making: &Making<'_>, metadata: Metadata) -> Result<Version, Unreadable> {
        let schema = metadata.schema().map(|schema| serde_json::to_string(schema).expect("structs always serialise"));
        let (schema, schema_id) = (schema.unwrap_or_default(), metadata.current_schema_id);
        let (mut manifests, mut objects) = (next.kept, Vec::new());
        for Fresh { content, entries, live } in next.fresh {
            let bytes = encode(content, &schema, schema_id, &entries)?;
            let path = self.object_path(self.next_number(), "m", &(&schema, &entries));
            let sequences = live.iter().map(|live| live.sequence_number);
            let file = ManifestFile {
                path: self.absolute(&path),
                length: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
                content,
                sequence_number: making.sequence_number,
                min_sequence_number: sequences.min().unwrap_or(making.sequence_number),
                added_snapshot_id: making.snapshot_id,
                counts: Counts::of(&entries),
            };
            manifests.push(Manifest { file, live });
            objects.push((path, bytes));
        }
        Ok(Version { metadata, manifests, objects })
    }

    /// Whether the addresses in the metadata are those of another place.
    fn is_relocated(&self) -> bool {
        let ours =
            |location: &str| location.strip_suffix(FOLDER).and_then(|l| l.strip_suffix('/')) == Some(&self.location);
        self.metadata.as_ref().is_some_and(|metadata| !ours(&metadata.location))
    }

    fn next_number(&self) -> u64 {
        self.version.map_or(1, |version| version + 1)
    }

    pub(super) fn metadata_folder(&self) -> Path {
        self.folder.clone().join(FOLDER).join("metadata")
    }

    fn metadata_path(&self, number: u64) -> Path {
        self.metadata_folder().join(format!("v{number}.metadata.json"))
    }

    /// The name says which version was to name the object first, and what it says: not its bytes, which hold a mark that
    /// is drawn.
    fn object_path(&self, number: u64, kind: &str, content: &impl std::fmt::Debug) -> Path {
        let hash = Hash::of(format!("{content:?}").as_bytes());
        self.metadata_folder().join(format!("{number}-{kind}-{}.avro", hash.short()))
    }

    fn absolute(&self, path: &Path) -> String {
        let below = path.as_ref().strip_prefix(self.folder.as_ref()).unwrap_or_default();
        format!("{}{below}", self.location)
    }

    fn unwritable(&self, source: Unreadable) -> Error {
        let path = self.metadata_path(self.next_number()).to_string();
        Error::TableMetadata { table: self.table.clone(), path, source: Box::new(source) }
    }

    fn bad_metadata(&self, number: u64, reason: String) -> Error {
        Error::TableLog { table: self.table.clone(), path: self.metadata_path(number).to_string(), reason }
    }
}

/// The data files whose delete files change, as they are afterwards.
fn marked<'a>(files: &'a BTreeMap<String, DataFile>, changes: &Changes) -> BTreeMap<&'a str, DataFile> {
    let marked = changes.marked.iter().filter_map(|marked| {
        let (path, file) = files.get_key_value(&marked.path)?;
        Some((path.as_str(), DataFile { deletes: Some(marked.deletes.clone()), ..file.clone() }))
    });
    marked.collect()
}

/// What the commit did and what the table has, for people.
fn summary(changes: &Changes, manifests: &[&ManifestFile], snapshot_id: i64) -> BTreeMap<String, String> {
    let operation = match (changes.added.is_empty(), changes.removed.is_empty() && changes.marked.is_empty()) {
        (_, true) => "append",
        (true, false) => "delete",
        (false, false) => "overwrite",
    };
    let live = |content| {
        let of_kind = manifests.iter().filter(move |manifest| manifest.content == content);
        of_kind.fold((0, 0), |(files, rows), manifest| {
            let counts = &manifest.counts;
            (files + i64::from(counts.live_files()), rows + counts.added_rows + counts.existing_rows)
        })
    };
    let ours = manifests.iter().filter(|manifest| manifest.added_snapshot_id == snapshot_id);
    let ours: Vec<&Counts> = ours.filter(|m| m.content == Content::Data).map(|manifest| &manifest.counts).collect();
    let rows = |of: fn(&Counts) -> i64| ours.iter().map(|counts| of(counts)).sum::<i64>();
    let ((files, records), (delete_files, deletes)) = (live(Content::Data), live(Content::Deletes));
    let facts = [
        ("operation", operation.to_owned()),
        ("added-data-files", changes.added.len().to_string()),
        ("deleted-data-files", changes.removed.len().to_string()),
        ("added-records", rows(|counts| counts.added_rows).to_string()),
        ("deleted-records", rows(|counts| counts.deleted_rows).to_string()),
        ("added-delete-files", changes.marked.len().to_string()),
        ("total-data-files", files.to_string()),
        ("total-records", records.to_string()),
        ("total-delete-files", delete_files.to_string()),
        ("total-position-deletes", deletes.to_string()),
        ("total-equality-deletes", "0".to_owned()),
    ];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn marker_property(connection: &str) -> String {
    format!("inshore.{connection}.applied")
}

/// The connection whose marker a property is.
fn marked_connection(property: &str) -> Option<&str> {
    property.strip_prefix("inshore.")?.strip_suffix(".applied")
}

/// The object that says to readers without a catalog which version is the newest.
pub(super) fn hint_path(table: &Path) -> Path {
    table.clone().join(FOLDER).join("metadata").join(HINT)
}

/// The same whoever makes the version.
fn snapshot_id(table_uuid: &str, number: u64) -> i64 {
    let digest: [u8; 32] = Sha256::digest(format!("{table_uuid}\n{number}")).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    i64::from_be_bytes([a & 0x7f, b, c, d, e, f, g, h])
}

fn table_uuid(name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
