//! What an entry does to the rows of one data file, batch by batch. An upsert drops the old row (its file of new rows is
//! added as it is); an update patches columns; a delete and a truncate mark. CPU only, no IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{FilterBuilder, concat, interleave, take};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use inshore_columnar::schema::{DELETED_COLUMN, SYNCED_COLUMN};
use inshore_columnar::{Column, TableName};

use super::keys::Hit;
use crate::destination::chain::entry::Op;
use crate::destination::error::Error;
use crate::destination::lake::files::FileReader;

/// The logical columns of a table before and after the entry.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) table: TableName,
    pub(crate) before: Vec<Column>,
    pub(crate) after: Vec<Column>,
    pub(crate) key: Vec<String>,
}

/// A file of the entry that names rows by key. Sources are numbered in step order.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) op: Op,
    /// The columns that an update carries.
    pub(crate) columns: Vec<String>,
}

/// Rows of one source: values for the columns that it sets.
#[derive(Debug)]
pub(crate) struct Patch {
    /// By the position of the column in the table.
    arrays: BTreeMap<usize, ArrayRef>,
    /// The rows of the source that the arrays hold, in order.
    rows: Vec<u32>,
    deletes: bool,
}

/// Collects the rows of one source that are wanted.
#[derive(Debug)]
pub(crate) struct PatchBuilder {
    columns: Arc<Columns>,
    wanted: Vec<Column>,
    deletes: bool,
    rows: Vec<u32>,
    taken: usize,
    pieces: Vec<Vec<ArrayRef>>,
}

/// What happens to the rows of one data file.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) columns: Arc<Columns>,
    pub(crate) truncate_before_ms: Option<i64>,
    /// Rows that an upsert replaces, in order.
    pub(crate) dropped: Vec<u32>,
    /// Rows that other steps name, in order.
    pub(crate) patched: Vec<Hit>,
    pub(crate) sources: Arc<Vec<Source>>,
    pub(crate) patches: Arc<BTreeMap<u32, Patch>>,
}

/// Some rows after the entry.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub(crate) arrays: Vec<ArrayRef>,
    /// Which of the rows before are still there; `None` for all.
    pub(crate) kept: Option<BooleanArray>,
}

impl Columns {
    pub(crate) fn key_columns(&self) -> Vec<Column> {
        let find = |name: &String| self.after.iter().find(|column| column.name == *name).cloned();
        self.key.iter().filter_map(find).collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.after.iter().position(|column| column.name == name)
    }

    /// Whether a type changed: old files must be written anew.
    pub(crate) fn widened(&self) -> bool {
        self.before.iter().any(|old| self.has_other_type(old))
    }

    pub(crate) fn key_widened(&self) -> bool {
        self.before.iter().any(|old| self.key.contains(&old.name) && self.has_other_type(old))
    }

    fn has_other_type(&self, old: &Column) -> bool {
        self.after.iter().any(|new| new.name == old.name && new.data_type != old.data_type)
    }

    /// What says whether a truncate concerns a row.
    pub(crate) fn truncation(&self) -> Vec<Column> {
        let named = [SYNCED_COLUMN, DELETED_COLUMN];
        named.iter().filter_map(|name| self.position(name)).map(|at| self.after[at].clone()).collect()
    }
}

/// Whether a live row was synced before the bound. The batches hold the columns of `Columns::truncation`.
pub(crate) fn has_older_rows(batches: FileReader<'_>, bound_ms: i64) -> Result<bool, Error> {
    for batch in batches {
        let (arrays, count) = batch?;
        let [synced, deleted] = arrays.as_slice() else { return Ok(false) };
        let older = |row| is_older(synced, row, bound_ms) && !is_true(deleted, row);
        if (0..count).any(older) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl PatchBuilder {
    /// `rows` of the source are wanted.
    pub(crate) fn new(columns: &Arc<Columns>, source: &Source, mut rows: Vec<u32>) -> PatchBuilder {
        rows.sort_unstable();
        rows.dedup();
        let set = |column: &&Column| {
            column.name == SYNCED_COLUMN || (source.op == Op::Update && source.columns.contains(&column.name))
        };
        let wanted: Vec<Column> = columns.after.iter().filter(set).cloned().collect();
        let pieces = vec![Vec::new(); wanted.len()];
        PatchBuilder { columns: Arc::clone(columns), wanted, deletes: source.op == Op::Delete, rows, taken: 0, pieces }
    }

    pub(crate) fn wanted(&self) -> &[Column] {
        &self.wanted
    }

    /// Whether one of the rows between these is wanted.
    pub(crate) fn wants(&self, first: u32, end: u32) -> bool {
        self.rows[self.rows.partition_point(|row| *row < first)..].first().is_some_and(|row| *row < end)
    }

    /// Takes what is wanted of batches in order; the first row of them stands at `first`.
    pub(crate) fn add(&mut self, mut first: u32, batches: FileReader<'_>) -> Result<(), Error> {
        for batch in batches {
            let (arrays, count) = batch?;
            let end = first + count_of(count);
            let until = self.taken + self.rows[self.taken..].partition_point(|row| *row < end);
            let indices: UInt32Array = self.rows[self.taken..until].iter().map(|row| row - first).collect();
            for (piece, array) in self.pieces.iter_mut().zip(&arrays) {
                piece.push(take(array, &indices, None).map_err(|error| Error::parquet(&self.columns.table, error))?);
            }
            (first, self.taken) = (end, until);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Patch, Error> {
        let mut arrays = BTreeMap::new();
        for (column, piece) in self.wanted.iter().zip(&self.pieces) {
            let parts: Vec<&dyn Array> = piece.iter().map(AsRef::as_ref).collect();
            let array = concat(&parts).map_err(|error| Error::parquet(&self.columns.table, error))?;
            arrays.extend(self.columns.position(&column.name).map(|position| (position, array)));
        }
        Ok(Patch { arrays, rows: self.rows, deletes: self.deletes })
    }
}

impl Patch {
    fn sets(&self, position: usize) -> bool {
        self.arrays.contains_key(&position)
    }
}

impl Changed {
    /// The rows from `first` on, of which `arrays` hold the columns after the entry.
    pub(crate) fn apply(&self, first: u32, arrays: Vec<ArrayRef>, count: usize) -> Result<Rewritten, Error> {
        let dropped = within(&self.dropped, |row| *row, (first, first + count_of(count)));
        let failed = |error: ArrowError| Error::parquet(&self.columns.table, error);
        let (mut arrays, _) = self.patch(first, arrays, count)?;
        if dropped.is_empty() {
            return Ok(Rewritten { arrays, kept: None });
        }
        let mut kept = vec![true; count];
        dropped.iter().for_each(|row| kept[(row - first) as usize] = false);
        let kept = BooleanArray::from(kept);
        let filter = FilterBuilder::new(&kept).optimize().build();
        for array in &mut arrays {
            *array = filter.filter(array).map_err(failed)?;
        }
        Ok(Rewritten { arrays, kept: Some(kept) })
    }
}

impl Changed {
    /// The rows from `first` on with what other steps than upserts do to them, and which of them these name.
    pub(super) fn patch(
        &self,
        first: u32,
        arrays: Vec<ArrayRef>,
        count: usize,
    ) -> Result<(Vec<ArrayRef>, Vec<u32>), Error> {
        let patched = within(&self.patched, |hit| hit.row, (first, first + count_of(count)));
        let rows = Rows { changed: self, first, count, patched };
        rows.patch(arrays).map_err(|error| Error::parquet(&self.columns.table, error))
    }
}

/// One batch of a data file with what other steps than upserts do to its rows.
struct Rows<'a> {
    changed: &'a Changed,
    first: u32,
    count: usize,
    patched: &'a [Hit],
}

impl Rows<'_> {
    fn patch(&self, arrays: Vec<ArrayRef>) -> Result<(Vec<ArrayRef>, Vec<u32>), ArrowError> {
        let truncated = self.truncated(&arrays);
        if self.patched.is_empty() && truncated.is_empty() {
            return Ok((arrays, Vec::new()));
        }
        let hits = self.effective_hits(&arrays, &truncated);
        let columns = arrays.iter().enumerate();
        let columns = columns.map(|(position, array)| self.column(position, array, &truncated, &hits));
        let mut named: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
        named.dedup();
        Ok((columns.collect::<Result<_, _>>()?, named))
    }

    /// One column with the values that sources set. The last source that sets the column wins.
    fn column(
        &self,
        position: usize,
        array: &ArrayRef,
        truncated: &[usize],
        hits: &[Hit],
    ) -> Result<ArrayRef, ArrowError> {
        let is_deleted = self.changed.columns.position(DELETED_COLUMN) == Some(position);
        let sets = |patch: &Patch| patch.sets(position) || (is_deleted && patch.deletes);
        let touched = is_deleted && !truncated.is_empty();
        if !touched && !self.changed.patches.values().any(sets) {
            return Ok(Arc::clone(array));
        }
        let marked = BooleanArray::from(vec![true]);
        let mut values: Vec<&dyn Array> = vec![array.as_ref()];
        // Per row: which array, and where in it.
        let mut picks: Vec<(usize, usize)> = (0..self.count).map(|row| (0, row)).collect();
        if is_deleted {
            values.push(&marked);
            truncated.iter().for_each(|row| picks[*row] = (1, 0));
        }
        let mut value_of = BTreeMap::new();
        for hit in hits {
            let row = (hit.row - self.first) as usize;
            let Some(patch) = self.changed.patches.get(&hit.source) else { continue };
            if patch.deletes && is_deleted {
                picks[row] = (1, 0);
            } else if let (Some(patched), Ok(at)) =
                (patch.arrays.get(&position), patch.rows.binary_search(&hit.source_row))
            {
                let value = *value_of.entry(hit.source).or_insert_with(|| {
                    values.push(patched.as_ref());
                    values.len() - 1
                });
                picks[row] = (value, at);
            }
        }
        interleave(&values, &picks)
    }

    /// A deleted row is not there for an update, also when this very entry truncated it. Else the result would depend
    /// on where windows were cut.
    fn effective_hits(&self, arrays: &[ArrayRef], truncated: &[usize]) -> Vec<Hit> {
        let flags = self.changed.columns.position(DELETED_COLUMN).map(|position| &arrays[position]);
        let mut gone: Vec<bool> = (0..self.count).map(|row| flags.is_some_and(|flags| is_true(flags, row))).collect();
        truncated.iter().for_each(|row| gone[*row] = true);
        let is_update = |hit: &Hit| self.changed.sources[hit.source as usize].op == Op::Update;
        let row = |hit: &Hit| (hit.row - self.first) as usize;
        self.patched.iter().filter(|hit| !(is_update(hit) && gone[row(hit)])).copied().collect()
    }

    fn truncated(&self, arrays: &[ArrayRef]) -> Vec<usize> {
        let Some(bound) = self.changed.truncate_before_ms else { return Vec::new() };
        let Some(synced) = self.changed.columns.position(SYNCED_COLUMN).map(|position| &arrays[position]) else {
            return Vec::new();
        };
        (0..self.count).filter(|row| is_older(synced, *row, bound)).collect()
    }
}

/// What lies between two rows, of something in the order of its rows.
fn within<T>(sorted: &[T], row: impl Fn(&T) -> u32, (first, end): (u32, u32)) -> &[T] {
    let from = sorted.partition_point(|item| row(item) < first);
    let until = from + sorted[from..].partition_point(|item| row(item) < end);
    &sorted[from..until]
}

fn is_older(synced: &ArrayRef, row: usize, bound_ms: i64) -> bool {
    let synced = synced.as_primitive::<TimestampMicrosecondType>();
    synced.is_valid(row) && synced.value(row) < bound_ms.saturating_mul(1000)
}

fn is_true(values: &ArrayRef, row: usize) -> bool {
    let values = values.as_boolean();
    values.is_valid(row) && values.value(row)
}

fn count_of(rows: usize) -> u32 {
    u32::try_from(rows).expect("a batch has a few thousand rows")
}
