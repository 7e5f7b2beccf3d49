//! Runs on local disk: sorted, folded rows that did not fit in memory. Each run has its own random key, held in memory
//! only, and a file without a name: after a crash nothing readable is left, and nothing needs cleaning up.
//!
//! A chunk is one Arrow IPC stream under XChaCha20-Poly1305; its number is the nonce, which the run's own key allows.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::Error;

/// The disk space of one job's runs.
pub(super) struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    used: Arc<AtomicU64>,
}

/// One run, readable chunk by chunk; its space is free again when it is dropped.
pub(super) struct Run {
    file: File,
    cipher: XChaCha20Poly1305,
    chunks: Vec<Chunk>,
    space: Space,
}

struct Chunk {
    offset: u64,
    bytes: usize,
}

/// What a run takes of the spool.
struct Space {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    pub(super) fn new(dir: PathBuf, bytes_max: u64) -> Spool {
        Spool { dir, bytes_max, used: Arc::new(AtomicU64::new(0)) }
    }

    pub(super) fn start(&self) -> Result<Run, Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(Error::Random)?;
        let space = Space { used: Arc::clone(&self.used), bytes: 0 };
        let file = unnamed_file(&self.dir).map_err(spool_error)?;
        let cipher = XChaCha20Poly1305::new(key.as_slice().into());
        Ok(Run { file, cipher, chunks: Vec::new(), space })
    }

    pub(super) fn append(&self, run: &mut Run, rows: &RecordBatch) -> Result<(), Error> {
        let mut chunk = Vec::new();
        let mut writer = StreamWriter::try_new(&mut chunk, &rows.schema())?;
        writer.write(rows)?;
        writer.finish()?;
        drop(writer);
        let sealed = run.cipher.encrypt_in_place(&nonce(run.chunks.len()), b"", &mut chunk);
        sealed.map_err(|_| Error::SpoolAltered)?;
        let bytes = chunk.len() as u64;
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let offset = run.space.bytes;
        run.space.bytes += bytes;
        if before + bytes > self.bytes_max {
            return Err(Error::SpoolFull { limit_bytes: self.bytes_max });
        }
        run.file.write_all(&chunk).map_err(spool_error)?;
        run.chunks.push(Chunk { offset, bytes: chunk.len() });
        Ok(())
    }
}

impl Run {
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn read(&self, number: usize) -> Result<RecordBatch, Error> {
        let chunk = self.chunks.get(number).ok_or(Error::SpoolAltered)?;
        let mut bytes = vec![0; chunk.bytes];
        self.file.read_exact_at(&mut bytes, chunk.offset).map_err(spool_error)?;
        self.cipher.decrypt_in_place(&nonce(number), b"", &mut bytes).map_err(|_| Error::SpoolAltered)?;
        let mut stream = StreamReader::try_new(bytes.as_slice(), None)?;
        Ok(stream.next().ok_or(Error::SpoolAltered)??)
    }
}

fn nonce(chunk: usize) -> XNonce {
    let mut nonce = [0; 24];
    nonce.iter_mut().zip((chunk as u64).to_le_bytes()).for_each(|(to, from)| *to = from);
    nonce.into()
}

fn unnamed_file(dir: &Path) -> io::Result<File> {
    std::fs::create_dir_all(dir)?;
    tempfile::tempfile_in(dir)
}

fn spool_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::SpoolDiskFull(error),
        _ => Error::Spool(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc as StdArc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    fn rows(text: &str) -> RecordBatch {
        let column: ArrayRef = StdArc::new(StringArray::from(vec![text]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    #[test]
    fn chunks_come_back_and_nothing_is_left_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path().join("spool"), 1 << 20);
        let mut run = spool.start().unwrap();
        for text in ["first", "second"] {
            spool.append(&mut run, &rows(text)).unwrap();
        }
        assert_eq!(run.chunk_count(), 2);
        assert_eq!(run.read(1).unwrap(), rows("second"));
        assert_eq!(run.read(0).unwrap(), rows("first"));
        assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn the_disk_holds_ciphertext_and_notices_changes() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path().to_owned(), 1 << 20);
        let mut run = spool.start().unwrap();
        spool.append(&mut run, &rows("find me on the disk")).unwrap();
        let mut disk = vec![0; run.chunks[0].bytes];
        run.file.read_exact_at(&mut disk, 0).unwrap();
        assert!(!disk.windows(7).any(|window| window == b"find me"));
        run.file.write_all_at(&[disk[100] ^ 1], 100).unwrap();
        assert!(matches!(run.read(0), Err(Error::SpoolAltered)));
    }

    #[test]
    fn the_limit_is_an_error_and_dropped_runs_give_space_back() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path().to_owned(), 2000);
        let mut run = spool.start().unwrap();
        let error = (0..100).find_map(|_| spool.append(&mut run, &rows("x")).err()).unwrap();
        assert!(matches!(error, Error::SpoolFull { limit_bytes: 2000 }), "{error}");
        drop(run);
        let mut run = spool.start().unwrap();
        spool.append(&mut run, &rows("x")).unwrap();
    }
}
