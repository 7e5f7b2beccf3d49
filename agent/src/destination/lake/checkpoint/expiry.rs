//! Old versions of a table's log: those before a checkpoint that had given way before the retention began. Nobody needs
//! them to read a version within it. Done after a checkpoint, the oldest first, so that what is left is never torn.

use std::time::Duration;

use serde_json::Value;

use super::{Table, checkpoint_number};
use crate::destination::error::Error;
use crate::destination::lake::action::Action;
use crate::destination::lake::delta::version_number;
use crate::destination::store::Store;

/// Deletes what is before the last checkpoint that is older than the retention. `newest` was just written.
pub(super) async fn expire(store: &Store, table: &Table, newest: u64, retention: Duration) -> Result<(), Error> {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let since_ms = table.timestamp_ms.saturating_sub(retention_ms);
    if retention_ms == i64::MAX {
        return Ok(());
    }
    let listed = store.list(&table.log_folder(), None).await?;
    let mut checkpoints: Vec<u64> = listed.iter().filter_map(|object| checkpoint_number(&object.location)).collect();
    checkpoints.retain(|version| *version < newest);
    checkpoints.sort_unstable();
    let Some(first) = last_before(store, table, &checkpoints, since_ms).await? else { return Ok(()) };
    let number = |path| version_number(path).or_else(|| checkpoint_number(path));
    // The listing is in the order of the names, which is that of the versions.
    for object in listed.iter().filter(|object| number(&object.location).is_some_and(|version| version < first)) {
        store.delete(&object.location).await?;
    }
    Ok(())
}

/// The last checkpoint whose next version was there before an instant.
async fn last_before(store: &Store, table: &Table, versions: &[u64], since_ms: i64) -> Result<Option<u64>, Error> {
    let (mut low, mut high) = (0, versions.len());
    while low < high {
        let middle = low.midpoint(high);
        let Some(version) = versions.get(middle) else { break };
        match committed_at(store, table, version + 1).await? {
            Some(at) if at < since_ms => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low.checked_sub(1).and_then(|index| versions.get(index)).copied())
}

/// When a version was committed, as it says itself; `None` where it does not.
async fn committed_at(store: &Store, table: &Table, version: u64) -> Result<Option<i64>, Error> {
    let path = table.log_folder().join(format!("{version:020}.json"));
    let Some(text) = store.get(&path).await? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    let actions = text.lines().filter_map(|line| serde_json::from_str::<Action>(line).ok());
    let info = actions.filter_map(|action| action.commit_info).next();
    Ok(info.as_ref().and_then(|info| info.get("timestamp")).and_then(Value::as_i64))
}
