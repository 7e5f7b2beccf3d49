//! Storing a large object while it is made: parts of one size, some of them on their way at once, and a caller that waits
//! when they are too slow. Nothing is visible before `finish`, and what `finish` said is there has been looked at.
//!
//! Names of such objects are unique. One that is taken all the same is an error, never overwritten.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use tokio::task::JoinHandle;

use super::fault::{classify, file_error};
use super::patience::{REQUEST_TIMEOUT, backoff, patience_for, timed_for};
use super::{Error, Store};
use crate::tasks;

/// Bytes of one part. Stores take at most 10,000 parts: 80 GB an object.
const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at once; together with the one being filled this is the memory of an upload.
const PARTS_PARALLEL_MAX: usize = 4;
/// How often the end of an upload is asked for.
const FINISH_ATTEMPTS_MAX: u32 = 6;

/// An object that is being written. Dropped without `finish`, it was never there; `abort` also frees its parts at once.
#[derive(Debug)]
pub(crate) struct Upload {
    store: Store,
    path: Path,
    buffered: BytesMut,
    bytes: u64,
    place: Place,
}

/// Where the parts go.
#[derive(Debug)]
enum Place {
    /// A temporary file beside the target, which listings do not show.
    File { temporary: Temporary, target: PathBuf },
    /// A multipart upload of the store; begun with the first whole part.
    Parts { parts: Parts },
}

/// Removed when dropped.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    file: Option<File>,
}

struct Parts {
    store: Arc<dyn MultipartStore>,
    id: Option<String>,
    done: Vec<PartId>,
    running: VecDeque<JoinHandle<Result<PartId, Error>>>,
}

impl Store {
    /// Begins an object whose size is not known yet.
    pub(crate) async fn upload(&self, path: &Path) -> Result<Upload, Error> {
        if self.size(path).await?.is_some() {
            return Err(taken(path));
        }
        let place = match (self.local_folder(path), &self.parts) {
            (Some(target), _) => {
                let store = self.clone();
                let (temporary, target) = blocking(move || Ok((Temporary::create(&store, &target)?, target))).await?;
                Place::File { temporary, target }
            }
            (None, Some(store)) => Place::Parts { parts: Parts::new(Arc::clone(store)) },
            (None, None) => unreachable!("a store is a folder or takes parts"),
        };
        Ok(Upload { store: self.clone(), path: path.clone(), buffered: BytesMut::new(), bytes: 0, place })
    }
}

impl Upload {
    /// Takes bytes; waits while too many parts are on their way.
    pub(crate) async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        while self.buffered.len() + bytes.len() >= PART_BYTES {
            let part = if self.buffered.is_empty() {
                bytes.split_to(PART_BYTES)
            } else {
                let missing = PART_BYTES - self.buffered.len();
                self.buffered.extend_from_slice(&bytes.slice(..missing));
                bytes.advance(missing);
                self.buffered.split().freeze()
            };
            self.put(part).await?;
        }
        self.buffered.extend_from_slice(&bytes);
        Ok(())
    }

    async fn put(&mut self, part: Bytes) -> Result<(), Error> {
        match &mut self.place {
            Place::File { temporary, .. } => temporary.append(part).await,
            Place::Parts { parts } => parts.put(&self.store, &self.path, part).await,
        }
    }

    /// The object is whole: makes it visible and durable, looks at it, and answers its size.
    pub(crate) async fn finish(mut self) -> Result<u64, Error> {
        let rest = self.buffered.split().freeze();
        let (store, path, bytes) = (&self.store, &self.path, self.bytes);
        match self.place {
            Place::File { mut temporary, target } => {
                temporary.append(rest).await?;
                let store = store.clone();
                blocking(move || temporary.publish(&store, &target)).await?;
            }
            Place::Parts { parts } if parts.id.is_none() => return store.put_file(path, &rest).await.map(|()| bytes),
            Place::Parts { mut parts } => {
                if !rest.is_empty() {
                    parts.put(store, path, rest).await?;
                }
                let finished = parts.finish(store, path, bytes).await;
                if finished.is_err() {
                    parts.abort(store, path).await;
                }
                return finished.map(|()| bytes);
            }
        }
        match store.size(path).await? {
            Some(size) if size == bytes => Ok(bytes),
            Some(_) => Err(Error::FileDamaged { path: path.to_string() }),
            None => Err(Error::Vanished { path: path.to_string() }),
        }
    }

    /// Nothing of it is wanted. What cannot be removed now is left to garbage collection.
    pub(crate) async fn abort(self) {
        if let Place::Parts { mut parts } = self.place {
            parts.abort(&self.store, &self.path).await;
        }
    }
}

impl Parts {
    fn new(store: Arc<dyn MultipartStore>) -> Parts {
        Parts { store, id: None, done: Vec::new(), running: VecDeque::new() }
    }

    async fn put(&mut self, store: &Store, path: &Path, part: Bytes) -> Result<(), Error> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                // Begun twice, one of the two stays empty until garbage collection.
                let begun = store.asked(|| timed_for(REQUEST_TIMEOUT, path, self.store.create_multipart(path))).await;
                self.id.insert(begun.map_err(|source| classify(path, source))?).clone()
            }
        };
        while self.running.len() >= PARTS_PARALLEL_MAX {
            self.settle_one().await?;
        }
        let (index, parts) = (self.done.len() + self.running.len(), Arc::clone(&self.store));
        let (store, path) = (store.clone(), path.clone());
        // A part sent twice is stored once: its place is its number.
        self.running.push_back(tasks::spawn("part of an upload", async move {
            let send = || parts.put_part(&path, &id, index, PutPayload::from_bytes(part.clone()));
            let sent = store.asked(|| timed_for(patience_for(PART_BYTES as u64), &path, send())).await;
            sent.map_err(|source| classify(&path, source))
        }));
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Error> {
        if let Some(mut running) = self.running.pop_front() {
            let part = (&mut running).await.map_err(|source| Error::Worker { source })?;
            self.done.push(part?);
        }
        Ok(())
    }

    /// Completes, and believes the object's size more than any answer: one that got lost is settled by looking.
    async fn finish(&mut self, store: &Store, path: &Path, bytes: u64) -> Result<(), Error> {
        while !self.running.is_empty() {
            self.settle_one().await?;
        }
        let id = self.id.clone().unwrap_or_default();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let complete = self.store.complete_multipart(path, &id, self.done.clone());
            let answer = timed_for(patience_for(bytes), path, complete).await;
            match (store.size(path).await?, answer) {
                (Some(size), _) if size == bytes => return Ok(()),
                (Some(_), _) => return Err(Error::FileDamaged { path: path.to_string() }),
                (None, Err(source)) if attempt >= FINISH_ATTEMPTS_MAX || !super::fault::may_pass(&source) => {
                    return Err(classify(path, source));
                }
                (None, Ok(_)) if attempt >= FINISH_ATTEMPTS_MAX => {
                    return Err(Error::Vanished { path: path.to_string() });
                }
                (None, _) => tokio::time::sleep(backoff(attempt)).await,
            }
        }
    }

    async fn abort(&mut self, store: &Store, path: &Path) {
        self.stop();
        let Some(id) = self.id.take() else { return };
        let aborted = store.asked(|| timed_for(REQUEST_TIMEOUT, path, self.store.abort_multipart(path, &id))).await;
        if let Err(error) = aborted {
            tracing::warn!(%path, %error, "an upload's parts were left to garbage collection");
        }
    }

    fn stop(&mut self) {
        for running in self.running.drain(..) {
            running.abort();
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({:?}, {} done)", self.id, self.done.len())
    }
}

impl Temporary {
    /// `<name>#<number>`: the store's listings pass it over, and garbage collection knows it.
    fn create(store: &Store, target: &FilePath) -> Result<Temporary, Error> {
        let folder = target.parent().unwrap_or(target);
        create_folders(store, folder)?;
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{}", fastrand::u64(..)));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|source| file_error(&path, source))?;
        Ok(Temporary { path, file: Some(file) })
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), Error> {
        let (path, file) = (self.path.clone(), self.file.take());
        let file = blocking(move || {
            let mut file = file.ok_or_else(|| file_error(&path, std::io::ErrorKind::BrokenPipe.into()))?;
            file.write_all(&bytes).map_err(|source| file_error(&path, source))?;
            Ok(file)
        });
        self.file = Some(file.await?);
        Ok(())
    }

    /// Content first, then the name, then the folder that holds it.
    fn publish(mut self, store: &Store, target: &FilePath) -> Result<(), Error> {
        let failed = |source| file_error(&self.path, source);
        if let Some(file) = self.file.take()
            && store.fsync()
        {
            file.sync_all().map_err(failed)?;
        }
        match std::fs::hard_link(&self.path, target) {
            Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(taken(&Path::from(target.display().to_string())));
            }
            linked => linked.map_err(|source| file_error(target, source))?,
        }
        std::fs::remove_file(&self.path).map_err(failed)?;
        store.sync_folder(target.parent().unwrap_or(target))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already where it was published.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Makes a folder with those above it, and their names durable.
fn create_folders(store: &Store, folder: &FilePath) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folders(store, above)?;
        match std::fs::create_dir(folder) {
            Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|source| file_error(folder, source))?,
        }
        store.sync_folder(above)?;
    }
    Ok(())
}

fn taken(path: &Path) -> Error {
    Error::BadRequest { reason: format!("{path} is there already, and its name should be new") }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::Worker { source })?
}
