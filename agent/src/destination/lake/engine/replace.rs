//! The files that replace those an entry touches. Each is read and written in row groups; the values of updates are held
//! for as many files at a time as fit memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::BooleanArray;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::code::{Codes, signature};
use super::index::{self, Builder};
use super::input::Input;
use super::reader::Reader;
use super::rewrite::{Changed, Patch, PatchBuilder};
use super::{Target, Work};
use crate::destination::chain::entry::Op;
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::lake::files::FileWriter;
use crate::destination::lake::snapshot::{Changes, DataFile};
use crate::destination::lake::stats::Stats;
use crate::destination::store::Upload;

/// Memory that the values of updates may take at a time.
const PATCHES_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a value takes in memory, by what it takes in a file before compression.
const UNPACKED_FACTOR: u64 = 3;

impl Work<'_> {
    /// Writes every file anew that the entry touches.
    pub(super) async fn replace(&self, targets: Vec<Target>, changes: &mut Changes) -> Result<(), Error> {
        let widened = self.columns.widened();
        let touched =
            |target: &Target| widened || target.truncated || !target.dropped.is_empty() || !target.patched.is_empty();
        let mut targets = targets.into_iter().enumerate().filter(|(_, target)| touched(target)).peekable();
        while targets.peek().is_some() {
            let mut wave = Vec::new();
            let mut rows = 0;
            while let Some((_, next)) = targets.peek() {
                rows += next.patched.len() as u64;
                if !wave.is_empty() && self.patch_bytes(rows) > PATCHES_BYTES_MAX {
                    break;
                }
                wave.extend(targets.next());
            }
            self.replace_some(wave, changes).await?;
        }
        Ok(())
    }

    /// What so many rows of updates may take.
    fn patch_bytes(&self, rows: u64) -> u64 {
        let updates = self.keyed.iter().filter(|keyed| keyed.op != Op::Upsert);
        let per_row = updates.map(|keyed| keyed.staged.bytes / keyed.staged.rows.max(1)).max().unwrap_or(0);
        rows.saturating_mul(per_row.saturating_mul(UNPACKED_FACTOR).saturating_add(16))
    }

    async fn replace_some(&self, wave: Vec<(usize, Target)>, changes: &mut Changes) -> Result<(), Error> {
        let patches = Arc::new(self.patches(&wave).await?);
        let (marked, rewritten): (Vec<_>, Vec<_>) = wave.into_iter().partition(|(_, target)| self.is_marked(target));
        self.mark(marked, &patches, changes).await?;
        let mut rewrites = Vec::new();
        for (part, target) in rewritten {
            let patches = Arc::clone(&patches);
            rewrites.push(async move {
                let file = target.file.clone();
                let added = self.rewrite(part, target, patches).await?;
                Ok::<_, Error>((file, added))
            });
        }
        let mut rewrites = futures::stream::iter(rewrites).buffered(Self::parallel());
        while let Some((removed, added)) = rewrites.try_next().await? {
            changes.removed.push(removed);
            changes.added.extend(added);
        }
        Ok(())
    }

    /// The rows of updates and deletes that concern these files.
    async fn patches(&self, wave: &[(usize, Target)]) -> Result<BTreeMap<u32, Patch>, Error> {
        let mut patches = BTreeMap::new();
        let hit: BTreeSet<u32> = wave.iter().flat_map(|(_, t)| &t.patched).map(|hit| hit.source).collect();
        for source in hit {
            let keyed = &self.keyed[source as usize];
            let of_source = wave.iter().flat_map(|(_, t)| &t.patched).filter(|hit| hit.source == source);
            let rows = of_source.map(|hit| hit.source_row).collect();
            let mut builder = PatchBuilder::new(&self.columns, &self.sources[source as usize], rows);
            let input = self.open_at(keyed.path.clone(), keyed.staged.bytes).await?;
            let mut first = 0;
            for group in 0..input.groups().len() {
                let end = first + u32::try_from(input.groups()[group].num_rows()).unwrap_or(u32::MAX);
                if builder.wants(first, end) {
                    let store = &self.applier.store;
                    let part = input.fetch(store, &self.columns.table, group, builder.wanted()).await?;
                    let (input, columns) = (input.clone(), Arc::clone(&self.columns));
                    builder = blocking(move || {
                        let wanted = builder.wanted().to_vec();
                        builder.add(first, input.read(&columns.table, part, &columns.after, &wanted)?)?;
                        Ok(builder)
                    })
                    .await?;
                }
                first = end;
            }
            patches.insert(source, blocking(move || builder.finish()).await?);
        }
        Ok(patches)
    }

    /// The file that replaces a data file; `None` when no row is left.
    async fn rewrite(
        &self,
        part: usize,
        mut target: Target,
        patches: Arc<BTreeMap<u32, Patch>>,
    ) -> Result<Option<DataFile>, Error> {
        let store = &self.applier.store;
        let input = self.open(&target.file).await?;
        target.dropped.extend(self.gone(&target.file).await?);
        target.dropped.sort_unstable();
        target.dropped.dedup();
        let changed = Arc::new(self.changed(&target, patches));
        let name = file_name(self, &part.to_string());
        let mut output = Output::begin(self, &name).await?;
        let mut indexed = Indexed::begin(self, &target.file, &name).await?;
        let mut first = 0;
        let parts =
            (0..input.groups().len()).map(|group| input.fetch(store, &self.columns.table, group, &self.columns.after));
        let mut parts = futures::stream::iter(parts).buffered(2);
        while let Some(part) = parts.try_next().await? {
            let (writer, input, changed) = (output.writer, input.clone(), Arc::clone(&changed));
            let (writer, ready, kept, end) =
                blocking(move || rewrite_group(writer, &input, part, &changed, first)).await?;
            output.writer = writer;
            output.upload.write(ready).await?;
            if let Some(indexed) = &mut indexed {
                indexed.keep(&kept).await?;
            }
            first = end;
        }
        output.finish(self, name, indexed).await
    }

    pub(super) async fn open(&self, file: &DataFile) -> Result<Input, Error> {
        self.open_at(self.snapshot.key_of(&file.path), file.bytes).await
    }

    pub(super) fn changed(&self, target: &Target, patches: Arc<BTreeMap<u32, Patch>>) -> Changed {
        Changed {
            columns: Arc::clone(&self.columns),
            truncate_before_ms: self.truncate_before_ms,
            dropped: target.dropped.clone(),
            patched: target.patched.clone(),
            sources: Arc::clone(&self.sources),
            patches,
        }
    }

    pub(super) async fn open_at(&self, path: Path, bytes: u64) -> Result<Input, Error> {
        let table = &self.columns.table;
        let missing = || Error::FileMissing { table: table.clone(), path: path.to_string() };
        let opened = Input::open(&self.applier.store, table, path.clone(), bytes).await?;
        opened.ok_or_else(missing)
    }
}

/// The name of a new file of this entry. No other attempt has it.
pub(super) fn file_name(work: &Work<'_>, part: &str) -> String {
    format!("r{}-{}-{part}-{:016x}.parquet", work.applier.claim_seq, work.commit.seq, fastrand::u64(..))
}

/// One row group of a data file: what of it is in the new file, and the bytes of that which are ready.
fn rewrite_group(
    mut writer: FileWriter,
    input: &Input,
    part: super::input::Part,
    changed: &Changed,
    mut first: u32,
) -> Result<(FileWriter, Bytes, Vec<Kept>, u32), Error> {
    let columns = &changed.columns;
    let mut kept = Vec::new();
    for batch in input.read(&columns.table, part, &columns.before, &columns.after)? {
        let (arrays, rows) = batch?;
        let rewritten = changed.apply(first, arrays, rows)?;
        writer.write(rewritten.arrays)?;
        kept.push(Kept { rows, mask: rewritten.kept });
        first += u32::try_from(rows).expect("a batch has a few thousand rows");
    }
    let ready = writer.take();
    Ok((writer, ready, kept, first))
}

/// Which of some rows are in the new file; all of them without a mask.
struct Kept {
    rows: usize,
    mask: Option<BooleanArray>,
}

/// A new file on its way to the store.
pub(super) struct Output {
    pub(super) writer: FileWriter,
    pub(super) upload: Upload,
}

impl Output {
    pub(super) async fn begin(work: &Work<'_>, name: &str) -> Result<Output, Error> {
        let columns = &work.columns;
        let writer = FileWriter::new(&columns.table, &columns.after, &columns.key);
        let upload = work.applier.store.upload(&work.snapshot.data_folder().join(name)).await?;
        Ok(Output { writer, upload })
    }

    pub(super) async fn finish(
        mut self,
        work: &Work<'_>,
        name: String,
        indexed: Option<Indexed>,
    ) -> Result<Option<DataFile>, Error> {
        let writer = self.writer;
        let Some((footer, rest)) = blocking(move || writer.finish()).await? else {
            self.upload.abort().await;
            if let Some(indexed) = indexed {
                indexed.upload.abort().await;
            }
            return Ok(None);
        };
        self.upload.write(rest).await?;
        let bytes = self.upload.finish().await?;
        if let Some(indexed) = indexed {
            indexed.finish().await?;
        }
        let stats = Stats::of_metadata(footer).map_err(|error| Error::parquet(&work.columns.table, error))?;
        Ok(Some(DataFile::new(work.snapshot.relative(&name), bytes, stats)))
    }
}

/// The index of a new file, made from that of the file it replaces: keys of rows do not change.
pub(super) struct Indexed {
    reader: Reader,
    waiting: Vec<u128>,
    builder: Builder,
    upload: Upload,
}

impl Indexed {
    async fn begin(work: &Work<'_>, file: &DataFile, name: &str) -> Result<Option<Indexed>, Error> {
        let columns = work.key_columns(false);
        let old = work.key_file(&columns, file);
        let relative = work.snapshot.relative(name);
        let (Some(_), Some(path)) = (&old.index, index::path_of(&work.snapshot.folder, &relative)) else {
            return Ok(None);
        };
        let builder = Builder::new(signature(&columns.key));
        let reader = Reader::open(&work.applier.store, &columns, &old, None).await?;
        let upload = work.applier.store.upload(&path).await?;
        Ok(Some(Indexed { reader, waiting: Vec::new(), builder, upload }))
    }

    /// Takes the codes of the rows that are in the new file.
    async fn keep(&mut self, kept: &[Kept]) -> Result<(), Error> {
        let wanted: usize = kept.iter().map(|kept| kept.rows).sum();
        while self.waiting.len() < wanted {
            let Some(parts) = self.reader.next().await? else { break };
            for (_, codes) in parts {
                if let Codes::Hashed(codes) = codes {
                    self.waiting.extend(codes);
                }
            }
        }
        let mut codes = self.waiting.drain(..wanted.min(self.waiting.len()));
        for Kept { rows, mask } in kept {
            let rows = codes.by_ref().take(*rows).enumerate();
            let stays = |row: usize| mask.as_ref().is_none_or(|mask| mask.value(row));
            let staying: Vec<u128> = rows.filter(|(row, _)| stays(*row)).map(|(_, code)| code).collect();
            self.builder.add(&staying);
        }
        drop(codes);
        self.upload.write(self.builder.take()).await
    }

    async fn finish(mut self) -> Result<(), Error> {
        self.upload.write(self.builder.finish()).await?;
        self.upload.finish().await.map(drop)
    }
}
