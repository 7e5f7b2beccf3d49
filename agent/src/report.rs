//! How a job's progress looks on the wire: counters, enums and labels. Names of tables go up as keyed hashes unless the
//! host's policy opens them.

use inshore_protocol::limits::PROGRESS_TABLES_MAX;
use inshore_protocol::{JobRef, Progress as Frame, RowCounts, Stage as WireStage, TableLabel, TableProgress};
use sha2::{Digest, Sha256};

use crate::context::{Counts, Progress, Stage};

/// Turns table names into what may go up.
#[derive(Debug)]
pub(crate) enum Labels {
    /// Hashes keyed with a secret of this host: stable, and they mean nothing elsewhere.
    Hashed { key: [u8; 32] },
    /// The names themselves, because the policy says `telemetry.schema_names`.
    Names,
}

impl Labels {
    fn label(&self, table: String) -> Option<TableLabel> {
        let text = match self {
            Self::Hashed { key } => {
                let hash = Sha256::new().chain_update(key).chain_update(table).finalize();
                hex::encode(hash)
            }
            Self::Names => table,
        };
        TableLabel::new(text).ok()
    }
}

/// The frame of one moment of a job.
pub(crate) fn progress(labels: &Labels, attempt: &JobRef, progress: &Progress) -> Frame {
    Frame {
        job_id: attempt.job_id.clone(),
        generation: attempt.generation,
        stage: stage(progress.stage),
        rows: rows(progress.totals()),
        bytes: progress.bytes,
        checkpoints: progress.checkpoints,
        last_checkpoint_at_ms: progress.last_checkpoint_at_ms.and_then(|at| u64::try_from(at).ok()),
        tables: tables(labels, progress),
    }
}

/// Per table; beyond the frame's limit the largest tables win.
pub(crate) fn tables(labels: &Labels, progress: &Progress) -> Vec<TableProgress> {
    let mut tables: Vec<_> = progress.tables.iter().collect();
    if tables.len() > PROGRESS_TABLES_MAX {
        tables.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.upserts));
        tables.truncate(PROGRESS_TABLES_MAX);
    }
    let labelled = tables.into_iter().filter_map(|(table, counts)| {
        Some(TableProgress { table: labels.label(table.to_string())?, rows: rows(*counts), bytes: 0 })
    });
    labelled.collect()
}

pub(crate) fn rows(counts: Counts) -> RowCounts {
    RowCounts { upserts: counts.upserts, updates: counts.updates, deletes: counts.deletes, truncates: counts.truncates }
}

fn stage(stage: Stage) -> WireStage {
    match stage {
        Stage::Prepare => WireStage::Prepare,
        Stage::Extract => WireStage::Extract,
        Stage::Seal => WireStage::Stage,
        Stage::Commit => WireStage::Commit,
        Stage::Done => WireStage::Done,
    }
}
