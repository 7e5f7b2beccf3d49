//! Takes blocked columns off a batch of rows and puts hashes in the place of values. Pure: arrays in, arrays out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use inshore_columnar::widen::CastError;
use inshore_columnar::{DataType, RowBatch, hash};

use super::{Decision, Salt};
use crate::batch;

/// What is to be done with each column of one batch.
pub(in crate::sync) struct Cut {
    columns: Vec<Decision>,
    /// The same for the columns that updates only set to NULL.
    untyped: Vec<Decision>,
    salt: Option<Salt>,
}

impl Cut {
    pub(super) fn new(columns: Vec<Decision>, untyped: Vec<Decision>, salt: Option<Salt>) -> Cut {
        Cut { columns, untyped, salt }
    }

    /// The rows without what is blocked.
    pub(in crate::sync) fn apply(&self, batch: RowBatch) -> Result<RowBatch, batch::Error> {
        if self.columns.iter().chain(&self.untyped).all(|decision| *decision == Decision::In) {
            return Ok(batch);
        }
        let places = self.places();
        let mut rows = RowBatch { untyped: kept(batch.untyped, &self.untyped), ..batch };
        for set in &mut rows.sets {
            *set = set.iter().filter_map(|place| places.get(usize::try_from(*place).ok()?).copied()?).collect();
        }
        let given = rows.rows.columns();
        let operations = given.len().min(self.columns.len());
        let mut arrays = Vec::with_capacity(given.len());
        let mut fields: Vec<Arc<Field>> = Vec::with_capacity(given.len());
        for ((decision, array), column) in self.columns.iter().zip(given).zip(&mut rows.schema.columns) {
            match decision {
                Decision::Out => continue,
                Decision::In => arrays.push(Arc::clone(array)),
                Decision::Hash => {
                    arrays.push(self.hashes(array, column.data_type)?);
                    column.data_type = DataType::String;
                }
            }
            fields.push(Arc::new(Field::new(&column.name, column.data_type.to_arrow(), true)));
        }
        arrays.extend(given.iter().skip(operations).cloned());
        fields.extend(rows.rows.schema().fields().iter().skip(operations).cloned());
        rows.schema.columns = kept(rows.schema.columns, &self.columns);
        rows.rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        Ok(rows)
    }

    fn hashes(&self, array: &ArrayRef, data_type: DataType) -> Result<ArrayRef, CastError> {
        let Some(salt) = &self.salt else {
            // A selection without a salt is not made; values do not pass for that.
            return Ok(arrow::array::new_null_array(&DataType::String.to_arrow(), array.len()));
        };
        Ok(Arc::new(hash::hashed(array, data_type, salt.bytes())?))
    }

    /// For each place of a column before, its place afterwards.
    fn places(&self) -> Vec<Option<u32>> {
        let mut next = 0;
        let place = |decision: &Decision| {
            let stays = *decision != Decision::Out;
            let place = stays.then_some(next);
            next += u32::from(stays);
            place
        };
        self.columns.iter().chain(&self.untyped).map(place).collect()
    }
}

fn kept<T>(items: Vec<T>, decisions: &[Decision]) -> Vec<T> {
    items.into_iter().zip(decisions).filter(|(_, decision)| **decision != Decision::Out).map(|(item, _)| item).collect()
}
