//! The steps of one sealed table while their files are written: folded keys in, sorted rows out, by kind of step.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Field;
use inshore_columnar::TableSchema;

use super::merge::{Block, Picked, Prepared, Sets, Target};
use super::parquet::{FileStream, Files, PatchStreams, delete_schema};
use super::{Error, SealedStep, StepOp};

/// The steps of one table while their files are written.
pub(super) struct StepWriter<'a> {
    schema: &'a TableSchema,
    targets: &'a [Target],
    key: &'a [usize],
    upserts: FileStream,
    updates: PatchStreams,
    deletes: FileStream,
}

impl<'a> StepWriter<'a> {
    pub(super) fn new(
        schema: &'a TableSchema,
        targets: &'a [Target],
        key: &'a [usize],
        files: &Files<'_>,
    ) -> StepWriter<'a> {
        let full = schema.with_system_columns();
        let fields: Vec<Field> = key.iter().map(|index| full.field(*index).clone()).collect();
        let names = schema.effective_key();
        StepWriter {
            schema,
            targets,
            key,
            deletes: FileStream::new(&schema.name, delete_schema(&fields), &names, files),
            upserts: FileStream::new(&schema.name, full, &names, files),
            updates: PatchStreams::new(&schema.name, fields),
        }
    }

    pub(super) fn write(
        &mut self,
        prepared: &[Arc<Prepared>],
        block: &Block,
        sets: &mut Sets,
        files: &mut Files<'_>,
    ) -> Result<(), Error> {
        let mut full = Vec::new();
        let mut deleted = Vec::new();
        let mut patched = PatchGroups::default();
        for (index, folded) in block.keys.iter().enumerate() {
            if folded.kind.is_full() {
                full.push(index);
                continue;
            }
            if folded.kind.has_patch() {
                let set = sets.union(block.patches(folded));
                patched.add(index, set, || self.positions(sets.ids(set)));
            }
            if folded.kind.is_deleted() {
                deleted.push(index);
            }
        }
        let gather = Gather { prepared, targets: self.targets, block, sets };
        if !full.is_empty() {
            let mut arrays = gather.columns(0..self.targets.len(), &full)?;
            let gone = BooleanBuffer::collect_bool(full.len(), |row| block.keys[full[row]].kind.is_deleted());
            arrays.push(Arc::new(BooleanArray::new(gone, None)));
            arrays.push(files.synced(full.len()));
            self.upserts.write(&RecordBatch::try_new(self.upserts.schema(), arrays)?, files)?;
        }
        for (columns, keys) in patched.groups {
            let wanted = self.key.iter().chain(&columns).copied();
            let mut arrays = gather.columns(wanted, &keys)?;
            arrays.push(files.synced(keys.len()));
            let fields: Vec<Field> = columns.iter().map(|index| self.field(*index)).collect();
            self.updates.write(&columns, &fields, arrays, files)?;
        }
        if !deleted.is_empty() {
            let mut arrays = gather.columns(self.key.iter().copied(), &deleted)?;
            arrays.push(files.synced(deleted.len()));
            self.deletes.write(&RecordBatch::try_new(self.deletes.schema(), arrays)?, files)?;
        }
        Ok(())
    }

    /// The targets of a set. A column that nobody gave a type has no value to lose, and is left out.
    fn positions(&self, ids: &[u32]) -> Vec<usize> {
        let wanted = |target: &Target| target.id.is_some_and(|id| ids.iter().any(|wanted| *wanted as usize == id));
        (0..self.targets.len()).filter(|index| wanted(&self.targets[*index])).collect()
    }

    fn column_name(&self, target: usize) -> &str {
        let user = target - usize::from(self.schema.is_keyless());
        &self.schema.columns[user].name
    }

    fn field(&self, target: usize) -> Field {
        Field::new(self.column_name(target), self.targets[target].data_type.to_arrow(), true)
    }

    pub(super) fn finish(self, files: &mut Files<'_>) -> Result<Vec<SealedStep>, Error> {
        let full = self.schema.with_system_columns();
        let names: Vec<String> = (0..self.targets.len()).map(|index| full.field(index).name().clone()).collect();
        let mut steps = Vec::new();
        let mut step = |op, columns, files: Vec<usize>| {
            if !files.is_empty() {
                steps.push(SealedStep { op, columns, files });
            }
        };
        step(StepOp::Upsert, None, self.upserts.finish(files)?);
        for update in self.updates.finish(files)? {
            let columns = update.columns.iter().filter_map(|index| names.get(*index)).cloned().collect();
            step(StepOp::Update, Some(columns), update.files);
        }
        step(StepOp::Delete, None, self.deletes.finish(files)?);
        Ok(steps)
    }
}

/// The patches of a block by the columns they carry: two sets may come down to the same ones.
#[derive(Default)]
struct PatchGroups {
    /// Positions of the columns, and keys of the block in order.
    groups: Vec<(Vec<usize>, Vec<usize>)>,
    by_set: HashMap<u32, usize>,
}

impl PatchGroups {
    fn add(&mut self, key: usize, set: u32, positions: impl FnOnce() -> Vec<usize>) {
        let group = *self.by_set.entry(set).or_insert_with(|| {
            let positions = positions();
            let known = self.groups.iter().position(|(columns, _)| *columns == positions);
            known.unwrap_or_else(|| {
                self.groups.push((positions, Vec::new()));
                self.groups.len() - 1
            })
        });
        self.groups[group].1.push(key);
    }
}

/// Columns of some keys of a block.
struct Gather<'a> {
    prepared: &'a [Arc<Prepared>],
    targets: &'a [Target],
    block: &'a Block,
    sets: &'a Sets,
}

impl Gather<'_> {
    fn columns(&self, targets: impl IntoIterator<Item = usize>, keys: &[usize]) -> Result<Vec<ArrayRef>, Error> {
        let picked = Picked::new(self.block, keys);
        let gather = |target: usize| picked.column(self.prepared, (target, self.targets[target].id), self.sets);
        targets.into_iter().map(gather).collect()
    }
}
