//! The codes of a file's keys, from the index beside it or from its key columns, in row order and in parts. An index that is
//! missing or damaged costs time: the file itself is read, and a whole reading makes the index anew.

use std::sync::Arc;

use inshore_columnar::{Column, TableName};
use object_store::path::Path;
use parquet::file::statistics::Statistics;

use super::code::{Codes, Kind, signature};
use super::index::{self, Builder};
use super::input::Input;
use super::keys::Keys;
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::store::Store;

/// Blocks of an index that are fetched together: 8 MiB.
const BLOCKS_TOGETHER: usize = 8;

/// How the keys of a table's files are read.
#[derive(Debug, Clone)]
pub(crate) struct KeyColumns {
    pub(crate) table: TableName,
    pub(crate) kind: Kind,
    /// As they are after the entry.
    pub(crate) key: Arc<Vec<Column>>,
    /// The logical columns of the file's version.
    pub(crate) from: Arc<Vec<Column>>,
}

/// A file whose keys are wanted.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    /// Where its index lies; `None` for a file that has none.
    pub(crate) index: Option<Path>,
}

/// Reads the codes of one file.
pub(crate) struct Reader {
    store: Store,
    columns: KeyColumns,
    file: KeyFile,
    /// Keys outside of which nothing need be read.
    prune: Option<Arc<Keys>>,
    place: Place,
    next_row: u64,
}

enum Place {
    Index { blocks: Vec<std::ops::Range<u64>>, next: usize },
    File { input: Input, group: usize, builder: Option<Builder> },
}

/// Some codes, with the number of their first row.
pub(crate) type Part = (u32, Codes);

impl KeyColumns {
    /// Files whose keys have codes that must be computed have an index, when they are large enough.
    pub(crate) fn index_of(&self, folder: &Path, data_file: &str, rows: u64) -> Option<Path> {
        let wanted = self.kind == Kind::Hashed && rows >= index::ROWS_MIN;
        wanted.then(|| index::path_of(folder, data_file)).flatten()
    }
}

impl Reader {
    pub(crate) async fn open(
        store: &Store,
        columns: &KeyColumns,
        file: &KeyFile,
        prune: Option<Arc<Keys>>,
    ) -> Result<Reader, Error> {
        let place = match usable_index(store, columns, file).await? {
            Some(blocks) => Place::Index { blocks, next: 0 },
            None => Place::File {
                input: open_file(store, columns, file).await?,
                group: 0,
                builder: file.index.is_some().then(|| Builder::new(signature(&columns.key))),
            },
        };
        let (store, columns, file) = (store.clone(), columns.clone(), file.clone());
        Ok(Reader { store, columns, file, prune, place, next_row: 0 })
    }

    /// The next parts in row order; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Part>>, Error> {
        if let Place::Index { blocks, next } = &mut self.place {
            let path = self.file.index.as_ref().unwrap_or(&self.file.path);
            let wanted = &blocks[*next..blocks.len().min(*next + BLOCKS_TOGETHER)];
            if wanted.is_empty() {
                return Ok(None);
            }
            let read = read_blocks(&self.store, path, wanted, self.next_row).await?;
            *next += wanted.len();
            self.next_row = read.next_row;
            if read.damaged {
                forget(&self.store, path).await;
                let input = open_file(&self.store, &self.columns, &self.file).await?;
                self.place = Place::File { input, group: 0, builder: None };
            }
            if !read.parts.is_empty() {
                return Ok(Some(read.parts));
            }
        }
        self.next_of_file().await
    }

    async fn next_of_file(&mut self) -> Result<Option<Vec<Part>>, Error> {
        let Place::File { input, group, builder } = &mut self.place else { return Ok(None) };
        loop {
            let at = *group;
            if at >= input.groups().len() {
                if let (Some(builder), Some(path)) = (builder.take(), &self.file.index) {
                    keep(&self.store, path, builder).await;
                }
                return Ok(None);
            }
            *group += 1;
            let first = input.first_row(at);
            let end = first + input.groups()[at].num_rows().unsigned_abs();
            if end <= self.next_row || self.prune.as_ref().is_some_and(|keys| !may_hold(input, at, &self.columns, keys))
            {
                continue;
            }
            let part = input.fetch(&self.store, &self.columns.table, at, &self.columns.key).await?;
            let (input, columns, from) = (input.clone(), self.columns.clone(), self.next_row);
            let parts = blocking(move || {
                let mut parts = Vec::new();
                let mut row = row_number(first)?;
                for batch in input.read(&columns.table, part, &columns.from, &columns.key)? {
                    let (arrays, count) = batch?;
                    if u64::from(row) >= from {
                        parts.push((row, columns.kind.encode(&arrays, count)));
                    } else {
                        // An index ended inside of this row group; batches and blocks have other bounds.
                        let skip = usize::try_from(from - u64::from(row)).unwrap_or(count).min(count);
                        let arrays: Vec<_> = arrays.iter().map(|array| array.slice(skip, count - skip)).collect();
                        let skipped = u32::try_from(skip).expect("a batch has a few thousand rows");
                        parts.push((row + skipped, columns.kind.encode(&arrays, count - skip)));
                    }
                    row += u32::try_from(count).expect("a batch has a few thousand rows");
                }
                Ok(parts)
            })
            .await?;
            self.next_row = end;
            if let Some(builder) = builder {
                for (_, codes) in &parts {
                    if let Codes::Hashed(codes) = codes {
                        builder.add(codes);
                    }
                }
            }
            return Ok(Some(parts));
        }
    }
}

/// What some blocks of an index held, up to the first one that is damaged.
struct Blocks {
    parts: Vec<Part>,
    next_row: u64,
    damaged: bool,
}

async fn read_blocks(
    store: &Store,
    path: &Path,
    wanted: &[std::ops::Range<u64>],
    mut next_row: u64,
) -> Result<Blocks, Error> {
    let mut parts = Vec::new();
    let Some(read) = store.ranges(path, wanted).await? else { return Ok(Blocks { parts, next_row, damaged: true }) };
    blocking(move || {
        for block in read {
            let Some(codes) = index::read_block(&block) else { return Ok(Blocks { parts, next_row, damaged: true }) };
            let first = row_number(next_row)?;
            next_row += codes.len() as u64;
            parts.push((first, Codes::Hashed(codes)));
        }
        Ok(Blocks { parts, next_row, damaged: false })
    })
    .await
}

/// A damaged index makes way for a new one. Best effort: left there, it costs time again.
async fn forget(store: &Store, path: &Path) {
    tracing::warn!(%path, "an index is damaged: the keys of its file are read instead");
    if let Err(error) = store.delete(path).await {
        tracing::warn!(%path, error = &error as &dyn std::error::Error, "a damaged index could not be removed");
    }
}

/// The blocks of the file's index, where there is one of this file and of this key.
async fn usable_index(
    store: &Store,
    columns: &KeyColumns,
    file: &KeyFile,
) -> Result<Option<Vec<std::ops::Range<u64>>>, Error> {
    let Some(path) = &file.index else { return Ok(None) };
    let blocks: Vec<_> = index::blocks(file.rows).collect();
    let end = blocks.last().map(|last| last.end);
    if end.is_none() || store.size(path).await? != end {
        return Ok(None);
    }
    let header = store.ranges(path, &[index::header_range()]).await?;
    let header = header.and_then(|header| header.into_iter().next()).unwrap_or_default();
    Ok(index::is_header(&header, signature(&columns.key)).then_some(blocks))
}

async fn open_file(store: &Store, columns: &KeyColumns, file: &KeyFile) -> Result<Input, Error> {
    let opened = Input::open(store, &columns.table, file.path.clone(), file.bytes).await?;
    opened.ok_or_else(|| Error::FileMissing { table: columns.table.clone(), path: file.path.to_string() })
}

/// Best effort: without it the next entry reads the file again.
async fn keep(store: &Store, path: &Path, builder: Builder) {
    let kept = store.overwrite(path, builder.finish()).await;
    if let Err(error) = kept {
        tracing::warn!(%path, error = &error as &dyn std::error::Error, "an index could not be kept");
    }
}

/// Whether a row group may hold one of the keys, by its own statistics.
fn may_hold(input: &Input, group: usize, columns: &KeyColumns, keys: &Keys) -> bool {
    let [key] = columns.key.as_slice() else { return true };
    let found = input.groups()[group].columns().iter().find(|column| column.column_descr().name() == key.name);
    let bounds = match found.and_then(|column| column.statistics()) {
        Some(Statistics::Int32(found)) => {
            found.min_opt().zip(found.max_opt()).map(|(a, b)| (i64::from(*a), i64::from(*b)))
        }
        Some(Statistics::Int64(found)) => found.min_opt().zip(found.max_opt()).map(|(a, b)| (*a, *b)),
        _ => None,
    };
    bounds.is_none_or(|(lowest, highest)| keys.may_lie_within(lowest, highest))
}

fn row_number(row: u64) -> Result<u32, Error> {
    let limit = || Error::BadRequest { reason: "a data file has more than 4,294,967,295 rows".to_owned() };
    u32::try_from(row).map_err(|_| limit())
}
