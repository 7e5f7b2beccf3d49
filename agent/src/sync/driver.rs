//! Performs what the machine of `fsm` asks for: pulls the connector, seals the window, commits, acknowledges, applies.
//! Holds the IO and no decision about when a checkpoint may be acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use inshore_columnar::TableName;
use tokio::sync::mpsc;

use super::fsm::{Action, Event, Machine, Verdict};
use super::log_table::LogTable;
use super::policy;
use super::secrets::Secrets;
use super::selection::{self, Seen, Selection};
use crate::batch::{self, CurrentTable, SealedFile, SealedTable, Window};
use crate::connector::{self, EndKind, LogLevel, LogLine, LogOrigin, Source, WarningKind};
use crate::context::{Context, Stage, Stop, now_ms};
use crate::destination::{self, CommitRequest, Destination, FileRef, SHARED_SCHEMA};
use crate::failpoint;

/// Sealed files that may wait for their upload: one is written while the next is being made.
const FILES_WAITING: usize = 1;

/// How long the end of a failed sync may take to remove what it staged.
const DISCARD_MAX: Duration = Duration::from_secs(5);

/// The bound of a truncation whose window is still open: sealing gives it one.
const OPEN_WINDOW_MS: i64 = i64::MAX;

/// What a sync came to. `failure` explains the verdicts that are not a success.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) verdict: Verdict,
    pub(crate) failure: Option<Error>,
    pub(crate) head_seq: Option<u64>,
    pub(crate) warnings: BTreeMap<WarningKind, u64>,
    /// The tables that the connector named.
    pub(crate) seen: BTreeMap<TableName, Seen>,
    /// Rows of tables that are blocked.
    pub(crate) blocked_rows: u64,
}

/// What becomes of the rows on their way in.
pub(crate) struct Intake {
    pub(crate) window: Window,
    pub(crate) selection: Selection,
    /// A re-sync begins: the destination's state is not where the connector starts.
    pub(crate) anew: bool,
}

/// Where the connector's lines go: they may hold rows.
pub(crate) struct Log<'a> {
    /// The connection's journal on this host, or a developer's screen.
    pub(crate) tell: &'a (dyn Fn(LogLine) + Sync),
    /// The table of lines at the destination.
    pub(crate) table: Option<LogTable>,
    /// What no state should hold; a line says so where one does.
    pub(crate) secrets: Secrets,
}

/// What went wrong in a sync, by the part that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read from the connector")]
    Connector(#[from] connector::Error),
    #[error("fold the rows of a window")]
    Batch(#[from] batch::Error),
    #[error("write to the destination")]
    Destination(#[from] destination::Error),
    #[error("the connector asks for a person to act: {message}\n{trace}")]
    ActionRequired { message: String, trace: String },
    #[error("carry out the connection's schema configuration")]
    Selection(#[source] selection::Error),
    #[error("the worker that seals windows stopped")]
    WorkerStopped,
}

impl From<selection::Error> for Error {
    fn from(error: selection::Error) -> Self {
        match error {
            selection::Error::Batch(error) => Self::Batch(error),
            error => Self::Selection(error),
        }
    }
}

/// Moves a connection forward: from the destination's last state to the connector's end, or until told to stop.
pub(crate) async fn drive<S: Source, D: Destination>(
    context: &mut Context,
    source: &mut S,
    destination: &mut D,
    intake: Intake,
    log: Log<'_>,
) -> Summary {
    let Intake { window, selection, anew } = intake;
    let mut run = Run {
        context,
        source,
        destination,
        log,
        selection,
        base: anew.then(|| "{}".to_owned()),
        ends_resync: false,
        window: Some(window),
        touched: BTreeSet::new(),
        deferred: BTreeMap::new(),
        state: None,
        sealed: None,
        stop: Stop::No,
        failure: None,
        head_seq: None,
        warnings: BTreeMap::new(),
    };
    let verdict = run.run().await;
    run.stage(Stage::Done);
    let Run { failure, head_seq, warnings, selection, .. } = run;
    let blocked_rows = selection.blocked_rows();
    Summary { verdict, failure, head_seq, warnings, seen: selection.into_seen(), blocked_rows }
}

struct Run<'a, S, D> {
    context: &'a mut Context,
    source: &'a mut S,
    destination: &'a mut D,
    log: Log<'a>,
    selection: Selection,
    /// The state that a re-sync begins with, until its first commit.
    base: Option<String>,
    /// The connector has ended well, and with it the re-sync.
    ends_resync: bool,
    /// Away only while a worker thread holds it.
    window: Option<Window>,
    /// Tables the open window knows of.
    touched: BTreeSet<TableName>,
    /// Truncations that wait for the end of the sync: rows that were synced before the window of the call will go.
    deferred: BTreeMap<TableName, i64>,
    /// The state of the checkpoint that is being made durable.
    state: Option<String>,
    sealed: Option<Sealed>,
    stop: Stop,
    failure: Option<Error>,
    head_seq: Option<u64>,
    warnings: BTreeMap<WarningKind, u64>,
}

/// A closed window whose files the destination has accepted.
struct Sealed {
    tables: Vec<SealedTable>,
    files: Vec<FileRef>,
    synced_at_ms: i64,
}

impl<S: Source, D: Destination> Run<'_, S, D> {
    async fn run(&mut self) -> Verdict {
        self.note_set_aside();
        let mut machine = Machine::new();
        let mut action = Action::Pull;
        loop {
            let event = match action {
                Action::Pull => self.pull().await,
                Action::Seal => self.seal().await,
                Action::Commit => self.commit().await,
                Action::Acknowledge { id } => self.acknowledge(id).await,
                Action::Apply => self.apply().await,
                Action::StopSource => {
                    self.source.close().await;
                    Event::Ended
                }
                Action::Collect => self.collect().await,
                Action::Finish(verdict) => {
                    self.discard(verdict).await;
                    return verdict;
                }
            };
            machine = self.note_drain(machine);
            (action, machine) = machine.step(event);
        }
    }

    /// A drain that came during a step counts at once: the checkpoint in hand is the last one. Noting it asks for
    /// nothing.
    fn note_drain(&mut self, machine: Machine) -> Machine {
        if self.stop == Stop::No && *self.context.stop.borrow() == Stop::Drain {
            self.stop = Stop::Drain;
            return machine.step(Event::Drain).1;
        }
        machine
    }

    /// Takes from the connector until something happens that the machine must know.
    async fn pull(&mut self) -> Event {
        self.stage(Stage::Extract);
        loop {
            let next = tokio::select! {
                biased;
                stop = self.context.stop_beyond(self.stop) => return self.stopped(stop),
                next = self.source.next() => next,
            };
            let taken = match next {
                Ok(event) => self.take(event).await,
                Err(error) => return self.source_failed(error.into()),
            };
            match taken {
                Ok(None) => {}
                Ok(Some(event)) => return event,
                Err(error) => return self.step_failed(error),
            }
        }
    }

    fn stopped(&mut self, stop: Stop) -> Event {
        self.stop = stop;
        if stop == Stop::Cancel { Event::Cancel } else { Event::Drain }
    }

    async fn take(&mut self, event: connector::Event) -> Result<Option<Event>, Error> {
        check_schema(&event)?;
        match event {
            connector::Event::Schema(tables) => self.declare(tables).await?,
            connector::Event::Rows(rows) => self.push(rows).await?,
            connector::Event::Truncate { table, .. } if !self.lets_in(&table)? => {}
            connector::Event::Truncate { table, deferred: false } => {
                self.touched.insert(table.clone());
                self.on_worker(move |window| window.truncate(&table)).await?;
                self.publish_counts();
            }
            connector::Event::Truncate { table, deferred: true } => {
                self.window.as_mut().ok_or(Error::WorkerStopped)?.defer_truncate(&table);
                self.deferred.insert(table, OPEN_WINDOW_MS);
                self.publish_counts();
            }
            connector::Event::Checkpoint { id, state } => {
                for message in self.log.secrets.warnings(&state) {
                    self.hear(LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message });
                }
                self.state = Some(state);
                return Ok(Some(Event::Checkpoint { id }));
            }
            connector::Event::FileChunk { upload, bytes } => self.destination.file_chunk(upload, bytes).await?,
            connector::Event::FileEnd { upload, table, .. } if !self.lets_in(&table)? => {
                self.destination.file_abandoned(upload).await?;
            }
            connector::Event::FileEnd { upload, table, path } => {
                self.destination.file_end(upload, table, path).await?;
            }
            connector::Event::FileAbandoned { upload } => self.destination.file_abandoned(upload).await?,
            connector::Event::Log(line) => self.hear(line),
            connector::Event::Warning(warning) => self.warn(warning),
            connector::Event::ConnectorError { message, trace } => {
                let trace = trace.unwrap_or_default();
                return Ok(Some(self.source_failed(Error::ActionRequired { message, trace })));
            }
            connector::Event::Answer(_) => {
                let what = "it answers what nobody asked".to_owned();
                return Err(connector::Error::FrameViolated { what }.into());
            }
            connector::Event::End(EndKind::Finished | EndKind::Exited) => {
                self.truncate_deferred()?;
                self.end_resync()?;
                return Ok(Some(Event::Ended));
            }
        }
        Ok(None)
    }

    /// What waited for a good end goes with the last commit: a sync that fails or is stopped before marks nothing.
    fn truncate_deferred(&mut self) -> Result<(), Error> {
        let window = self.window.as_mut().ok_or(Error::WorkerStopped)?;
        for (table, before_ms) in std::mem::take(&mut self.deferred) {
            window.truncate_before(&table, before_ms)?;
            self.touched.insert(table);
        }
        Ok(())
    }

    /// Closes the window's files and writes them. The files leave the worker one by one, so that memory stays bounded.
    async fn seal(&mut self) -> Event {
        self.stage(Stage::Seal);
        if let Err(error) = self.add_lines().await {
            return self.step_failed(error);
        }
        let synced_at_ms = policy::synced_at_ms(now_ms(), self.destination.last_synced_ms());
        self.deferred.values_mut().for_each(|bound| *bound = (*bound).min(synced_at_ms));
        let current: BTreeMap<TableName, CurrentTable> = std::mem::take(&mut self.touched)
            .into_iter()
            .filter_map(|table| self.destination.current(&table).map(|current| (table, current)))
            .collect();
        let (files, mut sealed_files) = mpsc::channel::<SealedFile>(FILES_WAITING);
        let Some(mut window) = self.window.take() else { return self.step_failed(Error::WorkerStopped) };
        if window.is_empty() {
            self.window = Some(window);
            self.sealed = Some(Sealed { tables: Vec::new(), files: Vec::new(), synced_at_ms });
            return Event::Sealed;
        }
        let worker = tokio::task::spawn_blocking(move || {
            let mut sink = |file| files.blocking_send(file).map_err(|_| batch::Error::SinkClosed);
            let current = |table: &TableName| current.get(table).cloned();
            // Every row of an earlier window was synced before this one: the bound of a truncation is this window's own.
            let sealed = window.seal(&current, synced_at_ms, synced_at_ms, &mut sink);
            (window, sealed)
        });
        let written = self.write(&mut sealed_files).await;
        drop(sealed_files);
        let Ok((window, sealed)) = worker.await else { return self.step_failed(Error::WorkerStopped) };
        self.window = Some(window);
        match (written, sealed) {
            (Err(error), _) => self.step_failed(error),
            (Ok(None), _) => self.stopped(Stop::Cancel),
            (Ok(Some(_)), Err(error)) => self.step_failed(error.into()),
            (Ok(Some(files)), Ok(mut tables)) => {
                tables.retain(|table| table.schema.name.schema != SHARED_SCHEMA || self.log.table.is_some());
                self.sealed = Some(Sealed { tables, files, synced_at_ms });
                Event::Sealed
            }
        }
    }

    /// Writes files as they come; `None` when a cancel came first, also while the destination hangs.
    async fn write(&mut self, files: &mut mpsc::Receiver<SealedFile>) -> Result<Option<Vec<FileRef>>, Error> {
        let mut written = Vec::new();
        loop {
            let Some(file) = self.context.unless_cancelled(files.recv()).await else { return Ok(None) };
            let Some(file) = file else { return Ok(Some(written)) };
            let (bytes, table) = (file.bytes.len() as u64, file.table.clone());
            let Some(accepted) = self.context.unless_cancelled(self.destination.write(file)).await else {
                return Ok(None);
            };
            let accepted = match accepted {
                Err(error) if table.schema == SHARED_SCHEMA => {
                    self.go_on_without_lines(&error);
                    FileRef::none(table)
                }
                accepted => accepted?,
            };
            written.push(accepted);
            self.context.progress.send_modify(|progress| progress.bytes += bytes);
        }
    }

    async fn commit(&mut self) -> Event {
        self.stage(Stage::Commit);
        let Some(sealed) = self.sealed.take() else { return self.step_failed(Error::WorkerStopped) };
        let state = self.state_of_commit();
        if sealed.tables.is_empty() && state == self.destination.state() && !self.ends_resync {
            return Event::Committed;
        }
        let state_bytes = state.len() as u64;
        let Sealed { tables, files, synced_at_ms } = sealed;
        match self.destination.commit(CommitRequest { state, synced_at_ms, tables, files }).await {
            Ok(committed) => {
                self.head_seq = Some(committed.seq);
                self.base = None;
                self.ends_resync = false;
                self.context.progress.send_modify(|progress| {
                    progress.checkpoints += 1;
                    progress.last_checkpoint_at_ms = Some(now_ms());
                    progress.state_bytes = state_bytes;
                });
                self.note_set_aside();
                Event::Committed
            }
            Err(error) => self.step_failed(error.into()),
        }
    }

    async fn acknowledge(&mut self, id: u64) -> Event {
        failpoint::hit("P11");
        match self.context.unless_cancelled(self.source.acknowledge(id)).await {
            Some(Ok(())) => Event::Acknowledged,
            Some(Err(error)) => self.source_failed(error.into()),
            None => self.stopped(Stop::Cancel),
        }
    }

    /// A roll-forward may be cut off anywhere: the next opening of the destination finishes it.
    async fn apply(&mut self) -> Event {
        let applied = self.context.unless_cancelled(self.destination.apply()).await;
        self.note_set_aside();
        match applied {
            Some(Ok(_)) => Event::Applied,
            Some(Err(error)) => self.step_failed(error.into()),
            None => self.stopped(Stop::Cancel),
        }
    }

    async fn collect(&mut self) -> Event {
        let Some(result) = self.context.unless_cancelled(self.destination.collect_garbage()).await else {
            return self.stopped(Stop::Cancel);
        };
        match result {
            Ok(collected) => {
                tracing::info!(files = collected.files_deleted, bytes = collected.bytes, "garbage collected");
                Event::Collected
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "garbage could not be collected");
                Event::StepFailed
            }
        }
    }

    /// A sync without a good end collects no garbage; what it wrote and no commit names may be large.
    async fn discard(&mut self, verdict: Verdict) {
        if !matches!(verdict, Verdict::Cancelled | Verdict::Fenced | Verdict::StepFailed) {
            return;
        }
        match tokio::time::timeout(DISCARD_MAX, self.destination.discard()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "staged files could not be removed");
            }
            Err(_) => tracing::warn!("staged files were not removed in time: the next sync collects them"),
        }
    }

    /// Lends the window to a worker thread: folding and spilling are CPU and disk work.
    async fn on_worker<F>(&mut self, work: F) -> Result<(), Error>
    where
        F: FnOnce(&mut Window) -> Result<(), batch::Error> + Send + 'static,
    {
        let mut window = self.window.take().ok_or(Error::WorkerStopped)?;
        let worker = tokio::task::spawn_blocking(move || {
            let result = work(&mut window);
            (window, result)
        });
        let (window, result) = worker.await.map_err(|_| Error::WorkerStopped)?;
        self.window = Some(window);
        Ok(result?)
    }

    fn publish_counts(&self) {
        if let Some(window) = &self.window {
            self.context.progress.send_modify(|progress| progress.tables.clone_from(window.counts()));
        }
    }

    fn stage(&self, stage: Stage) {
        self.context.progress.send_modify(|progress| progress.stage = stage);
    }

    fn source_failed(&mut self, error: Error) -> Event {
        self.failure.get_or_insert(error);
        Event::SourceFailed
    }

    /// Whichever step learns that a newer writer holds the connection, the sync ends fenced.
    fn step_failed(&mut self, error: Error) -> Event {
        let fenced = matches!(&error, Error::Destination(error) if error.is_fenced());
        self.failure.get_or_insert(error);
        if fenced { Event::Fenced } else { Event::StepFailed }
    }
}

/// The schema of shared tables is no connector's.
fn check_schema(event: &connector::Event) -> Result<(), destination::Error> {
    let shared = |table: &&TableName| table.schema == SHARED_SCHEMA;
    let found = match event {
        connector::Event::Schema(tables) => tables.iter().map(|table| &table.name).find(shared),
        connector::Event::Rows(rows) => Some(&rows.table).filter(shared),
        connector::Event::Truncate { table, .. } | connector::Event::FileEnd { table, .. } => {
            Some(table).filter(shared)
        }
        _ => None,
    };
    found.map_or(Ok(()), |table| Err(destination::Error::NameReserved { table: table.clone() }))
}

mod admit;
mod lines;
mod resync;
#[cfg(test)]
mod tests;
