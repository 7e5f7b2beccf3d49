//! Roll-forward of one table by one chain entry: a pure function of (table version, entry), committed with the marker in
//! the same Delta version. An unanswered commit is settled by the marker of the version that is there afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use object_store::path::Path;

use super::stats::Stats;
use super::table::{Landed, Table, Terms};
use super::uploads::publish;
use crate::destination::chain::entry::Commit;
use crate::destination::error::Error;
use crate::destination::store::{Store, backoff};

/// How often one table commit meets another writer before we stop.
const ATTEMPTS_MAX: u32 = 12;
/// The same for a table that all connections write.
const SHARED_ATTEMPTS_MAX: u32 = 200;

/// What applying needs beside the table and the entry.
#[derive(Debug, Clone)]
pub(crate) struct Applier {
    pub(crate) store: Store,
    /// The claim under which rewritten files are named.
    pub(crate) claim_seq: u64,
    pub(crate) terms: Terms,
    /// Statistics of the files that this process wrote, so that they need not be read back.
    pub(crate) known: Known,
}

/// Statistics by key below the destination's root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<Mutex<HashMap<String, Arc<Stats>>>>);

impl Known {
    pub(crate) fn insert(&self, key: String, stats: Stats) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, Arc::new(stats));
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Stats>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }

    /// The statistics of all files below a folder.
    pub(crate) fn below(&self, folder: &Path) -> Vec<Arc<Stats>> {
        let folder = format!("{folder}/");
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.iter().filter(|(key, _)| key.starts_with(&folder)).map(|(_, stats)| Arc::clone(stats)).collect()
    }
}

impl Applier {
    /// Brings the table to the entry. Says whether a version was written.
    pub(crate) async fn apply(&self, snapshot: &mut Table, commit: &Commit) -> Result<bool, Error> {
        let uploads = commit.uploads(&snapshot.table);
        if !uploads.is_empty() {
            // Another writer may have gone further: what it published must not give way to older content.
            snapshot.refresh(&self.store).await?;
        }
        let attempts_max = if snapshot.is_shared() { SHARED_ATTEMPTS_MAX } else { ATTEMPTS_MAX };
        for attempt in 1..=attempts_max {
            if snapshot.marker >= Some(commit.seq) {
                return Ok(attempt > 1);
            }
            let prepared = async {
                publish(&self.store, &snapshot.table, self.claim_seq, uploads).await?;
                Box::pin(self.changes(snapshot, commit)).await
            };
            let changes = match prepared.await {
                Err(Error::FileMissing { table, path }) => {
                    snapshot.refresh(&self.store).await?;
                    if snapshot.marker >= Some(commit.seq) {
                        return Ok(false);
                    }
                    return Err(Error::FileMissing { table, path });
                }
                changes => changes?,
            };
            let at = (commit.seq, commit.synced_at_ms);
            match snapshot.commit(&self.store, &changes, at, self.terms.retention).await? {
                Landed::Ours => {
                    let files = commit.steps(&snapshot.table).iter().flat_map(|step| &step.files);
                    files.for_each(|file| self.known.forget(&file.key));
                    return Ok(true);
                }
                Landed::Unknown => {
                    if snapshot.is_shared() {
                        tokio::time::sleep(backoff(attempt.min(4))).await;
                    }
                    self.look_again(snapshot, attempt).await?;
                }
            }
        }
        Err(Error::Contended { table: snapshot.table.clone(), attempts: attempts_max })
    }

    /// Reads the versions that are there now; the marker on them says whether ours landed.
    async fn look_again(&self, snapshot: &mut Table, attempt: u32) -> Result<(), Error> {
        for tries in 1..=ATTEMPTS_MAX {
            match snapshot.refresh(&self.store).await {
                Ok(()) => return Ok(()),
                Err(error) if tries == ATTEMPTS_MAX => return Err(error),
                Err(_) => tokio::time::sleep(backoff(attempt + tries)).await,
            }
        }
        Ok(())
    }
}

/// Decoding, hashing and compression run off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::Worker { source })?
}
