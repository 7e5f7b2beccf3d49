//! Rows that go without their file: position delete files, and the new places of rows that change. Only where every reader
//! of the table's formats knows such marks. Marks of a file replace those that it had.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType as Arrow, Field, Int64Type, Schema};
use bytes::Bytes;
use inshore_columnar::{Column, DataType};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::replace::{Output, file_name};
use super::rewrite::{Changed, Patch};
use super::{Target, Work};
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::lake::snapshot::{Changes, DataFile, DeleteFile, Marked};

/// A file of which more is gone is written anew: readers pay for every mark.
const GONE_PERCENT_MAX: u64 = 30;
/// The columns of a delete file, with the ids that Iceberg gives them.
const PATH_FIELD: (&str, &str) = ("file_path", "2147483546");
const POSITION_FIELD: (&str, &str) = ("pos", "2147483545");

impl Work<'_> {
    /// Whether marks are cheaper than a new file, for its readers too.
    pub(super) fn is_marked(&self, target: &Target) -> bool {
        let gone = target.file.deletes.as_ref().map_or(0, |deletes| deletes.rows);
        let going = gone + (target.dropped.len() + target.patched.len()) as u64;
        let rows = target.file.stats.num_records;
        self.applier.terms.marks
            && !target.truncated
            && !self.columns.widened()
            && going.saturating_mul(100) <= rows.saturating_mul(GONE_PERCENT_MAX)
    }

    /// The rows of a file that are gone already, in order.
    pub(super) async fn gone(&self, file: &DataFile) -> Result<Vec<u32>, Error> {
        let Some(deletes) = &file.deletes else { return Ok(Vec::new()) };
        let input = self.open_at(self.snapshot.key_of(&deletes.path), deletes.bytes).await?;
        let wanted = vec![Column::new(POSITION_FIELD.0, DataType::Long)];
        let mut gone = Vec::new();
        for group in 0..input.groups().len() {
            let part = input.fetch(&self.applier.store, &self.columns.table, group, &wanted).await?;
            let (input, columns, wanted) = (input.clone(), Arc::clone(&self.columns), wanted.clone());
            let positions = blocking(move || {
                let mut positions = Vec::new();
                for batch in input.read(&columns.table, part, &wanted, &wanted)? {
                    let (arrays, _) = batch?;
                    let values = arrays.first().map(|array| array.as_primitive::<Int64Type>().values().to_vec());
                    positions.extend(values.unwrap_or_default().into_iter().filter_map(|row| u32::try_from(row).ok()));
                }
                Ok(positions)
            });
            gone.extend(positions.await?);
        }
        if gone.len() as u64 != deletes.rows {
            return Err(Error::FileDamaged { path: deletes.path.clone() });
        }
        gone.sort_unstable();
        Ok(gone)
    }

    /// Marks what these files lose; rows that change go on in a new file.
    pub(super) async fn mark(
        &self,
        wave: Vec<(usize, Target)>,
        patches: &Arc<BTreeMap<u32, Patch>>,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let Some((first_part, _)) = wave.first() else { return Ok(()) };
        let name = file_name(self, &format!("{first_part}m"));
        let mut output = None;
        for (part, target) in wave {
            let mut going = target.dropped.clone();
            if !target.patched.is_empty() {
                let moved = match output.take() {
                    Some(open) => open,
                    None => Output::begin(self, &name).await?,
                };
                let (moved, rows) = self.moved(&target, patches, moved).await?;
                output = Some(moved);
                going.extend(rows);
            }
            let before = self.gone(&target.file).await?;
            going.extend(&before);
            going.sort_unstable();
            going.dedup();
            if going.len() as u64 == target.file.stats.num_records {
                changes.removed.push(target.file);
            } else if going.len() > before.len() {
                changes.marked.push(self.delete_file(part, &target.file, going).await?);
            }
        }
        if let Some(output) = output {
            changes.added.extend(output.finish(self, name, None).await?);
        }
        Ok(())
    }

    /// Copies the rows of a file that updates and deletes change, as they are afterwards; says which they are.
    async fn moved(
        &self,
        target: &Target,
        patches: &Arc<BTreeMap<u32, Patch>>,
        mut output: Output,
    ) -> Result<(Output, Vec<u32>), Error> {
        let store = &self.applier.store;
        let input = self.open(&target.file).await?;
        let changed = Arc::new(self.changed(target, Arc::clone(patches)));
        let (mut first, mut moved) = (0, Vec::new());
        for group in 0..input.groups().len() {
            let end = first + u32::try_from(input.groups()[group].num_rows()).unwrap_or(u32::MAX);
            if target.patched.iter().any(|hit| (first..end).contains(&hit.row)) {
                let part = input.fetch(store, &self.columns.table, group, &self.columns.after).await?;
                let (mut writer, input, changed) = (output.writer, input.clone(), Arc::clone(&changed));
                let (writer, ready, rows) = blocking(move || {
                    let (columns, mut row) = (&changed.columns, first);
                    let mut moved = Vec::new();
                    for batch in input.read(&columns.table, part, &columns.before, &columns.after)? {
                        let (arrays, count) = batch?;
                        let (arrays, rows) = changed.moved(row, arrays, count)?;
                        writer.write(arrays)?;
                        moved.extend(rows);
                        row += u32::try_from(count).expect("a batch has a few thousand rows");
                    }
                    let ready = writer.take();
                    Ok((writer, ready, moved))
                })
                .await?;
                output.writer = writer;
                output.upload.write(ready).await?;
                moved.extend(rows);
            }
            first = end;
        }
        Ok((output, moved))
    }

    async fn delete_file(&self, part: usize, file: &DataFile, rows: Vec<u32>) -> Result<Marked, Error> {
        let name = file_name(self, &format!("{part}d"));
        let path = self.snapshot.deletes_folder().join(name.as_str());
        let relative = self.snapshot.relative_deletes(&name);
        let data_path = format!("{}/{}", self.applier.terms.root, self.snapshot.key_of(&file.path));
        let (count, table) = (rows.len() as u64, self.snapshot.table.clone());
        let bytes = blocking(move || encode(&data_path, &rows).map_err(|error| Error::parquet(&table, error))).await?;
        self.applier.store.put_file(&path, &bytes).await?;
        let deletes = DeleteFile { path: relative, bytes: bytes.len() as u64, rows: count };
        Ok(Marked { path: file.path.clone(), deletes })
    }
}

impl Changed {
    /// The rows that other steps than upserts change, as they are afterwards, and which they are.
    fn moved(&self, first: u32, arrays: Vec<ArrayRef>, count: usize) -> Result<(Vec<ArrayRef>, Vec<u32>), Error> {
        let (arrays, rows) = self.patch(first, arrays, count)?;
        let picked: Vec<u32> = rows.iter().map(|row| row - first).collect();
        let picked = arrow::array::UInt32Array::from(picked);
        let taken = arrays.iter().map(|array| arrow::compute::take(array, &picked, None));
        let taken: Result<Vec<ArrayRef>, _> = taken.collect();
        Ok((taken.map_err(|error| Error::parquet(&self.columns.table, error))?, rows))
    }
}

/// One data file's marks, in the order of its rows.
fn encode(data_path: &str, rows: &[u32]) -> Result<Bytes, parquet::errors::ParquetError> {
    let field = |(name, id): (&str, &str), data_type| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_owned());
        Field::new(name, data_type, false).with_metadata(HashMap::from([id]))
    };
    let fields = vec![field(PATH_FIELD, Arrow::Utf8), field(POSITION_FIELD, Arrow::Int64)];
    let schema = Arc::new(Schema::new(fields));
    let position = ColumnPath::from(POSITION_FIELD.0);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_created_by("inshore".to_owned())
        .set_column_dictionary_enabled(position.clone(), false)
        .set_column_encoding(position, Encoding::DELTA_BINARY_PACKED)
        .build();
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|_| data_path)));
    let positions: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(*row))));
    let marks = RecordBatch::try_new(Arc::clone(&schema), vec![paths, positions])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&marks)?;
    writer.into_inner().map(Bytes::from)
}
