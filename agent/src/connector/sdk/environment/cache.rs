//! Where environments are kept: locks that let one build and many use, and eviction of what was not used for longest.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::Tell;
use crate::connector::LogLevel;

const LOCK_STEP: Duration = Duration::from_millis(100);
const READY: &str = "ready";
const SIZE: &str = "size";
/// Hexadecimal digits of a key.
const KEY_LENGTH: usize = 32;

/// Keeps an environment from being evicted.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: File,
}

/// The place of one environment.
pub(super) struct Slot {
    home: PathBuf,
}

impl Slot {
    /// `parts` name what the environment is made from.
    pub(super) fn new(cache: &Path, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
            hash.update([0]);
        }
        let mut key = hex::encode(hash.finalize());
        key.truncate(KEY_LENGTH);
        Self { home: cache.join(key) }
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn interpreter(&self) -> PathBuf {
        self.home.join("bin/python")
    }

    /// The interpreter behind the link may have been uninstalled since.
    pub(super) fn is_ready(&self) -> bool {
        self.home.join(READY).is_file() && self.interpreter().exists()
    }

    /// Waits until nobody builds here.
    pub(super) async fn share(&self, tell: Tell<'_>) -> io::Result<Hold> {
        Ok(Hold { _lock: self.wait(File::try_lock_shared, tell).await? })
    }

    /// Waits until nobody builds or uses this.
    pub(super) async fn lock(&self, tell: Tell<'_>) -> io::Result<File> {
        self.wait(File::try_lock, tell).await
    }

    /// The same, unless somebody does.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let file = lock_file(&self.home)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    async fn wait(&self, lock: fn(&File) -> Result<(), TryLockError>, tell: Tell<'_>) -> io::Result<File> {
        let file = lock_file(&self.home)?;
        let mut told = false;
        loop {
            match lock(&file) {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                tell(LogLevel::Info, "another job is preparing the same environment");
                told = true;
            }
            tokio::time::sleep(LOCK_STEP).await;
        }
    }

    /// Removes what a crash left.
    pub(super) fn clear(&self) -> io::Result<()> {
        remove(&self.home)
    }

    /// The last step of a build: from now on the environment counts.
    pub(super) fn mark(&self, requirements: &str) -> io::Result<()> {
        std::fs::write(self.home.join(SIZE), size(&self.home).to_string())?;
        let marking = self.home.join("ready.new");
        std::fs::write(&marking, requirements)?;
        std::fs::rename(&marking, self.home.join(READY))
    }

    /// Remembers that it was used.
    pub(super) fn touch(&self) {
        let touched = File::options().append(true).open(self.home.join(READY));
        if let Err(error) = touched.and_then(|ready| ready.set_modified(SystemTime::now())) {
            tracing::debug!(%error, "the use of an environment could not be noted");
        }
    }
}

/// The lock file stays when its environment goes: who waits for it must not wait for a file without a name.
fn lock_file(home: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(home.with_extension("lock"))
}

/// Removes environments that nobody uses, least recently used first, until the rest fits.
pub(super) fn evict(cache: &Path, bytes_max: u64, tell: Tell<'_>) {
    let mut kept = environments(cache);
    let mut bytes: u64 = kept.iter().map(|one| one.bytes).sum();
    kept.sort_by_key(|one| one.used);
    for one in kept {
        if bytes <= bytes_max {
            return;
        }
        let locked = lock_file(&one.home).is_ok_and(|file| {
            // Held until the folder is gone.
            file.try_lock().is_ok() && removed(&one.home)
        });
        if locked {
            bytes = bytes.saturating_sub(one.bytes);
            tell(LogLevel::Info, &format!("an environment of {} MiB was evicted", one.bytes >> 20));
        }
    }
}

fn removed(home: &Path) -> bool {
    // Without the mark it does not count any more, however far the removal comes.
    let done = std::fs::remove_file(home.join(READY)).or_else(absent).and_then(|()| remove(home));
    if let Err(error) = &done {
        tracing::warn!(%error, "an environment could not be evicted");
    }
    done.is_ok()
}

struct Kept {
    home: PathBuf,
    bytes: u64,
    used: SystemTime,
}

fn environments(cache: &Path) -> Vec<Kept> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let is_key = |name: &str| name.len() == KEY_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let homes = entries.filter(|entry| is_key(&entry.file_name().to_string_lossy())).map(|entry| entry.path());
    homes.map(kept).collect()
}

fn kept(home: PathBuf) -> Kept {
    let used = home.join(READY).metadata().and_then(|ready| ready.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let noted = std::fs::read_to_string(home.join(SIZE)).ok().and_then(|text| text.parse().ok());
    let bytes = noted.unwrap_or_else(|| size(&home));
    Kept { home, bytes, used }
}

/// Bytes of all files; links are not followed.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(one).sum()
}

fn remove(folder: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(folder).or_else(absent)
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(cache: &Path, name: &str, bytes: usize, age: u64) -> Slot {
        let slot = Slot::new(cache, &[name]);
        std::fs::create_dir_all(slot.home()).unwrap();
        std::fs::write(slot.home().join("lib"), vec![0; bytes]).unwrap();
        slot.mark("six\n").unwrap();
        let ready = File::options().append(true).open(slot.home().join(READY)).unwrap();
        ready.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        slot
    }

    #[tokio::test]
    async fn the_least_recently_used_go_first_and_never_one_in_use() {
        let cache = tempfile::tempdir().unwrap();
        let oldest = environment(cache.path(), "oldest", 1000, 300);
        let older = environment(cache.path(), "older", 1000, 200);
        let newest = environment(cache.path(), "newest", 1000, 100);
        std::fs::write(cache.path().join("not-an-environment"), "kept").unwrap();
        let hold = oldest.share(&|_, _| {}).await.unwrap();
        evict(cache.path(), 3200, &|_, _| {});
        assert!([&oldest, &older, &newest].iter().all(|slot| slot.home().exists()), "all fit");
        evict(cache.path(), 2200, &|_, _| {});
        assert_eq!([&oldest, &older, &newest].map(|slot| slot.home().exists()), [true, false, true]);
        drop(hold);
        newest.touch();
        evict(cache.path(), 0, &|_, _| {});
        assert_eq!([&oldest, &newest].map(|slot| slot.home().exists()), [false, false]);
        assert!(cache.path().join("not-an-environment").exists());
    }

    #[tokio::test]
    async fn a_use_makes_young() {
        let cache = tempfile::tempdir().unwrap();
        let (one, two) = (environment(cache.path(), "one", 1000, 300), environment(cache.path(), "two", 1000, 200));
        one.touch();
        evict(cache.path(), 1200, &|_, _| {});
        assert_eq!([&one, &two].map(|slot| slot.home().exists()), [true, false]);
    }
}
