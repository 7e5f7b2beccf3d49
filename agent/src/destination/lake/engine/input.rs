//! A Parquet file of a lake that is read in parts: its footer, then of each row group the columns that are wanted. At most a
//! few row groups are in memory, however large the file.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use inshore_columnar::{Column, TableName};
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use crate::destination::error::Error;
use crate::destination::lake::files::FileReader;
use crate::destination::store::Store;

/// The end of a file that is read first: it holds nearly every footer.
const TAIL_BYTES: u64 = 64 * 1024;

/// An open file.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    path: Path,
    bytes: u64,
    footer: ArrowReaderMetadata,
}

/// Some columns of one row group, as they are stored.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    bytes: u64,
    pieces: Arc<Vec<(u64, Bytes)>>,
    group: usize,
}

impl Input {
    /// Reads the footer; `None` when the file is absent.
    pub(crate) async fn open(store: &Store, table: &TableName, path: Path, bytes: u64) -> Result<Option<Input>, Error> {
        let mut from = bytes.saturating_sub(TAIL_BYTES);
        let mut reader = ParquetMetaDataReader::new();
        loop {
            let Some(tail) = store.ranges(&path, std::slice::from_ref(&(from..bytes))).await? else { return Ok(None) };
            let tail = tail.into_iter().next().unwrap_or_default();
            match reader.try_parse_sized(&tail, bytes) {
                Ok(()) => break,
                Err(ParquetError::NeedMoreData(needed)) if (needed as u64) > bytes - from && from > 0 => {
                    from = bytes.saturating_sub(needed as u64);
                }
                Err(error) => return Err(Error::parquet(table, error)),
            }
        }
        let failed = |error| Error::parquet(table, error);
        let metadata = Arc::new(reader.finish().map_err(failed)?);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = ArrowReaderMetadata::try_new(metadata, options).map_err(failed)?;
        Ok(Some(Input { path, bytes, footer }))
    }

    pub(crate) fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.footer.metadata()
    }

    pub(crate) fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata().row_groups()
    }

    /// The number of a row group's first row.
    pub(crate) fn first_row(&self, group: usize) -> u64 {
        self.groups().iter().take(group).map(|group| group.num_rows().unsigned_abs()).sum()
    }

    /// Fetches the columns of a row group that are among `wanted`.
    pub(crate) async fn fetch(
        &self,
        store: &Store,
        table: &TableName,
        group: usize,
        wanted: &[Column],
    ) -> Result<Part, Error> {
        let ranges = self.ranges(group, wanted);
        let missing = || Error::FileMissing { table: table.clone(), path: self.path.to_string() };
        let pieces = store.ranges(&self.path, &ranges).await?.ok_or_else(missing)?;
        let pieces = ranges.into_iter().map(|range| range.start).zip(pieces).collect();
        Ok(Part { bytes: self.bytes, pieces: Arc::new(pieces), group })
    }

    /// Decodes what was fetched as batches of the columns `to`; `from` are the logical columns of the file's version.
    pub(crate) fn read<'a>(
        &self,
        table: &'a TableName,
        part: Part,
        from: &'a [Column],
        to: &'a [Column],
    ) -> Result<FileReader<'a>, Error> {
        let group = part.group;
        FileReader::of_group(table, part, &self.footer, group, (from, to))
    }

    fn ranges(&self, group: usize, wanted: &[Column]) -> Vec<Range<u64>> {
        let fields = self.footer.schema().fields();
        let is_wanted = |position: &usize| wanted.iter().any(|column| column.name == *fields[*position].name());
        let columns = self.groups()[group].columns();
        let range = |position: usize| {
            let (start, length) = columns.get(position)?.byte_range();
            Some(start..start + length)
        };
        (0..fields.len()).filter(is_wanted).filter_map(range).collect()
    }
}

impl Part {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let holds = |piece: &&(u64, Bytes)| (piece.0..piece.0 + piece.1.len() as u64).contains(&start);
        let piece = self.pieces.iter().find(holds);
        let (at, bytes) = piece.ok_or_else(|| ParquetError::EOF(format!("byte {start} was not fetched")))?;
        let skip = usize::try_from(start - at).map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(bytes.slice(skip..))
    }
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Part {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} were not fetched")));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}
