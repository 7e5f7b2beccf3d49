//! The quick way of a value: what an upsert brings for a column that already is of its type goes straight to the cells.
//! Everything else takes [`TableBuilder::set`], whose result is the same for every value.

use super::column::Column;
use super::{Op, TableBuilder, Value, ValueError};
use crate::inference::Inference;

impl TableBuilder {
    /// [`TableBuilder::set`] of a text.
    #[inline]
    pub fn set_text(&mut self, slot: usize, text: &str) -> Result<(), ValueError> {
        let pushed = self.quick(slot).and_then(|(column, declared)| match column.push_text(text) {
            None if declared => column.try_push_spelled(text),
            pushed => pushed,
        });
        self.count(pushed, slot, Value::Str(text))
    }

    /// [`TableBuilder::set`] of a whole number.
    #[inline]
    pub fn set_int(&mut self, slot: usize, number: i64) -> Result<(), ValueError> {
        let pushed = self.quick(slot).and_then(|(column, _)| column.push_int(number));
        self.count(pushed, slot, Value::Int(number))
    }

    /// [`TableBuilder::set`] of a float. As a key, or where inference is strict, it has rules.
    #[inline]
    pub fn set_float(&mut self, slot: usize, number: f64) -> Result<(), ValueError> {
        let strict = self.inference == Inference::Strict;
        let plain = self.quick(slot).filter(|(column, _)| !strict && !column.is_key);
        let pushed = plain.and_then(|(column, _)| column.push_double(number));
        self.count(pushed, slot, Value::Float(number))
    }

    /// [`TableBuilder::set`] of a boolean.
    #[inline]
    pub fn set_bool(&mut self, slot: usize, flag: bool) -> Result<(), ValueError> {
        let pushed = self.quick(slot).and_then(|(column, _)| column.push_bool(flag));
        self.count(pushed, slot, Value::Bool(flag))
    }

    /// [`TableBuilder::set`] of JSON text.
    #[inline]
    pub fn set_json(&mut self, slot: usize, text: &str) -> Result<(), ValueError> {
        let pushed = self.quick(slot).and_then(|(column, _)| column.push_json(text));
        self.count(pushed, slot, Value::Json(text))
    }

    /// [`TableBuilder::set`] of NULL: a cell that is not there yet is filled when the next one comes, or the batch ends.
    #[inline]
    pub fn set_null(&mut self, slot: usize) -> Result<(), ValueError> {
        let rows = self.ops.len();
        let column = self.slots.get(slot).and_then(|slot| self.columns.get(slot.column?));
        match column {
            Some(column) if self.row.op == Op::Upsert && column.len() <= rows => {
                self.row.null_key |= column.is_key;
                Ok(())
            }
            _ => self.set(slot, Value::Null),
        }
    }

    /// The slot's column and whether its type is declared, if the next cell is that of this row and takes what is
    /// exactly of its type.
    #[inline]
    fn quick(&mut self, slot: usize) -> Option<(&mut Column, bool)> {
        let slot = self.slots.get(slot)?;
        let column = self.columns.get_mut(slot.column?)?;
        let declared = slot.declared.is_some();
        let as_declared = !declared || slot.declared == column.data_type;
        (as_declared && self.row.op == Op::Upsert && column.len() == self.ops.len()).then_some((column, declared))
    }

    #[inline]
    fn count(&mut self, pushed: Option<usize>, slot: usize, value: Value<'_>) -> Result<(), ValueError> {
        match pushed {
            Some(bytes) => {
                self.bytes += bytes;
                Ok(())
            }
            None => self.set(slot, value),
        }
    }
}
