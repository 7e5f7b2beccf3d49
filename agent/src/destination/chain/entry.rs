//! The chain's entries: their exact text and strict decoding. Pure: no IO, no clock.
//! An entry is never re-serialised once it is read: hash and signature cover the bytes as they were stored.

use std::fmt;

use inshore_columnar::{Column, DataType, TableName, TableSchema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::destination::SHARED_SCHEMA;

/// The format of everything but a Commit that names uploads.
pub(crate) const ENTRY_VERSION: u16 = 1;
/// The format of a Commit that names uploads.
pub(crate) const UPLOADS_VERSION: u16 = 2;
/// The format of a Commit or an Anchor in the middle of a re-sync, and the highest that we read.
pub(crate) const RESYNC_VERSION: u16 = 3;
/// A connector state above this size lives in its own object.
pub(crate) const STATE_INLINE_BYTES_MAX: usize = 256 * 1024;

/// One slot of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    Claim(Claim),
    Commit(Commit),
    Anchor(Anchor),
}

/// Fences every older writer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) v: u16,
    pub(crate) seq: u64,
    pub(crate) prev_hash: Hash,
    pub(crate) connection: String,
    pub(crate) writer_id: String,
    pub(crate) agent_id: String,
    pub(crate) job_id: String,
    pub(crate) generation: u64,
}

/// Makes one checkpoint durable: state and files in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Commit {
    pub(crate) v: u16,
    pub(crate) seq: u64,
    pub(crate) prev_hash: Hash,
    pub(crate) writer_id: String,
    pub(crate) claim_seq: u64,
    /// The Commit before this one; 0 when there is none.
    pub(crate) prev_commit: u64,
    pub(crate) state: StateRef,
    /// The re-sync that goes on after this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resync: Option<ResyncRef>,
    pub(crate) schema_ops: Vec<TableOp>,
    pub(crate) synced_at_ms: i64,
    pub(crate) tables: Vec<TableSteps>,
    pub(crate) row_counts: RowCounts,
}

/// Where a reader may start: everything before it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Anchor {
    pub(crate) v: u16,
    pub(crate) seq: u64,
    pub(crate) prev_hash: Hash,
    pub(crate) connection: String,
    pub(crate) writer_id: String,
    pub(crate) agent_id: String,
    pub(crate) claim_seq: u64,
    pub(crate) generation: u64,
    pub(crate) last_commit: u64,
    pub(crate) state: StateRef,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resync: Option<ResyncRef>,
    pub(crate) synced_at_ms: i64,
    pub(crate) schemas: Vec<TableOp>,
    /// Per table the last Commit that touched it: its marker was there when the Anchor was written.
    #[serde(default)]
    pub(crate) applied: Vec<TableApplied>,
    pub(crate) gc_floor: u64,
}

/// How far a table had been rolled forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableApplied {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) seq: u64,
}

/// The connector's state: here, or in an object of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum StateRef {
    Inline(String),
    Object { name: String, sha256: Hash },
}

/// A re-sync that has begun: beside the state that it has reached, so that whoever goes on knows where it will end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResyncRef {
    /// Rows that were synced before, and that the re-sync does not bring again, are marked deleted at its end.
    pub(crate) bound_at_ms: i64,
    /// None: all tables of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tables: Option<Vec<TableName>>,
    /// The state that the connection goes on from once its tables are re-synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<StateRef>,
}

/// The logical schema that a table has from this entry on. Applying it twice changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableOp {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) key: Vec<String>,
    pub(crate) columns: Vec<ColumnOp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ColumnOp {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) data_type: DataType,
    pub(crate) declared: bool,
}

/// What one entry does to one table, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableSteps {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) steps: Vec<Step>,
    /// Files that travelled beside rows of this window, one per path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) uploads: Vec<Upload>,
}

/// A file beside rows: where it is staged, and where it will lie below the table's folder of files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upload {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: Hash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound_at_ms: Option<i64>,
    /// The columns that an update carries; an absent column is never a null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<String>,
    pub(crate) files: Vec<StagedFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Upsert,
    Update,
    Delete,
    Truncate,
}

/// A data file, by its key below the destination's root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StagedFile {
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) sha256: Hash,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowCounts {
    pub(crate) upserts: u64,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
    pub(crate) truncates: u64,
}

impl RowCounts {
    /// The rows of the connection's own tables. Those that all connections write hold lines, not rows of a source.
    pub(crate) fn of(tables: &[TableSteps]) -> RowCounts {
        let mut counts = RowCounts::default();
        for step in tables.iter().filter(|table| table.schema != SHARED_SCHEMA).flat_map(|table| &table.steps) {
            let rows: u64 = step.files.iter().map(|file| file.rows).sum();
            match step.op {
                Op::Truncate => counts.truncates += 1,
                Op::Upsert => counts.upserts += rows,
                Op::Update => counts.updates += rows,
                Op::Delete => counts.deletes += rows,
            }
        }
        counts
    }
}

/// Why line one of an object is not an entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the object does not have two lines")]
    Lines,
    #[error("the entry has version {0}, newer than this program reads")]
    Version(u16),
    #[error("the entry is malformed: {0}")]
    Malformed(serde_json::Error),
}

#[derive(Deserialize)]
struct Versioned {
    v: u16,
}

impl Entry {
    /// Line one. Called once per entry: every try sends the same bytes.
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("plain structs always serialise")
    }

    pub(crate) fn decode(line: &str) -> Result<Entry, DecodeError> {
        let Versioned { v } = serde_json::from_str(line).map_err(DecodeError::Malformed)?;
        if v > RESYNC_VERSION {
            return Err(DecodeError::Version(v));
        }
        serde_json::from_str(line).map_err(DecodeError::Malformed)
    }

    pub(crate) fn seq(&self) -> u64 {
        match self {
            Entry::Claim(claim) => claim.seq,
            Entry::Commit(commit) => commit.seq,
            Entry::Anchor(anchor) => anchor.seq,
        }
    }

    pub(crate) fn prev_hash(&self) -> Hash {
        match self {
            Entry::Claim(claim) => claim.prev_hash,
            Entry::Commit(commit) => commit.prev_hash,
            Entry::Anchor(anchor) => anchor.prev_hash,
        }
    }
}

/// Cuts an object into the entry's exact text and the line that signs it.
pub(crate) fn split_lines(object: &[u8]) -> Result<(&str, &str), DecodeError> {
    let text = std::str::from_utf8(object).map_err(|_| DecodeError::Lines)?;
    let (entry, rest) = text.split_once('\n').ok_or(DecodeError::Lines)?;
    let signature = rest.strip_suffix('\n').ok_or(DecodeError::Lines)?;
    if signature.contains('\n') { Err(DecodeError::Lines) } else { Ok((entry, signature)) }
}

impl From<&TableSchema> for TableOp {
    fn from(schema: &TableSchema) -> TableOp {
        let column = |c: &Column| ColumnOp { name: c.name.clone(), data_type: c.data_type, declared: c.declared };
        TableOp {
            schema: schema.name.schema.clone(),
            table: schema.name.table.clone(),
            key: schema.key.clone(),
            columns: schema.columns.iter().map(column).collect(),
        }
    }
}

impl From<&TableOp> for TableSchema {
    fn from(op: &TableOp) -> TableSchema {
        let column = |c: &ColumnOp| Column { name: c.name.clone(), data_type: c.data_type, declared: c.declared };
        TableSchema { name: op.name(), key: op.key.clone(), columns: op.columns.iter().map(column).collect() }
    }
}

impl TableOp {
    pub(crate) fn name(&self) -> TableName {
        TableName { schema: self.schema.clone(), table: self.table.clone() }
    }
}

impl TableSteps {
    pub(crate) fn name(&self) -> TableName {
        TableName { schema: self.schema.clone(), table: self.table.clone() }
    }
}

impl From<(&TableName, &u64)> for TableApplied {
    fn from((table, seq): (&TableName, &u64)) -> TableApplied {
        TableApplied { schema: table.schema.clone(), table: table.table.clone(), seq: *seq }
    }
}

impl Commit {
    /// The tables that this entry touches, by steps or by schema.
    pub(crate) fn touched(&self) -> std::collections::BTreeSet<TableName> {
        let steps = self.tables.iter().map(TableSteps::name);
        steps.chain(self.schema_ops.iter().map(TableOp::name)).collect()
    }

    pub(crate) fn steps(&self, table: &TableName) -> &[Step] {
        let found = self.tables.iter().find(|t| t.schema == table.schema && t.table == table.table);
        found.map_or(&[], |t| t.steps.as_slice())
    }

    pub(crate) fn uploads(&self, table: &TableName) -> &[Upload] {
        let found = self.tables.iter().find(|t| t.schema == table.schema && t.table == table.table);
        found.map_or(&[], |t| t.uploads.as_slice())
    }

    pub(crate) fn schema_op(&self, table: &TableName) -> Option<&TableOp> {
        self.schema_ops.iter().find(|op| op.schema == table.schema && op.table == table.table)
    }
}

/// A SHA-256, written as lowercase hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

impl Hash {
    /// What the first entry names as its predecessor.
    pub(crate) const GENESIS: Hash = Hash([0; 32]);

    pub(crate) fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// The first 64 bits, for names.
    pub(crate) fn short(&self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        hex::encode([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Hash(bytes))
    }
}
