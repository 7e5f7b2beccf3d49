//! The one way to the object store: typed errors, answers that keep "unknown" apart from "no", verified data files.
//! Everything above sees paths and bytes, so another kind of store is configuration. The clients behind `Store` do not
//! retry by themselves: a create that landed and was answered 502 must come back as unknown, never as "exists".

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::time::Instant;
use url::Url;

use super::error::Error;

/// How long one request may stay unanswered before it counts as unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A timer this late says that the process itself stood still: a frozen machine, a moved or suspended guest.
const STANDSTILL: Duration = Duration::from_secs(1);
/// A write may take longer by its size: below this speed we stop waiting for it.
const SLOWEST_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// How often a data file is sent before we give up. Data files carry their hash in the name, so a repeat is harmless.
const FILE_ATTEMPTS_MAX: u32 = 5;

/// A handle to the destination's store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    inner: Arc<dyn ObjectStore>,
    /// The folder behind a local store: the only place that knows of files the store interface hides.
    local_root: Option<PathBuf>,
    fsync: bool,
    /// Folders whose names were made durable.
    #[cfg(test)]
    pub(crate) synced: Arc<std::sync::Mutex<Vec<PathBuf>>>,
}

/// The answer to a put-if-absent.
#[derive(Debug)]
pub(crate) enum Created {
    Mine,
    Taken,
    /// No answer, or one that says nothing about the object.
    Unknown(object_store::Error),
    /// The store will not take it however often it is asked.
    Refused(object_store::Error),
}

impl Store {
    /// Opens the store of a destination's address. A local root must exist: a vanished mount must not be made anew.
    pub(crate) fn open(root: &Url, fsync: bool) -> Result<Store, Error> {
        let bad = |reason| Error::BadLocation { uri: root.to_string(), reason };
        if root.scheme() != "file" {
            return Err(bad("only file:// addresses are known"));
        }
        let folder = root.to_file_path().map_err(|()| bad("not an absolute path on this host"))?;
        if !folder.is_dir() {
            return Err(Error::Vanished { path: folder.display().to_string() });
        }
        let local = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| Error::Unreachable { path: folder.display().to_string(), source })?;
        Ok(Store {
            inner: Arc::new(local.with_fsync(fsync)),
            local_root: Some(folder),
            fsync,
            #[cfg(test)]
            synced: Arc::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn over(inner: Arc<dyn ObjectStore>, local_root: Option<PathBuf>) -> Store {
        Store { inner, local_root, fsync: false, synced: Arc::default() }
    }

    /// The bytes of an object; `None` when it is absent.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        let read = async { self.inner.get(path).await?.bytes().await };
        match timed(path, read).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(classify(path, source)),
        }
    }

    /// The size of an object; `None` when it is absent.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, Error> {
        match timed(path, self.inner.head(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(classify(path, source)),
        }
    }

    /// One put-if-absent, asked once.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Created {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let patience = REQUEST_TIMEOUT + Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        let put = self.inner.put_opts(path, PutPayload::from_bytes(bytes), options);
        match timed_for(patience, path, put).await {
            Ok(_) => Created::Mine,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Created::Taken,
            Err(source) if is_refusal(&source) => Created::Refused(source),
            Err(source) => Created::Unknown(source),
        }
    }

    /// Stores a data file under a name that carries its hash, and confirms it by its size.
    pub(crate) async fn put_file(&self, path: &Path, bytes: &Bytes) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let answer = self.create(path, bytes.clone()).await;
            let size = match self.size(path).await {
                Err(error) if attempt >= FILE_ATTEMPTS_MAX => return Err(error),
                Err(_) => None,
                Ok(size) => size,
            };
            match (size, answer) {
                (Some(size), _) if size == bytes.len() as u64 => return Ok(()),
                (Some(_), _) => return Err(Error::FileDamaged { path: path.to_string() }),
                (None, Created::Refused(source)) => return Err(classify(path, source)),
                (None, Created::Unknown(source)) if attempt >= FILE_ATTEMPTS_MAX => return Err(classify(path, source)),
                (None, _) if attempt >= FILE_ATTEMPTS_MAX => return Err(Error::Vanished { path: path.to_string() }),
                (None, _) => tokio::time::sleep(backoff(attempt)).await,
            }
        }
    }

    pub(crate) async fn overwrite(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let put = self.inner.put(path, PutPayload::from_bytes(bytes));
        timed(path, put).await.map(drop).map_err(|source| classify(path, source))
    }

    /// All objects below a prefix whose key is above `after`, in key order.
    pub(crate) async fn list(&self, prefix: &Path, after: Option<&Path>) -> Result<Vec<ObjectMeta>, Error> {
        let listed = match after {
            Some(after) => self.inner.list_with_offset(Some(prefix), after),
            None => self.inner.list(Some(prefix)),
        };
        let mut objects: Vec<ObjectMeta> = listed.try_collect().await.map_err(|source| classify(prefix, source))?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// The folders directly below a prefix.
    pub(crate) async fn folders(&self, prefix: &Path) -> Result<Vec<Path>, Error> {
        let listed = timed(prefix, self.inner.list_with_delimiter(Some(prefix))).await;
        listed.map(|listed| listed.common_prefixes).map_err(|source| classify(prefix, source))
    }

    /// Deletes an object; an absent one is as good as deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        match timed(path, self.inner.delete(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(classify(path, source)),
        }
    }

    /// The folder behind the store, where there is one.
    pub(crate) fn local_root(&self) -> Option<&FilePath> {
        self.local_root.as_deref()
    }

    /// Whether a write counts as done only once it would survive a crash of the machine.
    pub(crate) fn fsync(&self) -> bool {
        self.fsync
    }

    /// Makes the names in a local folder durable. Blocks.
    pub(crate) fn sync_folder(&self, folder: &FilePath) -> Result<(), Error> {
        if !self.fsync {
            return Ok(());
        }
        #[cfg(test)]
        self.synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(folder.to_owned());
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| file_error(folder, source))
    }

    /// The folder of a prefix, on a local store.
    pub(crate) fn local_folder(&self, prefix: &Path) -> Option<PathBuf> {
        let mut folder = self.local_root.clone()?;
        folder.extend(prefix.parts().map(|part| part.as_ref().to_owned()));
        Some(folder)
    }
}

/// Full jitter below a doubling ceiling of at most ten seconds.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let ceiling_ms = 50_u64.saturating_mul(1 << attempt.min(8)).min(10_000);
    Duration::from_millis(fastrand::u64(0..=ceiling_ms))
}

async fn timed<T>(path: &Path, request: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    timed_for(REQUEST_TIMEOUT, path, request).await
}

async fn timed_for<T>(
    patience: Duration,
    path: &Path,
    request: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let mut request = pin!(request);
    loop {
        let began = Instant::now();
        match tokio::time::timeout(patience, &mut request).await {
            Ok(answer) => return answer,
            // The timer is late too: this process or its machine stood still, and the request with it.
            Err(_) if began.elapsed() > patience + STANDSTILL => {}
            Err(elapsed) => {
                let source = format!("{path}: {elapsed}").into();
                return Err(object_store::Error::Generic { store: "timeout", source });
            }
        }
    }
}

/// The same for a file of a local store that was written without the store's interface.
pub(crate) fn file_error(path: &FilePath, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    let source = object_store::Error::Generic { store: "file", source: Box::new(source) };
    let located = Path::from(path.as_str());
    match classify(&located, source) {
        Error::ReadOnly { source, .. } => Error::ReadOnly { path, source },
        Error::Full { source, .. } => Error::Full { path, source },
        Error::Unreachable { source, .. } => Error::Unreachable { path, source },
        other => other,
    }
}

/// A read or write that failed for good, in the operator's words.
pub(crate) fn classify(path: &Path, source: object_store::Error) -> Error {
    let path = path.to_string();
    match io_kind(&source) {
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Error::ReadOnly { path, source },
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            Error::Full { path, source }
        }
        _ => match source {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Error::ReadOnly { path, source }
            }
            source => Error::Unreachable { path, source },
        },
    }
}

fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    let kind = io_kind(error);
    matches!(
        error,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotSupported { .. } | E::NotImplemented { .. }
    ) || matches!(
        kind,
        Some(
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::FileTooLarge
                | ErrorKind::NotADirectory
        )
    )
}

fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_may_go_on_after_a_standstill_and_not_for_ever() {
        let (patience, path) = (Duration::from_millis(50), Path::from("x"));
        let stood_still = async {
            std::thread::sleep(STANDSTILL + Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok("there")
        };
        assert_eq!(timed_for(patience, &path, stood_still).await.expect("in time"), "there");
        let slow = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        };
        let error = timed_for(patience, &path, slow).await.expect_err("too late");
        assert_eq!(classify(&path, error).code(), "DST-003");
    }
}
