//! The one way to the object store: typed errors, answers that keep "unknown" apart from "no", verified data files.
//! Everything above sees paths and bytes, so another kind of store is configuration. The clients behind `Store` do not
//! retry by themselves: a create that landed and was answered 502 must come back as unknown, never as "exists". What may
//! be asked again without harm (`read`, `overwrite`, `delete`) is asked again here, by `patience`.

mod credentials;
mod fault;
mod open;
mod patience;
mod read;
mod remains;
#[cfg(test)]
mod tests;
mod upload;
mod wire;

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

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
    /// Uploads that nobody finished, where a store keeps them.
    remains: Option<Arc<remains::Remains>>,
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
    #[cfg(test)]
    pub(crate) fn over<S: ObjectStore + MultipartStore>(inner: &Arc<S>) -> Store {
        let parts = Arc::clone(inner) as Arc<dyn MultipartStore>;
        let inner = Arc::clone(inner) as Arc<dyn ObjectStore>;
        Store { inner, parts: Some(parts), remains: None, local_root: None, fsync: false, synced: Arc::default() }
    }

    /// One put-if-absent, asked once.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Created {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let patience = patience_for(bytes.len() as u64);
        let put = self.inner.put_opts(path, PutPayload::from_bytes(bytes), options);
        match timed_for(patience, path, put).await {
            Ok(_) => Created::Mine,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Created::Taken,
            // An object that is being made cannot be missing: its bucket is.
            Err(source) if is_refusal(&source) || matches!(source, object_store::Error::NotFound { .. }) => {
                Created::Refused(source)
            }
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
        let answer = self.asked(|| timed_for(patience_for(bytes.len() as u64), path, put())).await;
        answer.map(drop).map_err(|source| classify(path, source))
    }

    /// Deletes an object; an absent one is as good as deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        match self.asked(|| timed_for(REQUEST_TIMEOUT, path, self.inner.delete(path))).await {
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
