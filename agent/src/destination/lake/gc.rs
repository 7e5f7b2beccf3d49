//! Garbage collection by the holder of a claim, DELIVERY §8. No clock: once claim c is durable, an older writer's Commit
//! can only aim at a slot that is taken, so a file of an older claim that no entry names can never be named.
//!
//! The folders are listed, so entries older than the last Anchor need not be read: all of them are applied, and a file
//! of that age which no retained table version references is free, named or not. The Anchor's `gc_floor` says up to
//! which claim a listing has been judged already; it is kept for stores on which listing everything is too dear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FolderPath;

use inshore_columnar::TableName;
use object_store::path::Path;

use super::Lake;
use super::checkpoint;
use super::engine::index;
use super::iceberg::sweep;
use super::snapshot::Snapshot;
use super::table::Table;
use crate::destination::Collected;
use crate::destination::chain::entry::{Commit, Op, StateRef};
use crate::destination::chain::view::View;
use crate::destination::error::Error;
use crate::destination::store::Store;
use crate::failpoint;

/// What a data file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// `<claim_seq>-<batch>-<part>-<hash>.parquet`
    Batch { claim_seq: u64 },
    /// `r<claim_seq>-<seq>-<part>-<hash>.parquet`
    Rewrite { claim_seq: u64, seq: u64 },
}

/// Deletes everything that the rule gives free.
pub(super) async fn collect(lake: &mut Lake) -> Result<Collected, Error> {
    lake.check_present().await?;
    let mut collected = Collected::default();
    let (view, claim_seq) = (&lake.chain.view, lake.claim_seq);
    for snapshot in lake.tables.values() {
        // A format that lags asks for files that the other one has let go.
        if !snapshot.is_level() {
            continue;
        }
        let (swept, kept) = kept(lake, snapshot).await?;
        collected.add(swept);
        let rule = Rule::new(snapshot, view, claim_seq, kept);
        collected.add(collect_indices(&lake.store, &rule).await?);
        collected.add(collect_deletes(&lake.store, &rule).await?);
        for object in lake.store.list(&snapshot.data_folder(), None).await? {
            let Some(name) = object.location.filename() else { continue };
            if rule.is_free(name, &snapshot.relative(name), &object.location) {
                failpoint::hit("P16");
                lake.store.delete(&object.location).await?;
                collected.add(Collected { files_deleted: 1, bytes: object.size });
            }
        }
    }
    collected.add(collect_unknown_tables(lake).await?);
    for object in lake.store.list(&lake.chain.state_folder(), None).await? {
        let name = object.location.filename().unwrap_or_default();
        let kept = view.resync.as_ref().and_then(|resync| resync.kept.as_ref());
        let in_use = std::iter::once(&view.state).chain(kept).any(|state| is_state(state, name));
        let older = name.split_once('-').and_then(|(seq, _)| seq.parse::<u64>().ok()).is_some_and(|c| c < claim_seq);
        let named = view.commits.values().any(|commit| names_state(commit, name));
        if !in_use && (older || named) {
            lake.store.delete(&object.location).await?;
            collected.add(Collected { files_deleted: 1, bytes: object.size });
        }
    }
    collected.add(collect_stage(lake).await?);
    if let Some(stage) = &lake.stage {
        collected.add(stage.collect_copies(lake.tables.keys().cloned().collect()).await?);
    }
    sweep_residue(lake).await;
    Ok(collected)
}

/// Sweeps the metadata of a table. Says what earlier versions of it reference.
async fn kept(lake: &Lake, table: &Table) -> Result<(Collected, Kept), Error> {
    let mut swept = Collected::default();
    let (mut after_ms, mut files) = (i64::MAX, None);
    if let Some(iceberg) = table.iceberg() {
        (swept, files) = iceberg.sweep(&lake.store, table.delta().is_none()).await?;
        after_ms = iceberg.oldest_snapshot_ms();
    }
    if table.delta().is_none() {
        return Ok((swept, files.map_or(Kept::Unknown, Kept::Files)));
    }
    let retention_ms = i64::try_from(lake.terms.retention.as_millis()).unwrap_or(i64::MAX);
    let since_ms = table.timestamp_ms.saturating_sub(retention_ms);
    Ok((swept, Kept::ByRemovals { since_ms, after_ms }))
}

/// Delete files of rewrites that were never committed, or that no retained version references any more.
async fn collect_deletes(store: &Store, rule: &Rule<'_>) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    for object in store.list(&rule.snapshot.deletes_folder(), None).await? {
        let Some(name) = object.location.filename() else { continue };
        if rule.is_free(name, &rule.snapshot.relative_deletes(name), &object.location) {
            store.delete(&object.location).await?;
            collected.add(Collected { files_deleted: 1, bytes: object.size });
        }
    }
    Ok(collected)
}

/// Indices of data files that are gone, or free to go.
async fn collect_indices(store: &Store, rule: &Rule<'_>) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    let snapshot = rule.snapshot;
    for object in store.list(&index::folder_of(&snapshot.folder, &snapshot.connection), None).await? {
        let Some(name) = object.location.filename().and_then(index::data_file_of) else { continue };
        let relative = snapshot.relative(&name);
        if rule.is_free(&name, &relative, &snapshot.key_of(&relative)) {
            store.delete(&object.location).await?;
            collected.add(Collected { files_deleted: 1, bytes: object.size });
        }
    }
    Ok(collected)
}

/// Files beside rows that no commit can need any more. Call with no window open.
pub(super) async fn collect_stage(lake: &mut Lake) -> Result<Collected, Error> {
    let Some(stage) = &mut lake.stage else { return Ok(Collected::default()) };
    let tables = &lake.tables;
    let applied = |table: &TableName, seq| tables.get(table).is_some_and(|known| known.marker >= Some(seq));
    stage.collect(&lake.chain.view, applied).await
}

/// Files for tables that no entry ever named: a window was uploaded and never committed.
async fn collect_unknown_tables(lake: &Lake) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    let folder = |table: &TableName| Path::from_iter([table.schema.as_str(), table.table.as_str()]);
    let named = lake.chain.view.schemas.keys();
    let known: BTreeSet<Path> = lake.tables.keys().chain(named).map(folder).collect();
    let schemas: BTreeSet<&str> = lake.tables.keys().map(|table| table.schema.as_str()).collect();
    for schema in schemas {
        for folder in lake.store.folders(&Path::from_iter([schema])).await? {
            if known.contains(&folder) {
                continue;
            }
            let data = folder.join("data").join(lake.writer.connection_id.as_str());
            for object in lake.store.list(&data, None).await? {
                let name = object.location.filename().and_then(parse);
                if matches!(name, Some(Name::Batch { claim_seq }) if claim_seq < lake.claim_seq) {
                    lake.store.delete(&object.location).await?;
                    collected.add(Collected { files_deleted: 1, bytes: object.size });
                }
            }
        }
    }
    Ok(collected)
}

/// What may be deleted of one table.
struct Rule<'a> {
    snapshot: &'a Snapshot,
    claim_seq: u64,
    /// Files that entries name, with the highest such entry.
    named: BTreeMap<&'a str, (u64, Op)>,
    /// The live delete files.
    deletes: BTreeSet<&'a str>,
    kept: Kept,
    /// Every entry that names a batch of a claim from here on is known.
    known_from: u64,
}

/// What retained versions reference beside the newest.
enum Kept {
    /// What was removed since one instant, or after another: the Delta log says when.
    ByRemovals { since_ms: i64, after_ms: i64 },
    /// These files: all kept snapshots were read.
    Files(BTreeSet<String>),
    /// It was not time to read them.
    Unknown,
}

impl<'a> Rule<'a> {
    fn new(snapshot: &'a Snapshot, view: &'a View, claim_seq: u64, kept: Kept) -> Rule<'a> {
        let named = named_files(view, &snapshot.table);
        let deletes = snapshot.files.values().filter_map(|file| file.deletes.as_ref());
        let deletes = deletes.map(|file| file.path.as_str()).collect();
        Rule { snapshot, claim_seq, named, deletes, kept, known_from: view.last_anchor }
    }

    fn is_free(&self, name: &str, relative: &str, location: &Path) -> bool {
        let applied = |seq: u64| self.snapshot.marker >= Some(seq);
        if self.snapshot.files.contains_key(relative) || self.deletes.contains(relative) {
            return false;
        }
        let kept = match &self.kept {
            Kept::ByRemovals { since_ms, after_ms } => {
                let removed_at = self.snapshot.removed.get(relative);
                removed_at.is_some_and(|removed_at| removed_at >= since_ms || removed_at > after_ms)
            }
            Kept::Files(files) => files.contains(relative),
            Kept::Unknown => !self.was_never_live(name, location),
        };
        if kept {
            return false;
        }
        match (parse(name), self.named.get(location.as_ref())) {
            (Some(Name::Batch { .. }), Some((seq, _))) => applied(*seq),
            (Some(Name::Batch { claim_seq }), None) => claim_seq < self.claim_seq,
            (Some(Name::Rewrite { claim_seq, seq }), _) => claim_seq < self.claim_seq && applied(seq),
            (None, _) => false,
        }
    }

    /// Whether no version of the table can ever have had the file: no entry names it, or one names it for its keys.
    fn was_never_live(&self, name: &str, location: &Path) -> bool {
        match (parse(name), self.named.get(location.as_ref())) {
            (Some(Name::Batch { .. }), Some((_, op))) => *op != Op::Upsert,
            (Some(Name::Batch { claim_seq }), None) => claim_seq >= self.known_from,
            _ => false,
        }
    }
}

fn named_files<'a>(view: &'a View, table: &TableName) -> BTreeMap<&'a str, (u64, Op)> {
    let mut named = BTreeMap::new();
    for commit in view.commits.values() {
        for step in commit.steps(table) {
            named.extend(step.files.iter().map(|file| (file.key.as_str(), (commit.seq, step.op))));
        }
    }
    named
}

fn names_state(commit: &Commit, name: &str) -> bool {
    let kept = commit.resync.as_ref().and_then(|resync| resync.kept.as_ref());
    std::iter::once(&commit.state).chain(kept).any(|state| is_state(state, name))
}

fn is_state(state: &StateRef, name: &str) -> bool {
    matches!(state, StateRef::Object { name: used, .. } if used == name)
}

fn parse(name: &str) -> Option<Name> {
    let stem = name.strip_suffix(".parquet")?;
    let rewrite = stem.strip_prefix('r');
    let mut parts = rewrite.unwrap_or(stem).split('-');
    let (claim_seq, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(if rewrite.is_some() { Name::Rewrite { claim_seq, seq } } else { Name::Batch { claim_seq } })
}

/// A kill in the middle of a local write leaves a temporary file `<name>#<n>` that the store interface hides. Only those
/// of names that an older claim, a taken slot or a written version has are removed: nobody can still want them.
async fn sweep_residue(lake: &Lake) {
    let head = lake.chain.view.seq;
    let claim_seq = lake.claim_seq;
    let older_claim = move |name: &str| match parse(name) {
        Some(Name::Batch { claim_seq: c } | Name::Rewrite { claim_seq: c, .. }) => c < claim_seq,
        None => false,
    };
    let numbered = |limit: Option<u64>| {
        move |name: &str| {
            let number = name.split(['.', '-']).next().and_then(|digits| digits.parse::<u64>().ok());
            number.is_some_and(|number| Some(number) <= limit)
        }
    };
    for snapshot in lake.tables.values() {
        remove_residue(lake.store.local_folder(&snapshot.data_folder()).as_deref(), older_claim).await;
        // The same on an object store: parts of a file that was never completed.
        match lake.store.abort_uploads(&snapshot.data_folder(), older_claim).await {
            Ok(0) => {}
            Ok(uploads) => tracing::info!(uploads, table = %snapshot.table, "aborted interrupted uploads"),
            Err(error) => tracing::warn!(%error, "interrupted uploads were left to a later run"),
        }
        if let Some(iceberg) = snapshot.iceberg() {
            let metadata = lake.store.local_folder(&iceberg.metadata_folder());
            remove_residue(metadata.as_deref(), sweep::is_residue(iceberg)).await;
            remove_residue(lake.store.local_folder(&snapshot.deletes_folder()).as_deref(), older_claim).await;
        }
        let Some(delta) = snapshot.delta() else { continue };
        let (version, checkpoint) = (numbered(delta.version), checkpoint::is_residue(delta));
        let log = lake.store.local_folder(&delta.log_folder());
        remove_residue(log.as_deref(), |name| if name.ends_with(".json") { version(name) } else { checkpoint(name) })
            .await;
    }
    remove_residue(lake.store.local_folder(&lake.chain.slot_folder()).as_deref(), numbered(Some(head))).await;
    let older_state = claim_seq.checked_sub(1);
    remove_residue(lake.store.local_folder(&lake.chain.state_folder()).as_deref(), numbered(older_state)).await;
}

/// Best effort: what cannot be removed now is removed by a later run.
async fn remove_residue(folder: Option<&FolderPath>, is_free: impl Fn(&str) -> bool) {
    let Some(folder) = folder else { return };
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        let Some((name, suffix)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
        let temporary = !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit());
        if temporary && is_free(name) && tokio::fs::remove_file(entry.path()).await.is_ok() {
            tracing::info!(file = %entry.path().display(), "removed the rest of an interrupted write");
        }
    }
}
