//! How the tables of a destination are kept: formats, merge, retention of earlier versions.

use serde::{Deserialize, Serialize};

/// What a destination's configuration says of its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOptions {
    /// The formats over the one set of Parquet files.
    pub formats: Vec<TableFormat>,
    pub merge: MergeMode,
    /// How long what was removed stays for readers of earlier versions.
    pub retention: SnapshotRetention,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    Delta,
    Iceberg,
    #[serde(other)]
    Unknown,
}

/// What becomes of rows that a keyed table replaces or deletes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeMode {
    /// Position deletes where every reader of the exposed formats knows them, else copy on write.
    #[default]
    Auto,
    CopyOnWrite,
    PositionDeletes,
    #[serde(other)]
    Unknown,
}

/// The retention classes of a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SnapshotRetention {
    OneDay,
    #[default]
    OneWeek,
    TwoWeeks,
    FourWeeks,
    SixWeeks,
    RetainAllSnapshots,
    #[serde(other)]
    Unknown,
}

/// Why options cannot be had together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableOptionsError {
    #[error("a destination exposes at least one table format: delta, iceberg")]
    NoFormat,
    #[error("a table format is not one of delta, iceberg")]
    UnknownFormat,
    #[error("the merge mode is not one of auto, copy_on_write, position_deletes")]
    UnknownMerge,
    #[error("the retention is not one of ONE_DAY, ONE_WEEK, TWO_WEEKS, FOUR_WEEKS, SIX_WEEKS, RETAIN_ALL_SNAPSHOTS")]
    UnknownRetention,
    #[error(
        "position_deletes cannot be had where Delta is exposed: Delta readers do not know them; choose iceberg alone, or copy_on_write"
    )]
    MarksUnderDelta,
}

impl Default for TableOptions {
    fn default() -> TableOptions {
        TableOptions {
            formats: vec![TableFormat::Delta, TableFormat::Iceberg],
            merge: MergeMode::default(),
            retention: SnapshotRetention::default(),
        }
    }
}

impl TableOptions {
    #[must_use]
    pub fn exposes(&self, format: TableFormat) -> bool {
        self.formats.contains(&format)
    }

    /// Whether this version can keep tables so.
    pub fn check(&self) -> Result<(), TableOptionsError> {
        if self.formats.is_empty() {
            return Err(TableOptionsError::NoFormat);
        }
        if self.exposes(TableFormat::Unknown) {
            return Err(TableOptionsError::UnknownFormat);
        }
        if self.merge == MergeMode::Unknown {
            return Err(TableOptionsError::UnknownMerge);
        }
        if self.retention == SnapshotRetention::Unknown {
            return Err(TableOptionsError::UnknownRetention);
        }
        if self.merge == MergeMode::PositionDeletes && self.exposes(TableFormat::Delta) {
            return Err(TableOptionsError::MarksUnderDelta);
        }
        Ok(())
    }
}

impl SnapshotRetention {
    /// In days; `None` keeps everything.
    #[must_use]
    pub fn days(self) -> Option<u32> {
        match self {
            SnapshotRetention::OneDay => Some(1),
            SnapshotRetention::OneWeek | SnapshotRetention::Unknown => Some(7),
            SnapshotRetention::TwoWeeks => Some(14),
            SnapshotRetention::FourWeeks => Some(28),
            SnapshotRetention::SixWeeks => Some(42),
            SnapshotRetention::RetainAllSnapshots => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_that_this_version_cannot_keep_are_told_apart() {
        use TableOptionsError as E;
        let cases = [
            (json!({}), Ok(())),
            (json!({"formats": ["iceberg"], "merge": "position_deletes", "retention": "RETAIN_ALL_SNAPSHOTS"}), Ok(())),
            (json!({"formats": []}), Err(E::NoFormat)),
            (json!({"formats": ["delta", "hudi"]}), Err(E::UnknownFormat)),
            (json!({"merge": "deletion_vectors"}), Err(E::UnknownMerge)),
            (json!({"retention": "ONE_YEAR"}), Err(E::UnknownRetention)),
            (json!({"merge": "position_deletes"}), Err(E::MarksUnderDelta)),
        ];
        for (text, checked) in cases {
            let options: TableOptions = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(options.check(), checked, "{text}");
        }
    }
}
