//! The native half of the connector SDK, Python module `_inshore`: each row dict goes straight into the columnar
//! builders, and batches and control frames leave over the socket that the job passed as stdin.
//!
//! Invariant: no code of a connector ever runs while the builders are locked, so a value's own methods may call
//! operations, and other threads may emit, without a deadlock.

mod borrowed;
mod json;
mod link;
mod rows;
mod session;
mod slow;
mod value;

use pyo3::prelude::*;

/// The functions that the Python packages build on.
#[pymodule(gil_used = true)]
mod _inshore {
    use inshore_columnar::Op;
    use pyo3::prelude::*;

    use crate::session::{self, DeclaredTable};

    /// Takes the socket over from stdin, waits for the job's start message and returns it as JSON.
    #[pyfunction]
    fn attach(py: Python<'_>) -> PyResult<String> {
        session::attach(py)
    }

    #[pyfunction]
    fn declare(py: Python<'_>, tables: Vec<DeclaredTable>) -> PyResult<()> {
        session::current()?.declare(py, tables)
    }

    #[pyfunction]
    #[pyo3(signature = (table, data, *, schema = None, file = None))]
    fn upsert(
        table: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        file: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match file {
            None => session::current()?.emit(Op::Upsert, table, data, schema),
            Some(file) => session::current()?.emit_with_file(Op::Upsert, table, data, schema, file),
        }
    }

    #[pyfunction]
    #[pyo3(signature = (table, modified, *, schema = None, file = None))]
    fn update(
        table: &Bound<'_, PyAny>,
        modified: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        file: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match file {
            None => session::current()?.emit(Op::Update, table, modified, schema),
            Some(file) => session::current()?.emit_with_file(Op::Update, table, modified, schema, file),
        }
    }

    /// Bytes of a file, in the order of its stream; the number is the caller's own.
    #[pyfunction]
    fn file_chunk(py: Python<'_>, upload: u64, chunk: &[u8]) -> PyResult<()> {
        session::current()?.file_chunk(py, upload, chunk)
    }

    /// Drops what was sent of a file. Never raises: whoever calls it has an error in hand.
    #[pyfunction]
    fn file_abandon(upload: u64) {
        if let Ok(session) = session::current() {
            session.file_abandon(upload);
        }
    }

    #[pyfunction]
    #[pyo3(signature = (table, keys, *, schema = None))]
    fn delete(table: &Bound<'_, PyAny>, keys: &Bound<'_, PyAny>, schema: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        session::current()?.emit(Op::Delete, table, keys, schema)
    }

    #[pyfunction]
    #[pyo3(signature = (table, *, schema = None, deferred = false))]
    fn truncate(table: &Bound<'_, PyAny>, schema: Option<&Bound<'_, PyAny>>, deferred: bool) -> PyResult<()> {
        session::current()?.truncate(table, schema, deferred)
    }

    /// Sends everything before it, then waits without the GIL until the job says that it is durable.
    #[pyfunction]
    fn checkpoint(py: Python<'_>, state: &str) -> PyResult<()> {
        session::current()?.checkpoint(py, state)
    }

    /// Nanoseconds that this thread has waited for the job to take rows.
    #[pyfunction]
    fn waited_ns() -> u64 {
        session::waited_ns()
    }

    #[pyfunction]
    #[pyo3(signature = (message, trace))]
    fn error(py: Python<'_>, message: &str, trace: Option<&str>) -> PyResult<()> {
        session::current()?.error(py, message, trace)
    }

    /// `topic` says who warns: the connector itself, or one of the runtime's own rules.
    #[pyfunction]
    fn warning(py: Python<'_>, message: &str, topic: &str) -> PyResult<()> {
        session::current()?.warning(py, message, topic)
    }

    /// What the project said when it was asked for its form or its tests, as JSON.
    #[pyfunction]
    fn answer(answer: &str) -> PyResult<()> {
        session::current()?.answer(answer)
    }

    /// The last rows, then the end of the sync. Later operations raise.
    #[pyfunction]
    fn finish(py: Python<'_>, ending: &str) -> PyResult<()> {
        session::current()?.finish(py, ending)
    }

    /// A forked child has neither the threads nor the link of its parent: its operations raise.
    #[pyfunction]
    fn forked() {
        if let Ok(session) = session::current() {
            session.end();
        }
    }

    /// Drops what was not checkpointed and tells the job why the sync failed.
    #[pyfunction]
    fn fail(py: Python<'_>, kind: &str, trace: &str) -> PyResult<()> {
        session::current()?.fail(py, kind, trace)
    }
}
