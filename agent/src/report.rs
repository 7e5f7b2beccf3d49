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
            Self::Hashed { key } => hash(key, &table),
            Self::Names => table,
        };
        TableLabel::new(text).ok()
    }

    /// What goes up for a schema, one of its tables, or a column of that; `None` where the name itself cannot.
    pub(crate) fn of(&self, schema: &str, table: Option<&str>, column: Option<&str>) -> Option<TableLabel> {
        let text = match self {
            Self::Hashed { key } => spelled(key, schema, table, column),
            Self::Names => column.or(table).unwrap_or(schema).to_owned(),
        };
        TableLabel::new(text).ok()
    }

    /// Tells hashes of this host from those of others.
    pub(crate) fn key_id(&self) -> Option<[u8; 16]> {
        match self {
            Self::Hashed { key } => Some(key_id(key)),
            Self::Names => None,
        }
    }
}

/// The hash that stands for a schema, a table or a column: of a table the same that its progress has.
pub(crate) fn spelled(key: &[u8; 32], schema: &str, table: Option<&str>, column: Option<&str>) -> String {
    match (table, column) {
        (None, _) => hash(key, schema),
        (Some(table), None) => hash(key, &format!("{schema}.{table}")),
        (Some(table), Some(column)) => hash(key, &format!("{schema}.{table}\0{column}")),
    }
}

pub(crate) fn key_id(key: &[u8; 32]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(b"inshore table labels v1 id").chain_update(key).finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(hash).for_each(|(id, byte)| *id = byte);
    id
}

fn hash(key: &[u8; 32], name: &str) -> String {
    hex::encode(Sha256::new().chain_update(key).chain_update(name).finalize())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tables: usize) -> Progress {
        let counts = |number: usize| Counts { upserts: number as u64, deletes: 1, ..Counts::default() };
        let name = |number: usize| serde_json::json!({"schema": "shop", "table": format!("secret_{number}")});
        let named = |number| (serde_json::from_value(name(number)).expect("a table's name"), counts(number));
        Progress { tables: (0..tables).map(named).collect(), ..Progress::default() }
    }

    fn labels(labels: &Labels, progress: &Progress) -> Vec<String> {
        let tables = tables(labels, progress);
        tables.iter().map(|table| serde_json::to_string(&table.table).expect("JSON")).collect()
    }

    #[test]
    fn names_go_up_as_keyed_hashes_unless_the_policy_opens_them() {
        let progress = of(2);
        assert_eq!(labels(&Labels::Names, &progress), ["\"shop.secret_0\"", "\"shop.secret_1\""]);
        let hashed = labels(&Labels::Hashed { key: [1; 32] }, &progress);
        assert!(hashed.iter().all(|label| label.len() == 66 && !label.contains("secret")), "{hashed:?}");
        assert_ne!(hashed[0], hashed[1]);
        assert_eq!(hashed, labels(&Labels::Hashed { key: [1; 32] }, &progress), "stable on one host");
        assert_ne!(hashed, labels(&Labels::Hashed { key: [2; 32] }, &progress), "meaningless on another");
        let frame = serde_json::to_string(&super::progress(
            &Labels::Hashed { key: [1; 32] },
            &JobRef { job_id: "job_1".parse().expect("id"), generation: 1 },
            &progress,
        ));
        assert!(!frame.expect("JSON").contains("secret"));
    }

    #[test]
    fn schemas_tables_and_columns_have_labels_of_their_own() {
        let hashed = Labels::Hashed { key: [1; 32] };
        let of =
            |labels: &Labels, table, column| labels.of("shop", table, column).expect("a label").as_str().to_owned();
        let all = [of(&hashed, None, None), of(&hashed, Some("a"), None), of(&hashed, Some("a"), Some("b"))];
        assert!(all[0] != all[1] && all[1] != all[2] && all.iter().all(|label| label.len() == 64), "{all:?}");
        assert_eq!(Some(all[1].as_str()), hashed.label("shop.a".to_owned()).as_ref().map(TableLabel::as_str));
        assert_eq!(of(&Labels::Names, Some("a"), Some("b")), "b");
        assert_eq!((of(&Labels::Names, Some("a"), None), of(&Labels::Names, None, None)), ("a".into(), "shop".into()));
        assert_ne!(hashed.key_id(), Labels::Hashed { key: [2; 32] }.key_id());
        assert_eq!(Labels::Names.key_id(), None);
    }

    #[test]
    fn beyond_the_limit_the_largest_tables_are_told_and_the_totals_count_all() {
        let many = PROGRESS_TABLES_MAX + 5;
        let progress = of(many);
        let told = tables(&Labels::Names, &progress);
        assert_eq!(told.len(), PROGRESS_TABLES_MAX);
        assert!(told.iter().all(|table| table.rows.upserts >= 5), "the five smallest are left out");
        assert_eq!(rows(progress.totals()).deletes, many as u64);
    }
}
