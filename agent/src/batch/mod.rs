//! Folds one commit window of operations into sealed Parquet files, in bounded memory.
//!
//! Rows arrive as batches; each key keeps one folded state (see [`fold`]). Past the memory budget the largest table is
//! folded, sorted by key and written to an encrypted run on local disk; [`Window::seal`] merges the runs with what is
//! still in memory and hands each finished file to the sink, so that memory stays bounded there too.
//!
//! A key appears in at most one upsert file, one update file and one delete file of a window. The final table does not
//! depend on where windows are cut, given that an update never matches a soft-deleted row. No clock: times are arguments.

mod error;
mod fold;
mod held;
mod merge;
mod parquet;
mod run;
mod sealed;
mod spool;
mod steps;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use inshore_columnar::schema::{COLUMNS_MAX, TABLES_MAX};
use inshore_columnar::{Op, RowBatch, TableName, TableSchema};

pub(crate) use self::error::Error;
use self::parquet::Files;
pub(crate) use self::parquet::properties;
pub(crate) use self::sealed::{CurrentTable, SealedFile, SealedStep, SealedTable, StepOp};
use self::spool::Spool;
use self::table::Table;
use crate::context::Counts;

/// Sealed Parquet files of a job aim at this size: large enough to read well, small enough to rewrite.
pub(crate) const FILE_BYTES_TARGET: u64 = 32 << 20;
pub(crate) const ROW_GROUP_ROWS: usize = 128 * 1024;

/// The limits of one job's windows.
#[derive(Clone, Debug)]
pub(crate) struct BatchSettings {
    /// Rows beyond this go to the spool.
    pub(crate) memory_bytes_max: u64,
    /// A file is closed once it reaches about this size.
    pub(crate) file_bytes_target: u64,
    pub(crate) row_group_rows: usize,
    pub(crate) spool_dir: PathBuf,
    /// Columns that the destination has keep their types, key columns apart.
    pub(crate) type_locked: bool,
    /// A window whose spilled rows pass this fails with [`Error::SpoolFull`].
    pub(crate) spool_bytes_max: u64,
}

/// The operations since the last seal. One per job; sealing empties it for the next window.
pub(crate) struct Window {
    settings: BatchSettings,
    spool: Spool,
    tables: BTreeMap<TableName, Table>,
    counts: BTreeMap<TableName, Counts>,
    /// Every table of the job so far: their number is bounded.
    named: HashSet<TableName>,
    /// Columns that no lock holds.
    unlocked: HashMap<TableName, BTreeSet<String>>,
}

impl Window {
    pub(crate) fn new(settings: BatchSettings) -> Window {
        let spool = Spool::new(settings.spool_dir.clone(), settings.spool_bytes_max);
        Window {
            settings,
            spool,
            tables: BTreeMap::new(),
            counts: BTreeMap::new(),
            named: HashSet::new(),
            unlocked: HashMap::new(),
        }
    }

    /// Makes the tables part of the next seal, rows or not.
    pub(crate) fn declare(&mut self, tables: &[TableSchema]) -> Result<(), Error> {
        for schema in tables {
            check_width(schema)?;
            self.table(&schema.name)?.declare(schema)?;
        }
        Ok(())
    }

    /// Adds rows; may spill.
    pub(crate) fn push(&mut self, rows: RowBatch) -> Result<(), Error> {
        rows.validate()?;
        check_width(&rows.schema)?;
        self.table(&rows.table)?;
        self.count(&rows);
        self.push_own(rows)
    }

    /// The same for rows of ours, which nobody counts.
    pub(crate) fn push_own(&mut self, rows: RowBatch) -> Result<(), Error> {
        self.table(&rows.table)?.push(rows)?;
        self.stay_in_budget()
    }

    /// Columns that become text for good, whatever their connection locks.
    pub(crate) fn unlock(&mut self, table: &TableName, columns: Vec<String>) {
        if columns.is_empty() || !self.settings.type_locked {
            return;
        }
        let unlocked = self.unlocked.entry(table.clone()).or_default();
        unlocked.extend(columns);
        if let Some(table) = self.tables.get_mut(table) {
            table.unlock(unlocked);
        }
    }

    /// Drops the table's pending rows and records the bound.
    pub(crate) fn truncate(&mut self, table: &TableName) -> Result<(), Error> {
        self.table(table)?.truncate();
        self.counts.entry(table.clone()).or_default().truncates += 1;
        Ok(())
    }

    /// Counts a truncation that [`Window::truncate_before`] will carry out later, or never.
    pub(crate) fn defer_truncate(&mut self, table: &TableName) {
        self.counts.entry(table.clone()).or_default().truncates += 1;
    }

    /// Rows that were synced before the bound, or before this window if that is earlier, go; pending ones stay.
    pub(crate) fn truncate_before(&mut self, table: &TableName, before_ms: i64) -> Result<(), Error> {
        self.table(table)?.truncate_before(before_ms);
        Ok(())
    }

    /// Whether a seal would have nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Over the whole job: sealing does not reset them.
    pub(crate) fn counts(&self) -> &BTreeMap<TableName, Counts> {
        &self.counts
    }

    /// Turns the window into files and the steps that apply them, and empties it. Files reach the sink while later
    /// ones are still being made; after an error none of them counts.
    pub(crate) fn seal(
        &mut self,
        current: &dyn Fn(&TableName) -> Option<CurrentTable>,
        synced_at_ms: i64,
        truncate_before_ms: i64,
        sink: &mut dyn FnMut(SealedFile) -> Result<(), Error>,
    ) -> Result<Vec<SealedTable>, Error> {
        let mut files = Files::new(&self.settings, synced_at_ms, sink);
        let mut sealed = Vec::new();
        for (name, table) in std::mem::take(&mut self.tables) {
            let truncate = table.truncation_ms(truncate_before_ms);
            sealed.extend(table.seal(current(&name), truncate, &self.settings, &self.spool, &mut files)?);
        }
        Ok(sealed)
    }

    fn table(&mut self, name: &TableName) -> Result<&mut Table, Error> {
        if !self.named.contains(name) {
            if self.named.len() > TABLES_MAX {
                return Err(Error::TooManyTables { tables_max: TABLES_MAX });
            }
            self.named.insert(name.clone());
        }
        Ok(self.tables.entry(name.clone()).or_insert_with(|| {
            let mut table = Table::new(name.clone(), self.settings.type_locked);
            self.unlocked.get(name).into_iter().for_each(|columns| table.unlock(columns));
            table
        }))
    }

    fn count(&mut self, rows: &RowBatch) {
        let counts = self.counts.entry(rows.table.clone()).or_default();
        for op in rows.ops() {
            match Op::from_code(*op) {
                Some(Op::Upsert) => counts.upserts += 1,
                Some(Op::Update) => counts.updates += 1,
                Some(Op::Delete) => counts.deletes += 1,
                None => {}
            }
        }
    }

    /// Past the budget the largest tables are spilled until half of it is free, so that spilling stays rare.
    fn stay_in_budget(&mut self) -> Result<(), Error> {
        let used = |tables: &BTreeMap<TableName, Table>| tables.values().map(Table::memory_bytes).sum::<u64>();
        if used(&self.tables) <= self.settings.memory_bytes_max {
            return Ok(());
        }
        while used(&self.tables) > self.settings.memory_bytes_max / 2 {
            let Some(largest) = self.tables.values_mut().max_by_key(|table| table.memory_bytes()) else { break };
            if !largest.spill(&self.spool)? {
                break;
            }
        }
        Ok(())
    }
}

/// The connector's runtime counts too; it is not believed.
fn check_width(schema: &TableSchema) -> Result<(), Error> {
    if schema.columns.len() <= COLUMNS_MAX {
        return Ok(());
    }
    Err(Error::TooManyColumns { table: schema.name.clone(), columns_max: COLUMNS_MAX })
}

#[cfg(test)]
mod tests;
