//! What a job says about itself: progress while it runs, one outcome at its end. Counters, enums, ids, instants.

use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};
use crate::id::{JobId, TableLabel};
use crate::limits::SETUP_TESTS_MAX;
use crate::schema::CapturedSchema;

/// Where a job stands. Coalesced: at most one frame per job and second, the latest wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub job_id: JobId,
    pub generation: u64,
    pub stage: Stage,
    pub rows: RowCounts,
    pub bytes: u64,
    pub checkpoints: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint_at_ms: Option<u64>,
    #[serde(default)]
    pub tables: Vec<TableProgress>,
}

/// What a job is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Fetching the package, building the environment, opening the destination.
    Prepare,
    Extract,
    Stage,
    Commit,
    Done,
    #[serde(other)]
    Unknown,
}

/// Operations as received from the connector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    #[serde(default)]
    pub upserts: u64,
    #[serde(default)]
    pub updates: u64,
    #[serde(default)]
    pub deletes: u64,
    #[serde(default)]
    pub truncates: u64,
}

impl RowCounts {
    /// Rows of all kinds; a truncate is no row.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.upserts.saturating_add(self.updates).saturating_add(self.deletes)
    }
}

/// Progress of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProgress {
    pub table: TableLabel,
    pub rows: RowCounts,
    pub bytes: u64,
}

/// The single terminal result of one attempt. Durable: stored before it is sent, sent until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub outbox_seq: u64,
    pub job_id: JobId,
    pub generation: u64,
    /// The chain's head when the attempt ended; absent where no chain was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_seq: Option<u64>,
    /// The generation of the chain's last claim, where it is above this attempt's and therefore fenced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_generation: Option<u64>,
    pub result: OutcomeResult,
    pub rows: RowCounts,
    pub bytes: u64,
    pub checkpoints: u64,
    pub state_bytes: u64,
    /// When the attempt's last commit was made; absent where it made none, or is from before this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint_at_ms: Option<u64>,
    pub started_at_ms: u64,
    pub finished_at_ms: u64,
    pub delivery: Delivery,
    #[serde(default)]
    pub warnings: Vec<WarningCount>,
    #[serde(default)]
    pub tables: Vec<TableProgress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_moved: Option<NothingMoved>,
    /// Of a check: how each setup test ended, in the order of the connector's form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub setup_tests: Vec<SetupTest>,
    /// Of a sync: what its connector named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<CapturedSchema>,
}

/// How one setup test ended. Its name and its words stay on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetupTest {
    Passed,
    Failed,
    /// It raised an error instead of an answer.
    Raised,
    #[serde(other)]
    Unknown,
}

impl SetupTest {
    /// As many as an outcome holds: the last of them stands for all that follow too, and failed when one of those did not pass.
    pub fn bounded(tests: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = tests.into_iter().collect();
        if all.len() > SETUP_TESTS_MAX {
            let rest = all.split_off(SETUP_TESTS_MAX - 1);
            all.push(if rest.iter().all(|test| *test == Self::Passed) { Self::Passed } else { Self::Failed });
        }
        all
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum OutcomeResult {
    Succeeded,
    Failed {
        failure: Failure,
    },
    Cancelled,
    /// Stopped at a durable checkpoint because it was asked to.
    Drained,
    /// A newer claim holds the chain.
    Fenced,
    #[serde(other)]
    Unknown,
}

/// What a destination promises about rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
    #[serde(other)]
    Unknown,
}

/// Why a successful sync moved no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NothingMoved {
    /// The connector ran and reported no row.
    NoRows,
    /// Rows came, all of tables that the connection blocks.
    AllBlocked,
    /// The job was a check.
    CheckOnly,
    #[serde(other)]
    Unknown,
}

/// How often one warning came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningCount {
    pub code: Code,
    pub count: u64,
}
