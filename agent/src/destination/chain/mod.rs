//! The chain: the connection's log at the destination and the only commit point. One immutable object per slot, created
//! by put-if-absent; slots are contiguous, never freed. Owns reading and verifying the chain, and taking the next slot.
//! What the entries mean is `view`'s business; the store behind it may be any that gives linearisable put-if-absent.

pub(crate) mod entry;
pub(crate) mod history;
pub(crate) mod probe;
pub(crate) mod put;
pub(crate) mod view;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use inshore_trust::{JobSigner, PublicKey, SignedLine};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use self::entry::{Anchor, Entry, Hash, STATE_INLINE_BYTES_MAX, StateRef, TableApplied, TableOp, split_lines};
use self::put::{Points, Put};
use self::view::View;
use super::error::Error;
use super::store::Store;
use crate::failpoint;

/// An Anchor follows this many entries after the last one, so that a reader has at most so many to verify.
pub(crate) const ANCHOR_INTERVAL: u64 = 1_000;
/// So do this many files that travelled beside rows: a reader holds them all in memory.
pub(crate) const ANCHOR_UPLOADS: usize = 100_000;
/// Entries that are fetched ahead while the chain is read.
const READ_AHEAD: usize = 8;

/// A connection's chain, read up to its head.
#[derive(Debug)]
pub(crate) struct Chain {
    store: Store,
    folder: Path,
    connection: String,
    root: PublicKey,
    pub(crate) view: View,
}

/// Where to start reading. Wrong or stale costs time, never safety.
#[derive(Debug, Serialize, Deserialize)]
struct Hint {
    v: u16,
    anchor: u64,
}

impl Chain {
    /// Reads and verifies the chain from its last Anchor to its head.
    pub(crate) async fn read(store: &Store, connection: &str, root: PublicKey) -> Result<Chain, Error> {
        let folder = Path::from_iter(["_inshore", connection]);
        let view = View::empty(connection);
        let mut chain = Chain { store: store.clone(), folder, connection: connection.to_owned(), root, view };
        if let Some(view) = chain.hinted().await {
            chain.view = view;
        }
        chain.advance().await?;
        Ok(chain)
    }

    /// Reads the entries above the known head. A slot that is missing below a taken one was deleted: the chain is
    /// broken there, and writing into the gap would fork it.
    pub(crate) async fn advance(&mut self) -> Result<(), Error> {
        loop {
            let first = self.view.seq + 1;
            let head = self.last_taken(first).await?;
            if head < first {
                return Ok(());
            }
            // Lazily: the highest name that is listed may be anyone's invention.
            let (store, folder) = (self.store.clone(), self.slot_folder());
            let mut objects = futures::stream::iter(first..=head)
                .map(|seq| {
                    let (store, path) = (store.clone(), slot_in(&folder, seq));
                    async move { store.get(&path).await.map(|bytes| (seq, bytes)) }
                })
                .buffered(READ_AHEAD);
            while let Some((seq, object)) = objects.try_next().await? {
                failpoint::hit("P3");
                let object = object.ok_or_else(|| missing(seq))?;
                let (entry, hash, key) = verify(&self.root, seq, &object)?;
                self.view.absorb(&entry, hash, key).map_err(|reason| Error::Altered { slot: seq, reason })?;
            }
        }
    }

    /// Signs an entry and tries to take the next slot with it.
    pub(crate) async fn append(&mut self, entry: &Entry, signer: &JobSigner, points: Points) -> Result<Put, Error> {
        let line = entry.encode();
        let object = Bytes::from(format!("{line}\n{}\n", signer.sign(line.as_bytes()).to_json()));
        let slot = self.slot(entry.seq());
        let put = put::put(&self.store, &slot, &object, points).await?;
        if put == Put::Mine {
            self.view
                .absorb(entry, Hash::of(line.as_bytes()), signer.key().public())
                .map_err(|reason| Error::Altered { slot: entry.seq(), reason })?;
        }
        Ok(put)
    }

    /// The state of the last commit.
    pub(crate) async fn state(&self) -> Result<String, Error> {
        self.load_state(&self.view.state).await
    }

    pub(crate) async fn load_state(&self, state: &StateRef) -> Result<String, Error> {
        match state {
            StateRef::Inline(state) => Ok(state.clone()),
            StateRef::Object { name, sha256 } => {
                let path = self.state_path(name);
                let damaged = || Error::FileDamaged { path: path.to_string() };
                let bytes = self.store.get(&path).await?.ok_or_else(damaged)?;
                if Hash::of(&bytes) != *sha256 {
                    return Err(damaged());
                }
                String::from_utf8(bytes.into()).map_err(|_| damaged())
            }
        }
    }

    /// Stores a state for an entry: inline, or in an object that is there before the entry names it.
    pub(crate) async fn store_state(&self, state: &str, claim_seq: u64) -> Result<StateRef, Error> {
        if state.len() <= STATE_INLINE_BYTES_MAX {
            return Ok(StateRef::Inline(state.to_owned()));
        }
        let sha256 = Hash::of(state.as_bytes());
        let name = format!("{claim_seq:020}-{sha256}");
        self.store.put_file(&self.state_path(&name), &Bytes::copy_from_slice(state.as_bytes())).await?;
        Ok(StateRef::Object { name, sha256 })
    }

    /// Writes an Anchor at the head and moves the hint to it. Only when every table is applied.
    pub(crate) async fn anchor(&mut self, signer: &JobSigner, gc_floor: u64) -> Result<Put, Error> {
        let Some(holder) = self.view.holder.clone() else { return Ok(Put::Lost) };
        let anchor = Anchor {
            v: if self.view.resync.is_some() { entry::RESYNC_VERSION } else { entry::ENTRY_VERSION },
            seq: self.view.seq + 1,
            prev_hash: self.view.hash,
            connection: self.connection.clone(),
            writer_id: holder.writer_id,
            agent_id: holder.agent_id,
            claim_seq: holder.claim_seq,
            generation: holder.generation,
            last_commit: self.view.last_commit,
            state: self.view.state.clone(),
            resync: self.view.resync.clone(),
            synced_at_ms: self.view.synced_at_ms,
            schemas: self.view.schemas.values().map(TableOp::from).collect(),
            applied: self.view.touched.iter().map(TableApplied::from).collect(),
            gc_floor,
        };
        let seq = anchor.seq;
        let put = self.append(&Entry::Anchor(anchor), signer, Points { before: "P17", after: "P17b" }).await?;
        if put == Put::Mine {
            let hint = serde_json::to_vec(&Hint { v: 1, anchor: seq }).expect("plain structs always serialise");
            if let Err(error) = self.store.overwrite(&self.folder.clone().join("hint.json"), hint.into()).await {
                tracing::warn!(%error, "chain hint was not written; the next reader starts further back");
            }
        }
        Ok(put)
    }

    /// Whether slot `seq` is still there: a destination that vanished must not be started anew.
    pub(crate) async fn holds(&self, seq: u64) -> Result<bool, Error> {
        Ok(self.store.size(&self.slot(seq)).await?.is_some())
    }

    pub(crate) fn slot_folder(&self) -> Path {
        self.folder.clone().join("chain")
    }

    pub(crate) fn state_folder(&self) -> Path {
        self.folder.clone().join("state")
    }

    fn slot(&self, seq: u64) -> Path {
        slot_in(&self.slot_folder(), seq)
    }

    fn state_path(&self, name: &str) -> Path {
        self.state_folder().join(name)
    }

    /// The view at the hinted Anchor, if the hint is any good.
    async fn hinted(&self) -> Option<View> {
        let hint = self.store.get(&self.folder.clone().join("hint.json")).await.ok()??;
        let Hint { anchor, .. } = serde_json::from_slice(&hint).ok()?;
        let object = self.store.get(&self.slot(anchor)).await.ok()??;
        match verify(&self.root, anchor, &object) {
            Ok((Entry::Anchor(anchor), _, key)) => Some(View::at_anchor(&self.connection, &anchor, key)),
            _ => None,
        }
    }

    /// The highest taken slot at or above `first`, or anything lower when there is none. A gap below it is found when the
    /// slots are read.
    async fn last_taken(&self, first: u64) -> Result<u64, Error> {
        let before = self.slot(first - 1);
        let listed = self.store.list(&self.slot_folder(), Some(&before)).await?;
        Ok(listed.iter().filter_map(|object| slot_number(&object.location)).max().unwrap_or(0))
    }
}

fn missing(slot: u64) -> Error {
    Error::Altered { slot, reason: "the slot is empty, though a later one is taken".to_owned() }
}

fn slot_in(folder: &Path, seq: u64) -> Path {
    folder.clone().join(format!("{seq:020}.json"))
}

fn slot_number(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

/// Verifies an object: signature by a key that the root vouches for, then strict decoding.
fn verify(root: &PublicKey, slot: u64, object: &[u8]) -> Result<(Entry, Hash, PublicKey), Error> {
    let altered = |reason: String| Error::Altered { slot, reason };
    let (line, signature) = split_lines(object).map_err(|error| altered(error.to_string()))?;
    let signed = SignedLine::from_json(signature).map_err(|error| altered(error.to_string()))?;
    let signer = signed.verify(root, line.as_bytes()).map_err(|error| altered(error.to_string()))?;
    let entry = Entry::decode(line).map_err(|error| altered(error.to_string()))?;
    if let (Some(signer), Entry::Claim(claim)) = (signer, &entry)
        && signer.subject != claim.job_id
    {
        return Err(altered(format!("it names job {}, the signature is of {}", claim.job_id, signer.subject)));
    }
    Ok((entry, Hash::of(line.as_bytes()), signed.key))
}
