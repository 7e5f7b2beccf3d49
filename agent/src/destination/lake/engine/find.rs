//! Which rows of which data files an entry names. Only files whose bounds may hold a key are read, of these only row groups
//! that may, and of these only the key columns. Keys that do not fit memory come in groups.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::keys::{Hit, Keys};
use super::reader::{KeyColumns, KeyFile, Part, Reader};
use super::rewrite::has_older_rows;
use super::{Keyed, Target, Work};
use crate::destination::chain::entry::Op;
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::lake::snapshot::DataFile;

/// What was found in one data file.
#[derive(Debug, Default)]
struct Found {
    dropped: Vec<u32>,
    patched: Vec<Hit>,
}

impl Work<'_> {
    /// The table's files with everything that the entry says of their rows.
    pub(super) async fn find(&self) -> Result<Vec<Target>, Error> {
        let target =
            |file: &DataFile| Target { file: file.clone(), truncated: false, dropped: Vec::new(), patched: Vec::new() };
        let mut targets: Vec<Target> = self.snapshot.files.values().map(target).collect();
        if let Some(bound_ms) = self.truncate_before_ms {
            self.find_truncated(bound_ms, &mut targets).await?;
        }
        self.find_named(&mut targets).await?;
        for target in &mut targets {
            target.dropped.sort_unstable();
            target.dropped.dedup();
            target.patched.sort_unstable();
        }
        Ok(targets)
    }

    /// Marks the files that a truncate changes. Files whose oldest row is younger than the bound are not read.
    async fn find_truncated(&self, bound_ms: i64, targets: &mut [Target]) -> Result<(), Error> {
        for target in targets.iter_mut().filter(|target| target.file.stats.may_be_older(bound_ms)) {
            let input = self.open(&target.file).await?;
            let wanted = Arc::new(self.columns.truncation());
            for group in 0..input.groups().len() {
                let store = &self.applier.store;
                let part = input.fetch(store, &self.columns.table, group, &wanted).await?;
                let (input, columns, wanted) = (input.clone(), Arc::clone(&self.columns), Arc::clone(&wanted));
                let older = move || {
                    let batches = input.read(&columns.table, part, &columns.before, &wanted)?;
                    has_older_rows(batches, bound_ms)
                };
                if blocking(older).await? {
                    target.truncated = true;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn find_named(&self, targets: &mut [Target]) -> Result<(), Error> {
        let (of_entry, of_table) = (self.key_columns(true), self.key_columns(false));
        let mut keys = Keys::new(of_table.kind);
        let mut group: Vec<&Keyed<'_>> = Vec::new();
        for (number, keyed) in (0_u32..).zip(&self.keyed) {
            let meets = targets.iter().any(|target| self.may_meet(&target.file, keyed));
            let data_file = (keyed.op == Op::Upsert).then_some(keyed.staged.key.as_str());
            let index =
                data_file.and_then(|key| of_entry.index_of(&self.snapshot.folder, key, keyed.stats.num_records));
            if !meets && index.is_none() {
                continue;
            }
            let (path, rows) = (keyed.path.clone(), keyed.stats.num_records);
            let file = KeyFile { path, bytes: keyed.staged.bytes, rows, index };
            let mut reader = Reader::open(&self.applier.store, &of_entry, &file, None).await?;
            while let Some(parts) = reader.next().await? {
                if !meets {
                    // Read for its index alone.
                    continue;
                }
                keys = add(keys, number, parts).await?;
                if group.last().is_none_or(|last| !std::ptr::eq(*last, keyed)) {
                    group.push(keyed);
                }
                if keys.is_full() {
                    let full = std::mem::replace(&mut keys, Keys::new(of_table.kind));
                    self.look_up(full, &of_table, &group, targets).await?;
                    group.clear();
                }
            }
        }
        self.look_up(keys, &of_table, &group, targets).await
    }

    /// Notes which rows of the files that may be touched these keys name.
    async fn look_up(
        &self,
        mut keys: Keys,
        columns: &KeyColumns,
        group: &[&Keyed<'_>],
        targets: &mut [Target],
    ) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        keys.ready();
        let keys = Arc::new(keys);
        let upserts: Arc<Vec<bool>> = Arc::new(self.keyed.iter().map(|keyed| keyed.op == Op::Upsert).collect());
        let touched = targets.iter().enumerate();
        let touched = touched.filter(|(_, target)| group.iter().any(|keyed| self.may_meet(&target.file, keyed)));
        let files: Vec<(usize, KeyFile)> =
            touched.map(|(number, target)| (number, self.key_file(columns, &target.file))).collect();
        let mut searches = Vec::new();
        for (number, file) in &files {
            let (keys, upserts) = (Arc::clone(&keys), Arc::clone(&upserts));
            searches.push(async move { Ok::<_, Error>((*number, self.search(columns, file, keys, upserts).await?)) });
        }
        let mut searches = futures::stream::iter(searches).buffer_unordered(Self::parallel());
        while let Some((number, mut found)) = searches.try_next().await? {
            let gone = self.gone(&targets[number].file).await?;
            if !gone.is_empty() {
                found.dropped.retain(|row| gone.binary_search(row).is_err());
                found.patched.retain(|hit| gone.binary_search(&hit.row).is_err());
            }
            targets[number].dropped.extend(found.dropped);
            targets[number].patched.extend(found.patched);
        }
        Ok(())
    }

    async fn search(
        &self,
        columns: &KeyColumns,
        file: &KeyFile,
        keys: Arc<Keys>,
        upserts: Arc<Vec<bool>>,
    ) -> Result<Found, Error> {
        let prune = (!self.columns.key_widened()).then(|| Arc::clone(&keys));
        let mut reader = Reader::open(&self.applier.store, columns, file, prune).await?;
        let mut found = Found::default();
        while let Some(parts) = reader.next().await? {
            let (keys, upserts) = (Arc::clone(&keys), Arc::clone(&upserts));
            let search = move || {
                for (first, codes) in &parts {
                    keys.find(*first, codes, &mut |hit| match upserts.get(hit.source as usize) {
                        Some(true) => found.dropped.push(hit.row),
                        _ => found.patched.push(hit),
                    });
                }
                Ok(found)
            };
            found = blocking(search).await?;
        }
        Ok(found)
    }

    /// Whether a row of the file may have a key of the other. A key whose type changed has bounds of the old type.
    fn may_meet(&self, file: &DataFile, keyed: &Keyed<'_>) -> bool {
        self.columns.key_widened() || file.stats.may_share_key(&keyed.stats, &self.columns.key)
    }
}

async fn add(mut keys: Keys, source: u32, parts: Vec<Part>) -> Result<Keys, Error> {
    blocking(move || {
        parts.iter().for_each(|(first, codes)| keys.add(source, *first, codes));
        Ok(keys)
    })
    .await
}
