//! What the next snapshot of a table consists of: which manifests stay, which are written anew. Pure.
//!
//! Manifests stay few: small ones are merged once there are `MERGE_AT` of them, and one that loses a file is written anew
//! with what is added. So a commit writes a bounded number of entries, however many commits there were.

use std::collections::{BTreeMap, BTreeSet};

use inshore_columnar::Column;

use super::bounds::ColumnStats;
use super::manifest::{Content, Entry, ManifestFile, Status};
use crate::destination::lake::snapshot::{Changes, DataFile, DeleteFile};

/// Entries of one manifest.
pub(super) const ENTRIES_MAX: usize = 1_000;
/// A manifest with fewer live entries is small.
const SMALL: usize = ENTRIES_MAX / 2;
/// Small manifests that stand side by side before they are merged.
const MERGE_AT: usize = 8;

/// A manifest with what we need to know of its live entries.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) file: ManifestFile,
    pub(super) live: Vec<Live>,
}

/// A live entry: the file, and which snapshot brought it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// Below the table's folder.
    pub(super) path: String,
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    pub(super) file_sequence_number: i64,
    pub(super) rows: i64,
    pub(super) bytes: i64,
}

/// A manifest to be written.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) content: Content,
    pub(super) entries: Vec<Entry>,
    pub(super) live: Vec<Live>,
}

/// The manifests of the next snapshot.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) kept: Vec<Manifest>,
    pub(super) fresh: Vec<Fresh>,
}

/// The snapshot that is being made.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    /// The absolute address of the table's folder.
    pub(super) location: &'a str,
    pub(super) columns: &'a [(i32, Column)],
    /// The live data files, before the changes or after them.
    pub(super) base: &'a BTreeMap<String, DataFile>,
    /// Those of the base whose delete files change, as they are after the changes.
    pub(super) marked: BTreeMap<&'a str, DataFile>,
    /// All manifests hold addresses that are no longer right.
    pub(super) anew: bool,
}

/// What happens to the files of one kind of manifest.
#[derive(Debug, Default)]
struct Turn<'a> {
    added: Vec<File<'a>>,
    removed: BTreeSet<&'a str>,
}

/// A live file that a manifest names.
#[derive(Debug, Clone, Copy)]
enum File<'a> {
    Data(&'a DataFile),
    Deletes { of: &'a DataFile, file: &'a DeleteFile },
}

impl Making<'_> {
    pub(super) fn next(&self, manifests: &[Manifest], changes: &Changes) -> Next {
        let mut next = Next::default();
        for content in [Content::Data, Content::Deletes] {
            let turn = self.turn(content, changes);
            let of_kind = manifests.iter().filter(|manifest| manifest.file.content == content);
            self.add(content, of_kind.collect(), &turn, &mut next);
        }
        next
    }

    fn turn<'b>(&'b self, content: Content, changes: &'b Changes) -> Turn<'b> {
        match content {
            Content::Data => Turn {
                added: changes.added.iter().map(File::Data).collect(),
                removed: changes.removed.iter().map(|file| file.path.as_str()).collect(),
            },
            Content::Deletes => {
                let with_deletes = |of: &'b DataFile| of.deletes.as_ref().map(|file| File::Deletes { of, file });
                let gone = changes.removed.iter().map(|file| file.path.as_str()).chain(self.marked.keys().copied());
                let deletes = gone.filter_map(|path| self.base.get(path)?.deletes.as_ref());
                Turn {
                    added: changes.added.iter().chain(self.marked.values()).filter_map(with_deletes).collect(),
                    removed: deletes.map(|file| file.path.as_str()).collect(),
                }
            }
        }
    }

    /// The live file behind a path, after the changes.
    fn data_file(&self, path: &str) -> Option<&DataFile> {
        self.marked.get(path).or_else(|| self.base.get(path))
    }

    fn add(&self, content: Content, manifests: Vec<&Manifest>, turn: &Turn<'_>, next: &mut Next) {
        let touched =
            |manifest: &Manifest| self.anew || manifest.live.iter().any(|l| turn.removed.contains(l.path.as_str()));
        let (mut rewritten, kept): (Vec<&Manifest>, Vec<&Manifest>) =
            manifests.into_iter().filter(|manifest| !manifest.live.is_empty()).partition(|manifest| touched(manifest));
        let (small, large): (Vec<&Manifest>, Vec<&Manifest>) =
            kept.into_iter().partition(|manifest| manifest.live.len() < SMALL);
        if small.len() >= MERGE_AT {
            rewritten.extend(small);
            next.kept.extend(large.into_iter().cloned());
        } else {
            next.kept.extend(large.into_iter().chain(small).cloned());
        }
        let delete_files = match content {
            Content::Deletes if !rewritten.is_empty() => self.delete_files(),
            _ => BTreeMap::new(),
        };
        let file = |path: &str| match content {
            Content::Data => self.data_file(path).map(File::Data),
            Content::Deletes => delete_files.get(path).copied(),
        };
        let mut entries: Vec<(Entry, Option<Live>)> = Vec::new();
        for live in rewritten.iter().flat_map(|manifest| &manifest.live) {
            match file(&live.path).filter(|_| !turn.removed.contains(live.path.as_str())) {
                Some(file) => entries.push((self.entry(file, Status::Existing, live), Some(live.clone()))),
                None => {
                    let gone = Live { snapshot_id: self.snapshot_id, ..live.clone() };
                    entries.push((self.plain(&gone, Status::Deleted), None));
                }
            }
        }
        let fresh = |file: &File<'_>| {
            let (rows, bytes) = file.size();
            let live = Live {
                path: file.path().to_owned(),
                snapshot_id: self.snapshot_id,
                sequence_number: self.sequence_number,
                file_sequence_number: self.sequence_number,
                rows: i64::try_from(rows).unwrap_or(i64::MAX),
                bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            };
            (self.entry(*file, Status::Added, &live), Some(live))
        };
        entries.extend(turn.added.iter().map(fresh));
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(ENTRIES_MAX));
            let (entries_now, live): (Vec<Entry>, Vec<Option<Live>>) =
                std::mem::replace(&mut entries, rest).into_iter().unzip();
            next.fresh.push(Fresh { content, entries: entries_now, live: live.into_iter().flatten().collect() });
        }
    }

    /// The live delete files by their paths.
    fn delete_files(&self) -> BTreeMap<&str, File<'_>> {
        let unmarked = self.base.values().filter(|file| !self.marked.contains_key(file.path.as_str()));
        let all = unmarked.chain(self.marked.values());
        all.filter_map(|of| of.deletes.as_ref().map(|file| (file.path.as_str(), File::Deletes { of, file }))).collect()
    }

    fn entry(&self, file: File<'_>, status: Status, live: &Live) -> Entry {
        let (columns, data_file) = match file {
            File::Data(file) => (ColumnStats::of(&file.stats, self.columns), None),
            File::Deletes { of, .. } => {
                let path = self.absolute(&of.path);
                (ColumnStats::of_delete_file(&path), Some(path))
            }
        };
        Entry { columns, data_file, ..self.plain(live, status) }
    }

    fn plain(&self, live: &Live, status: Status) -> Entry {
        Entry {
            status,
            snapshot_id: live.snapshot_id,
            sequence_number: live.sequence_number,
            file_sequence_number: live.file_sequence_number,
            path: self.absolute(&live.path),
            rows: live.rows,
            bytes: live.bytes,
            columns: ColumnStats::default(),
            data_file: None,
        }
    }

    fn absolute(&self, path: &str) -> String {
        format!("{}/{path}", self.location)
    }
}

impl File<'_> {
    fn size(&self) -> (u64, u64) {
        match self {
            File::Data(file) => (file.stats.num_records, file.bytes),
            File::Deletes { file, .. } => (file.rows, file.bytes),
        }
    }

    fn path(&self) -> &str {
        match self {
            File::Data(file) => &file.path,
            File::Deletes { file, .. } => &file.path,
        }
    }
}

/// The paths of all live entries of one kind.
pub(super) fn live_paths(manifests: &[Manifest], content: Content) -> BTreeSet<&str> {
    let of_kind = manifests.iter().filter(|manifest| manifest.file.content == content);
    of_kind.flat_map(|manifest| &manifest.live).map(|live| live.path.as_str()).collect()
}
