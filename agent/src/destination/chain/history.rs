//! The commits that a chain remembers, for people who look back. Reads only: from the verified head downwards, each entry
//! held against the hash that the one above it names. Slots are never freed, so the whole past is there; a state above
//! the inline size is an object, which garbage collection takes once it is not the newest.

use inshore_columnar::TableName;
use inshore_trust::PublicKey;

use super::entry::{Entry, RowCounts, StateRef};
use super::{Chain, missing, verify};
use crate::context::Counts;
use crate::destination::SHARED_SCHEMA;
use crate::destination::error::Error;
use crate::destination::store::Store;

/// One commit.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    /// Its slot: how people name it.
    pub(crate) seq: u64,
    pub(crate) synced_at_ms: i64,
    /// What the window held after folding, of the connection's own tables.
    pub(crate) rows: Counts,
    pub(crate) tables: Vec<TableName>,
    state: StateRef,
}

/// What was read of a chain, newest commit first.
#[derive(Debug)]
pub(crate) struct History {
    chain: Chain,
    pub(crate) commits: Vec<Past>,
    /// Whether older commits were left unread.
    pub(crate) has_more: bool,
}

impl History {
    /// Reads the newest commits of a connection, and on to the slot `back_to` where one is asked for.
    pub(crate) async fn read(
        store: &Store,
        connection: &str,
        root: PublicKey,
        (commits_max, back_to): (usize, Option<u64>),
    ) -> Result<History, Error> {
        let chain = Chain::read(store, connection, root).await?;
        let (mut seq, mut hash, mut commits) = (chain.view.seq, chain.view.hash, Vec::new());
        while seq > 0 && (commits.len() < commits_max || back_to.is_some_and(|slot| slot <= seq)) {
            let object = store.get(&chain.slot(seq)).await?.ok_or_else(|| missing(seq))?;
            let (entry, found, _) = verify(&root, seq, &object)?;
            if found != hash || entry.seq() != seq {
                let reason = "it is not the entry that the one above it follows".to_owned();
                return Err(Error::Altered { slot: seq, reason });
            }
            hash = entry.prev_hash();
            if let Entry::Commit(commit) = entry {
                // Counted anew: earlier versions of the product counted lines as rows in their entries.
                let counts = RowCounts::of(&commit.tables);
                let tables = commit.touched().into_iter().filter(|table| table.schema != SHARED_SCHEMA).collect();
                commits.push(Past {
                    seq,
                    synced_at_ms: commit.synced_at_ms,
                    rows: Counts {
                        upserts: counts.upserts,
                        updates: counts.updates,
                        deletes: counts.deletes,
                        truncates: counts.truncates,
                    },
                    tables,
                    state: commit.state,
                });
            }
            seq -= 1;
        }
        // Slot 1 is a claim: below it there is nothing to have missed.
        Ok(History { chain, commits, has_more: seq > 1 })
    }

    /// Of the last claim; whoever claims must have no lower one.
    pub(crate) fn generation(&self) -> u64 {
        self.chain.view.holder.as_ref().map_or(1, |holder| holder.generation)
    }

    /// The commit in this slot, among those that were read.
    pub(crate) fn commit(&self, seq: u64) -> Option<&Past> {
        self.commits.iter().find(|commit| commit.seq == seq)
    }

    /// The state that a commit stored; `None` where it has been collected.
    pub(crate) async fn state(&self, commit: &Past) -> Result<Option<String>, Error> {
        if let StateRef::Object { name, .. } = &commit.state
            && self.chain.store.size(&self.chain.state_path(name)).await?.is_none()
        {
            return Ok(None);
        }
        self.chain.load_state(&commit.state).await.map(Some)
    }
}
