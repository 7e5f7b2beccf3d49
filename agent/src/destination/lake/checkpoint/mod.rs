//! Checkpoints of a table's Delta log: the state of one version as one Parquet file, from which a table opens without
//! reading the versions before it. Owns when one is written, which one is believed, and the file `_last_checkpoint`.
//!
//! A checkpoint is derived: it is written after its version, which does not depend on it, and one that cannot be written or
//! read is a warning. Those of ours carry a digest. Any other is believed only where the first versions are gone.

mod columns;
mod expiry;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use self::columns::{Decoded, decode, encode};
use super::action::{Action, Remove};
use super::apply::blocking;
use super::delta::{Table, version_number};
use crate::destination::error::Error;
use crate::destination::store::{Created, Store, classify};
use crate::failpoint;

/// Versions from one checkpoint to the next: as many at most, and those of other writers, are read one by one.
pub(super) const INTERVAL: u64 = 100;
/// Unusable checkpoints that are tried, newest first, before the whole log is read.
const TRIES_MAX: usize = 4;
/// Checkpoints that are looked at at all: another program may write one with each of its versions.
const LOOKS_MAX: usize = 32;
/// Marks our own `_last_checkpoint`, among its tags.
const TAG: &str = "inshore";
/// Where the newest checkpoint is; may be stale or wrong.
const HINT: &str = "_last_checkpoint";
const SUFFIX: &str = ".checkpoint.parquet";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hint {
    version: u64,
    /// Count of actions.
    size: u64,
    /// More than one file: not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_in_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_of_add_files: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// Why a checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is not there")]
    Missing,
    #[error("it cannot be read")]
    Unread(#[from] Error),
    #[error("its Parquet file is damaged")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("its columns are not those of a checkpoint")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("its content is damaged: the digest differs")]
    Digest,
    #[error("{0}")]
    Content(String),
}

/// Where reading the log begins by its listing: at a checkpoint, or as `empty` where none is of use.
pub(super) async fn begin(store: &Store, empty: &Table) -> Result<(Table, Vec<ObjectMeta>), Error> {
    let listed = store.list(&empty.log_folder(), None).await?;
    let is_whole = listed.iter().any(|object| version_number(&object.location) == Some(0));
    let mut versions: Vec<u64> = listed.iter().filter_map(|object| checkpoint_number(&object.location)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let mut damaged = 0;
    for version in versions.into_iter().take(LOOKS_MAX) {
        match restored(store, empty, version).await {
            Some((begun, Decoded::Ours)) => return Ok((begun, listed)),
            Some((begun, Decoded::Foreign)) if !is_whole => return Ok((begun, listed)),
            Some((_, Decoded::Foreign)) => {}
            None if damaged == TRIES_MAX => break,
            None => damaged += 1,
        }
    }
    Ok((empty.clone(), listed))
}

/// The checkpoint that `_last_checkpoint` names, if it is one of ours: found without listing the whole log.
pub(super) async fn hinted(store: &Store, empty: &Table) -> Option<Table> {
    let version = hint(store, empty).await.filter(|hint| hint.parts.is_none())?.version;
    let (begun, decoded) = restored(store, empty, version).await?;
    matches!(decoded, Decoded::Ours).then_some(begun)
}

/// Whether the listing has a checkpoint of a later version than the one that was read: versions are lost between.
pub(super) fn is_above(listed: &[ObjectMeta], version: Option<u64>) -> bool {
    listed.iter().filter_map(|object| checkpoint_number(&object.location)).any(|number| Some(number) > version)
}

/// Writes a checkpoint of this version when one is due. A process that fails at it tries again after as many versions.
pub(crate) async fn keep(store: &Store, snapshot: &mut Table, retention: Duration) {
    let Some(version) = snapshot.version else { return };
    let is_due = |known: Option<u64>| version >= known.unwrap_or(0) + INTERVAL;
    if !is_due(snapshot.checkpoint) {
        return;
    }
    // Another writer of ours may have been here. What other programs write is not believed while the log is whole.
    let ours = hint(store, snapshot).await.filter(|hint| hint.tags.contains_key(TAG));
    let hinted = ours.map(|hint| hint.version).filter(|hinted| *hinted <= version);
    snapshot.checkpoint = snapshot.checkpoint.max(hinted);
    if !is_due(snapshot.checkpoint) {
        return;
    }
    snapshot.checkpoint = Some(version);
    failpoint::hit("P24");
    if let Err(error) = write(store, snapshot, version, retention).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(table = %snapshot.table, version, error, "a checkpoint of the table's log could not be written");
    } else if let Err(error) = expiry::expire(store, snapshot, version, retention).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(table = %snapshot.table, version, error, "old versions of the table's log could not be removed");
    }
}

async fn write(store: &Store, snapshot: &Table, version: u64, retention: Duration) -> Result<(), Unusable> {
    let actions = actions(snapshot, retention);
    let size = actions.len() as u64;
    let num_of_add_files = Some(snapshot.files.len() as u64);
    let table = snapshot.table.clone();
    let encoded = blocking(move || encode(&actions).map_err(|error| Error::parquet(&table, error)));
    let bytes = encoded.await?;
    let path = checkpoint_path(snapshot, version);
    let tags = BTreeMap::from([(TAG.to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let hint = Hint { version, size, parts: None, size_in_bytes: Some(bytes.len() as u64), num_of_add_files, tags };
    match store.create(&path, bytes).await {
        Created::Mine => {}
        // Another writer's, of the same version. It writes the hint as well.
        Created::Taken => return Ok(()),
        Created::Unknown(source) | Created::Refused(source) => return Err(classify(&path, source).into()),
    }
    failpoint::hit("P25");
    let text = serde_json::to_string(&hint).expect("plain structs always serialise");
    Ok(store.overwrite(&snapshot.log_folder().join(HINT), text.into()).await?)
}

/// What a reader of this version must know. Removed files are named as long as somebody may still read them.
fn actions(snapshot: &Table, retention: Duration) -> Vec<Action> {
    let protocol = Action { protocol: Some(snapshot.protocol.clone()), ..Action::default() };
    let meta_data = Action { meta_data: snapshot.metadata.clone(), ..Action::default() };
    let txns = snapshot.txns.values().map(|txn| Action { txn: Some(txn.clone()), ..Action::default() });
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let since_ms = snapshot.timestamp_ms.saturating_sub(retention_ms);
    let removed =
        snapshot.removed.iter().filter(|(_, removed_at)| **removed_at >= since_ms).map(|(path, removed_at)| {
            let remove = Remove {
                path: path.clone(),
                deletion_timestamp: Some(*removed_at),
                data_change: false,
                extended_file_metadata: Some(false),
                partition_values: None,
                size: None,
            };
            Action { remove: Some(remove), ..Action::default() }
        });
    let files = snapshot.files.values().map(super::snapshot::DataFile::kept);
    [protocol, meta_data].into_iter().chain(txns).chain(removed).chain(files).collect()
}

async fn restored(store: &Store, empty: &Table, version: u64) -> Option<(Table, Decoded)> {
    match restore(store, empty, version).await {
        Ok(restored) => Some(restored),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(table = %empty.table, version, error, "a checkpoint of the table's log is of no use");
            None
        }
    }
}

async fn restore(store: &Store, empty: &Table, version: u64) -> Result<(Table, Decoded), Unusable> {
    let bytes = store.get(&checkpoint_path(empty, version)).await?.ok_or(Unusable::Missing)?;
    let (actions, decoded) = blocking(move || Ok(decode(bytes))).await??;
    let count = |is: fn(&Action) -> bool| actions.iter().filter(|action| is(action)).count();
    if (count(|action| action.protocol.is_some()), count(|action| action.meta_data.is_some())) != (1, 1) {
        return Err(Unusable::Content("it does not say once what the table is".to_owned()));
    }
    let mut snapshot = empty.clone();
    for action in actions {
        if let Some(add) = &action.add {
            snapshot.timestamp_ms = snapshot.timestamp_ms.max(add.modification_time);
        }
        if let Some(removed_at) = action.remove.as_ref().and_then(|remove| remove.deletion_timestamp) {
            snapshot.timestamp_ms = snapshot.timestamp_ms.max(removed_at);
        }
        snapshot.take(action).map_err(Unusable::Content)?;
    }
    snapshot.version = Some(version);
    snapshot.checkpoint = Some(version);
    Ok((snapshot, decoded))
}

/// Whether the rest of an interrupted write under this name is of a checkpoint that nobody can be writing any more. A table
/// that all connections write may get one right now; a rest of its `_last_checkpoint` stays, a few bytes.
pub(super) fn is_residue(snapshot: &Table) -> impl Fn(&str) -> bool {
    let (alone, version) = (!snapshot.is_shared(), snapshot.version.unwrap_or(0));
    move |name| {
        let number = checkpoint_number(&Path::from(name));
        let is_old = number.is_some_and(|number| number + INTERVAL <= version);
        is_old || (alone && (number.is_some_and(|number| number <= version) || name == HINT))
    }
}

/// The file that names the newest checkpoint. One that cannot be read is none.
async fn hint(store: &Store, snapshot: &Table) -> Option<Hint> {
    let text = store.get(&snapshot.log_folder().join(HINT)).await.ok()??;
    serde_json::from_slice(&text).ok()
}

fn checkpoint_path(snapshot: &Table, version: u64) -> Path {
    snapshot.log_folder().join(format!("{version:020}{SUFFIX}"))
}

fn checkpoint_number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(SUFFIX)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// The same checkpoint as another program would write it, without its last files.
#[cfg(test)]
pub(crate) fn as_foreign(ours: &bytes::Bytes, less: usize) -> bytes::Bytes {
    let (actions, _) = decode(ours.clone()).expect("one of ours");
    columns::encode_with(&actions[..actions.len() - less], None).expect("encodes")
}
