//! Parquet files: zstd-1, row groups with statistics, encodings by what the first rows look like. A finished file goes to the sink at
//! once, so at most one file per open stream is in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use inshore_columnar::DataType;
use inshore_columnar::schema::{SYNCED_COLUMN, TableName};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::{BatchSettings, Error, SealedFile};

/// A writer holds a dictionary of some 70 KiB for every column, filled or not: wider tables do without.
const DICTIONARY_COLUMNS_MAX: usize = 500;
/// A writer and a reader each hold contexts of zstd of some 200 KiB for every column; a file of so many columns has a few
/// KiB of each. Wider tables do without.
const COMPRESSED_COLUMNS_MAX: usize = 2_000;
/// As many of a file's first rows say how its columns are written.
const SAMPLE_ROWS: usize = 2048;
/// Fewer say nothing: such a file has no dictionaries, and no time is spent on asking.
const SAMPLE_ROWS_MIN: usize = 32;

/// The one numbering of a seal's files, and where they go.
pub(super) struct Files<'a> {
    sink: &'a mut dyn FnMut(SealedFile) -> Result<(), Error>,
    next: usize,
    synced_at_ms: i64,
    file_bytes_target: usize,
    row_group_rows: usize,
    /// Update rows that wait for their file, over all column sets of a table.
    patch_bytes_max: usize,
}

impl<'a> Files<'a> {
    pub(super) fn new(
        settings: &BatchSettings,
        synced_at_ms: i64,
        sink: &'a mut dyn FnMut(SealedFile) -> Result<(), Error>,
    ) -> Files<'a> {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Files {
            sink,
            next: 0,
            synced_at_ms,
            file_bytes_target: bytes(settings.file_bytes_target),
            row_group_rows: settings.row_group_rows.max(1),
            patch_bytes_max: bytes(settings.memory_bytes_max / 8),
        }
    }

    /// The `_fivetran_synced` of some rows.
    pub(super) fn synced(&self, rows: usize) -> ArrayRef {
        let micros = self.synced_at_ms.saturating_mul(1000);
        Arc::new(TimestampMicrosecondArray::from_value(micros, rows).with_timezone("UTC"))
    }

    fn hand_over(&mut self, table: &TableName, bytes: Vec<u8>, rows: u64) -> Result<usize, Error> {
        let index = self.next;
        self.next += 1;
        let sha256 = Sha256::digest(&bytes).into();
        (self.sink)(SealedFile { table: table.clone(), index, bytes: Bytes::from(bytes), rows, sha256 })?;
        Ok(index)
    }
}

/// The files of one step, written one after the other.
pub(super) struct FileStream {
    table: TableName,
    schema: SchemaRef,
    key: Vec<String>,
    row_group_rows: usize,
    writer: Option<(ArrowWriter<Vec<u8>>, u64)>,
    files: Vec<usize>,
}

impl FileStream {
    /// `key` names the key columns of the schema.
    pub(super) fn new(table: &TableName, schema: SchemaRef, key: &[String], files: &Files<'_>) -> FileStream {
        let row_group_rows = files.row_group_rows;
        FileStream { table: table.clone(), schema, key: key.to_vec(), row_group_rows, writer: None, files: Vec::new() }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(super) fn write(&mut self, rows: &RecordBatch, files: &mut Files<'_>) -> Result<(), Error> {
        let (writer, count) = match &mut self.writer {
            Some(open) => open,
            closed => {
                let properties = properties(rows, &self.key, self.row_group_rows).build();
                closed.insert((ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))?, 0))
            }
        };
        writer.write(rows)?;
        *count += rows.num_rows() as u64;
        if writer.bytes_written() + writer.in_progress_size() >= files.file_bytes_target {
            self.close(files)?;
        }
        Ok(())
    }

    fn close(&mut self, files: &mut Files<'_>) -> Result<(), Error> {
        if let Some((writer, rows)) = self.writer.take() {
            self.files.push(files.hand_over(&self.table, writer.into_inner()?, rows)?);
        }
        Ok(())
    }

    /// The indices of the files.
    pub(super) fn finish(mut self, files: &mut Files<'_>) -> Result<Vec<usize>, Error> {
        self.close(files)?;
        Ok(self.files)
    }
}

/// How the pages of a file are compressed.
fn compression(columns: usize) -> Compression {
    if columns > COMPRESSED_COLUMNS_MAX {
        return Compression::UNCOMPRESSED;
    }
    Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd"))
}

/// How the columns of a file are written, judged by its first rows: values that rarely repeat pay for no dictionary, and
/// whole numbers and moments among them are stored as differences.
pub(crate) fn properties(first: &RecordBatch, key: &[String], row_group_rows: usize) -> WriterPropertiesBuilder {
    let dictionaries = first.num_columns() <= DICTIONARY_COLUMNS_MAX;
    let mut properties = WriterProperties::builder()
        .set_compression(compression(first.num_columns()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(dictionaries)
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_created_by("inshore".to_owned());
    for (field, values) in first.schema_ref().fields().iter().zip(first.columns()) {
        let is_key = key.len() == 1 && key.contains(field.name());
        if dictionaries && !is_key && repeats(values) {
            continue;
        }
        let column = ColumnPath::from(vec![field.name().clone()]);
        properties = properties.set_column_dictionary_enabled(column.clone(), false);
        if field.data_type().is_integer() || field.data_type().is_temporal() {
            properties = properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties
}

/// Whether a sample has enough equal values for a dictionary.
fn repeats(values: &ArrayRef) -> bool {
    if values.len() < SAMPLE_ROWS_MIN {
        return false;
    }
    let sample = values.slice(0, values.len().min(SAMPLE_ROWS));
    let Ok(converter) = RowConverter::new(vec![SortField::new(sample.data_type().clone())]) else { return true };
    let Ok(rows) = converter.convert_columns(&[Arc::clone(&sample)]) else { return true };
    let distinct: HashSet<&[u8]> = rows.iter().map(|row| row.data()).collect();
    distinct.len() * 4 <= sample.len() * 3
}

/// The update files of a table: one stream per column set, fed from memory when there is enough or too much, since an
/// open file per set would not be bounded.
pub(super) struct PatchStreams {
    table: TableName,
    key: Vec<Field>,
    /// By the merged schema's column positions.
    waiting: BTreeMap<Vec<usize>, Patches>,
    bytes: usize,
}

/// The files of one column set.
pub(super) struct PatchFiles {
    pub(super) columns: Vec<usize>,
    pub(super) files: Vec<usize>,
}

struct Patches {
    stream: FileStream,
    rows: Vec<RecordBatch>,
    bytes: usize,
}

impl PatchStreams {
    pub(super) fn new(table: &TableName, key: Vec<Field>) -> PatchStreams {
        PatchStreams { table: table.clone(), key, waiting: BTreeMap::new(), bytes: 0 }
    }

    /// `arrays` are the key columns, the set's columns and `_fivetran_synced`.
    pub(super) fn write(
        &mut self,
        set: &[usize],
        fields: &[Field],
        arrays: Vec<ArrayRef>,
        files: &mut Files<'_>,
    ) -> Result<(), Error> {
        let (table, key) = (&self.table, &self.key);
        let patches = self.waiting.entry(set.to_vec()).or_insert_with(|| {
            let schema = patch_schema(key, fields);
            let names: Vec<String> = key.iter().map(|field| field.name().clone()).collect();
            Patches { stream: FileStream::new(table, schema, &names, files), rows: Vec::new(), bytes: 0 }
        });
        let rows = RecordBatch::try_new(patches.stream.schema(), arrays)?;
        let bytes = rows.columns().iter().map(super::merge::slice_bytes).sum::<usize>();
        patches.rows.push(rows);
        patches.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > files.patch_bytes_max {
            let largest = self.waiting.values_mut().max_by_key(|patches| patches.bytes);
            let Some(largest) = largest.filter(|patches| patches.bytes > 0) else { break };
            self.bytes -= largest.bytes;
            largest.flush(files)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, files: &mut Files<'_>) -> Result<Vec<PatchFiles>, Error> {
        self.waiting
            .into_iter()
            .map(|(set, mut patches)| {
                patches.flush(files)?;
                Ok(PatchFiles { columns: set, files: patches.stream.finish(files)? })
            })
            .collect()
    }
}

impl Patches {
    fn flush(&mut self, files: &mut Files<'_>) -> Result<(), Error> {
        self.bytes = 0;
        for rows in std::mem::take(&mut self.rows) {
            self.stream.write(&rows, files)?;
        }
        self.stream.close(files)
    }
}

fn patch_schema(key: &[Field], columns: &[Field]) -> SchemaRef {
    let synced = Field::new(SYNCED_COLUMN, DataType::UtcDatetime.to_arrow(), false);
    Arc::new(Schema::new(key.iter().chain(columns).cloned().chain([synced]).collect::<Vec<_>>()))
}

/// Key columns and `_fivetran_synced`.
pub(super) fn delete_schema(key: &[Field]) -> SchemaRef {
    patch_schema(key, &[])
}
