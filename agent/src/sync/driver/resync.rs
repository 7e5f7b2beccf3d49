//! A re-sync inside a sync: which rows belong to it, and its end. Its last commit marks the rows that did not come again,
//! takes the state to go on from and says that it is over, in one entry.

use inshore_columnar::TableName;

use super::{Error, Run};
use crate::connector::Source;
use crate::destination::{Destination, Resync};

impl<S: Source, D: Destination> Run<'_, S, D> {
    /// Whether rows of the table are wanted: a re-sync of some tables leaves the others as they are.
    pub(super) fn in_scope(&self, table: &TableName) -> bool {
        let scope = self.destination.resync().and_then(|resync| resync.tables.as_ref());
        scope.is_none_or(|tables| tables.contains(table))
    }

    /// What a table that is blocked holds stays: nobody read it again.
    pub(super) fn end_resync(&mut self) -> Result<(), Error> {
        let Some(Resync { bound_at_ms, kept, .. }) = self.destination.resync().cloned() else { return Ok(()) };
        for table in self.destination.tables() {
            if self.lets_in(&table)? {
                let window = self.window.as_mut().ok_or(Error::WorkerStopped)?;
                window.truncate_before(&table, bound_at_ms)?;
                self.touched.insert(table);
            }
        }
        self.state = kept.or(self.state.take());
        self.destination.set_resync(None);
        self.ends_resync = true;
        Ok(())
    }

    pub(super) fn state_of_commit(&mut self) -> String {
        let reached = self.state.take().or_else(|| self.base.clone());
        reached.unwrap_or_else(|| self.destination.state().to_owned())
    }
}
