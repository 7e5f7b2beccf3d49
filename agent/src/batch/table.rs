//! One table of a window: its columns as they widen, its folded rows in memory and in runs, and its seal. A connection may
//! lock the types of columns that its destination has: values of another type are converted or become NULL.
//!
//! Keys are compared in the types the key columns have now. When one widens, the keys in memory are encoded again; a run
//! whose order that breaks (numbers sort unlike their text) is folded anew before the merge.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt8Array, UInt32Array};
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use inshore_columnar::lock;
use inshore_columnar::render;
use inshore_columnar::schema::{Column, DELETED_COLUMN, ID_COLUMN, SYNCED_COLUMN, SchemaError, TableName, TableSchema};
use inshore_columnar::widen::{self, ColumnFacts};
use inshore_columnar::{DataType, Op, RowBatch};

use super::fold::{self, Kind, STATES_MAX, States};
use super::held::{ABSENT_COLUMN_BYTES, held_bytes};
use super::merge::{self, Arrays, Block, BlockLimits, Chunks, Merge, Picked, Prepared, Sets, Target};
use super::parquet::Files;
use super::run::{RunReader, SpilledRun};
use super::spool::Spool;
use super::steps::StepWriter;
use super::{BatchSettings, CurrentTable, Error, SealedStep, SealedTable, StepOp};

/// What a batch costs beside its values.
const SOURCE_BYTES: usize = 1024;
/// A merge holds one chunk per run, so chunks are small.
const SPILL_LIMITS: BlockLimits = BlockLimits { rows: 8192, bytes: 512 * 1024 };
const SEAL_LIMITS: BlockLimits = BlockLimits { rows: 16_384, bytes: 8 * 1024 * 1024 };

pub(super) struct Table {
    name: TableName,
    /// Known from the first schema on.
    key: Option<Vec<String>>,
    columns: Vec<WindowColumn>,
    by_name: HashMap<String, usize>,
    key_ids: Vec<usize>,
    keys: Option<Keys>,
    memory: Memory,
    runs: Vec<SpilledRun>,
    sets: Sets,
    truncated: bool,
    /// Older rows go, those of this window stay.
    truncated_before_ms: Option<i64>,
    /// Columns that the destination has keep their types.
    locked: bool,
    /// But these.
    unlocked: BTreeSet<String>,
    seed: u64,
}

struct WindowColumn {
    name: String,
    /// `None` while only updates to NULL mention it.
    data_type: Option<DataType>,
    declared: bool,
    fits_double: bool,
}

/// How key columns become comparable bytes.
pub(super) struct Keys {
    order: KeyOrder,
    converter: RowConverter,
}

/// Columns and their types, as they were encoded: what a sort order depends on.
pub(super) type KeyOrder = Vec<(usize, DataType)>;

#[derive(Default)]
struct Memory {
    sources: Vec<Source>,
    states: States,
    bytes: usize,
    /// Columns of all sources together.
    columns: usize,
}

struct Source {
    arrays: Arrays,
    rows: usize,
    keys: Rows,
}

impl Keys {
    fn new(order: KeyOrder) -> Result<Keys, Error> {
        let fields = order.iter().map(|(_, data_type)| SortField::new(data_type.to_arrow())).collect();
        Ok(Keys { order, converter: RowConverter::new(fields)? })
    }

    pub(super) fn encode(&self, columns: &[ArrayRef]) -> Result<Rows, Error> {
        Ok(self.converter.convert_columns(columns)?)
    }
}

impl Table {
    pub(super) fn new(name: TableName, locked: bool) -> Table {
        Table {
            name,
            locked,
            unlocked: BTreeSet::new(),
            key: None,
            columns: Vec::new(),
            by_name: HashMap::new(),
            key_ids: Vec::new(),
            keys: None,
            memory: Memory::default(),
            runs: Vec::new(),
            sets: Sets::default(),
            truncated: false,
            truncated_before_ms: None,
            seed: fastrand::u64(..),
        }
    }

    pub(super) fn unlock(&mut self, columns: &BTreeSet<String>) {
        self.unlocked.clone_from(columns);
    }

    /// The bound of what is truncated, if anything; `window_ms` is that of the window itself.
    pub(super) fn truncation_ms(&self, window_ms: i64) -> Option<i64> {
        if self.truncated { Some(window_ms) } else { self.truncated_before_ms.map(|bound| bound.min(window_ms)) }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let Memory { sources, states, bytes, columns } = &self.memory;
        let absent = (sources.len() * self.columns.len()).saturating_sub(*columns);
        (bytes + states.bytes() + absent * ABSENT_COLUMN_BYTES) as u64
    }

    pub(super) fn truncate(&mut self) {
        self.truncated = true;
        self.memory = Memory::default();
        self.runs.clear();
    }

    pub(super) fn truncate_before(&mut self, before_ms: i64) {
        self.truncated_before_ms = self.truncated_before_ms.max(Some(before_ms));
    }

    /// Joins a schema into what is known; also the place where a changed key shows.
    pub(super) fn declare(&mut self, schema: &TableSchema) -> Result<(), Error> {
        self.know_key(&schema.key)?;
        for column in &schema.columns {
            let id = self.column_id(&column.name);
            let known = &mut self.columns[id];
            let facts = ColumnFacts { long_fits_double: known.fits_double };
            known.data_type = Some(match known.data_type {
                Some(data_type) => widen::join(&data_type, &column.data_type, facts),
                None => column.data_type,
            });
            known.declared |= column.declared;
        }
        Ok(())
    }

    fn know_key(&mut self, key: &[String]) -> Result<(), Error> {
        if let Some(known) = &self.key {
            let same = known.len() == key.len() && known.iter().all(|name| key.contains(name));
            return if same { Ok(()) } else { Err(self.key_changed(key)) };
        }
        self.key = Some(key.to_vec());
        if key.is_empty() {
            let id = self.column_id(ID_COLUMN);
            self.columns[id].data_type = Some(DataType::String);
            self.key_ids = vec![id];
        } else {
            self.key_ids = key.iter().map(|name| self.column_id(name)).collect();
        }
        Ok(())
    }

    fn key_changed(&self, after: &[String]) -> Error {
        let before = self.key.clone().unwrap_or_default();
        SchemaError::PrimaryKeyChanged { table: self.name.clone(), before, after: after.to_vec() }.into()
    }

    fn column_id(&mut self, name: &str) -> usize {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.columns.len();
        let column = WindowColumn { name: name.to_owned(), data_type: None, declared: false, fits_double: true };
        self.columns.push(column);
        self.by_name.insert(name.to_owned(), id);
        id
    }

    pub(super) fn push(&mut self, batch: RowBatch) -> Result<(), Error> {
        self.refuse_reserved(&batch)?;
        let columns = batch.schema.columns.iter().zip(batch.rows.columns());
        for (column, array) in columns.clone().filter(|(column, _)| column.data_type == DataType::Long) {
            let id = self.column_id(&column.name);
            self.columns[id].fits_double &= widen::long_fits_double(array);
        }
        self.declare(&batch.schema)?;
        let sets = self.table_sets(&batch);
        let mut arrays: Arrays = Vec::new();
        for (column, array) in columns {
            let id = self.column_id(&column.name);
            put(&mut arrays, id, column.data_type, Arc::clone(array));
        }
        if batch.schema.is_keyless() {
            let ids = render::row_ids(&batch.rows, &batch.schema.columns);
            put(&mut arrays, self.key_ids[0], DataType::String, Arc::new(ids));
        }
        let set_of_rows = batch.set_of_rows().unwrap_or_default();
        let states = batch.ops().iter().enumerate().map(|(row, op)| {
            let set = set_of_rows.get(row).and_then(|set| sets.get(*set as usize)).copied().unwrap_or(0);
            (Kind::from_code(*op).unwrap_or(Kind::Delete), set)
        });
        self.absorb(arrays, batch.row_count(), states)
    }

    fn refuse_reserved(&self, batch: &RowBatch) -> Result<(), Error> {
        let reserved = |name: &str| [ID_COLUMN, DELETED_COLUMN, SYNCED_COLUMN].contains(&name);
        let names = batch.schema.columns.iter().map(|column| &column.name).chain(&batch.untyped);
        if let Some(name) = names.into_iter().find(|name| reserved(name)) {
            return Err(Error::ReservedColumn { table: self.name.clone(), column: name.clone() });
        }
        if batch.schema.is_keyless() && batch.ops().contains(&Op::Update.code()) {
            return Err(Error::PrimaryKeyRequired { table: self.name.clone() });
        }
        Ok(())
    }

    /// The batch's sets as numbers of this table's sets. Key columns are no part of a set.
    fn table_sets(&mut self, batch: &RowBatch) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(batch.sets.len());
        for set in &batch.sets {
            let names = set.iter().filter_map(|position| batch.set_column(*position));
            let mut ids: Vec<u32> = names.map(|name| merge::number(self.column_id(name))).collect();
            ids.retain(|id| !self.key_ids.contains(&(*id as usize)));
            ids.sort_unstable();
            ids.dedup();
            numbers.push(self.sets.number(&ids));
        }
        numbers
    }

    /// Folds rows, raw or already folded, into the memory.
    fn absorb(&mut self, arrays: Arrays, rows: usize, states: impl Iterator<Item = (Kind, u32)>) -> Result<(), Error> {
        if rows == 0 {
            return Ok(());
        }
        if self.memory.sources.len() >= STATES_MAX as usize || rows >= STATES_MAX as usize {
            return Err(Error::TooManyRows { rows_max: STATES_MAX });
        }
        self.follow_key_types()?;
        let keys = self.encode_keys(&arrays)?;
        self.memory.bytes += held_bytes(&arrays) + keys.size() + SOURCE_BYTES;
        self.memory.columns += arrays.iter().flatten().count();
        let Memory { sources, states: folded, .. } = &mut self.memory;
        sources.push(Source { arrays, rows, keys });
        let source = sources.len() - 1;
        let key_of = |row: fold::RowRef| sources[row.source as usize].keys.row(row.row as usize);
        for (row, state) in states.enumerate() {
            let item = merge::item(state, source, row);
            let key = key_of(item.row);
            if folded.ascend() && folded.last().is_some_and(|last| key_of(last) >= key) {
                folded.index(|row| fold::hash(self.seed, key_of(row).data()));
            }
            let room = if folded.ascend() {
                folded.append(item)
            } else {
                folded.apply(fold::hash(self.seed, key.data()), item, |other| key_of(other) == key)
            };
            if !room {
                return Err(Error::TooManyRows { rows_max: STATES_MAX });
            }
        }
        Ok(())
    }

    /// Encodes the keys in memory again when a key column has widened.
    fn follow_key_types(&mut self) -> Result<(), Error> {
        let order = self.key_ids.iter().map(|id| {
            let column = &self.columns[*id];
            Ok((*id, column.data_type.ok_or_else(|| self.no_key_column(&column.name))?))
        });
        let order = order.collect::<Result<KeyOrder, Error>>()?;
        if self.keys.as_ref().is_some_and(|keys| keys.order == order) {
            return Ok(());
        }
        self.keys = Some(Keys::new(order)?);
        for index in 0..self.memory.sources.len() {
            let keys = self.encode_keys(&self.memory.sources[index].arrays)?;
            self.memory.sources[index].keys = keys;
        }
        // Numbers that ascend may not do so as text.
        let Memory { sources, states, .. } = &mut self.memory;
        states.index(|row| fold::hash(self.seed, sources[row.source as usize].keys.row(row.row as usize).data()));
        Ok(())
    }

    fn no_key_column(&self, column: &str) -> Error {
        Error::KeyColumnMissing { table: self.name.clone(), column: column.to_owned() }
    }

    fn encode_keys(&self, arrays: &Arrays) -> Result<Rows, Error> {
        let Some(keys) = &self.keys else { return Err(self.no_key_column("")) };
        let mut columns = Vec::with_capacity(self.key_ids.len());
        for (id, data_type) in &keys.order {
            let name = &self.columns[*id].name;
            let (from, array) = arrays.get(*id).and_then(Option::as_ref).ok_or_else(|| self.no_key_column(name))?;
            if array.null_count() > 0 {
                return Err(Error::PrimaryKeyNull { table: self.name.clone(), column: name.clone() });
            }
            columns.push(widen::cast(array, from, data_type)?);
        }
        keys.encode(&columns)
    }

    /// Moves the memory to a run; false when there is nothing to move.
    pub(super) fn spill(&mut self, spool: &Spool) -> Result<bool, Error> {
        if self.memory.sources.is_empty() {
            return Ok(false);
        }
        let typed = self.columns.iter().enumerate().filter_map(|(id, column)| Some((id, column.data_type?)));
        let columns: Vec<(usize, DataType)> = typed.collect();
        let targets: Vec<Target> = columns.iter().map(|(id, data_type)| self.target(Some(*id), *data_type)).collect();
        let order = self.keys.as_ref().map(|keys| keys.order.clone()).unwrap_or_default();
        let mut run = spool.start()?;
        let merge = self.merge_memory(&targets, Vec::new(), SPILL_LIMITS)?;
        let sets = &mut self.sets;
        merge.run(&mut |prepared, block| spool.append(&mut run, &folded_rows(prepared, &targets, block, sets)?))?;
        self.runs.push(SpilledRun { run, columns, order });
        Ok(true)
    }

    /// Takes the memory, in the types of the targets, and merges it with runs.
    fn merge_memory<'r>(
        &mut self,
        targets: &[Target],
        runs: Vec<Box<dyn Chunks + 'r>>,
        limits: BlockLimits,
    ) -> Result<Merge<'r>, Error> {
        let memory = std::mem::take(&mut self.memory);
        let mut prepared = Vec::with_capacity(memory.sources.len());
        for source in memory.sources {
            let Source { arrays, rows, keys } = source;
            prepared.push(Prepared::new(&arrays, rows, targets, Vec::new(), |_| Ok(keys))?);
        }
        Ok(Merge::new(prepared, memory.states, runs, limits))
    }

    /// Files and steps of everything folded since the last seal.
    pub(super) fn seal(
        mut self,
        current: Option<CurrentTable>,
        truncate_before_ms: Option<i64>,
        settings: &BatchSettings,
        spool: &Spool,
        files: &mut Files<'_>,
    ) -> Result<Option<SealedTable>, Error> {
        let Some(schema) = self.merged_schema(current.as_ref())? else { return Ok(None) };
        let mut steps: Vec<SealedStep> = truncate_before_ms
            .into_iter()
            .map(|before_ms| SealedStep { op: StepOp::Truncate { before_ms }, columns: None, files: Vec::new() })
            .collect();
        if !self.memory.sources.is_empty() || !self.runs.is_empty() {
            self.take_types(&schema)?;
            self.sort_again(settings, spool)?;
            steps.extend(self.write(&schema, files)?);
        }
        Ok(Some(SealedTable { schema, steps }))
    }

    /// `None` for a table that nobody knows, such as one that was only truncated.
    fn merged_schema(&self, current: Option<&CurrentTable>) -> Result<Option<TableSchema>, Error> {
        let Some(key) = &self.key else { return Ok(current.map(|current| current.schema.clone())) };
        let columns = self.columns.iter().filter(|column| column.name != ID_COLUMN).filter_map(|column| {
            let data_type = column.data_type?;
            Some(Column { name: column.name.clone(), data_type, declared: column.declared })
        });
        let window = TableSchema { name: self.name.clone(), key: key.clone(), columns: columns.collect() };
        let Some(current) = current else { return Ok(Some(window)) };
        let facts = |name: &str| ColumnFacts { long_fits_double: self.fits_double(name, current) };
        let mut merged = current.schema.merge(&window, &facts)?;
        if self.locked {
            let held = |column: &&mut Column| !key.contains(&column.name) && !self.unlocked.contains(&column.name);
            for column in merged.columns.iter_mut().filter(held) {
                if let (Some(own), Some(other)) = (current.schema.column(&column.name), window.column(&column.name)) {
                    column.data_type = lock::locked(&own.data_type, &other.data_type);
                }
            }
        }
        Ok(Some(merged))
    }

    fn target(&self, id: Option<usize>, data_type: DataType) -> Target {
        let unlocked = id.is_some_and(|id| self.unlocked.contains(&self.columns[id].name));
        Target { id, data_type, locked: self.locked && !unlocked }
    }

    fn fits_double(&self, name: &str, current: &CurrentTable) -> bool {
        let here = self.by_name.get(name).is_none_or(|id| self.columns[*id].fits_double);
        let there = match current.facts.get(name) {
            Some(facts) => facts.long_fits_double,
            None => current.schema.column(name).is_none_or(|column| column.data_type != DataType::Long),
        };
        here && there
    }

    /// The destination may have wider types and another order of key columns: keys fold and sort in those.
    fn take_types(&mut self, schema: &TableSchema) -> Result<(), Error> {
        self.key_ids = schema.effective_key().iter().map(|name| self.column_id(name)).collect();
        for column in &schema.columns {
            if let Some(id) = self.by_name.get(&column.name) {
                self.columns[*id].data_type = Some(column.data_type);
            }
        }
        self.follow_key_types()
    }

    /// Folds the runs anew when one of them is sorted in another order than the keys are now: by other columns first, or
    /// by numbers that have become text.
    fn sort_again(&mut self, settings: &BatchSettings, spool: &Spool) -> Result<(), Error> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let breaks = |(before, after): (&(usize, DataType), &(usize, DataType))| {
            before.0 != after.0 || (!before.1.is_text() && after.1.is_text())
        };
        if !self.runs.iter().any(|run| run.order.iter().zip(&keys.order).any(breaks)) {
            return Ok(());
        }
        self.spill(spool)?;
        for old in std::mem::take(&mut self.runs) {
            for chunk in 0..old.run.chunk_count() {
                let (arrays, rows, states) = old.chunk(chunk)?;
                self.absorb(arrays, rows, states.into_iter())?;
                if self.memory_bytes() > settings.memory_bytes_max {
                    self.spill(spool)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, schema: &TableSchema, files: &mut Files<'_>) -> Result<Vec<SealedStep>, Error> {
        let id = schema.is_keyless().then_some((ID_COLUMN, DataType::String));
        let columns =
            id.into_iter().chain(schema.columns.iter().map(|column| (column.name.as_str(), column.data_type)));
        let targets: Vec<Target> =
            columns.map(|(name, data_type)| self.target(self.by_name.get(name).copied(), data_type)).collect();
        let key: Vec<usize> = self
            .key_ids
            .iter()
            .map(|id| targets.iter().position(|target| target.id == Some(*id)))
            .map(|position| position.expect("every key column is in the merged schema"))
            .collect();
        let runs = std::mem::take(&mut self.runs);
        let keys = self.keys.take().expect("rows were folded by key");
        let chunks = runs.iter().map(|run| {
            let reader = RunReader { run, next: 0, targets: &targets, key: &key, keys: &keys };
            Box::new(reader) as Box<dyn Chunks>
        });
        let chunks = chunks.collect();
        let merge = self.merge_memory(&targets, chunks, SEAL_LIMITS)?;
        let mut writer = StepWriter::new(schema, &targets, &key, files);
        merge.run(&mut |prepared, block| writer.write(prepared, block, &mut self.sets, files))?;
        writer.finish(files)
    }
}

pub(super) fn put(arrays: &mut Arrays, id: usize, data_type: DataType, array: ArrayRef) {
    if arrays.len() <= id {
        arrays.resize(id + 1, None);
    }
    arrays[id] = Some((data_type, array));
}

/// A block as rows of a run: the targets, then kind and set.
fn folded_rows(
    prepared: &[Arc<Prepared>],
    targets: &[Target],
    block: &Block,
    sets: &mut Sets,
) -> Result<RecordBatch, Error> {
    let states: Vec<(u8, u32)> =
        block.keys.iter().map(|folded| (folded.kind as u8, sets.union(block.patches(folded)))).collect();
    let all: Vec<usize> = (0..block.keys.len()).collect();
    let picked = Picked::new(block, &all);
    let mut arrays = Vec::with_capacity(targets.len() + 2);
    for (index, target) in targets.iter().enumerate() {
        arrays.push(picked.column(prepared, (index, target.id), sets)?);
    }
    arrays.push(Arc::new(UInt8Array::from_iter_values(states.iter().map(|(kind, _)| *kind))));
    arrays.push(Arc::new(UInt32Array::from_iter_values(states.iter().map(|(_, set)| *set))));
    let fields: Vec<Field> = arrays.iter().map(|array| Field::new("", array.data_type().clone(), true)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
