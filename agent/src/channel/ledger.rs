//! The egress ledger: the clear bytes of everything that goes up, appended and synced before they are encrypted and
//! sent. What is not in it is not sent. Lines are hash-chained, over segments of 64 MiB named by their first number.
//!
//! What surprises: after a failed write the file is closed and read again from the start of its segment before the next
//! append; a torn last line (a crash in the middle of a write, so never sent) is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inshore_trust::hash_chain::{Break, Head, Link};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A segment above this size is closed and a new one begun.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A process that was just killed may still be on its way out; a living one is waited for this long, not longer.
const LOCK_TRIES_MAX: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Nothing may be sent while one of these stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("write the ledger at {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("continue the ledger at {path}: it was altered; move it aside and keep it for inspection")]
    Broken { path: PathBuf, source: Break },
    #[error("open the ledger at {path}: another agent process uses this state directory")]
    Locked { path: PathBuf },
    #[error("write the ledger: the frame is not JSON")]
    Frame,
}

/// What a frame is, for the totals of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FrameClass {
    Session,
    State,
    Report,
    Package,
    Enrolment,
}

/// One upward frame, about to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Empty until the control plane has named the session.
    pub(crate) session: &'a str,
    pub(crate) seq: u64,
    pub(crate) kind: &'a str,
    pub(crate) class: FrameClass,
    pub(crate) body: &'a [u8],
}

#[derive(Serialize)]
struct Record<'a> {
    n: u64,
    prev_hash: &'a str,
    session: &'a str,
    seq: u64,
    kind: &'a str,
    class: FrameClass,
    bytes: usize,
    sha256: String,
    body: &'a RawValue,
}

/// The open ledger of one agent.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    segment_bytes_max: u64,
    open: Option<Segment>,
    /// Held for as long as the ledger is open: one writer per state directory.
    #[expect(dead_code, reason = "its drop releases the lock")]
    lock: File,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
    head: Head,
}

impl Ledger {
    /// Opens the ledger in `folder`, checks its newest segment, and stands behind its last line.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let lock = lock(folder)?;
        let mut ledger = Self { folder: folder.to_owned(), segment_bytes_max: SEGMENT_BYTES_MAX, open: None, lock };
        ledger.segment()?;
        Ok(ledger)
    }

    /// Appends one frame and returns only when it is on disk. A failure means: do not send it.
    pub(crate) fn append(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let limit = self.segment_bytes_max;
        let folder = self.folder.clone();
        let segment = self.segment()?;
        if segment.bytes >= limit {
            let head = segment.head.clone();
            *segment = Segment::begin(&folder, head)?;
        }
        let line = line(&segment.head, frame)?;
        let written = segment.append(&line);
        if written.is_err() {
            // The state of the file is unknown now: it is read again before the next append.
            self.open = None;
        }
        written
    }

    /// As after a failed write: the next append reads the folder again.
    #[cfg(test)]
    pub(crate) fn forget_for_test(&mut self) {
        self.open = None;
    }

    fn segment(&mut self) -> Result<&mut Segment, Error> {
        let segment = match self.open.take() {
            Some(segment) => segment,
            None => Segment::newest(&self.folder)?,
        };
        Ok(self.open.insert(segment))
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let error = |source| Error::Io { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(error)?;
    for _ in 0..LOCK_TRIES_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
    }
    Err(Error::Locked { path })
}

fn line(head: &Head, frame: Frame<'_>) -> Result<Vec<u8>, Error> {
    let Link { n, prev_hash } = head.link();
    let body: &RawValue = serde_json::from_slice(frame.body).map_err(|_| Error::Frame)?;
    let record = Record {
        n,
        prev_hash: &prev_hash,
        session: frame.session,
        seq: frame.seq,
        kind: frame.kind,
        class: frame.class,
        bytes: frame.body.len(),
        sha256: hex::encode(Sha256::digest(frame.body)),
        body,
    };
    serde_json::to_vec(&record).map_err(|_| Error::Frame)
}

impl Segment {
    /// The newest segment of the folder, or the first one.
    fn newest(folder: &Path) -> Result<Self, Error> {
        let error = |source| Error::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(error)?;
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(error)?;
        names.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        match names.into_iter().max() {
            Some(path) => Self::resume(path),
            None => Self::begin(folder, Head::default()),
        }
    }

    fn begin(folder: &Path, head: Head) -> Result<Self, Error> {
        let path = folder.join(format!("{:020}.jsonl", head.len()));
        let error = |source| Error::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&path).map_err(error)?;
        // The name must be as durable as the lines in it.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(error)?;
        Ok(Self { file, path: path.clone(), bytes: 0, head })
    }

    /// Reads a segment to its end. Its first line says where the whole chain stands: older segments are checked by an
    /// audit, not at every start.
    fn resume(path: PathBuf) -> Result<Self, Error> {
        let error = |source| Error::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(error)?;
        let (mut bytes, mut head) = (0_u64, None::<Head>);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(error)?;
            if line.pop() != Some(b'\n') {
                break;
            }
            let broken = |source| Error::Broken { path: path.clone(), source };
            let mut at = match head.take() {
                Some(head) => head,
                None => Head::before(&line).map_err(broken)?,
            };
            at.verify(&line).map_err(broken)?;
            bytes += read as u64;
            head = Some(at);
        }
        drop(reader);
        // Whatever follows the last whole line was never sent.
        file.set_len(bytes).and_then(|()| file.sync_all()).map_err(error)?;
        if let Some(head) = head {
            return Ok(Self { file, path, bytes, head });
        }
        // A crash just after a segment was begun: it goes, and the one before it is the newest again.
        std::fs::remove_file(&path).map_err(error)?;
        Self::newest(path.parent().unwrap_or(Path::new(".")))
    }

    fn append(&mut self, line: &[u8]) -> Result<(), Error> {
        let error = |source| Error::Io { path: self.path.clone(), source };
        let mut record = Vec::with_capacity(line.len() + 1);
        record.extend_from_slice(line);
        record.push(b'\n');
        self.file.write_all(&record).map_err(error)?;
        self.file.sync_data().map_err(error)?;
        self.bytes += record.len() as u64;
        self.head.advance(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Frame<'_> {
        Frame { session: "ses_1", seq: 1, kind: "heartbeat", class: FrameClass::State, body }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
        files.retain(|path| path.extension().is_some());
        files.sort();
        files
    }

    fn verify(folder: &Path) -> u64 {
        let mut head = Head::default();
        for path in files(folder) {
            for line in std::fs::read_to_string(path).expect("segment").lines() {
                head.verify(line.as_bytes()).expect("chain holds");
            }
        }
        head.len()
    }

    #[test]
    fn the_chain_goes_on_over_restarts_and_segments() {
        let folder = tempfile::tempdir().expect("folder");
        for round in 0..3_u64 {
            let mut ledger = Ledger::open(folder.path()).expect("open");
            ledger.segment_bytes_max = 600;
            for _ in 0..5 {
                ledger.append(frame(br#"{"kind":"heartbeat","x":[1,2]}"#)).expect("append");
            }
            assert_eq!(verify(folder.path()), (round + 1) * 5);
        }
        assert!(files(folder.path()).len() > 2);
    }

    #[test]
    fn a_torn_line_is_cut_and_an_altered_one_stops_everything() {
        let folder = tempfile::tempdir().expect("folder");
        let mut ledger = Ledger::open(folder.path()).expect("open");
        for _ in 0..3 {
            ledger.append(frame(b"{}")).expect("append");
        }
        drop(ledger);
        let path = files(folder.path()).remove(0);
        let text = std::fs::read_to_string(&path).expect("segment");
        std::fs::write(&path, format!("{text}{{\"n\":3,\"prev")).expect("tear");
        Ledger::open(folder.path()).expect("torn tail").append(frame(b"{}")).expect("append");
        assert_eq!(verify(folder.path()), 4);
        std::fs::write(&path, text.replacen("heartbeat", "heartbeet", 1)).expect("alter");
        assert!(matches!(Ledger::open(folder.path()), Err(Error::Broken { .. })));
    }

    #[test]
    fn an_empty_newest_segment_continues_the_one_before() {
        let folder = tempfile::tempdir().expect("folder");
        Ledger::open(folder.path()).expect("open").append(frame(b"{}")).expect("append");
        std::fs::write(folder.path().join(format!("{:020}.jsonl", 1)), "").expect("begun, then a crash");
        Ledger::open(folder.path()).expect("open").append(frame(b"{}")).expect("append");
        assert_eq!(verify(folder.path()), 2);
    }

    #[test]
    fn one_process_writes_at_a_time() {
        let folder = tempfile::tempdir().expect("folder");
        let ledger = Ledger::open(folder.path()).expect("open");
        assert!(matches!(Ledger::open(folder.path()), Err(Error::Locked { .. })));
        drop(ledger);
        assert!(Ledger::open(folder.path()).is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ledger");
        std::fs::write(&file, "a file where the folder should be").expect("write");
        assert!(matches!(Ledger::open(&file), Err(Error::Io { .. })));
        let mut ledger = Ledger::open(&folder.path().join("other")).expect("open");
        assert!(matches!(ledger.append(frame(b"not json")), Err(Error::Frame)));
    }
}
