//! Values to rows: one builder per table of a sync, fed value by value from the connector's threads.
//!
//! It infers the type of undeclared columns, holds declared ones to what they accept, widens columns in place, and
//! remembers their types across batches. NULL never creates a column. A row counts from [`TableBuilder::end_row`] on;
//! one that fails leaves no trace, neither values nor types.
//!
//! A *slot* is a raw name: declared types go by the raw name, while two raw names may share one column.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt8Array, UInt32Array};
use arrow::datatypes::{Field, Schema};

use crate::batch::{NO_SET, OP_COLUMN, RowBatch, SET_COLUMN};
use crate::inference::Inference;
use crate::name::{self, Naming};
use crate::schema::{self, COLUMNS_MAX, SYSTEM_COLUMNS, TableName, TableSchema};
use crate::types::DataType;
use crate::widen::{self, ColumnFacts};

use self::accept::{Problem, Typed};
use self::column::Column;
use self::hash::NameHasher;
pub use self::value::{Op, ROW_BYTES_MAX, RowError, Value, ValueError, Warning};

mod accept;
mod column;
mod hash;
mod quick;
mod value;

#[derive(Debug)]
struct Slot {
    raw: Box<str>,
    /// `None` for names that belong to system columns.
    column: Option<usize>,
    declared: Option<DataType>,
    /// The slot that came after this one in the last row.
    next: usize,
}

/// How to take a row back.
#[derive(Debug)]
enum Undo {
    Typed { column: usize, before: Option<(DataType, ArrayRef)> },
    Fits { column: usize },
}

/// The rows of one table that are not yet a batch, and what is known of its columns.
#[derive(Debug)]
pub struct TableBuilder {
    name: TableName,
    key: Vec<String>,
    naming: Naming,
    inference: Inference,
    slots: Vec<Slot>,
    by_raw: HashMap<Box<str>, usize, BuildHasherDefault<NameHasher>>,
    columns: Vec<Column>,
    /// Columns that have a type, in the order in which they got it.
    typed: Vec<usize>,
    key_columns: Vec<usize>,
    ops: Vec<u8>,
    sets: Vec<u32>,
    set_ids: HashMap<Box<[u32]>, u32>,
    row: Row,
    bytes: usize,
    undo: Vec<Undo>,
    warnings: Vec<Warning>,
    first_slot: usize,
}

/// The row that is being filled.
#[derive(Debug)]
struct Row {
    op: Op,
    bytes_before: usize,
    /// Non-key columns an update carries.
    set: Vec<u32>,
    /// Key columns that were given NULL, to tell "null" from "missing".
    null_key: bool,
    last_slot: Option<usize>,
}

impl TableBuilder {
    /// `key` and `declared` hold raw names; `name` is already the destination's.
    #[must_use]
    pub fn new(name: TableName, key: &[String], declared: &[(String, DataType)], naming: Naming) -> TableBuilder {
        let mut builder = TableBuilder {
            name,
            key: Vec::new(),
            naming,
            inference: Inference::default(),
            slots: Vec::new(),
            by_raw: HashMap::default(),
            columns: Vec::new(),
            typed: Vec::new(),
            key_columns: Vec::new(),
            ops: Vec::new(),
            sets: Vec::new(),
            set_ids: HashMap::new(),
            row: Row { op: Op::Upsert, bytes_before: 0, set: Vec::new(), null_key: false, last_slot: None },
            bytes: 0,
            undo: Vec::new(),
            warnings: Vec::new(),
            first_slot: 0,
        };
        for raw in key {
            builder.add_key(raw);
        }
        for (raw, data_type) in declared {
            builder.declare(raw, *data_type);
        }
        builder
    }

    /// The same with another mode for undeclared columns.
    #[must_use]
    pub fn with_inference(self, inference: Inference) -> TableBuilder {
        TableBuilder { inference, ..self }
    }

    fn add_key(&mut self, raw: &str) {
        let slot = self.slot_of(raw);
        let Some(column) = self.slots.get(slot).and_then(|slot| slot.column) else { return };
        if !self.key_columns.contains(&column) {
            self.key_columns.push(column);
            self.columns[column].is_key = true;
            self.key.push(self.columns[column].name.clone());
        }
    }

    fn declare(&mut self, raw: &str, data_type: DataType) {
        let slot = self.slot_of(raw);
        let Some(column) = self.slots[slot].column else { return };
        self.slots[slot].declared = Some(data_type);
        let column_state = &mut self.columns[column];
        column_state.declared = true;
        match column_state.data_type {
            None => {
                column_state.set_type(data_type);
                self.typed.push(column);
            }
            Some(known) => {
                let joined = widen::join(&known, &data_type, ColumnFacts { long_fits_double: true });
                column_state.set_type(joined);
            }
        }
    }

    /// Whether the name is known, or there is room for one more column.
    #[must_use]
    pub fn has_room_for(&self, raw_name: &str) -> bool {
        self.columns.len() < COLUMNS_MAX || self.by_raw.contains_key(raw_name)
    }

    /// The slot of a raw name; to be asked inside a row, in the order of its values. Costs one comparison when rows
    /// name their columns in the same order.
    pub fn column_index(&mut self, raw_name: &str) -> usize {
        let expected = match self.row.last_slot {
            Some(last) => self.slots.get(last).map_or(0, |slot| slot.next),
            None => self.first_slot,
        };
        let found = match self.slots.get(expected) {
            Some(slot) if &*slot.raw == raw_name => expected,
            _ => self.learn(raw_name),
        };
        self.row.last_slot = Some(found);
        found
    }

    fn learn(&mut self, raw_name: &str) -> usize {
        let found = self.slot_of(raw_name);
        match self.row.last_slot.and_then(|last| self.slots.get_mut(last)) {
            Some(last) => last.next = found,
            None => self.first_slot = found,
        }
        found
    }

    fn slot_of(&mut self, raw: &str) -> usize {
        if let Some(slot) = self.by_raw.get(raw) {
            return *slot;
        }
        let renamed = name::rename_column(raw, self.naming);
        let column = if SYSTEM_COLUMNS.contains(&renamed.as_str()) {
            self.warnings.push(Warning::SystemColumnDropped { table: self.name.clone(), name: raw.to_owned() });
            None
        } else {
            Some(self.column_named(renamed, raw))
        };
        let slot = self.slots.len();
        self.slots.push(Slot { raw: raw.into(), column, declared: None, next: slot + 1 });
        self.by_raw.insert(raw.into(), slot);
        slot
    }

    fn column_named(&mut self, renamed: String, raw: &str) -> usize {
        let Some(known) = self.columns.iter().position(|column| column.name == renamed) else {
            self.columns.push(Column::new(renamed));
            return self.columns.len() - 1;
        };
        let first = self.slots.iter().find(|slot| slot.column == Some(known)).map(|slot| slot.raw.to_string());
        self.warnings.push(Warning::NamesCollide {
            table: self.name.clone(),
            column: renamed,
            names: [first.unwrap_or_default(), raw.to_owned()],
        });
        known
    }

    /// The type that `schema()` gave the raw name of this slot: it decides how the caller spells a value.
    #[must_use]
    pub fn declared_type(&self, slot: usize) -> Option<DataType> {
        self.slots.get(slot).and_then(|slot| slot.declared)
    }

    #[inline]
    pub fn begin_row(&mut self, op: Op) {
        self.row.op = op;
        self.row.bytes_before = self.bytes;
        self.row.set.clear();
        self.row.null_key = false;
        self.row.last_slot = None;
        if self.ops.is_empty() {
            self.columns.iter_mut().for_each(Column::reserve);
        }
    }

    /// Sets a value of the current row; a later value for the same column wins. After an error the row must be
    /// abandoned.
    #[inline]
    pub fn set(&mut self, slot: usize, value: Value<'_>) -> Result<(), ValueError> {
        let slot = &self.slots[slot];
        let Some(index) = slot.column else { return Ok(()) };
        let declared = slot.declared;
        let rows = self.ops.len();
        let column = &mut self.columns[index];
        if self.row.op != Op::Upsert && !column.is_key {
            match self.row.op {
                // A keyed delete needs the key only: other values must not create columns.
                Op::Delete if !self.key_columns.is_empty() => return Ok(()),
                Op::Update => self.row.set.push(u32::try_from(index).expect("a table has fewer than 2^32 columns")),
                Op::Delete | Op::Upsert => {}
            }
        }
        column.go_to(rows);
        let value = if column.is_key { value::one_of_equals(value) } else { value };
        let strict = self.inference == Inference::Strict && declared.is_none();
        let value = if strict { value::narrowed(value) } else { value };
        if value == Value::Null {
            self.row.null_key |= column.is_key;
            return Ok(());
        }
        let expected = declared.is_none() || declared == column.data_type;
        if expected {
            let quick = match (column.try_push(value), value) {
                (None, Value::Str(text)) if declared.is_some() => column.try_push_spelled(text),
                (pushed, _) => pushed,
            };
            if let Some(bytes) = quick {
                self.bytes += bytes;
                return Ok(());
            }
        }
        self.set_slowly(index, declared, value)
    }

    /// Values that need a rule, a wider column, or both.
    #[inline(never)]
    fn set_slowly(&mut self, index: usize, declared: Option<DataType>, value: Value<'_>) -> Result<(), ValueError> {
        let column = &mut self.columns[index];
        let accepted = accept::accept(value, declared, self.inference).map_err(|problem| match problem {
            Problem::WrongType { expected, got } => {
                ValueError::WrongType { column: column.name.clone(), expected, got }
            }
            Problem::Malformed { expected, problem } => {
                ValueError::Malformed { column: column.name.clone(), expected, problem }
            }
        })?;
        column.lenient += u64::from(accepted.lenient);
        if let Typed::Int(long) = accepted.typed
            && long.unsigned_abs() > widen::EXACT_DOUBLE_MAX
            && column.fits_double
        {
            column.fits_double = false;
            self.undo.push(Undo::Fits { column: index });
        }
        let facts = ColumnFacts { long_fits_double: column.fits_double };
        let joined =
            column.data_type.map_or(accepted.data_type, |known| widen::join(&known, &accepted.data_type, facts));
        if column.data_type != Some(joined) {
            self.widen(index, joined)?;
        }
        let column = &mut self.columns[index];
        let bytes = column.push(&accepted.typed).ok_or_else(|| ValueError::TooLong { column: column.name.clone() })?;
        self.bytes += bytes;
        Ok(())
    }

    fn widen(&mut self, index: usize, joined: DataType) -> Result<(), ValueError> {
        let rows = self.ops.len();
        let column = &mut self.columns[index];
        let before = column.take();
        match &before {
            None => self.typed.push(index),
            Some((data_type, array)) => {
                let cast = widen::cast(array, data_type, &joined);
                let Ok(cast) = cast else {
                    column.restore(*data_type, array);
                    return Err(ValueError::TooLong { column: column.name.clone() });
                };
                column.restore(joined, &cast);
            }
        }
        if before.is_none() {
            column.set_type(joined);
        }
        column.go_to(rows);
        self.undo.push(Undo::Typed { column: index, before });
        Ok(())
    }

    /// Counts the row. On an error it is abandoned.
    #[inline]
    pub fn end_row(&mut self) -> Result<(), RowError> {
        if let Err(error) = self.check_row() {
            self.abandon_row();
            return Err(error);
        }
        let set = if self.row.op == Op::Update { self.intern_set() } else { NO_SET };
        self.ops.push(self.row.op.code());
        self.sets.push(set);
        self.bytes += 1 + size_of::<u32>();
        self.undo.clear();
        Ok(())
    }

    #[inline]
    fn check_row(&self) -> Result<(), RowError> {
        if self.bytes.saturating_sub(self.row.bytes_before) > ROW_BYTES_MAX {
            return Err(RowError::TooLong { table: self.name.clone() });
        }
        if self.key_columns.is_empty() && self.row.op == Op::Update {
            return Err(RowError::PrimaryKeyRequired { table: self.name.clone() });
        }
        let rows = self.ops.len();
        let missing = self.key_columns.iter().find(|column| self.columns[**column].len() <= rows);
        let Some(missing) = missing else { return Ok(()) };
        let (table, column) = (self.name.clone(), self.columns[*missing].name.clone());
        if self.row.op == Op::Upsert || self.row.null_key {
            Err(RowError::PrimaryKeyNull { table, column })
        } else {
            Err(RowError::PartialKey { table, column })
        }
    }

    fn intern_set(&mut self) -> u32 {
        self.row.set.sort_unstable();
        self.row.set.dedup();
        if let Some(id) = self.set_ids.get(self.row.set.as_slice()) {
            return *id;
        }
        let id = u32::try_from(self.set_ids.len()).expect("a batch has fewer than 2^32 rows");
        self.set_ids.insert(self.row.set.as_slice().into(), id);
        id
    }

    /// Takes the current row back: its values, and the types and columns that only it brought.
    pub fn abandon_row(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Fits { column } => self.columns[column].fits_double = true,
                Undo::Typed { column, before: Some((data_type, array)) } => {
                    self.columns[column].restore(data_type, &array);
                }
                Undo::Typed { column, before: None } => {
                    self.columns[column].clear_type();
                    self.typed.retain(|typed| *typed != column);
                }
            }
        }
        let rows = self.ops.len();
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.bytes = self.row.bytes_before;
    }

    /// About the memory of the rows so far.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.ops.len()
    }

    /// What is known of the table so far.
    #[must_use]
    pub fn schema(&self) -> TableSchema {
        let columns = self.typed.iter().map(|index| &self.columns[*index]);
        let columns = columns.filter_map(|column| {
            let data_type = column.data_type?;
            Some(schema::Column { name: column.name.clone(), data_type, declared: column.declared })
        });
        TableSchema { name: self.name.clone(), key: self.key.clone(), columns: columns.collect() }
    }

    /// The rows so far as a batch; the builder goes on with the same columns. `None` when there are no rows.
    pub fn finish(&mut self) -> Option<RowBatch> {
        let rows = self.ops.len();
        if rows == 0 {
            return None;
        }
        let schema = self.schema();
        let (sets, untyped) = self.take_sets();
        let mut fields: Vec<Field> =
            schema.columns.iter().map(|column| Field::new(&column.name, column.data_type.to_arrow(), true)).collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(fields.len() + 2);
        for index in &self.typed {
            let column = &mut self.columns[*index];
            column.go_to(rows);
            arrays.push(column.freeze());
        }
        fields.push(Field::new(OP_COLUMN, arrow::datatypes::DataType::UInt8, false));
        arrays.push(Arc::new(UInt8Array::from(std::mem::take(&mut self.ops))));
        let set_of_rows = std::mem::take(&mut self.sets);
        if !sets.is_empty() {
            fields.push(Field::new(SET_COLUMN, arrow::datatypes::DataType::UInt32, false));
            arrays.push(Arc::new(UInt32Array::from(set_of_rows)));
        }
        self.bytes = 0;
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .expect("every column was filled to the number of rows");
        Some(RowBatch { table: self.name.clone(), schema, rows, sets, untyped })
    }

    /// Sets by column become sets by position in the batch.
    fn take_sets(&mut self) -> (Vec<Vec<u32>>, Vec<String>) {
        let mut untyped: Vec<usize> = Vec::new();
        let mut sets = vec![Vec::new(); self.set_ids.len()];
        let mut position = |index: usize| match self.typed.iter().position(|typed| *typed == index) {
            Some(position) => position,
            None => match untyped.iter().position(|known| *known == index) {
                Some(position) => self.typed.len() + position,
                None => {
                    untyped.push(index);
                    self.typed.len() + untyped.len() - 1
                }
            },
        };
        for (set, id) in std::mem::take(&mut self.set_ids) {
            let mut positions: Vec<u32> =
                set.iter().map(|index| u32::try_from(position(*index as usize)).unwrap_or(NO_SET)).collect();
            positions.sort_unstable();
            if let Some(slot) = sets.get_mut(id as usize) {
                *slot = positions;
            }
        }
        (sets, untyped.into_iter().map(|index| self.columns[index].name.clone()).collect())
    }

    /// What came up since the last call.
    pub fn warnings(&mut self) -> Vec<Warning> {
        for column in &mut self.columns {
            let count = std::mem::take(&mut column.lenient);
            if count > 0 {
                let (table, column) = (self.name.clone(), column.name.clone());
                self.warnings.push(Warning::Lenient { table, column, count });
            }
        }
        std::mem::take(&mut self.warnings)
    }
}

#[cfg(test)]
mod tests;
