//! Copy-on-write of one data file: which of its rows an entry touches, and the file that replaces it. CPU only, no IO.
//!
//! An upsert drops the old row (its file of new rows is added as it is); an update patches columns; a delete and a
//! truncate mark. Bounded memory: the keys of the entry come in groups, a data file is decoded batch by batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{concat, filter, interleave, take};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use inshore_columnar::schema::{DELETED_COLUMN, SYNCED_COLUMN};
use inshore_columnar::{Column, TableName};

use super::files::{FileReader, FileWriter};
use crate::destination::chain::entry::Op;
use crate::destination::error::Error;

/// Memory that one group of keys may take.
pub(crate) const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a key costs beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 48;

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

/// One row of a data file that one row of a source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) row: u32,
    pub(crate) source: u32,
    pub(crate) source_row: u32,
}

/// Keys of some sources: as many as fit the budget.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    sources: BTreeMap<u32, HashMap<Box<[u8]>, u32>>,
    bytes: usize,
}

/// The rows of one source that hit one data file: values for the columns that the source sets.
#[derive(Debug)]
pub(crate) struct Patch {
    arrays: BTreeMap<usize, ArrayRef>,
    /// Position of each source row in the arrays.
    positions: HashMap<u32, usize>,
    deletes: bool,
}

impl Columns {
    fn key_columns(&self) -> Vec<Column> {
        let find = |name: &String| self.after.iter().find(|column| column.name == *name).cloned();
        self.key.iter().filter_map(find).collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.after.iter().position(|column| column.name == name)
    }

    /// The columns whose type changed: their old files must be written anew.
    pub(crate) fn widened(&self) -> bool {
        self.before
            .iter()
            .any(|old| self.after.iter().any(|new| new.name == old.name && new.data_type != old.data_type))
    }

    pub(crate) fn key_widened(&self) -> bool {
        let key = |name: &String| self.key.contains(name);
        self.before.iter().any(|old| {
            key(&old.name) && self.after.iter().any(|new| new.name == old.name && new.data_type != old.data_type)
        })
    }
}

impl Keys {
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= KEYS_BYTES_MAX
    }

    /// Takes the keys of one source from one of its rows on, until these are full: the row to go on with, if any is left.
    /// Its columns are those after the entry.
    pub(crate) fn load(
        &mut self,
        columns: &Columns,
        source: u32,
        file: Bytes,
        from: u32,
    ) -> Result<Option<u32>, Error> {
        let key = columns.key_columns();
        let converter = converter(&columns.table, &key)?;
        let mut first = from;
        for batch in FileReader::open_at(&columns.table, file, &columns.after, &key, from)? {
            if self.is_full() {
                return Ok(Some(first));
            }
            let (arrays, count) = batch?;
            let rows = encode(&columns.table, &converter, &arrays)?;
            let map = self.sources.entry(source).or_default();
            for (row, bytes) in (first..).zip(rows.iter()) {
                let bytes: Box<[u8]> = bytes.as_ref().into();
                self.bytes += bytes.len() + KEY_OVERHEAD_BYTES;
                map.insert(bytes, row);
            }
            first += count_of(count);
        }
        Ok(None)
    }

    /// The rows of a data file whose keys are among these.
    pub(crate) fn probe(&self, columns: &Columns, file: Bytes) -> Result<Vec<Hit>, Error> {
        let key = columns.key_columns();
        let converter = converter(&columns.table, &key)?;
        let mut hits = Vec::new();
        let mut first = 0_u32;
        for batch in FileReader::open(&columns.table, file, &columns.before, &key)? {
            let (arrays, count) = batch?;
            let rows = encode(&columns.table, &converter, &arrays)?;
            for (row, bytes) in (first..).zip(rows.iter()) {
                for (source, keys) in &self.sources {
                    if let Some(source_row) = keys.get(bytes.as_ref()) {
                        hits.push(Hit { row, source: *source, source_row: *source_row });
                    }
                }
            }
            first += count_of(count);
        }
        Ok(hits)
    }
}

/// Whether a data file has a live row that was synced before the bound.
pub(crate) fn has_older_rows(columns: &Columns, file: Bytes, bound_ms: i64) -> Result<bool, Error> {
    let wanted: Vec<Column> = [SYNCED_COLUMN, DELETED_COLUMN]
        .iter()
        .filter_map(|name| columns.position(name))
        .map(|position| columns.after[position].clone())
        .collect();
    for batch in FileReader::open(&columns.table, file, &columns.before, &wanted)? {
        let (arrays, count) = batch?;
        let [synced, deleted] = arrays.as_slice() else { return Ok(false) };
        let older = |row| is_older(synced, row, bound_ms) && !is_true(deleted, row);
        if (0..count).any(older) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Patch {
    /// Reads the rows of a source that hit a data file.
    pub(crate) fn load(columns: &Columns, source: &Source, file: Bytes, hits: &[Hit]) -> Result<Patch, Error> {
        let mut rows: Vec<u32> = hits.iter().map(|hit| hit.source_row).collect();
        rows.sort_unstable();
        rows.dedup();
        let set = |column: &&Column| {
            column.name == SYNCED_COLUMN || (source.op == Op::Update && source.columns.contains(&column.name))
        };
        let wanted: Vec<Column> = columns.after.iter().filter(set).cloned().collect();
        let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); wanted.len()];
        let mut first = 0_u32;
        let mut next = 0;
        for batch in FileReader::open(&columns.table, file, &columns.after, &wanted)? {
            let (arrays, count) = batch?;
            let end = first + count_of(count);
            let until = next + rows[next..].partition_point(|row| *row < end);
            let indices: UInt32Array = rows[next..until].iter().map(|row| row - first).collect();
            for (piece, array) in pieces.iter_mut().zip(&arrays) {
                piece.push(take(array, &indices, None).map_err(|error| Error::parquet(&columns.table, error))?);
            }
            (first, next) = (end, until);
        }
        let mut arrays = BTreeMap::new();
        for (column, piece) in wanted.iter().zip(&pieces) {
            let parts: Vec<&dyn Array> = piece.iter().map(AsRef::as_ref).collect();
            let array = concat(&parts).map_err(|error| Error::parquet(&columns.table, error))?;
            arrays.insert(columns.position(&column.name).expect("wanted columns are chosen from these"), array);
        }
        let positions = rows.into_iter().enumerate().map(|(position, row)| (row, position)).collect();
        Ok(Patch { arrays, positions, deletes: source.op == Op::Delete })
    }
}

/// The file that replaces a data file; `None` when no row is left. `hits` are sorted.
pub(crate) fn rewrite(
    columns: &Columns,
    file: Bytes,
    truncate_before_ms: Option<i64>,
    hits: &[Hit],
    sources: &[Source],
    patches: &BTreeMap<u32, Patch>,
) -> Result<Option<Bytes>, Error> {
    let mut writer = FileWriter::new(&columns.table, &columns.after)?;
    let mut first = 0_u32;
    let mut rest = hits;
    for batch in FileReader::open(&columns.table, file, &columns.before, &columns.after)? {
        let (arrays, count) = batch?;
        let end = first + count_of(count);
        let (here, later) = rest.split_at(rest.partition_point(|hit| hit.row < end));
        let rows = Rows { columns, first, count, truncate_before_ms, hits: here, sources, patches };
        let arrays = rows.apply(arrays)?;
        if arrays.first().is_some_and(|array| !array.is_empty()) {
            writer.write(arrays)?;
        }
        (first, rest) = (end, later);
    }
    if writer.rows == 0 { Ok(None) } else { writer.finish().map(Some) }
}

/// One batch of a data file with everything that happens to its rows.
struct Rows<'a> {
    columns: &'a Columns,
    first: u32,
    count: usize,
    truncate_before_ms: Option<i64>,
    hits: &'a [Hit],
    sources: &'a [Source],
    patches: &'a BTreeMap<u32, Patch>,
}

impl Rows<'_> {
    fn apply(&self, arrays: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, Error> {
        let truncated = self.truncated(&arrays);
        if self.hits.is_empty() && truncated.is_empty() {
            return Ok(arrays);
        }
        let hits = self.effective_hits(&arrays, &truncated);
        let kept = BooleanArray::from(self.kept());
        let patched = arrays.iter().enumerate().map(|(position, array)| {
            let array = self.patched(position, array, &truncated, &hits)?;
            filter(&array, &kept)
        });
        let patched: Result<Vec<ArrayRef>, ArrowError> = patched.collect();
        patched.map_err(|error| Error::parquet(&self.columns.table, error))
    }

    /// One column with the values that sources set. The last source that sets the column wins.
    fn patched(
        &self,
        position: usize,
        array: &ArrayRef,
        truncated: &[usize],
        hits: &[Hit],
    ) -> Result<ArrayRef, ArrowError> {
        let is_deleted = self.columns.position(DELETED_COLUMN) == Some(position);
        let sets = |patch: &Patch| patch.arrays.contains_key(&position) || (is_deleted && patch.deletes);
        let touched = is_deleted && !truncated.is_empty();
        if !touched && !self.patches.values().any(sets) {
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
            let Some(patch) = self.patches.get(&hit.source) else { continue };
            if patch.deletes && is_deleted {
                picks[row] = (1, 0);
            } else if let Some(patched) = patch.arrays.get(&position) {
                let value = *value_of.entry(hit.source).or_insert_with(|| {
                    values.push(patched.as_ref());
                    values.len() - 1
                });
                picks[row] = (value, patch.positions[&hit.source_row]);
            }
        }
        interleave(&values, &picks)
    }

    /// A deleted row is not there for an update, also when this very entry truncated it. Else the result would depend
    /// on where windows were cut.
    fn effective_hits(&self, arrays: &[ArrayRef], truncated: &[usize]) -> Vec<Hit> {
        let flags = self.columns.position(DELETED_COLUMN).map(|position| &arrays[position]);
        let mut gone: Vec<bool> = (0..self.count).map(|row| flags.is_some_and(|flags| is_true(flags, row))).collect();
        truncated.iter().for_each(|row| gone[*row] = true);
        let is_update = |hit: &Hit| self.sources[hit.source as usize].op == Op::Update;
        let row = |hit: &Hit| (hit.row - self.first) as usize;
        self.hits.iter().filter(|hit| !(is_update(hit) && gone[row(hit)])).copied().collect()
    }

    /// True for the rows that no upsert replaces.
    fn kept(&self) -> Vec<bool> {
        let mut keep = vec![true; self.count];
        for hit in self.hits.iter().filter(|hit| self.sources[hit.source as usize].op == Op::Upsert) {
            keep[(hit.row - self.first) as usize] = false;
        }
        keep
    }

    fn truncated(&self, arrays: &[ArrayRef]) -> Vec<usize> {
        let Some(bound) = self.truncate_before_ms else { return Vec::new() };
        let Some(synced) = self.columns.position(SYNCED_COLUMN).map(|position| &arrays[position]) else {
            return Vec::new();
        };
        (0..self.count).filter(|row| is_older(synced, *row, bound)).collect()
    }
}

fn converter(table: &TableName, key: &[Column]) -> Result<RowConverter, Error> {
    let fields = key.iter().map(|column| SortField::new(column.data_type.to_arrow())).collect();
    RowConverter::new(fields).map_err(|error| Error::parquet(table, error))
}

fn encode(table: &TableName, converter: &RowConverter, arrays: &[ArrayRef]) -> Result<arrow::row::Rows, Error> {
    converter.convert_columns(arrays).map_err(|error| Error::parquet(table, error))
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

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use inshore_columnar::DataType;

    use super::*;

    #[test]
    fn keys_that_do_not_fit_are_read_from_where_they_were_left() {
        const ROWS: u32 = 20_000;
        let id = Column { name: "id".to_owned(), data_type: DataType::Long, declared: true };
        let columns = Columns {
            table: TableName::new("shop", "orders"),
            before: vec![id.clone()],
            after: vec![id],
            key: vec!["id".to_owned()],
        };
        let mut writer = FileWriter::new(&columns.table, &columns.after).unwrap();
        writer.write(vec![Arc::new((0..i64::from(ROWS)).collect::<Int64Array>())]).unwrap();
        let file = writer.finish().unwrap();

        let (mut from, mut parts, mut hits) = (Some(0), 0, Vec::new());
        while let Some(row) = from {
            let mut keys = Keys { sources: BTreeMap::new(), bytes: KEYS_BYTES_MAX - 1 };
            from = keys.load(&columns, 3, file.clone(), row).unwrap();
            hits.extend(keys.probe(&columns, file.clone()).unwrap());
            parts += 1;
        }
        assert_eq!(parts, 3);
        let expected: Vec<Hit> = (0..ROWS).map(|row| Hit { row, source: 3, source_row: row }).collect();
        assert_eq!(hits, expected);
    }
}
