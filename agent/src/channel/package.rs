//! Connector packages: fetched in chunks that are asked for one by one, so a heartbeat never waits behind more than one;
//! verified by SHA-256 before anybody sees them; kept by digest. A restart of the session goes on where it was.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use inshore_protocol::limits::{PACKAGE_BYTES_MAX, PACKAGE_CHUNK_BYTES};
use inshore_protocol::{Code, PackageDigest, PackageRef, Up};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::oneshot;

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("fetch package {digest}: what came is not what was named")]
    Digest { digest: PackageDigest },
    #[error("fetch package {digest}: the control plane does not have it")]
    Absent { digest: PackageDigest },
    #[error("fetch package {digest}: {bytes} bytes, at most {PACKAGE_BYTES_MAX}")]
    TooLarge { digest: PackageDigest, bytes: u64 },
    #[error("keep a package in {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("fetch a package: the channel has ended")]
    ChannelClosed,
}

impl Error {
    /// The code of the error's page.
    pub(crate) fn code(&self) -> Code {
        match self {
            Error::Digest { .. } | Error::Absent { .. } => Code::PackageDigestMismatch,
            Error::TooLarge { .. } => Code::PackageTooLarge,
            Error::File { .. } => Code::SpoolFull,
            Error::ChannelClosed => Code::ControlPlaneUnreachable,
        }
    }
}

type Reply = oneshot::Sender<Result<PathBuf, Error>>;

/// The verified package, if it is here. It is hashed again each time: the cache is only a cache.
pub(super) fn cached(folder: &Path, package: &PackageRef) -> Result<Option<PathBuf>, Error> {
    let path = folder.join(format!("{}.zip", package.digest));
    let error = |source| Error::File { path: path.clone(), source };
    let mut file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer).map_err(error)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
    }
    if PackageDigest::from_sha256(&hash.finalize().into()) == package.digest {
        return Ok(Some(path));
    }
    std::fs::remove_file(&path).map_err(error)?;
    Ok(None)
}

/// Packages on their way.
#[derive(Debug)]
pub(super) struct Downloads {
    folder: PathBuf,
    running: HashMap<PackageDigest, Download>,
}

#[derive(Debug)]
struct Download {
    package: PackageRef,
    file: NamedTempFile,
    hash: Sha256,
    offset: u64,
    replies: Vec<Reply>,
}

impl Downloads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, running: HashMap::new() }
    }

    /// Begins a download, or joins a running one. Returns what to ask for.
    pub(super) fn begin(&mut self, package: PackageRef, reply: Reply) -> Option<Up> {
        if let Some(running) = self.running.get_mut(&package.digest) {
            running.replies.push(reply);
            return None;
        }
        let started = if package.bytes > PACKAGE_BYTES_MAX {
            Err(Error::TooLarge { digest: package.digest.clone(), bytes: package.bytes })
        } else {
            self.file()
        };
        match started {
            Ok(file) => {
                let digest = package.digest.clone();
                let download = Download { package, file, hash: Sha256::new(), offset: 0, replies: vec![reply] };
                let wanted = download.wanted();
                self.running.insert(digest, download);
                Some(wanted)
            }
            Err(error) => {
                answer(reply, Err(error));
                None
            }
        }
    }

    /// What to ask for after a reconnect, or when nothing came for too long.
    pub(super) fn wanted(&self) -> Vec<Up> {
        self.running.values().map(Download::wanted).collect()
    }

    /// Takes one chunk. Returns what to ask for next. A chunk nobody asked for has no effect.
    pub(super) fn chunk(&mut self, digest: &PackageDigest, offset: u64, total: u64, data: &[u8]) -> Option<Up> {
        let download = self.running.get_mut(digest).filter(|download| download.offset == offset)?;
        let done = match download.take(total, data) {
            Ok(false) => return Some(download.wanted()),
            Ok(true) => None,
            Err(error) => Some(error),
        };
        let download = self.running.remove(digest)?;
        let Download { package, file, hash, replies, .. } = download;
        let mut outcome = match done {
            Some(error) => Err(error),
            None => keep(&self.folder, &package, file, hash),
        };
        for reply in replies {
            let copy = match &outcome {
                Ok(path) => Ok(path.clone()),
                // Errors are not Clone; whoever joined later is told the plainest form of the same failure.
                Err(_) => std::mem::replace(&mut outcome, Err(Error::Digest { digest: digest.clone() })),
            };
            answer(reply, copy);
        }
        None
    }

    fn file(&self) -> Result<NamedTempFile, Error> {
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| NamedTempFile::new_in(&self.folder))
            .map_err(|source| Error::File { path: self.folder.clone(), source })
    }
}

impl Download {
    fn wanted(&self) -> Up {
        Up::PackageWanted { digest: self.package.digest.clone(), offset: self.offset }
    }

    /// Whether the package is complete.
    fn take(&mut self, total: u64, data: &[u8]) -> Result<bool, Error> {
        let digest = || self.package.digest.clone();
        let end = self.offset + data.len() as u64;
        if total == 0 {
            return Err(Error::Absent { digest: digest() });
        }
        if total > PACKAGE_BYTES_MAX {
            return Err(Error::TooLarge { digest: digest(), bytes: total });
        }
        if total != self.package.bytes || data.is_empty() || data.len() > PACKAGE_CHUNK_BYTES || end > total {
            return Err(Error::Digest { digest: digest() });
        }
        let path = self.file.path().to_owned();
        self.file.write_all(data).map_err(|source| Error::File { path, source })?;
        self.hash.update(data);
        self.offset = end;
        Ok(end == total)
    }
}

fn keep(folder: &Path, package: &PackageRef, file: NamedTempFile, hash: Sha256) -> Result<PathBuf, Error> {
    if PackageDigest::from_sha256(&hash.finalize().into()) != package.digest {
        return Err(Error::Digest { digest: package.digest.clone() });
    }
    let path = folder.join(format!("{}.zip", package.digest));
    file.persist(&path).map_err(|failed| Error::File { path: path.clone(), source: failed.error })?;
    Ok(path)
}

/// Whoever asked may have been cancelled meanwhile; the package is kept for the next one.
fn answer(reply: Reply, outcome: Result<PathBuf, Error>) {
    if reply.send(outcome).is_err() {
        tracing::debug!("nobody waits for this package any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(content: &[u8]) -> PackageRef {
        let digest = PackageDigest::from_sha256(&Sha256::digest(content).into());
        PackageRef { digest, bytes: content.len() as u64 }
    }

    fn begun(downloads: &mut Downloads, package: &PackageRef) -> oneshot::Receiver<Result<PathBuf, Error>> {
        let (reply, answer) = oneshot::channel();
        downloads.begin(package.clone(), reply);
        answer
    }

    #[test]
    fn chunks_make_a_verified_file_that_is_found_again() {
        let folder = tempfile::tempdir().expect("folder");
        let mut downloads = Downloads::new(folder.path().join("packages"));
        let content = vec![7; PACKAGE_CHUNK_BYTES + 10];
        let package = package(&content);
        let (mut first, mut joined) = (begun(&mut downloads, &package), begun(&mut downloads, &package));
        let (head, tail) = content.split_at(PACKAGE_CHUNK_BYTES);
        let total = package.bytes;
        assert!(downloads.chunk(&package.digest, 5, total, tail).is_none(), "an offset nobody asked for");
        let next = downloads.chunk(&package.digest, 0, total, head).expect("more wanted");
        assert_eq!(next, Up::PackageWanted { digest: package.digest.clone(), offset: head.len() as u64 });
        assert_eq!(downloads.wanted(), vec![next]);
        assert!(downloads.chunk(&package.digest, head.len() as u64, total, tail).is_none());
        let path = first.try_recv().expect("answered").expect("package");
        assert_eq!(joined.try_recv().expect("answered").expect("package"), path);
        assert_eq!(std::fs::read(&path).expect("file"), content);
        let folder = folder.path().join("packages");
        assert_eq!(cached(&folder, &package).expect("cache"), Some(path.clone()));
        std::fs::write(&path, "altered").expect("alter");
        assert_eq!(cached(&folder, &package).expect("cache"), None);
    }

    #[test]
    fn what_does_not_match_its_name_is_thrown_away() {
        let folder = tempfile::tempdir().expect("folder");
        let mut downloads = Downloads::new(folder.path().to_owned());
        let package = package(b"content");
        let absent = (0, &b""[..]);
        let larger = (PACKAGE_BYTES_MAX + 1, &b"content"[..]);
        for ((total, data), code) in [
            ((7, &b"other!!"[..]), Code::PackageDigestMismatch),
            ((7, &b"content and more"[..]), Code::PackageDigestMismatch),
            ((9, &b"content"[..]), Code::PackageDigestMismatch),
            (absent, Code::PackageDigestMismatch),
            (larger, Code::PackageTooLarge),
        ] {
            let mut answer = begun(&mut downloads, &package);
            assert!(downloads.chunk(&package.digest, 0, total, data).is_none());
            assert_eq!(answer.try_recv().expect("answered").expect_err("refused").code(), code);
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }
}
