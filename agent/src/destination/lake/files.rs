//! Reading and writing the Parquet files of a table: batches whose columns are those of a given schema, whatever the
//! file holds. A column that the file lacks is null; a narrower type is cast along the lattice. CPU only, no IO.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, SchemaRef};
use bytes::Bytes;
use inshore_columnar::schema::with_field_ids;
use inshore_columnar::{Column, TableName, widen};
#[cfg(test)]
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

use crate::batch::properties;
use crate::destination::error::Error;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8 * 1024;
/// Rows of a row group in a rewritten file.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Bytes of a row group in a rewritten file: what the writer holds back in memory.
const ROW_GROUP_BYTES: usize = 16 * 1024 * 1024;

/// Reads a file as batches of the columns `to`.
#[derive(Debug)]
pub(crate) struct FileReader<'a> {
    table: &'a TableName,
    reader: ParquetRecordBatchReader,
    columns: Vec<(&'a Column, Option<usize>, &'a Column)>,
}

impl<'a> FileReader<'a> {
    /// `from` are the logical columns of the file's table version, `to` the ones wanted.
    #[cfg(test)]
    pub(crate) fn open(
        table: &'a TableName,
        file: Bytes,
        from: &'a [Column],
        to: &'a [Column],
    ) -> Result<FileReader<'a>, Error> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = ArrowReaderMetadata::load(&file, options).map_err(|error| Error::parquet(table, error))?;
        FileReader::over(table, ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer), (from, to))
    }

    /// The same of one row group.
    pub(crate) fn of_group<T: ChunkReader + 'static>(
        table: &'a TableName,
        file: T,
        footer: &ArrowReaderMetadata,
        group: usize,
        columns: (&'a [Column], &'a [Column]),
    ) -> Result<FileReader<'a>, Error> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.clone());
        FileReader::over(table, builder.with_row_groups(vec![group]), columns)
    }

    fn over<T: ChunkReader + 'static>(
        table: &'a TableName,
        builder: ParquetRecordBatchReaderBuilder<T>,
        (from, to): (&'a [Column], &'a [Column]),
    ) -> Result<FileReader<'a>, Error> {
        let in_file = Arc::clone(builder.schema());
        let position = |name: &str| in_file.fields().iter().position(|field| field.name() == name);
        let mut roots: Vec<usize> = to.iter().filter_map(|column| position(&column.name)).collect();
        roots.sort_unstable();
        let columns = to
            .iter()
            .map(|column| {
                let projected = position(&column.name).and_then(|root| roots.binary_search(&root).ok());
                let before = from.iter().find(|known| known.name == column.name).unwrap_or(column);
                (before, projected, column)
            })
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        let reader = builder.build().map_err(|error| Error::parquet(table, error))?;
        Ok(FileReader { table, reader, columns })
    }

    fn aligned(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Error> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::parquet(self.table, error);
        self.columns
            .iter()
            .map(|(before, projected, column)| {
                let Some(position) = projected else {
                    return Ok(new_null_array(&column.data_type.to_arrow(), batch.num_rows()));
                };
                let array = batch.column(*position);
                let expected = before.data_type.to_arrow();
                let array = if array.data_type() == &expected {
                    Arc::clone(array)
                } else {
                    arrow::compute::cast(array, &expected).map_err(|error| failed(error.into()))?
                };
                if before.data_type == column.data_type {
                    return Ok(array);
                }
                widen::cast(&array, &before.data_type, &column.data_type).map_err(|error| failed(error.into()))
            })
            .collect()
    }
}

impl Iterator for FileReader<'_> {
    /// The wanted columns, and the count of rows.
    type Item = Result<(Vec<ArrayRef>, usize), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let batch = batch.map_err(|error| Error::parquet(self.table, error));
        Some(batch.and_then(|batch| Ok((self.aligned(&batch)?, batch.num_rows()))))
    }
}

/// Writes batches into one file, as readers of lakes like it: zstd, statistics, moderate row groups. What is ready can be
/// taken away at any time, so that no file is in memory as a whole.
pub(crate) struct FileWriter {
    table: TableName,
    schema: SchemaRef,
    key: Vec<String>,
    writer: Option<ArrowWriter<Vec<u8>>>,
    pub(crate) rows: u64,
}

impl FileWriter {
    pub(crate) fn new(table: &TableName, columns: &[Column], key: &[String]) -> FileWriter {
        let fields: Vec<Field> =
            columns.iter().map(|column| Field::new(&column.name, column.data_type.to_arrow(), true)).collect();
        let schema = Arc::new(with_field_ids(fields));
        FileWriter { table: table.clone(), schema, key: key.to_vec(), writer: None, rows: 0 }
    }

    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| Error::parquet(&self.table, error);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| failed(Box::new(error)))?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(open) => open,
            closed => {
                let properties = properties(&batch, &self.key, ROW_GROUP_ROWS)
                    .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties));
                closed.insert(writer.map_err(|error| failed(Box::new(error)))?)
            }
        };
        self.rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(|error| failed(Box::new(error)))
    }

    /// The bytes that are ready. They are the file's next ones.
    pub(crate) fn take(&mut self) -> Bytes {
        self.writer.as_mut().map(|writer| std::mem::take(writer.inner_mut())).unwrap_or_default().into()
    }

    /// The footer and the last bytes; `None` when nothing was written.
    pub(crate) fn finish(mut self) -> Result<Option<(ParquetMetaData, Bytes)>, Error> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        let footer = writer.finish().map_err(|error| Error::parquet(&self.table, error))?;
        let rest = self.take();
        Ok(Some((footer, rest)))
    }
}
