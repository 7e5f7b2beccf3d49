//! The files of connector packages, named by their SHA-256. A package is checked as a zip before it gets a name: nothing
//! here unpacks or runs it; that is the agent's job.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use inshore_protocol::Code;
use inshore_protocol::limits::PACKAGE_BYTES_MAX;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::keys;

/// Bytes of all entries unpacked.
const UNPACKED_BYTES_MAX: u64 = 2 << 30;
const ENTRIES_MAX: usize = 50_000;
/// How much larger than its zip a package may be unpacked; agents hold it to the same.
const RATIO_MAX: u64 = 100;
/// Below this size the ratio is not looked at: a small text file may well shrink a thousandfold.
const SMALL_BYTES: u64 = 1 << 20;
/// The bits of a Unix mode that tell a symbolic link.
const MODE_TYPE: u32 = 0o170_000;
const MODE_SYMLINK: u32 = 0o120_000;

/// What local runs leave in a project: rows, state and credentials, which a control plane must never see.
const PRIVATE: [&str; 2] = ["configuration.json", "files"];

/// A package that is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}")]
    Refused { code: Code, what: String },
    #[error("{what}")]
    TooLarge { code: Code, what: String },
    #[error("store a package")]
    Io(#[from] io::Error),
    #[error("check a package: the check did not finish")]
    Check,
}

/// The directory of packages.
#[derive(Debug)]
pub(crate) struct Packages {
    dir: PathBuf,
}

/// A package on disk.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) sha256: String,
    pub(crate) bytes: i64,
}

impl Packages {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, keys::Error> {
        keys::create_dir(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.zip"))
    }

    /// Starts an upload. One that is dropped leaves nothing.
    pub(crate) fn begin(&self) -> Result<Upload<'_>, Error> {
        let temporary = tempfile::Builder::new().prefix(".upload-").tempfile_in(&self.dir)?;
        let (file, path) = temporary.into_parts();
        let file = tokio::fs::File::from_std(file);
        Ok(Upload { packages: self, file, path, digest: Sha256::new(), bytes: 0 })
    }

    pub(crate) async fn read_all(&self, sha256: &str) -> io::Result<Bytes> {
        Ok(tokio::fs::read(self.path(sha256)).await?.into())
    }

    /// Up to `len` bytes at `offset`, and the total.
    pub(crate) async fn read_at(&self, sha256: &str, offset: u64, len: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut file = tokio::fs::File::open(self.path(sha256)).await?;
        let total = file.metadata().await?.len();
        file.seek(io::SeekFrom::Start(offset)).await?;
        let mut data = Vec::new();
        file.take(u64::try_from(len).unwrap_or(u64::MAX)).read_to_end(&mut data).await?;
        Ok((data, total))
    }

    /// The file of a package nobody names any more; one that stays costs only space.
    pub(crate) async fn remove(&self, sha256: &str) {
        if let Err(error) = tokio::fs::remove_file(self.path(sha256)).await {
            tracing::warn!(sha256, %error, "a package file could not be removed");
        }
    }
}

/// A package on its way in.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    packages: &'a Packages,
    file: tokio::fs::File,
    path: tempfile::TempPath,
    digest: Sha256,
    bytes: u64,
}

impl Upload<'_> {
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if self.bytes > PACKAGE_BYTES_MAX {
            return Err(too_large(format!("the package is above {} MiB", PACKAGE_BYTES_MAX >> 20)));
        }
        self.digest.update(chunk);
        Ok(self.file.write_all(chunk).await?)
    }

    /// Checks the zip, makes it durable, gives it its name.
    pub(crate) async fn finish(mut self) -> Result<Stored, Error> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let path = self.path.to_path_buf();
        tokio::task::spawn_blocking(move || check(&path)).await.map_err(|_| Error::Check)??;
        let sha256 = hex::encode(self.digest.finalize());
        self.path.persist(self.packages.path(&sha256)).map_err(|error| error.error)?;
        let dir = self.packages.dir.clone();
        tokio::fs::File::open(dir).await?.sync_all().await?;
        Ok(Stored { sha256, bytes: i64::try_from(self.bytes).unwrap_or(i64::MAX) })
    }
}

fn refused(code: Code, what: impl Into<String>) -> Error {
    Error::Refused { code, what: what.into() }
}

fn too_large(what: String) -> Error {
    Error::TooLarge { code: Code::PackageTooLarge, what }
}

/// What has to be true of a zip before any agent sees it. Names in it are not repeated: they are the customer's.
fn check(path: &Path) -> Result<(), Error> {
    let not_zip = |_| refused(Code::PackageNotZip, "the package is not a zip file");
    let file = std::fs::File::open(path)?;
    let packed = file.metadata()?.len();
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(not_zip)?;
    if archive.len() > ENTRIES_MAX {
        return Err(too_large(format!("the package has more than {ENTRIES_MAX} entries")));
    }
    let (mut unpacked, mut connector) = (0_u64, false);
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(not_zip)?;
        unpacked = unpacked.saturating_add(entry.size());
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if escapes(&name) || entry.unix_mode().is_some_and(|mode| mode & MODE_TYPE == MODE_SYMLINK) {
            let what = format!("entry {} of the package leads outside of it, or is a symbolic link", index + 1);
            return Err(refused(Code::PackageEscapingEntry, what));
        }
        if let Some(what) = PRIVATE.iter().find(|private| name == **private || name.starts_with(&format!("{private}/")))
        {
            let what =
                format!("the package holds `{what}`, which must stay on your machine; pack the project without it");
            return Err(refused(Code::PackageHoldsPrivateFiles, what));
        }
        connector |= name == "connector.py";
    }
    if unpacked > UNPACKED_BYTES_MAX {
        return Err(too_large(format!("the package is above {} GiB unpacked", UNPACKED_BYTES_MAX >> 30)));
    }
    if unpacked > packed.saturating_mul(RATIO_MAX).max(SMALL_BYTES) {
        return Err(too_large(format!("the package unpacks to more than {RATIO_MAX} times its size")));
    }
    if !connector {
        return Err(refused(Code::PackageWithoutConnector, "the package has no connector.py at its top level"));
    }
    Ok(())
}

fn escapes(name: &str) -> bool {
    name.starts_with('/')
        || name.contains('\\')
        || name.contains('\0')
        || name.split('/').any(|part| part == "..")
        || name.as_bytes().get(1) == Some(&b':')
}
