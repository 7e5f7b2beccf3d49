//! Which table formats a destination exposes, and how rows are merged into its tables. Pure.

/// The table formats over the one set of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formats {
    Delta,
    Iceberg,
    Both,
}

/// What the destination asks for; `Formats::marks` says what comes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Positions of deleted rows where every reader of the formats knows them, else files are written anew.
    #[default]
    Auto,
    CopyOnWrite,
    PositionDeletes,
}

impl Formats {
    pub(crate) fn delta(self) -> bool {
        matches!(self, Formats::Delta | Formats::Both)
    }

    /// Whether rows that go may be marked in delete files: readers of a Delta table know none.
    pub(crate) fn marks(self, merge: Merge) -> bool {
        self == Formats::Iceberg && merge != Merge::CopyOnWrite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_marked_only_where_no_delta_reader_looks() {
        let table = [
            (Formats::Both, Merge::Auto, false),
            (Formats::Delta, Merge::Auto, false),
            (Formats::Iceberg, Merge::Auto, true),
            (Formats::Iceberg, Merge::CopyOnWrite, false),
            (Formats::Iceberg, Merge::PositionDeletes, true),
            (Formats::Both, Merge::PositionDeletes, false),
        ];
        for (formats, merge, marks) in table {
            assert_eq!(formats.marks(merge), marks, "{formats:?} {merge:?}");
        }
    }
}
