//! What a reader knows after the entries it has read: head, holder, state, schemas, entries that may be unapplied.
//! Pure: `absorb` checks each entry against the ones before it. An entry that does not follow is never skipped.

use std::collections::BTreeMap;

use inshore_columnar::{TableName, TableSchema};
use inshore_trust::PublicKey;

use super::entry::{Anchor, Claim, Commit, Entry, Hash, ResyncRef, StateRef};

/// A generation this far above the head's is refused, so that nobody can burn the range of numbers.
pub(crate) const GENERATION_JUMP_MAX: u64 = 1 << 20;

/// The chain as far as it was read.
#[derive(Debug, Clone)]
pub(crate) struct View {
    connection: String,
    /// The head; 0 before the first entry.
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) holder: Option<Holder>,
    pub(crate) last_commit: u64,
    pub(crate) state: StateRef,
    /// The re-sync that the last Commit belongs to.
    pub(crate) resync: Option<ResyncRef>,
    pub(crate) synced_at_ms: i64,
    pub(crate) schemas: BTreeMap<TableName, TableSchema>,
    /// Commits since the last Anchor, by slot. Everything before the Anchor is applied.
    pub(crate) commits: BTreeMap<u64, Commit>,
    pub(crate) last_anchor: u64,
    /// The tables that the last Anchor knew, with what was applied to them: no marker can be below that.
    pub(crate) anchored: BTreeMap<TableName, u64>,
    /// Per table the last Commit that touched it.
    pub(crate) touched: BTreeMap<TableName, u64>,
    pub(crate) gc_floor: u64,
}

/// Who wrote the last Claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    pub(crate) claim_seq: u64,
    pub(crate) generation: u64,
    pub(crate) agent_id: String,
    pub(crate) writer_id: String,
    /// Signed the Claim, and must sign everything that is written under it.
    pub(crate) key: PublicKey,
}

/// May this writer claim on top of this head?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayClaim {
    Yes,
    /// The head's generation is higher.
    Fenced {
        head: u64,
    },
    /// Ours is absurdly high.
    Jump {
        head: u64,
    },
}

/// After a Claim lost its slot and the chain was read again: what next?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    GoOn,
    WaitOneLease,
}

impl View {
    pub(crate) fn empty(connection: &str) -> View {
        View {
            connection: connection.to_owned(),
            seq: 0,
            hash: Hash::GENESIS,
            holder: None,
            last_commit: 0,
            state: StateRef::Inline("{}".to_owned()),
            resync: None,
            synced_at_ms: 0,
            schemas: BTreeMap::new(),
            commits: BTreeMap::new(),
            last_anchor: 0,
            anchored: BTreeMap::new(),
            touched: BTreeMap::new(),
            gc_floor: 0,
        }
    }

    /// Starts at an Anchor that the hint names: its predecessor is taken on its signature.
    pub(crate) fn at_anchor(connection: &str, anchor: &Anchor, key: PublicKey) -> View {
        let mut view = View::empty(connection);
        view.seq = anchor.seq.saturating_sub(1);
        view.hash = anchor.prev_hash;
        view.last_commit = anchor.last_commit;
        view.holder = Some(Holder {
            claim_seq: anchor.claim_seq,
            generation: anchor.generation,
            agent_id: anchor.agent_id.clone(),
            writer_id: anchor.writer_id.clone(),
            key,
        });
        view
    }

    /// Takes the next entry, which `key` has signed, or says why it cannot be the next one.
    pub(crate) fn absorb(&mut self, entry: &Entry, hash: Hash, key: PublicKey) -> Result<(), String> {
        if entry.seq() != self.seq + 1 {
            return Err(format!("the entry says slot {}, it stands in slot {}", entry.seq(), self.seq + 1));
        }
        if entry.prev_hash() != self.hash {
            return Err("its prev_hash is not the hash of the entry before it".to_owned());
        }
        match entry {
            Entry::Claim(claim) => self.absorb_claim(claim, key)?,
            Entry::Commit(commit) => self.absorb_commit(commit, key)?,
            Entry::Anchor(anchor) => self.absorb_anchor(anchor, key)?,
        }
        self.seq = entry.seq();
        self.hash = hash;
        Ok(())
    }

    /// Files beside rows that Commits since the last Anchor name.
    pub(crate) fn uploads(&self) -> usize {
        self.commits.values().flat_map(|commit| &commit.tables).map(|steps| steps.uploads.len()).sum()
    }

    pub(crate) fn may_claim(&self, generation: u64) -> MayClaim {
        let head = self.holder.as_ref().map_or(0, |holder| holder.generation);
        if head > generation {
            MayClaim::Fenced { head }
        } else if generation - head > GENERATION_JUMP_MAX {
            MayClaim::Jump { head }
        } else {
            MayClaim::Yes
        }
    }

    /// Only another agent of the same generation is worth waiting for: its lease ends, then ours begins.
    pub(crate) fn after_loss(&self, generation: u64, agent_id: &str) -> AfterLoss {
        match &self.holder {
            Some(holder) if holder.generation == generation && holder.agent_id != agent_id => AfterLoss::WaitOneLease,
            _ => AfterLoss::GoOn,
        }
    }

    fn absorb_claim(&mut self, claim: &Claim, key: PublicKey) -> Result<(), String> {
        self.check_connection(&claim.connection)?;
        if self.holder.as_ref().is_some_and(|holder| holder.generation > claim.generation) {
            return Err("it claims over a higher generation".to_owned());
        }
        self.holder = Some(Holder {
            claim_seq: claim.seq,
            generation: claim.generation,
            agent_id: claim.agent_id.clone(),
            writer_id: claim.writer_id.clone(),
            key,
        });
        Ok(())
    }

    fn absorb_commit(&mut self, commit: &Commit, key: PublicKey) -> Result<(), String> {
        self.check_holder(commit.claim_seq, &commit.writer_id, key)?;
        if commit.prev_commit != self.last_commit {
            return Err(format!("it follows commit {}, the last commit is {}", commit.prev_commit, self.last_commit));
        }
        self.last_commit = commit.seq;
        self.state = commit.state.clone();
        self.resync.clone_from(&commit.resync);
        self.synced_at_ms = self.synced_at_ms.max(commit.synced_at_ms);
        for op in &commit.schema_ops {
            self.schemas.insert(op.name(), TableSchema::from(op));
        }
        self.touched.extend(commit.touched().into_iter().map(|table| (table, commit.seq)));
        self.commits.insert(commit.seq, commit.clone());
        Ok(())
    }

    fn absorb_anchor(&mut self, anchor: &Anchor, key: PublicKey) -> Result<(), String> {
        self.check_connection(&anchor.connection)?;
        self.check_holder(anchor.claim_seq, &anchor.writer_id, key)?;
        if anchor.last_commit != self.last_commit {
            return Err("it names another last commit".to_owned());
        }
        self.state = anchor.state.clone();
        self.resync.clone_from(&anchor.resync);
        self.synced_at_ms = anchor.synced_at_ms;
        self.schemas = anchor.schemas.iter().map(|op| (op.name(), TableSchema::from(op))).collect();
        self.touched = anchor.applied.iter().map(|at| (TableName::new(&at.schema, &at.table), at.seq)).collect();
        let applied = |table: &TableName| self.touched.get(table).copied().unwrap_or(0);
        self.anchored = self.schemas.keys().map(|table| (table.clone(), applied(table))).collect();
        self.commits.clear();
        self.last_anchor = anchor.seq;
        self.gc_floor = anchor.gc_floor;
        Ok(())
    }

    fn check_connection(&self, connection: &str) -> Result<(), String> {
        if connection == self.connection { Ok(()) } else { Err(format!("it belongs to connection {connection}")) }
    }

    /// Only the holder of the last Claim can have taken the next slot.
    fn check_holder(&self, claim_seq: u64, writer_id: &str, key: PublicKey) -> Result<(), String> {
        match &self.holder {
            Some(holder) if holder.claim_seq == claim_seq && holder.writer_id == writer_id => {
                if holder.key == key {
                    Ok(())
                } else {
                    Err("another key than that of its claim has signed it".to_owned())
                }
            }
            _ => Err(format!("it was written under claim {claim_seq}, which is not the last claim")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::chain::entry::RowCounts;

    const KEY: PublicKey = PublicKey([1; 32]);

    fn claim(seq: u64, generation: u64) -> Claim {
        Claim {
            v: 1,
            seq,
            prev_hash: Hash::GENESIS,
            connection: "con_1".to_owned(),
            writer_id: format!("writer {seq}"),
            agent_id: "agt_1".to_owned(),
            job_id: "job_1".to_owned(),
            generation,
        }
    }

    fn commit(seq: u64, claim_seq: u64, prev_commit: u64) -> Commit {
        Commit {
            v: 1,
            seq,
            prev_hash: Hash::GENESIS,
            writer_id: format!("writer {claim_seq}"),
            claim_seq,
            prev_commit,
            state: StateRef::Inline("{}".to_owned()),
            resync: None,
            schema_ops: Vec::new(),
            synced_at_ms: 1,
            tables: Vec::new(),
            row_counts: RowCounts::default(),
        }
    }

    /// A claim in slot 1 and a commit in slot 2, then `entry`.
    fn check(entry: Entry, key: PublicKey) -> Result<(), String> {
        let mut view = View::empty("con_1");
        view.absorb(&Entry::Claim(claim(1, 5)), Hash::GENESIS, KEY).expect("a first claim");
        view.absorb(&Entry::Commit(commit(2, 1, 0)), Hash::GENESIS, KEY).expect("a first commit");
        view.absorb(&entry, Hash::GENESIS, key)
    }

    #[test]
    fn only_an_entry_that_follows_is_taken() {
        let stranger = Commit { writer_id: "writer 9".to_owned(), ..commit(3, 1, 2) };
        let foreign = Claim { connection: "con_2".to_owned(), ..claim(3, 5) };
        let misplaced = Claim { prev_hash: Hash([1; 32]), ..claim(3, 5) };
        let cases = [
            ("next commit", Entry::Commit(commit(3, 1, 2)), true),
            ("equal generation", Entry::Claim(claim(3, 5)), true),
            ("higher generation", Entry::Claim(claim(3, 6)), true),
            ("lower generation", Entry::Claim(claim(3, 4)), false),
            ("another slot", Entry::Commit(commit(4, 1, 2)), false),
            ("another previous commit", Entry::Commit(commit(3, 1, 0)), false),
            ("another claim", Entry::Commit(commit(3, 2, 2)), false),
            ("another writer", Entry::Commit(stranger), false),
            ("another connection", Entry::Claim(foreign), false),
            ("another predecessor", Entry::Claim(misplaced), false),
        ];
        for (name, entry, taken) in cases {
            assert_eq!(check(entry, KEY).is_ok(), taken, "{name}");
        }
        let other = PublicKey([2; 32]);
        assert!(check(Entry::Commit(commit(3, 1, 2)), other).is_err(), "a commit of another job's key");
        assert!(check(Entry::Claim(claim(3, 6)), other).is_ok(), "a claim of another job");
    }

    #[test]
    fn only_another_agent_of_the_same_generation_is_worth_a_wait() {
        let mut view = View::empty("con_1");
        assert_eq!(view.after_loss(5, "agt_1"), AfterLoss::GoOn);
        view.absorb(&Entry::Claim(claim(1, 5)), Hash::GENESIS, KEY).expect("a first claim");
        let cases =
            [(5, "agt_2", AfterLoss::WaitOneLease), (5, "agt_1", AfterLoss::GoOn), (6, "agt_2", AfterLoss::GoOn)];
        for (generation, agent, want) in cases {
            assert_eq!(view.after_loss(generation, agent), want, "{generation} {agent}");
        }
    }
}
