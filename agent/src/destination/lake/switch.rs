//! Formats that are switched on and off. One that comes back starts from what the table is now, as the other format has
//! it, not from the chain: files of entries that every exposed format had applied may be gone.
//!
//! Iceberg's metadata says which version of the Delta table it shows; where it says none, it went on alone.

use std::time::Duration;

use super::snapshot::{Changes, DataFile};
use super::{delta, iceberg};
use crate::destination::error::Error;
use crate::destination::store::{Created, Store, classify};

/// Loads a Delta table beside Iceberg metadata that may have gone on alone.
pub(super) async fn delta_beside(
    store: &Store,
    mut delta: delta::Table,
    iceberg: &mut iceberg::Table,
) -> Result<delta::Table, Error> {
    if iceberg.went_on_alone() && iceberg.marker > delta.marker {
        iceberg.read_files(store).await?;
        adopt(store, &mut delta, iceberg).await?;
    }
    Ok(delta)
}

/// Iceberg is not exposed any more. What it has is taken over, it is left as a version of the Delta table, and its hint
/// goes: a reader that looks for the newest version by it finds none, instead of an old one.
pub(super) async fn retire_iceberg(
    store: &Store,
    delta: delta::Table,
    iceberg: impl Future<Output = Result<iceberg::Table, Error>>,
    retention: Duration,
) -> Result<delta::Table, Error> {
    let hint = iceberg::hint_path(&delta.folder);
    if store.size(&hint).await?.is_none() {
        return Ok(delta);
    }
    let mut iceberg = iceberg.await?;
    let delta = delta_beside(store, delta, &mut iceberg).await?;
    iceberg.follow(store, &delta, retention).await?;
    store.delete(&hint).await?;
    Ok(delta)
}

/// Brings the Delta table to what Iceberg has, in one version.
async fn adopt(store: &Store, delta: &mut delta::Table, iceberg: &iceberg::Table) -> Result<(), Error> {
    let (Some(marker), Some(schema)) = (iceberg.marker, &iceberg.schema) else { return Ok(()) };
    if let Some(file) = iceberg.files.values().find(|file| file.deletes.is_some()) {
        return Err(Error::TableLog {
            table: delta.table.clone(),
            path: delta.key_of(&file.path).to_string(),
            reason:
                "rows of the file are deleted by positions, which a Delta table cannot say; expose iceberg alone, or \
                     re-sync the table with merge copy_on_write before Delta is exposed again"
                    .to_owned(),
        });
    }
    let missing = |from: &delta::Table| -> Vec<DataFile> {
        iceberg.files.values().filter(|file| !from.files.contains_key(&file.path)).cloned().collect()
    };
    let changes = Changes {
        schema: Some(schema.clone()),
        added: missing(delta),
        removed: delta.files.values().filter(|file| !iceberg.files.contains_key(&file.path)).cloned().collect(),
        marked: Vec::new(),
    };
    let body = delta.next_version(&changes, marker, iceberg.timestamp_ms);
    let body = delta.with_markers(&body, iceberg.markers());
    let path = delta.next_log_path();
    match store.create(&path, body.clone()).await {
        Created::Mine => delta.replay(delta.next_number(), &body),
        Created::Taken => delta.refresh(store).await,
        Created::Unknown(source) | Created::Refused(source) => Err(classify(&path, source)),
    }
}
