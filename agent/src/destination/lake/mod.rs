//! The lake destination: Parquet files and a Delta log per table, joined to the chain. Owns the order of DELIVERY §4:
//! read, roll forward, claim; then write, commit, apply. What one entry does to one table is `apply`'s business.

mod action;
mod apply;
mod aside;
pub(super) mod checkpoint;
pub(super) mod delta;
mod engine;
pub(super) mod files;
mod gc;
pub(super) mod iceberg;
mod open;
mod resync;
pub(super) mod snapshot;
mod stats;
mod switch;
pub(super) mod table;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use inshore_columnar::{Column, ColumnFacts, TableName, TableSchema};

pub(crate) use self::apply::Known;
use self::apply::{Applier, blocking};
use self::aside::{ANCHORS_WAIT_MAX, Aside};
use self::snapshot::columns_of;
pub(crate) use self::snapshot::{Changes, Snapshot};
use self::stats::Stats;
use self::table::Table;
pub(crate) use self::table::Terms;
use self::uploads::Stage;
use super::chain::entry::{self, Commit, Entry, Hash, Op, RowCounts, StagedFile, Step, TableOp, TableSteps};
use super::chain::put::{Points, Put};
use super::chain::view::View;
use super::chain::{ANCHOR_INTERVAL, ANCHOR_UPLOADS, Chain};
use super::error::Error;
use super::store::Store;
use super::{
    Applied, Collected, CommitRequest, Committed, Destination, FileRef, LiveTable, Resync, SHARED_SCHEMA, Writer,
};
use crate::batch::{CurrentTable, SealedFile, SealedStep, SealedTable, StepOp};
use crate::failpoint;

/// A claimed connection at a lake.
#[derive(Debug)]
pub(crate) struct Lake {
    store: Store,
    terms: Terms,
    writer: Writer,
    chain: Chain,
    writer_id: String,
    claim_seq: u64,
    state: String,
    /// The re-sync that the next commit belongs to.
    resync: Option<Resync>,
    /// The tables that this process has looked at, at the version it knows.
    tables: BTreeMap<TableName, Table>,
    known: Known,
    aside: Aside,
    /// Data files that no commit was asked to name yet.
    loose: Mutex<Vec<object_store::path::Path>>,
    /// Files beside rows; `None` where the store has no place for them.
    stage: Option<Stage>,
}

impl Destination for Lake {
    fn state(&self) -> &str {
        &self.state
    }

    fn resync(&self) -> Option<&Resync> {
        self.resync.as_ref()
    }

    fn set_resync(&mut self, resync: Option<Resync>) {
        self.resync = resync;
    }

    fn tables(&self) -> Vec<TableName> {
        self.chain.view.schemas.keys().filter(|table| table.schema != SHARED_SCHEMA).cloned().collect()
    }

    fn current(&self, table: &TableName) -> Option<CurrentTable> {
        let schema = self.chain.view.schemas.get(table)?.clone();
        let facts = self.facts(table, &schema);
        Some(CurrentTable { schema, facts })
    }

    fn last_synced_ms(&self) -> i64 {
        self.chain.view.synced_at_ms
    }

    fn takes_files(&self) -> bool {
        self.stage.is_some()
    }

    async fn file_chunk(&mut self, upload: u64, bytes: Vec<u8>) -> Result<(), Error> {
        self.stage()?.append(upload, bytes).await
    }

    async fn file_end(&mut self, upload: u64, table: TableName, path: String) -> Result<(), Error> {
        self.stage()?.finish(upload, table, path).await
    }

    async fn file_abandoned(&mut self, upload: u64) -> Result<(), Error> {
        self.stage()?.abandon(upload).await
    }

    async fn write(&self, file: SealedFile) -> Result<FileRef, Error> {
        check_name(&file.table)?;
        self.check_present().await?;
        let sha256 = Hash(file.sha256);
        let batch = self.chain.view.seq + 1;
        let name = format!("{}-{batch}-{}-{}.parquet", self.claim_seq, file.index, sha256.short());
        let folder = object_store::path::Path::from_iter([
            file.table.schema.as_str(),
            file.table.table.as_str(),
            "data",
            self.writer.connection_id.as_str(),
        ]);
        let path = folder.join(name.as_str());
        self.loose.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        failpoint::hit("P6");
        self.store.put_file(&path, &file.bytes).await?;
        failpoint::hit("P7");
        let (table, bytes) = (file.table.clone(), file.bytes.clone());
        let stats = blocking(move || staged_stats(table, &bytes)).await?;
        self.known.insert(path.to_string(), stats);
        Ok(FileRef {
            table: file.table,
            key: path.to_string(),
            bytes: file.bytes.len() as u64,
            rows: file.rows,
            sha256: file.sha256,
        })
    }

    async fn commit(&mut self, mut request: CommitRequest) -> Result<Committed, Error> {
        self.check_present().await?;
        if request.synced_at_ms <= self.chain.view.synced_at_ms {
            return Err(Error::BadRequest { reason: "synced_at is not above the last commit's".to_owned() });
        }
        for table in &request.tables {
            let checked = self.check_table(&table.schema).await;
            self.aside.admit(&table.schema.name, checked)?;
        }
        request.tables.retain(|table| !self.aside.holds(&table.schema.name));
        let state = self.chain.store_state(&request.state, self.claim_seq).await?;
        let resync = self.resync_entry().await?;
        failpoint::hit("P8");
        let commit = Commit { resync, ..self.entry(state, &request)? };
        let seq = commit.seq;
        let points = Points { before: "P9", after: "P9b" };
        // From here on the chain may name them, whatever we hear of it.
        self.loose.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        match self.chain.append(&Entry::Commit(commit), &self.writer.signer, points).await? {
            Put::Lost => return Err(Error::Fenced { claim_seq: self.claim_seq, head: seq }),
            Put::Mine => {}
        }
        failpoint::hit("P10");
        self.state = request.state;
        Ok(Committed { seq })
    }

    async fn apply(&mut self) -> Result<Applied, Error> {
        self.check_present().await?;
        let applied = self.roll_forward(self.claim_seq).await?;
        if let Some(stage) = &mut self.stage {
            stage.release().await?;
        }
        let view = &self.chain.view;
        // After an Anchor nothing before it is applied any more.
        let interval = if self.aside.is_empty() { ANCHOR_INTERVAL } else { ANCHORS_WAIT_MAX * ANCHOR_INTERVAL };
        if view.seq - view.last_anchor >= interval || view.uploads() >= ANCHOR_UPLOADS {
            let floor = self.chain.view.gc_floor.max(self.claim_seq);
            if self.chain.anchor(&self.writer.signer, floor).await? == Put::Lost {
                return Err(Error::Fenced { claim_seq: self.claim_seq, head: self.chain.view.seq + 1 });
            }
        }
        Ok(applied)
    }

    async fn collect_garbage(&mut self) -> Result<Collected, Error> {
        gc::collect(self).await
    }

    async fn discard(&mut self) -> Result<(), Error> {
        for path in std::mem::take(self.loose.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            self.store.delete(&path).await?;
        }
        match &mut self.stage {
            Some(stage) => stage.discard().await,
            None => Ok(()),
        }
    }

    fn set_aside(&mut self) -> Option<Error> {
        self.aside.tell()
    }
}

impl Lake {
    /// Every table of this connection, as far as it was rolled forward.
    pub(crate) fn live_tables(&self) -> Vec<LiveTable> {
        let live = |snapshot: &Table| {
            let schema = snapshot.schema.as_ref()?;
            Some(LiveTable {
                schema: snapshot.table.schema.clone(),
                table: snapshot.table.table.clone(),
                key: schema.key.clone(),
                columns: columns_of(schema)
                    .into_iter()
                    .map(|column| (column.name, column.data_type.to_string()))
                    .collect(),
                files: snapshot.files.keys().map(|file| format!("{}/{file}", snapshot.folder)).collect(),
            })
        };
        self.tables.values().filter_map(live).collect()
    }

    /// The connector's runtime is told beforehand that there is none.
    fn stage(&mut self) -> Result<&mut Stage, Error> {
        let what = "this destination has no place for files".to_owned();
        self.stage.as_mut().ok_or(Error::UploadRefused { what })
    }

    /// Rolls every table forward. The tables stand in the order of their names; each has its own marker.
    async fn roll_forward(&mut self, claim_seq: u64) -> Result<Applied, Error> {
        let (store, known) = (self.store.clone(), self.known.clone());
        let applier = Applier { store, claim_seq, terms: self.terms.clone(), known };
        let tables = Tables { known: &mut self.tables, aside: &mut self.aside };
        roll_forward(&applier, &self.chain, &self.writer.connection_id, tables).await
    }

    /// A destination that vanished (an unmounted disk, say) must not be started anew by our next write.
    async fn check_present(&self) -> Result<(), Error> {
        if self.chain.holds(self.claim_seq).await? {
            return Ok(());
        }
        Err(Error::Vanished { path: self.chain.slot_folder().to_string() })
    }

    /// Before a table is named by an entry: is it ours, is its marker below the head, can it hold the types?
    async fn check_table(&mut self, schema: &TableSchema) -> Result<(), Error> {
        check_name(&schema.name)?;
        let is_unknown =
            |column: &&Column| self.terms.formats.delta() && delta::delta_type(&column.data_type).is_none();
        let unknown = schema.columns.iter().find(is_unknown);
        if let Some(column) = unknown {
            return Err(Error::TypeNotSupported {
                table: schema.name.clone(),
                column: column.name.clone(),
                data_type: column.data_type.to_string(),
            });
        }
        if !self.tables.contains_key(&schema.name) {
            let snapshot = Table::load(&self.store, &self.terms, &self.writer.connection_id, &schema.name).await?;
            check_marker(&snapshot, self.chain.view.seq)?;
            self.tables.insert(schema.name.clone(), snapshot);
        }
        Ok(())
    }

    fn entry(&mut self, state: entry::StateRef, request: &CommitRequest) -> Result<Commit, Error> {
        let mut uploads = self.stage.as_mut().map(Stage::take).unwrap_or_default();
        let v = match (&self.resync, uploads.is_empty()) {
            (Some(_), _) => entry::RESYNC_VERSION,
            (None, false) => entry::UPLOADS_VERSION,
            (None, true) => entry::ENTRY_VERSION,
        };
        let view = &self.chain.view;
        // A table that was deleted by hand has no schema any more, whatever the chain remembers.
        let is_new = |name: &TableName| self.tables.get(name).is_none_or(|snapshot| snapshot.schema.is_none());
        let changed = |table: &&SealedTable| {
            let name = &table.schema.name;
            view.schemas.get(name) != Some(&table.schema) || (name.schema == SHARED_SCHEMA && is_new(name))
        };
        let mut tables = Vec::new();
        for table in &request.tables {
            let uploads = uploads.remove(&table.schema.name).unwrap_or_default();
            if table.steps.is_empty() && uploads.is_empty() {
                continue;
            }
            let steps: Result<Vec<Step>, Error> =
                table.steps.iter().map(|step| step_entry(table, step, &request.files)).collect();
            let name = table.schema.name.clone();
            tables.push(TableSteps { schema: name.schema, table: name.table, steps: steps?, uploads });
        }
        Ok(Commit {
            v,
            seq: view.seq + 1,
            prev_hash: view.hash,
            writer_id: self.writer_id.clone(),
            claim_seq: self.claim_seq,
            prev_commit: view.last_commit,
            state,
            resync: None,
            schema_ops: request.tables.iter().filter(changed).map(|table| TableOp::from(&table.schema)).collect(),
            synced_at_ms: request.synced_at_ms,
            row_counts: RowCounts::of(&tables),
            tables,
        })
    }

    /// What the type lattice asks about LONG columns, over the table's files and those on their way into it.
    fn facts(&self, table: &TableName, schema: &TableSchema) -> HashMap<String, ColumnFacts> {
        let Some(snapshot) = self.tables.get(table) else { return HashMap::new() };
        let on_their_way = self.known.below(&snapshot.folder);
        let holds = |column: &String| {
            let in_table = snapshot.files.values().all(|file| file.stats.facts(column).long_fits_double);
            in_table && on_their_way.iter().all(|stats| !stats.has(column) || stats.facts(column).long_fits_double)
        };
        let known_in_table = |column: &String| snapshot.schema.as_ref().is_some_and(|s| s.column(column).is_some());
        stats::long_columns(schema)
            .map(|column| {
                let fits = if known_in_table(column) {
                    holds(column)
                } else {
                    on_their_way.iter().all(|stats| !stats.has(column) || stats.facts(column).long_fits_double)
                };
                (column.clone(), ColumnFacts { long_fits_double: fits })
            })
            .collect()
    }
}

/// The tables at the version that we know, and those that we do without.
struct Tables<'a> {
    known: &'a mut BTreeMap<TableName, Table>,
    aside: &'a mut Aside,
}

/// Brings every table that an unapplied entry touches to the head, entry by entry.
async fn roll_forward(
    applier: &Applier,
    chain: &Chain,
    connection: &str,
    Tables { known, aside }: Tables<'_>,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for table in chain.view.schemas.keys() {
        if !known.contains_key(table) && !aside.holds(table) {
            let loaded = Table::load(&applier.store, &applier.terms, connection, table).await;
            known.extend(aside.admit(table, loaded)?.map(|snapshot| (table.clone(), snapshot)));
        }
    }
    for snapshot in known.values() {
        let sound = check_marker(snapshot, chain.view.seq).and_then(|()| check_anchored(snapshot, &chain.view));
        aside.admit(&snapshot.table, sound)?;
    }
    for commit in chain.view.commits.values() {
        for table in commit.touched() {
            let Some(snapshot) = known.get_mut(&table) else { continue };
            // In order: what one entry could not do keeps the later ones waiting.
            if aside.holds(&table) || snapshot.marker >= Some(commit.seq) {
                continue;
            }
            let written = applier.apply(snapshot, commit).await;
            if let Err(error) = &written
                && is_given_up(snapshot, error)
            {
                tracing::warn!(%table, error = error as &dyn std::error::Error, "lines went with their table");
                continue;
            }
            applied.table_commits += u64::from(aside.admit(&table, written)? == Some(true));
            failpoint::hit("P12");
        }
    }
    for (name, table) in known.iter_mut() {
        if !aside.holds(name) {
            let followed = table.follow(&applier.store, applier.terms.retention).await;
            aside.admit(name, followed)?;
        }
    }
    Ok(applied)
}

/// A table that all connections write may be deleted by hand: it begins anew, and what it held is not asked for again.
fn is_given_up(snapshot: &Snapshot, error: &Error) -> bool {
    let gone = matches!(error, Error::FileMissing { .. } | Error::TableAbsent { .. });
    gone && snapshot.is_shared() && snapshot.version.is_none()
}

/// What an Anchor found applied is never applied again: a table that was put back to an older copy would lack it.
fn check_anchored(snapshot: &Snapshot, view: &View) -> Result<(), Error> {
    if snapshot.is_shared() {
        return Ok(());
    }
    let Some(applied) = view.anchored.get(&snapshot.table) else { return Ok(()) };
    let (table, path) = (snapshot.table.clone(), snapshot.folder.to_string());
    if snapshot.version.is_none() {
        return Err(Error::FileMissing { table, path });
    }
    if snapshot.marker.unwrap_or(0) < *applied {
        let reason = format!(
            "its marker is below {applied}, which had been applied when the chain's Anchor was written; an older copy of \
             the table was put back"
        );
        return Err(Error::TableLog { table, path, reason });
    }
    Ok(())
}

fn check_marker(snapshot: &Snapshot, head: u64) -> Result<(), Error> {
    match snapshot.marker {
        Some(marker) if marker > head => Err(Error::MarkerAboveHead { table: snapshot.table.clone(), marker, head }),
        _ => Ok(()),
    }
}

/// `_inshore` is ours; a table named `_delta_log` would stand inside another table's place.
fn check_name(table: &TableName) -> Result<(), Error> {
    let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part == "_delta_log";
    if table.schema == "_inshore" || odd(&table.schema) || odd(&table.table) {
        return Err(Error::NameReserved { table: table.clone() });
    }
    Ok(())
}

fn step_entry(table: &SealedTable, step: &SealedStep, files: &[FileRef]) -> Result<Step, Error> {
    let staged = |index: &usize| {
        let file = files.get(*index).filter(|file| file.table == table.schema.name);
        let file = file.ok_or_else(|| Error::BadRequest { reason: format!("file {index} was not written") })?;
        Ok(StagedFile { key: file.key.clone(), bytes: file.bytes, rows: file.rows, sha256: Hash(file.sha256) })
    };
    let staged = step.files.iter().map(staged).collect::<Result<Vec<_>, Error>>()?;
    let (op, bound_at_ms) = match step.op {
        StepOp::Truncate { before_ms } => (Op::Truncate, Some(before_ms)),
        StepOp::Upsert => (Op::Upsert, None),
        StepOp::Update => (Op::Update, None),
        StepOp::Delete => (Op::Delete, None),
    };
    Ok(Step { op, bound_at_ms, columns: step.columns.clone().unwrap_or_default(), files: staged })
}

fn staged_stats(table: TableName, bytes: &Bytes) -> Result<Stats, Error> {
    Stats::of(bytes).map_err(|error| Error::parquet(&table, error))
}
