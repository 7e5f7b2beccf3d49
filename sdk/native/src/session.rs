//! One sync in this process: what the operations do, between the builders and the link.
//!
//! A checkpoint is one at a time; while it waits for the job, other threads fill the next window.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use inshore_columnar::frame::{FRAME_VERSION, Frame, Kind};
use inshore_columnar::{Inference, Naming, Op};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Value as Json, json};

use crate::link::{Link, Lost, WAIT_STEP, Waited};
use crate::rows::{Appended, RowError, Rows, Settings, check_names};
use crate::slow::SlowRow;

/// Waiting longer than this for a checkpoint is worth a line in the log.
const STALL_NOTICE_STEPS: u128 = 60_000 / WAIT_STEP.as_millis();

/// Schema, table, key columns, columns with their type: as checked by `inshore_schema`.
pub(crate) type DeclaredTable = (Option<String>, String, Vec<String>, Vec<(String, Option<String>)>);

static SESSION: OnceLock<Session> = OnceLock::new();

thread_local! {
    static WAITED_NS: Cell<u64> = const { Cell::new(0) };
}

/// What this thread has waited for room in the queue so far.
pub(crate) fn waited_ns() -> u64 {
    WAITED_NS.with(Cell::get)
}

pub(crate) struct Session {
    link: Arc<Link>,
    rows: Mutex<Rows>,
    checkpoint: Mutex<()>,
    sent: AtomicU64,
    ended: AtomicBool,
    /// Steps that a checkpoint waits before it raises; none: for ever.
    checkpoint_steps_max: Option<u128>,
}

/// The session of this process; operations outside a sync are a mistake of the caller.
pub(crate) fn current() -> PyResult<&'static Session> {
    SESSION.get().ok_or_else(|| PyRuntimeError::new_err("operations work only while a sync runs"))
}

pub(crate) fn attach(py: Python<'_>) -> PyResult<String> {
    let (stream, start) = py.detach(Link::open).map_err(lost)?;
    let settings = settings(&start)?;
    let link = py.detach(|| Link::start(stream)).map_err(lost)?;
    send(&link, Kind::Hello, &json!({"version": FRAME_VERSION}))?;
    let session = Session {
        link: Arc::clone(&link),
        rows: Mutex::new(Rows::new(settings, link)),
        checkpoint: Mutex::new(()),
        sent: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        checkpoint_steps_max: checkpoint_steps_max(&start),
    };
    SESSION.set(session).map_err(|_| PyRuntimeError::new_err("this process already runs a sync"))?;
    Ok(start)
}

fn settings(start: &str) -> PyResult<Settings> {
    let broken = |what: &str| PyRuntimeError::new_err(format!("the job's start message has no usable {what}"));
    let start: Json = serde_json::from_str(start).map_err(|_| broken("JSON"))?;
    let schema = start.get("schema").and_then(Json::as_str).ok_or_else(|| broken("schema"))?;
    let naming: Naming = start
        .get("naming")
        .and_then(|naming| serde_json::from_value(naming.clone()).ok())
        .ok_or_else(|| broken("naming"))?;
    let inference: Inference = start
        .get("inference")
        .and_then(|inference| serde_json::from_value(inference.clone()).ok())
        .ok_or_else(|| broken("inference"))?;
    Ok(Settings { schema: schema.to_owned(), naming, inference })
}

/// `checkpoint_timeout_ms` of the start message: simulations of the original runtime have one.
fn checkpoint_steps_max(start: &str) -> Option<u128> {
    let start: Json = serde_json::from_str(start).ok()?;
    let timeout_ms = start.get("checkpoint_timeout_ms")?.as_u64()?;
    Some(u128::from(timeout_ms).div_ceil(WAIT_STEP.as_millis()))
}

impl Session {
    pub(crate) fn declare(&self, py: Python<'_>, tables: Vec<DeclaredTable>) -> PyResult<()> {
        let declared = self.rows(py).declare(tables);
        let schemas = declared.map_err(|error| error.raise(py))?;
        send(&self.link, Kind::Schema, &json!({"tables": schemas}))
    }

    pub(crate) fn emit(
        &self,
        op: Op,
        table: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = table.py();
        self.check_open()?;
        match self.emit_fast(op, table, data, schema).map_err(|error| error.raise(py))? {
            (_, Appended::Done) => {}
            (index, Appended::NeedsPython) => self.emit_slowly(op, index, data)?,
        }
        if self.link.has_room() { Ok(()) } else { self.wait_for_room(py) }
    }

    /// Back-pressure: what it takes is noted for whoever profiles the connector.
    #[cold]
    fn wait_for_room(&self, py: Python<'_>) -> PyResult<()> {
        let clock = py.import("time")?.getattr("perf_counter_ns")?;
        let began: u64 = clock.call0()?.extract()?;
        let waited = self.wait(py, Link::wait_for_room);
        let ended: u64 = clock.call0()?.extract()?;
        WAITED_NS.with(|total| total.set(total.get() + ended.saturating_sub(began)));
        waited
    }

    /// A row with a file: arguments are checked in the order of every operation, the bytes leave, then the row and the
    /// word that its file is whole go under one lock, so that no checkpoint comes between.
    #[cold]
    pub(crate) fn emit_with_file(
        &self,
        op: Op,
        table: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        file: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.check_open()?;
        check_names(table, schema)?;
        let uploads = file.py().import("fivetran_connector_sdk.file_upload")?;
        let (upload, path): (u64, String) = uploads.call_method1("send", (file,))?.extract()?;
        let named = uploads.call_method1("named", (data, &path));
        let emitted = named.and_then(|row| self.emit_file_row(op, table, &row, schema, (upload, &path)));
        if emitted.is_err() {
            self.file_abandon(upload);
        }
        emitted?;
        self.wait(file.py(), Link::wait_for_room)
    }

    fn emit_file_row(
        &self,
        op: Op,
        table: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        (upload, path): (u64, &str),
    ) -> PyResult<()> {
        let py = data.py();
        let mut row = SlowRow::collect(data)?;
        let resolved = {
            let mut rows = self.rows(py);
            rows.table(table, schema).and_then(|index| rows.resolve(index, &mut row).map(|()| index))
        };
        let index = resolved.map_err(|error| error.raise(py))?;
        row.convert()?;
        self.check_open()?;
        let appended = {
            let mut rows = self.rows(py);
            let end = json!({"upload": upload, "table": rows.name(index), "path": path});
            rows.append_converted(index, op, &row).map(|()| send(&self.link, Kind::FileEnd, &end))
        };
        appended.map_err(|error| error.raise(py))?
    }

    pub(crate) fn file_chunk(&self, py: Python<'_>, upload: u64, chunk: &[u8]) -> PyResult<()> {
        self.check_open()?;
        let mut payload = Vec::with_capacity(size_of::<u64>() + chunk.len());
        payload.extend_from_slice(&upload.to_le_bytes());
        payload.extend_from_slice(chunk);
        self.link.push_control(Frame { kind: Kind::FileChunk, payload });
        self.wait(py, Link::wait_for_room)
    }

    pub(crate) fn file_abandon(&self, upload: u64) {
        if !self.ended.load(Ordering::Acquire)
            && let Ok(frame) = Frame::json(Kind::FileAbandon, &json!({"upload": upload}))
        {
            self.link.push_control(frame);
        }
    }

    fn emit_fast(
        &self,
        op: Op,
        table: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
    ) -> Result<(usize, Appended), RowError> {
        let mut rows = self.rows(table.py());
        let index = rows.table(table, schema)?;
        if !data.is_exact_instance_of::<PyDict>() {
            return Ok((index, Appended::NeedsPython));
        }
        let row = data.cast_exact::<PyDict>().map_err(PyErr::from)?;
        Ok((index, rows.append(index, op, row)?))
    }

    /// The same in three steps, so that values are converted while nothing is locked.
    #[cold]
    fn emit_slowly(&self, op: Op, index: usize, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let mut row = SlowRow::collect(data)?;
        let resolved = self.rows(py).resolve(index, &mut row);
        resolved.map_err(|error| error.raise(py))?;
        row.convert()?;
        let appended = self.rows(py).append_converted(index, op, &row);
        appended.map_err(|error| error.raise(py))
    }

    pub(crate) fn truncate(
        &self,
        table: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        deferred: bool,
    ) -> PyResult<()> {
        let py = table.py();
        self.check_open()?;
        let mut rows = self.rows(py);
        let index = match rows.table(table, schema) {
            Ok(index) => index,
            Err(error) => {
                drop(rows);
                return Err(error.raise(py));
            }
        };
        rows.flush(index);
        send(&self.link, Kind::Truncate, &json!({"table": rows.name(index), "deferred": deferred}))
    }

    pub(crate) fn checkpoint(&self, py: Python<'_>, state: &str) -> PyResult<()> {
        self.check_open()?;
        let _one_at_a_time = lock_without_gil(py, &self.checkpoint);
        let checkpoint = self.sent.fetch_add(1, Ordering::AcqRel) + 1;
        {
            let mut rows = self.rows(py);
            rows.flush_all();
            // The state is spliced in as it is: parsing and printing it again would only cost time.
            let payload = format!("{{\"checkpoint\":{checkpoint},\"state\":{state}}}").into_bytes();
            self.link.push_control(Frame { kind: Kind::Checkpoint, payload });
        }
        self.wait_at_most(py, self.checkpoint_steps_max, |link| link.wait_for_ack(checkpoint))
    }

    pub(crate) fn error(&self, py: Python<'_>, message: &str, trace: Option<&str>) -> PyResult<()> {
        self.check_open()?;
        // The builders are held so that no row can slip between: the job commits nothing after this frame.
        let mut rows = self.rows(py);
        rows.flush_all();
        send(&self.link, Kind::Error, &json!({"message": message, "trace": trace}))
    }

    pub(crate) fn warning(&self, py: Python<'_>, message: &str, topic: &str) -> PyResult<()> {
        self.check_open()?;
        send(&self.link, Kind::Warning, &json!({"message": message, "topic": topic}))?;
        self.wait(py, Link::wait_for_room)
    }

    pub(crate) fn answer(&self, answer: &str) -> PyResult<()> {
        self.check_open()?;
        self.link.push_control(Frame { kind: Kind::Answer, payload: answer.as_bytes().to_vec() });
        Ok(())
    }

    pub(crate) fn finish(&self, py: Python<'_>, ending: &str) -> PyResult<()> {
        {
            let mut rows = self.rows(py);
            self.end();
            rows.flush_all();
            self.link.set_ending();
            send(&self.link, Kind::End, &json!({"exit": ending}))?;
        }
        self.wait(py, Link::wait_until_written)
    }

    pub(crate) fn fail(&self, py: Python<'_>, kind: &str, trace: &str) -> PyResult<()> {
        {
            let mut rows = self.rows(py);
            self.end();
            rows.discard();
            self.link.set_ending();
            send(&self.link, Kind::Failed, &json!({"kind": kind, "trace": trace}))?;
        }
        self.wait(py, Link::wait_until_written)
    }

    /// Later operations raise. Takes no lock: a forked child may have inherited one that nobody will release.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn check_open(&self) -> PyResult<()> {
        if self.ended.load(Ordering::Acquire) {
            return Err(PyRuntimeError::new_err("the sync has ended, or this process was forked from it"));
        }
        Ok(())
    }

    fn rows(&self, py: Python<'_>) -> MutexGuard<'_, Rows> {
        lock_without_gil(py, &self.rows)
    }

    fn wait(&self, py: Python<'_>, step: impl Fn(&Link) -> Waited + Sync) -> PyResult<()> {
        self.wait_at_most(py, None, step)
    }

    /// Waits without the GIL, in steps, so that Ctrl-C reaches the main thread.
    fn wait_at_most(
        &self,
        py: Python<'_>,
        steps_max: Option<u128>,
        step: impl Fn(&Link) -> Waited + Sync,
    ) -> PyResult<()> {
        let mut steps = 0;
        loop {
            match py.detach(|| step(&self.link)) {
                Waited::Done => return Ok(()),
                Waited::Lost => return Err(PyRuntimeError::new_err("the link to the job is lost")),
                Waited::NotYet => py.check_signals()?,
            }
            steps += 1;
            if steps_max.is_some_and(|most| steps >= most) {
                let seconds = (steps * WAIT_STEP.as_millis()).div_ceil(1000);
                let message = format!("the checkpoint was not confirmed within {seconds} seconds");
                return Err(PyTimeoutError::new_err(message));
            }
            if steps == STALL_NOTICE_STEPS {
                let message = "the connector has been waiting for the destination for 60 seconds";
                send(&self.link, Kind::Log, &json!({"level": "INFO", "message": message, "origin": "library"}))?;
            }
        }
    }
}

/// Whoever holds the lock may need the GIL to go on, so a waiting thread must not keep it.
fn lock_without_gil<'a, T: Send>(py: Python<'_>, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    use pyo3::sync::MutexExt;
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => mutex.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner),
    }
}

fn send(link: &Link, kind: Kind, payload: &Json) -> PyResult<()> {
    let frame = Frame::json(kind, payload).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    link.push_control(frame);
    Ok(())
}

fn lost(error: Lost) -> PyErr {
    PyRuntimeError::new_err(error.0)
}
