//! The one way to the object store: typed errors, answers that keep "unknown" apart from "no", verified data files.
//! Everything above sees paths and bytes, so another kind of store is configuration. The clients behind `Store` do not
//! retry by themselves: a create that landed and was answered 502 must come back as unknown, never as "exists". What may
//! be asked again without harm (`read`, `overwrite`, `delete`) is asked again here, by `patience`.

mod fault;
mod patience;
mod read;
#[cfg(test)]
mod tests;
mod upload;

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use url::Url;

use self::fault::is_refusal;
pub(crate) use self::fault::{classify, file_error};
pub(crate) use self::patience::backoff;
use self::patience::{REQUEST_TIMEOUT, patience_for, timed_for};
pub(crate) use self::upload::Upload;
use super::error::Error;

/// How often a data file is sent before we give up. Data files carry their hash in the name, so a repeat is harmless.
const FILE_ATTEMPTS_MAX: u32 = 5;

/// A handle to the destination's store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<dyn ObjectStore>,
    /// How objects are stored in parts; a local folder needs no such thing.
    parts: Option<Arc<dyn MultipartStore>>,
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
            parts: None,
            local_root: Some(folder),
            fsync,
            #[cfg(test)]
            synced: Arc::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn over<S: ObjectStore + MultipartStore>(inner: &Arc<S>) -> Store {
        let parts = Arc::clone(inner) as Arc<dyn MultipartStore>;
        let inner = Arc::clone(inner) as Arc<dyn ObjectStore>;
        Store { inner, parts: Some(parts), local_root: None, fsync: false, synced: Arc::default() }
    }

    /// One put-if-absent, asked once.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Created {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let patience = patience_for(bytes.len() as u64);
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

    /// Writes an object whatever stood there; the same bytes again change nothing.
    pub(crate) async fn overwrite(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let put = || self.inner.put(path, PutPayload::from_bytes(bytes.clone()));
        let answer = self.asked(path, patience_for(bytes.len() as u64), put).await;
        answer.map(drop).map_err(|source| classify(path, source))
    }

    /// Deletes an object; an absent one is as good as deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        match self.asked(path, REQUEST_TIMEOUT, || self.inner.delete(path)).await {
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

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner)
    }
}
