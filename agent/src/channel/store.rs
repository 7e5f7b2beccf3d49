//! The durable inbox and outbox: one SQLite file behind one seam, synchronous and FULL, so that what a method returned
//! is on disk. It holds ids, counters, enums and sealed values: no rows, no secrets.
//!
//! Inbox: one row per accepted (job id, generation), with its spec and the newest message about it; a repeated offer is
//! answered from there. Outbox: what the control plane has not acknowledged yet, by rising numbers that are never
//! reused. Assume a crash after every statement: each method is one transaction.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inshore_protocol::limits::GENERATION_STEP_MAX;
use inshore_protocol::{JobRef, JobSpec, JobState, Outcome, Phase, RefusalReason, Up, decode_up, encode};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// Finished and acknowledged inbox rows that are kept to answer late repeats.
const FINISHED_ROWS_MAX: u32 = 10_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS inbox (
    job_id TEXT NOT NULL, generation INTEGER NOT NULL, spec BLOB NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0, answer BLOB NOT NULL, answer_seq INTEGER NOT NULL,
    PRIMARY KEY (job_id, generation)) STRICT;
CREATE INDEX IF NOT EXISTS inbox_by_finished ON inbox (finished, answer_seq);
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL) STRICT;
";

/// The store cannot be trusted or used. Code AGT-002.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("use the inbox and outbox at {path}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("make the inbox and outbox at {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("use the inbox and outbox at {path}: a stored message does not decode")]
    Content { path: PathBuf },
    #[error("record the outcome of {job}: it was never accepted here")]
    NotAccepted { job: JobRef },
}

/// What the inbox says about an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not seen: admission decides.
    New,
    /// Accepted or finished before: the recorded answer, to be sent again.
    Answered(Box<Up>),
    /// Below a generation seen before, or further above it than generations rise.
    WrongGeneration,
}

/// Whether an acceptance is the first of its (job id, generation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// Start the job.
    New,
    /// It was started before.
    Repeated,
    /// A newer generation was accepted since the inbox was asked. Refuse it.
    WrongGeneration,
}

/// A cheap clone to the one open store of the agent.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Connection>>,
    path: Arc<PathBuf>,
}

impl Store {
    /// Opens or makes the store. SQLite gives its other files the mode of this one.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let private = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        drop(private.map_err(|source| Error::File { path: path.to_owned(), source })?);
        let error = |source| Error::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(error)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(error)?;
        connection.execute_batch(SCHEMA).map_err(error)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path: Arc::new(path.to_owned()) })
    }

    /// What is known about an offer. Reads only.
    pub(crate) fn lookup(&self, job: &JobRef) -> Result<Known, Error> {
        self.transaction(|transaction| {
            if let Some(answer) = answer_of(transaction, job)? {
                return Ok(decode_up(&answer).map(|answer| Known::Answered(Box::new(answer))).ok());
            }
            Ok(Some(if fits(transaction, job)? { Known::New } else { Known::WrongGeneration }))
        })?
        .ok_or_else(|| self.content())
    }

    /// Records an acceptance, durable when it returns; only then may it be answered, and the job started. Offers wait in
    /// a queue between [`Store::lookup`] and here, so what was looked up is looked at again.
    pub(crate) fn accept(&self, spec: &JobSpec) -> Result<Acceptance, Error> {
        let job = spec.job_ref();
        crate::failpoint::hit("P1");
        let acceptance = self.transaction(|transaction| {
            if answer_of(transaction, &job)?.is_some() {
                return Ok(Acceptance::Repeated);
            }
            if !fits(transaction, &job)? {
                return Ok(Acceptance::WrongGeneration);
            }
            let JobRef { job_id, generation } = job.clone();
            let (seq, answer) = enqueue(transaction, |outbox_seq| Up::Accepted { outbox_seq, job_id, generation })?;
            transaction.execute(
                "INSERT INTO inbox (job_id, generation, spec, answer, answer_seq) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![job.job_id.as_str(), job.generation.cast_signed(), encode(spec), answer, seq],
            )?;
            Ok(Acceptance::New)
        })?;
        crate::failpoint::hit("P2");
        Ok(acceptance)
    }

    /// Records a refusal. The inbox does not keep it: the same offer may be admitted later. What was accepted cannot be
    /// refused any more, so a repeat that arrived before the acceptance changes nothing.
    pub(crate) fn refuse(&self, job: &JobRef, reason: RefusalReason, retry_after_ms: Option<u64>) -> Result<(), Error> {
        self.transaction(|transaction| {
            if answer_of(transaction, job)?.is_some() {
                return Ok(());
            }
            let JobRef { job_id, generation } = job.clone();
            enqueue(transaction, |outbox_seq| Up::Refused { outbox_seq, job_id, generation, reason, retry_after_ms })?;
            Ok(())
        })
    }

    /// Records the single outcome of an attempt, durable when it returns. A second one changes nothing.
    pub(crate) fn finish(&self, outcome: &Outcome) -> Result<(), Error> {
        let job = JobRef { job_id: outcome.job_id.clone(), generation: outcome.generation };
        let found = self.transaction(|transaction| {
            let finished: Option<i64> = transaction
                .query_row(
                    "SELECT finished FROM inbox WHERE job_id = ?1 AND generation = ?2",
                    params![job.job_id.as_str(), job.generation.cast_signed()],
                    |row| row.get(0),
                )
                .optional()?;
            if finished == Some(0) {
                let (seq, answer) = enqueue(transaction, |outbox_seq| {
                    Up::Outcome(Box::new(Outcome { outbox_seq, ..outcome.clone() }))
                })?;
                transaction.execute(
                    "UPDATE inbox SET finished = 1, answer = ?3, answer_seq = ?4 WHERE job_id = ?1 AND generation = ?2",
                    params![job.job_id.as_str(), job.generation.cast_signed(), answer, seq],
                )?;
            }
            Ok(finished.is_some())
        })?;
        if found { Ok(()) } else { Err(Error::NotAccepted { job }) }
    }

    /// Everything up to `seq` is kept by the control plane; it need not be sent again.
    pub(crate) fn acknowledge(&self, seq: u64) -> Result<(), Error> {
        self.transaction(|transaction| {
            transaction.execute("DELETE FROM outbox WHERE seq <= ?1", params![clamp(seq)])?;
            transaction.execute(
                "DELETE FROM inbox WHERE finished = 1 AND answer_seq <= ?1 AND answer_seq NOT IN (
                     SELECT answer_seq FROM inbox WHERE finished = 1 ORDER BY answer_seq DESC LIMIT ?2)",
                params![clamp(seq), FINISHED_ROWS_MAX],
            )?;
            Ok(())
        })
    }

    /// The oldest unacknowledged message above `seq`.
    pub(crate) fn next_after(&self, seq: u64) -> Result<Option<(u64, Up)>, Error> {
        let row: Option<(i64, Vec<u8>)> = self.transaction(|transaction| {
            transaction
                .query_row(
                    "SELECT seq, body FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT 1",
                    params![clamp(seq)],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })?;
        let Some((seq, body)) = row else { return Ok(None) };
        let message = decode_up(&body).map_err(|_| self.content())?;
        Ok(Some((seq.cast_unsigned(), message)))
    }

    /// The newest outbox number that was ever used.
    pub(crate) fn newest_seq(&self) -> Result<u64, Error> {
        self.transaction(|transaction| {
            let newest: Option<i64> = transaction
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0))
                .optional()?;
            Ok(newest.unwrap_or(0).cast_unsigned())
        })
    }

    /// Accepted attempts without an outcome: what a restarted agent takes up again.
    pub(crate) fn unfinished(&self) -> Result<Vec<JobSpec>, Error> {
        let specs: Vec<Vec<u8>> = self.transaction(|transaction| {
            let mut statement = transaction.prepare("SELECT spec FROM inbox WHERE finished = 0 ORDER BY answer_seq")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })?;
        specs.iter().map(|spec| serde_json::from_slice(spec).map_err(|_| self.content())).collect()
    }

    /// Attempts whose outcome the control plane has not acknowledged.
    pub(crate) fn finished_unacknowledged(&self) -> Result<Vec<JobState>, Error> {
        let rows: Vec<(String, i64)> = self.transaction(|transaction| {
            let mut statement = transaction.prepare(
                "SELECT job_id, generation FROM inbox JOIN outbox ON seq = answer_seq WHERE finished = 1 ORDER BY seq",
            )?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        rows.into_iter()
            .map(|(job_id, generation)| {
                let job_id = job_id.parse().map_err(|_| self.content())?;
                Ok(JobState { job_id, generation: generation.cast_unsigned(), phase: Phase::Finished })
            })
            .collect()
    }

    /// Whether everything was acknowledged.
    pub(crate) fn outbox_is_empty(&self) -> Result<bool, Error> {
        Ok(self.next_after(0)?.is_none())
    }

    /// One more than the last one, for ever: two holders of one identity cannot both have it.
    pub(crate) fn next_renewal_counter(&self) -> Result<u64, Error> {
        self.transaction(|transaction| {
            let value: i64 = transaction.query_row(
                "INSERT INTO counter (name, value) VALUES ('renewal', 1)
                 ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                [],
                |row| row.get(0),
            )?;
            Ok(value.cast_unsigned())
        })
    }

    fn transaction<T>(&self, act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let mut connection: MutexGuard<'_, Connection> = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let value = act(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run(&mut connection).map_err(|source| Error::Sqlite { path: self.path.as_ref().clone(), source })
    }

    fn content(&self) -> Error {
        Error::Content { path: self.path.as_ref().clone() }
    }
}

/// A number above what SQLite holds acknowledges nothing beyond what exists.
fn clamp(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Whether a generation lies above the newest accepted one of its job, by no more than generations rise.
fn fits(transaction: &Transaction<'_>, job: &JobRef) -> Result<bool, rusqlite::Error> {
    let newest: Option<i64> = transaction.query_row(
        "SELECT max(generation) FROM inbox WHERE job_id = ?1",
        params![job.job_id.as_str()],
        |row| row.get(0),
    )?;
    Ok(i64::try_from(job.generation).is_ok_and(|generation| {
        newest.is_none_or(|newest| generation > newest && generation.abs_diff(newest) <= GENERATION_STEP_MAX)
    }))
}

fn answer_of(transaction: &Transaction<'_>, job: &JobRef) -> rusqlite::Result<Option<Vec<u8>>> {
    transaction
        .query_row(
            "SELECT answer FROM inbox WHERE job_id = ?1 AND generation = ?2",
            params![job.job_id.as_str(), job.generation.cast_signed()],
            |row| row.get(0),
        )
        .optional()
}

/// The message needs its own number, so the row is made first and filled after.
fn enqueue(transaction: &Transaction<'_>, message: impl FnOnce(u64) -> Up) -> rusqlite::Result<(i64, Vec<u8>)> {
    transaction.execute("INSERT INTO outbox (body) VALUES (x'')", [])?;
    let seq = transaction.last_insert_rowid();
    let body = encode(&message(seq.cast_unsigned()));
    transaction.execute("UPDATE outbox SET body = ?2 WHERE seq = ?1", params![seq, body])?;
    Ok((seq, body))
}

#[cfg(test)]
mod tests;
