//! Spilled runs of one table: folded rows in key order, in the types that the columns had then, and their way back into the
//! merge.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{UInt8Type, UInt32Type};
use inshore_columnar::DataType;

use super::Error;
use super::fold::Kind;
use super::merge::{Arrays, Chunks, Prepared, Target};
use super::spool::Run;
use super::table::{KeyOrder, Keys, put};

pub(super) struct SpilledRun {
    pub(super) run: Run,
    pub(super) columns: Vec<(usize, DataType)>,
    pub(super) order: KeyOrder,
}

impl SpilledRun {
    #[expect(clippy::type_complexity, reason = "read once, by the two who fold it")]
    pub(super) fn chunk(&self, number: usize) -> Result<(Arrays, usize, Vec<(Kind, u32)>), Error> {
        let rows = self.run.read(number)?;
        let mut arrays: Arrays = Vec::new();
        for ((id, data_type), array) in self.columns.iter().zip(rows.columns()) {
            put(&mut arrays, *id, *data_type, Arc::clone(array));
        }
        let at = |index: usize| rows.columns().get(index).ok_or(Error::SpoolAltered);
        let kinds = at(self.columns.len())?.as_primitive_opt::<UInt8Type>().ok_or(Error::SpoolAltered)?;
        let sets = at(self.columns.len() + 1)?.as_primitive_opt::<UInt32Type>().ok_or(Error::SpoolAltered)?;
        let states = kinds.values().iter().zip(sets.values());
        let states = states.map(|(kind, set)| Some((Kind::from_code(*kind)?, *set)));
        let states: Option<Vec<_>> = states.collect();
        Ok((arrays, rows.num_rows(), states.ok_or(Error::SpoolAltered)?))
    }
}

/// A run on its way into the merge.
pub(super) struct RunReader<'a> {
    pub(super) run: &'a SpilledRun,
    pub(super) next: usize,
    pub(super) targets: &'a [Target],
    pub(super) key: &'a [usize],
    pub(super) keys: &'a Keys,
}

impl Chunks for RunReader<'_> {
    fn next(&mut self) -> Result<Option<Prepared>, Error> {
        if self.next >= self.run.run.chunk_count() {
            return Ok(None);
        }
        let (arrays, rows, states) = self.run.chunk(self.next)?;
        self.next += 1;
        let prepared = Prepared::new(&arrays, rows, self.targets, states, |columns| {
            let key: Vec<ArrayRef> = self.key.iter().map(|index| Arc::clone(&columns[*index])).collect();
            self.keys.encode(&key)
        })?;
        Ok(Some(prepared))
    }
}
