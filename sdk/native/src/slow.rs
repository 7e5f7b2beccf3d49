//! A row that needs Python code: collected, resolved, converted and appended in steps, so that no lock is held while the
//! values' own code runs.

use inshore_columnar::builder::TableBuilder;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::rows::{RowError, Slot, refusal};
use crate::value::{self, Converted, Target};

/// A row on the slow way: values are converted between two short locks.
pub(crate) struct SlowRow<'py> {
    cells: Vec<Cell<'py>>,
}

struct Cell<'py> {
    key: Bound<'py, PyAny>,
    item: Bound<'py, PyAny>,
    slot: Option<Slot>,
    converted: Option<Converted>,
}

impl<'py> SlowRow<'py> {
    /// Any mapping with `.items()`.
    pub(crate) fn collect(data: &Bound<'py, PyAny>) -> PyResult<SlowRow<'py>> {
        let cell = |(key, item)| Cell { key, item, slot: None, converted: None };
        if let Ok(dict) = data.cast_exact::<PyDict>() {
            return Ok(SlowRow { cells: dict.iter().map(cell).collect() });
        }
        let items = data.call_method0("items")?;
        let cells = items.try_iter()?.map(|pair| Ok(cell(pair?.extract()?))).collect::<PyResult<_>>()?;
        Ok(SlowRow { cells })
    }

    /// Finds the columns, by the keys.
    pub(crate) fn resolve(
        &mut self,
        mut slot: impl FnMut(&Bound<'py, PyAny>) -> Result<Slot, RowError>,
    ) -> Result<(), RowError> {
        for cell in &mut self.cells {
            cell.slot = Some(slot(&cell.key)?);
        }
        Ok(())
    }

    /// Runs the values' own code; the caller holds no lock.
    pub(crate) fn convert(&mut self) -> PyResult<()> {
        for cell in &mut self.cells {
            let target = cell.slot.map_or(Target::Inferred, |slot| slot.target);
            if value::plain(&cell.item, target).is_none() {
                cell.converted = Some(value::converted(&cell.item, target)?);
            }
        }
        Ok(())
    }

    /// Whether a value was taken by running its own code.
    pub(crate) fn needed_python(&self) -> bool {
        self.cells.iter().any(|cell| cell.converted.is_some())
    }

    pub(crate) fn fill(&self, builder: &mut TableBuilder) -> Result<(), RowError> {
        for cell in &self.cells {
            let slot = cell.slot.expect("every cell was resolved before");
            let value = match &cell.converted {
                Some(converted) => converted.value(),
                None => value::plain(&cell.item, slot.target).expect("convert filled every value that is not plain"),
            };
            builder.set(slot.index, value).map_err(|error| refusal(&error))?;
        }
        Ok(())
    }
}
