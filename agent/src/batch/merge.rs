//! Walks the folded keys of one table in key order: those in memory and those of every spilled run, oldest first for
//! equal keys. Keys are handed on in blocks, as references to rows; [`Picked`] gathers columns of a block.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute;
use arrow::row::Rows;
use inshore_columnar::DataType;
use inshore_columnar::{lock, widen};

use super::Error;
use super::fold::{self, Effect, Entry, Item, Kind, PatchRef, RowRef, States};

/// A column that is wanted: which of the table's columns, and as what type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// `None` for a column only the destination has.
    pub(super) id: Option<usize>,
    pub(super) data_type: DataType,
    /// What does not widen to the type is converted or becomes NULL.
    pub(super) locked: bool,
}

/// Arrays by column id, each with its type.
pub(super) type Arrays = Vec<Option<(DataType, ArrayRef)>>;

/// Rows in the types of the targets.
pub(super) struct Prepared {
    columns: Vec<ArrayRef>,
    keys: Rows,
    row_bytes: usize,
    /// Of a run's chunk: the folded state of every row.
    states: Vec<(Kind, u32)>,
}

impl Prepared {
    /// `keys` makes the key bytes from the columns.
    pub(super) fn new(
        arrays: &Arrays,
        rows: usize,
        targets: &[Target],
        states: Vec<(Kind, u32)>,
        keys: impl FnOnce(&[ArrayRef]) -> Result<Rows, Error>,
    ) -> Result<Prepared, Error> {
        let columns: Vec<ArrayRef> =
            targets.iter().map(|target| in_type_of(target, arrays, rows)).collect::<Result<_, _>>()?;
        let keys = keys(&columns)?;
        let bytes: usize = columns.iter().map(slice_bytes).sum();
        Ok(Prepared { columns, keys, row_bytes: bytes / rows.max(1), states })
    }

    fn key(&self, row: usize) -> &[u8] {
        self.keys.row(row).data()
    }
}

fn in_type_of(target: &Target, arrays: &Arrays, rows: usize) -> Result<ArrayRef, Error> {
    match target.id.and_then(|id| arrays.get(id)).and_then(Option::as_ref) {
        Some((data_type, array)) if target.locked => Ok(lock::convert(array, data_type, &target.data_type)?),
        Some((data_type, array)) => Ok(widen::cast(array, data_type, &target.data_type)?),
        None => Ok(new_null_array(&target.data_type.to_arrow(), rows)),
    }
}

/// The bytes an array's own values take, not those of the buffer it may share: what a copy of them would take.
pub(super) fn slice_bytes(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}

/// Which columns update rows carry, as ascending column ids; equal sets have one number.
#[derive(Default)]
pub(super) struct Sets {
    lists: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
}

impl Sets {
    pub(super) fn number(&mut self, ids: &[u32]) -> u32 {
        if let Some(number) = self.numbers.get(ids) {
            return *number;
        }
        let number = u32::try_from(self.lists.len()).expect("sets are bounded by rows");
        self.lists.push(ids.to_vec());
        self.numbers.insert(ids.to_vec(), number);
        number
    }

    pub(super) fn ids(&self, number: u32) -> &[u32] {
        self.lists.get(number as usize).map_or(&[], Vec::as_slice)
    }

    fn contains(&self, number: u32, id: usize) -> bool {
        u32::try_from(id).is_ok_and(|id| self.ids(number).binary_search(&id).is_ok())
    }

    /// Every column that one of the patches carries.
    pub(super) fn union(&mut self, patches: &[PatchRef]) -> u32 {
        match patches {
            [] => self.number(&[]),
            [only] => only.set,
            [first, rest @ ..] if rest.iter().all(|patch| patch.set == first.set) => first.set,
            _ => {
                let mut ids: Vec<u32> = patches.iter().flat_map(|patch| self.ids(patch.set)).copied().collect();
                ids.sort_unstable();
                ids.dedup();
                self.number(&ids)
            }
        }
    }
}

/// The folded state of one key.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    pub(super) kind: Kind,
    pub(super) base: RowRef,
    patches: Range<usize>,
}

/// Folded keys in key order.
#[derive(Default)]
pub(super) struct Block {
    pub(super) keys: Vec<Folded>,
    patches: Vec<PatchRef>,
    bytes: usize,
}

impl Block {
    pub(super) fn patches(&self, folded: &Folded) -> &[PatchRef] {
        self.patches.get(folded.patches.clone()).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.patches.clear();
        self.bytes = 0;
    }
}

/// Some keys of a block, and where their rows lie.
pub(super) struct Picked<'b> {
    block: &'b Block,
    keys: &'b [usize],
    place: Place,
}

enum Place {
    /// One after the other in one source, as they come in a full load by key: nothing needs to be copied.
    Slice { source: usize, start: usize },
    /// Whole rows, wherever they are.
    Rows(Vec<(usize, usize)>),
    /// Some have patches: each column has rows of its own.
    Patched,
}

impl<'b> Picked<'b> {
    pub(super) fn new(block: &'b Block, keys: &'b [usize]) -> Picked<'b> {
        let bases = || keys.iter().map(|key| block.keys[*key].base);
        let first = bases().next();
        let follows = |(offset, row): (usize, RowRef)| {
            first.is_some_and(|first| row.source == first.source && row.row as usize == first.row as usize + offset)
        };
        let place = if keys.iter().any(|key| !block.keys[*key].patches.is_empty()) {
            Place::Patched
        } else if let Some(first) = first.filter(|_| bases().enumerate().all(follows)) {
            Place::Slice { source: first.source as usize, start: first.row as usize }
        } else {
            Place::Rows(bases().map(place_of).collect())
        };
        Picked { block, keys, place }
    }

    /// Gathers one column: of each key the newest row that carries the column.
    pub(super) fn column(
        &self,
        prepared: &[Arc<Prepared>],
        (target, id): (usize, Option<usize>),
        sets: &Sets,
    ) -> Result<ArrayRef, Error> {
        let arrays = || prepared.iter().map(|source| source.columns[target].as_ref()).collect::<Vec<&dyn Array>>();
        match &self.place {
            Place::Slice { source, start } => Ok(prepared[*source].columns[target].slice(*start, self.keys.len())),
            Place::Rows(rows) => Ok(compute::interleave(&arrays(), rows)?),
            Place::Patched => {
                let carries = |patch: &&PatchRef| id.is_some_and(|id| sets.contains(patch.set, id));
                let newest = |folded: &Folded| {
                    self.block.patches(folded).iter().rev().find(carries).map_or(folded.base, |patch| patch.row)
                };
                let rows: Vec<_> = self.keys.iter().map(|key| place_of(newest(&self.block.keys[*key]))).collect();
                Ok(compute::interleave(&arrays(), &rows)?)
            }
        }
    }
}

fn place_of(row: RowRef) -> (usize, usize) {
    (row.source as usize, row.row as usize)
}

/// How large a block may become before it is handed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockLimits {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// Reads a run chunk by chunk, in the types of the targets.
pub(super) trait Chunks {
    fn next(&mut self) -> Result<Option<Prepared>, Error>;
}

enum Cursor<'a> {
    Memory { order: Vec<u32>, at: usize },
    Run { chunks: Box<dyn Chunks + 'a>, source: usize, at: usize },
}

/// The smallest key of a cursor. Equal keys come in the order of the cursors, which is that of time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: Vec<u8>,
    cursor: usize,
}

/// The merge of the spilled runs with what is in memory.
pub(super) struct Merge<'a> {
    /// First the sources of the memory, then chunks of runs.
    prepared: Vec<Arc<Prepared>>,
    memory_sources: usize,
    states: States,
    cursors: Vec<Cursor<'a>>,
    heads: BinaryHeap<Reverse<Head>>,
    limits: BlockLimits,
}

type Handler<'h> = dyn FnMut(&[Arc<Prepared>], &Block) -> Result<(), Error> + 'h;

impl<'a> Merge<'a> {
    /// `runs` from oldest to newest; the memory is newer than all of them.
    pub(super) fn new(
        memory: Vec<Prepared>,
        states: States,
        runs: Vec<Box<dyn Chunks + 'a>>,
        limits: BlockLimits,
    ) -> Merge<'a> {
        let prepared: Vec<Arc<Prepared>> = memory.into_iter().map(Arc::new).collect();
        let order = if states.ascend() { (0..number(states.len())).collect() } else { sorted(&prepared, &states) };
        let runs = runs.into_iter().map(|chunks| Cursor::Run { chunks, source: usize::MAX, at: 0 });
        let cursors = runs.chain([Cursor::Memory { order, at: 0 }]).collect();
        let memory_sources = prepared.len();
        Merge { prepared, memory_sources, states, cursors, heads: BinaryHeap::new(), limits }
    }

    /// Hands every key to `handle`, once and in order.
    pub(super) fn run(mut self, handle: &mut Handler<'_>) -> Result<(), Error> {
        if self.cursors.len() == 1 && self.states.ascend() {
            return self.run_ascending(handle);
        }
        for cursor in 0..self.cursors.len() {
            let mut key = Vec::new();
            if self.load(cursor, &mut key)? {
                self.heads.push(Reverse(Head { key, cursor }));
            }
        }
        let mut block = Block::default();
        let mut open: Vec<u8> = Vec::new();
        let mut has_open = false;
        while let Some(Reverse(head)) = self.heads.peek() {
            let cursor = head.cursor;
            let same = has_open && head.key == open;
            if !same {
                open.clone_from(&head.key);
                has_open = true;
                if block.keys.len() >= self.limits.rows || block.bytes >= self.limits.bytes {
                    handle(&self.prepared, &block)?;
                    block.clear();
                    self.forget_old_chunks();
                }
            }
            self.take(cursor, same, &mut block);
            self.advance(cursor)?;
        }
        if !block.keys.is_empty() {
            handle(&self.prepared, &block)?;
        }
        Ok(())
    }

    /// The memory alone, whose keys lie in order: blocks end where sources do, so that their rows are slices.
    fn run_ascending(self, handle: &mut Handler<'_>) -> Result<(), Error> {
        let mut block = Block::default();
        for entry in self.states.entries() {
            let other_source = block.keys.last().is_some_and(|last| last.base.source != entry.base.source);
            if other_source || block.keys.len() >= self.limits.rows || block.bytes >= self.limits.bytes {
                handle(&self.prepared, &block)?;
                block.clear();
            }
            let start = block.patches.len();
            block.patches.extend(self.states.patches(entry));
            block.keys.push(Folded { kind: entry.kind, base: entry.base, patches: start..block.patches.len() });
            let row_bytes = self.prepared.get(entry.base.source as usize).map_or(0, |source| source.row_bytes);
            block.bytes += row_bytes * (1 + block.patches.len() - start);
        }
        if !block.keys.is_empty() {
            handle(&self.prepared, &block)?;
        }
        Ok(())
    }

    /// Folds the cursor's row into the block's last key, or begins a new one.
    fn take(&mut self, cursor: usize, same_key: bool, block: &mut Block) {
        match &self.cursors[cursor] {
            Cursor::Memory { order, at } => {
                let entry = self.states.entries()[order[*at] as usize];
                let kind = entry.kind;
                let patches: Vec<PatchRef> = self.states.patches(&entry).collect();
                self.add(block, same_key, kind, entry.base, &patches);
            }
            Cursor::Run { source, at, .. } => {
                let (kind, set) = self.prepared[*source].states[*at];
                let row = RowRef { source: number(*source), row: number(*at) };
                let patch = [PatchRef { row, set }];
                self.add(block, same_key, kind, row, if kind.has_patch() { &patch } else { &[] });
            }
        }
    }

    fn add(&self, block: &mut Block, same_key: bool, kind: Kind, base: RowRef, patches: &[PatchRef]) {
        if let Some(last) = block.keys.last_mut().filter(|_| same_key) {
            let (after, effect) = fold::compose(last.kind, kind);
            last.kind = after;
            match effect {
                Effect::Ignore => return,
                Effect::Patch => {}
                Effect::Replace => {
                    last.base = base;
                    block.patches.truncate(last.patches.start);
                }
            }
            block.patches.extend_from_slice(patches);
            last.patches.end = block.patches.len();
        } else {
            let start = block.patches.len();
            block.patches.extend_from_slice(patches);
            block.keys.push(Folded { kind, base, patches: start..block.patches.len() });
        }
        let row_bytes = self.prepared.get(base.source as usize).map_or(0, |source| source.row_bytes);
        block.bytes += row_bytes * (1 + patches.len());
    }

    fn advance(&mut self, cursor: usize) -> Result<(), Error> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(()) };
        let mut key = std::mem::take(&mut head.0.key);
        match &mut self.cursors[cursor] {
            Cursor::Memory { at, .. } | Cursor::Run { at, .. } => *at += 1,
        }
        let loaded = load(&mut self.cursors[cursor], &mut self.prepared, &self.states, &mut key)?;
        if loaded {
            head.0.key = key;
        } else {
            PeekMut::pop(head);
        }
        Ok(())
    }

    fn load(&mut self, cursor: usize, key: &mut Vec<u8>) -> Result<bool, Error> {
        load(&mut self.cursors[cursor], &mut self.prepared, &self.states, key)
    }

    /// Between two blocks nothing refers to a chunk but the cursor that reads it.
    fn forget_old_chunks(&mut self) {
        let mut kept = self.prepared.split_off(self.memory_sources);
        for cursor in &mut self.cursors {
            if let Cursor::Run { source, .. } = cursor
                && let Some(chunk) = source.checked_sub(self.memory_sources).and_then(|index| kept.get(index))
            {
                self.prepared.push(Arc::clone(chunk));
                *source = self.prepared.len() - 1;
            }
        }
        kept.clear();
    }
}

/// Writes the key of the cursor's row, reading the next chunk when needed; false at the end.
fn load(
    cursor: &mut Cursor<'_>,
    prepared: &mut Vec<Arc<Prepared>>,
    states: &States,
    key: &mut Vec<u8>,
) -> Result<bool, Error> {
    key.clear();
    match cursor {
        Cursor::Memory { order, at } => {
            let Some(entry) = order.get(*at).and_then(|index| states.entries().get(*index as usize)) else {
                return Ok(false);
            };
            key.extend_from_slice(key_of(prepared, entry));
        }
        Cursor::Run { chunks, source, at } => {
            while prepared.get(*source).is_none_or(|chunk| *at >= chunk.keys.num_rows()) {
                let Some(chunk) = chunks.next()? else {
                    *source = usize::MAX;
                    return Ok(false);
                };
                prepared.push(Arc::new(chunk));
                (*source, *at) = (prepared.len() - 1, 0);
            }
            key.extend_from_slice(prepared[*source].key(*at));
        }
    }
    Ok(true)
}

fn key_of<'p>(prepared: &'p [Arc<Prepared>], entry: &Entry) -> &'p [u8] {
    prepared[entry.base.source as usize].key(entry.base.row as usize)
}

/// Entry numbers in key order. The first bytes of each key are copied beside its number, which spares most look-ups.
fn sorted(prepared: &[Arc<Prepared>], states: &States) -> Vec<u32> {
    let key = |index: u32| key_of(prepared, &states.entries()[index as usize]);
    let mut order: Vec<(u128, u32)> = (0..number(states.len())).map(|index| (prefix(key(index)), index)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
    order.into_iter().map(|(_, index)| index).collect()
}

fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(bytes)
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("States::apply refuses what u32 cannot number")
}

/// An operation of a batch or of a chunk as an item of the fold.
pub(super) fn item((kind, set): (Kind, u32), source: usize, row: usize) -> Item {
    Item { kind, row: RowRef { source: number(source), row: number(row) }, set }
}
