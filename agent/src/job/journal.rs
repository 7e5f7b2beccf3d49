//! The connector's own log on this host: what its code prints, logs and raises, one JSON object a line. These lines are
//! the user's data: they may hold rows and never reach the agent's log or the control plane.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::context::now_ms;

/// A journal that reaches this size moves aside, and the one before it goes: a connection keeps at most twice as much.
const BYTES_MAX: u64 = 16 << 20;

/// One sync takes so much at most, warnings and worse apart: it cannot push out the syncs before it.
const SYNC_BYTES_MAX: u64 = 8 << 20;

/// A longer message is cut.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// One connection's journal, opened for appending: two files of [`BYTES_MAX`] at most, however much a connector says.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The sync whose lines these are.
    job: String,
    open: Option<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    /// Of this sync, and the lines that it had too many.
    own_bytes: u64,
    left_out: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: i64,
    job: &'a str,
    level: &'static str,
    origin: &'static str,
    message: &'a str,
}

impl Journal {
    /// Opens the journal of a connection. A journal that cannot be opened costs the lines, not the sync.
    pub(crate) fn open(path: &Path, job: &str) -> Self {
        let job = job.to_owned();
        match Open::new(path) {
            Ok(open) => Self { job, open: Some(Mutex::new(open)) },
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the connector's journal cannot be opened");
                Self { job, open: None }
            }
        }
    }

    /// Appends one line of the connector.
    pub(crate) fn line(&self, line: &LogLine) {
        self.append(level(line.level), origin(line.origin), &line.message);
    }

    /// Appends why the connector failed, in full.
    pub(crate) fn failure(&self, text: &str) {
        self.append("severe", "library", text);
    }

    fn append(&self, level: &'static str, origin: &'static str, message: &str) {
        let Some(open) = &self.open else { return };
        let message = cut(message);
        let important = !matches!(level, "debug" | "info");
        let Ok(mut bytes) = serde_json::to_vec(&Line { at_ms: now_ms(), job: &self.job, level, origin, message })
        else {
            return;
        };
        bytes.push(b'\n');
        let written = open.lock().unwrap_or_else(PoisonError::into_inner).take(&bytes, important);
        if let Err(error) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "a line of the connector's journal was lost");
        }
    }
}

impl Open {
    fn new(path: &Path) -> std::io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { path: path.to_owned(), file: create(path)?, own_bytes: 0, left_out: 0 })
    }

    fn take(&mut self, line: &[u8], important: bool) -> std::io::Result<()> {
        if self.own_bytes > SYNC_BYTES_MAX && !important {
            self.left_out += 1;
            return Ok(());
        }
        self.own_bytes += line.len() as u64;
        self.append(line)
    }

    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes()?.saturating_add(length) > BYTES_MAX {
            self.turn(length)?;
        }
        self.file.write_all(line)
    }

    /// How large the journal is. Another job of the connection may have moved aside the file that is open here: then the one
    /// that took its place is opened.
    fn bytes(&mut self) -> std::io::Result<u64> {
        let open = self.file.metadata()?;
        let is_same = |at: &Metadata| (at.dev(), at.ino()) == (open.dev(), open.ino());
        if std::fs::metadata(&self.path).is_ok_and(|at| is_same(&at)) {
            return Ok(open.len());
        }
        self.file = create(&self.path)?;
        Ok(self.file.metadata()?.len())
    }

    /// Moves the full journal aside, unless another job did while this one waited for the lock.
    fn turn(&mut self, length: u64) -> std::io::Result<()> {
        let full = self.file.try_clone()?;
        full.lock()?;
        let turned = match self.bytes() {
            Ok(bytes) if bytes.saturating_add(length) > BYTES_MAX => {
                std::fs::rename(&self.path, aside(&self.path)).and_then(|()| create(&self.path))
            }
            Ok(_) => Ok(self.file.try_clone()?),
            Err(error) => Err(error),
        };
        full.unlock()?;
        self.file = turned?;
        Ok(())
    }
}

impl Drop for Journal {
    /// Says at the end of the sync what it had too many.
    fn drop(&mut self) {
        let Some(open) = &mut self.open else { return };
        let open = open.get_mut().unwrap_or_else(PoisonError::into_inner);
        if open.left_out == 0 {
            return;
        }
        let message = format!(
            "{} lines below WARNING were left out: a sync keeps {SYNC_BYTES_MAX} bytes of them in this journal",
            open.left_out
        );
        let line = Line { at_ms: now_ms(), job: &self.job, level: "warning", origin: "library", message: &message };
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return };
        bytes.push(b'\n');
        if let Err(error) = open.append(&bytes) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a line of the connector's journal was lost");
        }
    }
}

fn cut(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or(message)
}

fn create(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

/// Where a journal that is full moves to.
pub(crate) fn aside(path: &Path) -> PathBuf {
    path.with_extension("1.jsonl")
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
        LogLevel::Severe => "severe",
    }
}

fn origin(origin: LogOrigin) -> &'static str {
    match origin {
        LogOrigin::Connector => "connector",
        LogOrigin::Library => "library",
        LogOrigin::Output => "output",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_one_json_object_each_and_only_the_owner_reads_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("logs/con_1.jsonl");
        let journal = Journal::open(&path, "job_1");
        let line =
            LogLine { level: LogLevel::Info, origin: LogOrigin::Output, message: "two\nlines \"quoted\"".to_owned() };
        journal.line(&line);
        journal.failure("Traceback …");
        let text = std::fs::read_to_string(&path).expect("is there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "two\nlines \"quoted\"");
        assert_eq!(lines[1]["level"], "severe");
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_sync_has_its_share_and_its_warnings_pass() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("con_1.jsonl");
        let line = |level, message: &str| LogLine { level, origin: LogOrigin::Output, message: message.to_owned() };
        let journal = Journal::open(&path, "job_1");
        (0..100).for_each(|_| journal.line(&line(LogLevel::Info, &"x".repeat(100 << 10))));
        journal.line(&line(LogLevel::Warning, "passes"));
        drop(journal);
        let text = std::fs::read_to_string(&path).expect("is there");
        assert!((text.len() as u64) < SYNC_BYTES_MAX + (1 << 20), "{}", text.len());
        let last: Vec<&str> = text.lines().rev().take(2).collect();
        assert!(last[1].contains("passes") && last[0].contains("18 lines below WARNING were left out"), "{last:?}");
    }

    #[test]
    fn two_jobs_of_a_connection_lose_no_line_of_each_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("con_1.jsonl");
        std::fs::write(&path, vec![b'x'; usize::try_from(BYTES_MAX).expect("fits")]).expect("a full journal");
        let (one, two) = (Journal::open(&path, "job_1"), Journal::open(&path, "job_2"));
        // One moves the full journal aside; the other goes on in the fresh one, and does not move that aside.
        one.failure("first");
        two.failure("second");
        let lines = |path: &Path| std::fs::read_to_string(path).expect("is there").lines().count();
        let bytes = |path: &Path| std::fs::metadata(path).expect("is there").len();
        assert_eq!((bytes(&aside(&path)), lines(&path)), (BYTES_MAX, 2));
        // Both fill the journal, whose size counts the lines of both.
        let long = "x".repeat(MESSAGE_BYTES_MAX);
        for _ in 0..40 {
            one.failure(&long);
            two.failure(&long);
        }
        assert_eq!(lines(&aside(&path)) + lines(&path), 82);
        assert!(bytes(&path) <= BYTES_MAX && bytes(&aside(&path)) <= BYTES_MAX);
    }

    #[test]
    fn a_large_journal_moves_aside() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("con_1.jsonl");
        std::fs::write(&path, vec![b'x'; usize::try_from(BYTES_MAX).expect("fits") + 1]).expect("a large journal");
        Journal::open(&path, "job_1").failure("new");
        assert!(std::fs::metadata(&path).expect("is there").len() < 1_000);
        assert!(aside(&path).is_file());
    }

    #[test]
    fn lines_that_never_end_take_no_more_than_two_journals() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("con_1.jsonl");
        let journal = Journal::open(&path, "job_1");
        let long = "x".repeat(1 << 20);
        // Each is cut to 256 KiB: 50 MiB in all.
        for _ in 0..200 {
            journal.failure(&long);
        }
        let bytes = |path: &Path| std::fs::metadata(path).expect("is there").len();
        assert!(bytes(&path) <= BYTES_MAX && bytes(&aside(&path)) <= BYTES_MAX);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
