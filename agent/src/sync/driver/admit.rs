//! The way of the connector's tables and rows into the window: through the selection first, so that what is blocked is in
//! no window, no count and no file.

use inshore_columnar::{RowBatch, TableName, TableSchema};

use super::{Error, Run};
use crate::batch;
use crate::connector::Source;
use crate::destination::Destination;

impl<S: Source, D: Destination> Run<'_, S, D> {
    pub(super) async fn declare(&mut self, tables: Vec<TableSchema>) -> Result<(), Error> {
        let tables = tables.into_iter().filter(|table| self.in_scope(&table.name)).collect();
        let destination = &*self.destination;
        let current = |table: &TableName| destination.current(table).map(|current| current.schema);
        let tables = self.selection.declare(tables, &current)?;
        let hashed: Vec<_> = tables.iter().map(|table| (table.name.clone(), self.hashed(&table.name))).collect();
        self.touched.extend(tables.iter().map(|table| table.name.clone()));
        let declare = move |window: &mut batch::Window| {
            hashed.into_iter().for_each(|(table, columns)| window.unlock(&table, columns));
            window.declare(&tables)
        };
        self.on_worker(declare).await
    }

    pub(super) async fn push(&mut self, rows: RowBatch) -> Result<(), Error> {
        if !self.in_scope(&rows.table) {
            return Ok(());
        }
        let destination = &*self.destination;
        let current = |table: &TableName| destination.current(table).map(|current| current.schema);
        let Some(cut) = self.selection.rows(&rows, &current)? else { return Ok(()) };
        self.touched.insert(rows.table.clone());
        let hashed = self.hashed(&rows.table);
        let push = move |window: &mut batch::Window| {
            window.unlock(&rows.table, hashed);
            window.push(cut.apply(rows)?)
        };
        self.on_worker(push).await?;
        self.publish_counts();
        Ok(())
    }

    pub(super) fn lets_in(&mut self, table: &TableName) -> Result<bool, Error> {
        if !self.in_scope(table) {
            return Ok(false);
        }
        let destination = &*self.destination;
        let current = |table: &TableName| destination.current(table).map(|current| current.schema);
        Ok(self.selection.lets_in(table, &current)?)
    }

    fn hashed(&self, table: &TableName) -> Vec<String> {
        self.selection.hashed(table).cloned().collect()
    }
}
