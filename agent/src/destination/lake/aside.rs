//! Tables that all connections write hold nothing of a connection's own data: one that cannot be read or written is set
//! aside, and the data goes on without it. What commits have named for it waits in the chain; the next process tries again.

use std::collections::BTreeSet;

use inshore_columnar::TableName;

use crate::destination::SHARED_SCHEMA;
use crate::destination::error::Error;

/// Intervals of an Anchor for which entries wait for such a table. Then they are given up: a reader of the chain would
/// have ever more to read.
pub(super) const ANCHORS_WAIT_MAX: u64 = 4;

/// The tables that this process has set aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    tables: BTreeSet<TableName>,
    /// Why; nobody was told yet.
    untold: Option<Error>,
}

impl Aside {
    /// Hands on what a table came to; `None` where the table is set aside.
    pub(super) fn admit<T>(&mut self, table: &TableName, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if table.schema == SHARED_SCHEMA && !error.is_fenced() => {
                let cause = &error as &dyn std::error::Error;
                tracing::warn!(%table, error = cause, "a table of all connections is set aside");
                self.tables.insert(table.clone());
                self.untold.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn holds(&self, table: &TableName) -> bool {
        self.tables.contains(table)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn tell(&mut self) -> Option<Error> {
        self.untold.take()
    }
}
