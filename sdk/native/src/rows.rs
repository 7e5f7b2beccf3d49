//! The builders of all tables, and the way a dict finds its columns.
//!
//! Rows of one table mostly come from one line of code, so the same key objects arrive in the same order: the layout
//! of the last row is tried first, by pointer. Every pointer kept here belongs to an object that is kept alive.

use std::collections::HashMap;
use std::sync::Arc;

use inshore_columnar::builder::{self, TableBuilder, ValueError, Warning};
use inshore_columnar::frame::{Frame, Kind};
use inshore_columnar::name::rename_table;
use inshore_columnar::schema::{COLUMNS_MAX, TABLES_MAX};
use inshore_columnar::types::TypeNameError;
use inshore_columnar::{DataType, Inference, Naming, Op, TableName, TableSchema, Value};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};
use serde_json::json;

use crate::borrowed::{self, Item};
use crate::json;
use crate::link::Link;
use crate::session::DeclaredTable;
use crate::slow::SlowRow;
use crate::value::{self, Kinds, Target, exactly};

/// A table's rows leave for the job at this size.
const BATCH_BYTES: usize = 1024 * 1024;
/// All tables leave together when their sum passes this.
const BUILDERS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// After a value that needed Python code, this many rows of its table go the slow way at once.
const SLOW_ROWS: u8 = 16;
/// Key objects remembered per table; past this, keys are looked up by their text.
const KEYS_REMEMBERED_MAX: usize = 2048;
/// Table names remembered by object.
const TABLES_REMEMBERED_MAX: usize = 16;

/// What the job's start message says about names.
pub(crate) struct Settings {
    pub(crate) schema: String,
    pub(crate) naming: Naming,
    pub(crate) inference: Inference,
}

pub(crate) struct Rows {
    settings: Settings,
    link: Arc<Link>,
    tables: Vec<Table>,
    by_name: HashMap<TableName, usize>,
    remembered: Vec<Remembered>,
    buffered_bytes: usize,
}

/// The objects a caller named a table with, and the table.
struct Remembered {
    table: Py<PyAny>,
    schema: Option<Py<PyAny>>,
    index: usize,
}

/// What became of a row.
pub(crate) enum Appended {
    Done,
    /// A value needs its own Python code: nothing was kept, the caller takes the slow way.
    NeedsPython,
}

/// Why a row was refused. Exceptions are made after the builders are unlocked: making one may run Python code.
pub(crate) enum RowError {
    Python(PyErr),
    Refused { message: String, kind: &'static str },
}

impl From<PyErr> for RowError {
    fn from(error: PyErr) -> RowError {
        RowError::Python(error)
    }
}

impl RowError {
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            RowError::Python(error) => error,
            RowError::Refused { message, kind } => value::refused(py, &message, kind),
        }
    }
}

impl Rows {
    pub(crate) fn new(settings: Settings, link: Arc<Link>) -> Rows {
        Rows { settings, link, tables: Vec::new(), by_name: HashMap::new(), remembered: Vec::new(), buffered_bytes: 0 }
    }

    /// The schemas of the declared tables, as the destination will name them.
    pub(crate) fn declare(&mut self, tables: Vec<DeclaredTable>) -> Result<Vec<TableSchema>, RowError> {
        let mut schemas = Vec::with_capacity(tables.len());
        for (schema, table, key, columns) in tables {
            let name = self.settings.table_name(schema.as_deref(), &table);
            if self.by_name.contains_key(&name) {
                let message = format!("two tables of schema() are both named {name} at the destination");
                return Err(RowError::Refused { message, kind: "schema" });
            }
            self.check_room()?;
            if columns.len() > COLUMNS_MAX {
                return Err(too_many(format!("table {name} has more than {COLUMNS_MAX} columns, which is the limit")));
            }
            let declared = Table::declared(name.clone(), &key, columns, &self.settings)?;
            schemas.push(declared.builder.schema());
            self.add(name, declared);
        }
        Ok(schemas)
    }

    pub(crate) fn name(&self, index: usize) -> &TableName {
        &self.tables[index].name
    }

    /// The table that these two arguments of an operation name.
    #[inline]
    pub(crate) fn table(
        &mut self,
        table: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
    ) -> Result<usize, RowError> {
        let known = self.remembered.iter().find(|known| {
            known.table.as_ptr() == table.as_ptr() && known.schema.as_ref().map(Py::as_ptr) == schema.map(Bound::as_ptr)
        });
        match known {
            Some(known) => Ok(known.index),
            None => self.look_up_table(table, schema),
        }
    }

    #[cold]
    fn look_up_table(
        &mut self,
        table: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
    ) -> Result<usize, RowError> {
        let name = non_blank(table, "table")?;
        let schema_name = schema.map(|schema| non_blank(schema, "schema")).transpose()?;
        let name = self.settings.table_name(schema_name, name);
        let index = match self.by_name.get(&name) {
            Some(index) => *index,
            None => {
                self.check_room()?;
                let undeclared = Table::declared(name.clone(), &[], Vec::new(), &self.settings)?;
                self.add(name, undeclared)
            }
        };
        if self.remembered.len() == TABLES_REMEMBERED_MAX {
            self.remembered.pop();
        }
        let remembered =
            Remembered { table: table.clone().unbind(), schema: schema.map(|schema| schema.clone().unbind()), index };
        self.remembered.insert(0, remembered);
        Ok(index)
    }

    fn check_room(&self) -> Result<(), RowError> {
        if self.tables.len() < TABLES_MAX {
            return Ok(());
        }
        Err(too_many(format!("the sync names more than {TABLES_MAX} tables, which is the limit")))
    }

    fn add(&mut self, name: TableName, table: Table) -> usize {
        self.tables.push(table);
        self.by_name.insert(name, self.tables.len() - 1);
        self.tables.len() - 1
    }

    /// The fast way: no Python code runs, so the lock is safe to hold.
    #[inline]
    pub(crate) fn append(&mut self, index: usize, op: Op, row: &Bound<'_, PyDict>) -> Result<Appended, RowError> {
        let table = &mut self.tables[index];
        if table.slow > 0 {
            return Ok(Appended::NeedsPython);
        }
        table.builder.begin_row(op);
        match table.fill(row) {
            Ok(true) => {}
            Ok(false) => {
                table.builder.abandon_row();
                return Ok(Appended::NeedsPython);
            }
            Err(error) => {
                table.builder.abandon_row();
                return Err(error);
            }
        }
        self.end_row(index)?;
        Ok(Appended::Done)
    }

    /// The columns of a row whose values are still to be converted.
    pub(crate) fn resolve(&mut self, index: usize, row: &mut SlowRow<'_>) -> Result<(), RowError> {
        let table = &mut self.tables[index];
        row.resolve(|key| table.slot_by_key(key))
    }

    pub(crate) fn append_converted(&mut self, index: usize, op: Op, row: &SlowRow<'_>) -> Result<(), RowError> {
        let table = &mut self.tables[index];
        let needed = row.needed_python();
        table.slow = if needed { SLOW_ROWS } else { table.slow.saturating_sub(1) };
        table.builder.begin_row(op);
        if let Err(error) = row.fill(&mut table.builder) {
            table.builder.abandon_row();
            return Err(error);
        }
        self.end_row(index)
    }

    #[inline]
    fn end_row(&mut self, index: usize) -> Result<(), RowError> {
        let table = &mut self.tables[index];
        table.builder.end_row().map_err(|error| key_refusal(&error))?;
        let bytes = table.builder.bytes();
        self.buffered_bytes = self.buffered_bytes + bytes - table.bytes;
        table.bytes = bytes;
        if bytes >= BATCH_BYTES {
            self.flush(index);
        } else if self.buffered_bytes >= BUILDERS_BYTES_MAX {
            self.flush_all();
        }
        Ok(())
    }

    /// Queues the rows of one table; the caller waits for room after the lock is gone.
    pub(crate) fn flush(&mut self, index: usize) {
        let table = &mut self.tables[index];
        for warning in table.builder.warnings() {
            if let Some(message) = sentence(&warning) {
                warn(&self.link, &message, "columns");
            }
        }
        if let Some(rows) = table.builder.finish() {
            self.link.push_rows(rows, table.bytes);
        }
        self.buffered_bytes -= table.bytes;
        table.bytes = 0;
    }

    pub(crate) fn flush_all(&mut self) {
        for index in 0..self.tables.len() {
            self.flush(index);
        }
    }

    /// Forgets every row that was not flushed.
    pub(crate) fn discard(&mut self) {
        for table in &mut self.tables {
            drop(table.builder.finish());
            table.bytes = 0;
        }
        self.buffered_bytes = 0;
    }
}

impl Settings {
    fn table_name(&self, schema: Option<&str>, table: &str) -> TableName {
        let schema = match schema {
            None => self.schema.clone(),
            Some(schema) => format!("{}_{}", self.schema, rename_table(schema, self.naming)),
        };
        TableName::new(schema, rename_table(table, self.naming))
    }
}

struct Table {
    name: TableName,
    builder: TableBuilder,
    inference: Inference,
    /// The last row's key objects and slots, in its order.
    layout: Vec<(usize, Slot)>,
    by_pointer: HashMap<usize, Slot>,
    alive: Vec<Py<PyAny>>,
    /// Rows still to go the slow way before the fast one is tried again.
    slow: u8,
    bytes: usize,
    /// Room for the JSON of one value.
    json: String,
}

/// Where a value goes: the builder's slot of its name, and what that takes.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) target: Target,
    takes: Kinds,
}

impl Table {
    fn declared(
        name: TableName,
        key: &[String],
        columns: Vec<(String, Option<String>)>,
        settings: &Settings,
    ) -> Result<Table, RowError> {
        let mut declared = Vec::new();
        for (column, data_type) in columns {
            let Some(data_type) = data_type else { continue };
            let data_type: DataType = data_type
                .parse()
                .map_err(|error: TypeNameError| RowError::Refused { message: error.to_string(), kind: "schema" })?;
            declared.push((column, data_type));
        }
        Ok(Table {
            builder: TableBuilder::new(name.clone(), key, &declared, settings.naming)
                .with_inference(settings.inference),
            inference: settings.inference,
            name,
            layout: Vec::new(),
            by_pointer: HashMap::new(),
            alive: Vec::new(),
            slow: 0,
            bytes: 0,
            json: String::new(),
        })
    }

    /// False when a value needs Python code; the row is then half filled.
    #[inline]
    fn fill(&mut self, row: &Bound<'_, PyDict>) -> Result<bool, RowError> {
        for (position, (key, item)) in borrowed::entries(row).enumerate() {
            let pointer = key.as_ptr() as usize;
            let slot = match self.layout.get(position) {
                Some((known, slot)) if *known == pointer => *slot,
                _ => self.slot(position, &key)?,
            };
            match self.put(slot, &item) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(refusal(&error)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The value as it lies in Python's memory; `None` when taking it needs Python code. A text with lone surrogates
    /// does: the interpreter has made an exception of it, so that nobody may look at a borrowed object after it.
    #[inline]
    fn put(&mut self, slot: Slot, item: &Item<'_, '_>) -> Option<Result<(), ValueError>> {
        let (builder, Slot { index, takes, .. }) = (&mut self.builder, slot);
        if let Some(text) = exactly::<PyString>(item)
            && takes.has(Kinds::TEXT)
        {
            Some(builder.set_text(index, text.to_str().ok()?))
        } else if let Some(number) = exactly::<PyInt>(item)
            && takes.has(Kinds::INT)
        {
            Some(builder.set_int(index, borrowed::whole(number)?))
        } else if let Some(number) = exactly::<PyFloat>(item)
            && takes.has(Kinds::FLOAT)
        {
            Some(builder.set_float(index, number.value()))
        } else if item.is_none() {
            Some(builder.set_null(index))
        } else if let Some(flag) = exactly::<PyBool>(item)
            && takes.has(Kinds::BOOL)
        {
            Some(builder.set_bool(index, flag.is_true()))
        } else if let Some(bytes) = exactly::<PyBytes>(item)
            && takes.has(Kinds::BYTES)
        {
            Some(builder.set(index, Value::Bytes(bytes.as_bytes())))
        } else {
            self.put_json(slot, item)
        }
    }

    #[inline]
    fn put_json(&mut self, slot: Slot, item: &Item<'_, '_>) -> Option<Result<(), ValueError>> {
        self.json.clear();
        self.json.shrink_to(BATCH_BYTES);
        let written = slot.target.takes_as_json(item) && json::write(&mut self.json, item);
        written.then(|| self.builder.set_json(slot.index, &self.json))
    }

    #[cold]
    fn slot(&mut self, position: usize, key: &Bound<'_, PyAny>) -> Result<Slot, RowError> {
        let pointer = key.as_ptr() as usize;
        let slot = match self.by_pointer.get(&pointer) {
            Some(slot) => *slot,
            None => {
                let slot = self.slot_by_key(key)?;
                if self.alive.len() == KEYS_REMEMBERED_MAX {
                    return Ok(slot);
                }
                self.alive.push(key.clone().unbind());
                self.by_pointer.insert(pointer, slot);
                slot
            }
        };
        if let Some(known) = self.layout.get_mut(position) {
            *known = (pointer, slot);
        } else if position == self.layout.len() {
            self.layout.push((pointer, slot));
        }
        Ok(slot)
    }

    fn slot_by_key(&mut self, key: &Bound<'_, PyAny>) -> Result<Slot, RowError> {
        let name = if let Ok(text) = key.cast::<PyString>() {
            text.to_str()?
        } else if let Ok(bytes) = key.cast::<PyBytes>() {
            std::str::from_utf8(bytes.as_bytes())
                .map_err(|_| PyValueError::new_err("a column name given as bytes must be UTF-8"))?
        } else {
            return Err(PyTypeError::new_err("a column name must be a str").into());
        };
        if !self.builder.has_room_for(name) {
            return Err(too_many(format!("table {} has {COLUMNS_MAX} columns, which is the limit", self.name)));
        }
        let index = self.builder.column_index(name);
        let target = Target::of(self.builder.declared_type(index), self.inference);
        Ok(Slot { index, target, takes: target.takes() })
    }
}

fn too_many(message: String) -> RowError {
    RowError::Refused { message, kind: "too_many" }
}

pub(crate) fn refusal(error: &ValueError) -> RowError {
    RowError::Refused { message: error.to_string(), kind: "value" }
}

fn key_refusal(error: &builder::RowError) -> RowError {
    let kind = match error {
        builder::RowError::PrimaryKeyNull { .. } => "key_null",
        builder::RowError::PartialKey { .. } => "key_partial",
        builder::RowError::PrimaryKeyRequired { .. } => "key_required",
        builder::RowError::TooLong { .. } => "value",
    };
    RowError::Refused { message: error.to_string(), kind }
}

/// `None` for what only helps the runtime's developers.
fn sentence(warning: &Warning) -> Option<String> {
    match warning {
        Warning::NamesCollide { table, column, names: [first, second] } => Some(format!(
            "{first:?} and {second:?} are both column {column} of {table}: within a row the last one wins"
        )),
        Warning::SystemColumnDropped { table, name } => {
            Some(format!("column {name:?} of {table} is left out: the name belongs to the system"))
        }
        Warning::Lenient { .. } => None,
    }
}

fn warn(link: &Link, message: &str, topic: &str) {
    if let Ok(frame) = Frame::json(Kind::Warning, &json!({"message": message, "topic": topic})) {
        link.push_control(frame);
    }
}

/// The checks that come before any other of an operation.
pub(crate) fn check_names(table: &Bound<'_, PyAny>, schema: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    non_blank(table, "table")?;
    schema.map(|schema| non_blank(schema, "schema")).transpose()?;
    Ok(())
}

fn non_blank<'a>(name: &'a Bound<'_, PyAny>, what: &str) -> PyResult<&'a str> {
    let Ok(text) = name.cast::<PyString>() else {
        let kind = name.get_type().name().map_or_else(|_| "value".to_owned(), |kind| kind.to_string());
        return Err(PyTypeError::new_err(format!("{what} must be a str, not {kind}")));
    };
    let text = text.to_str()?;
    if text.trim().is_empty() {
        return Err(PyValueError::new_err(format!("{what} must not be blank")));
    }
    Ok(text)
}
