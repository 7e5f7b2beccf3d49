//! The interpreter that runs a project: one virtual environment per (requirements, Python version), built once and
//! kept. `uv` builds it where it is on the search path, else `venv` and `pip`.
//!
//! Two jobs may want the same environment at once: one builds under a file lock, the other waits. An environment
//! counts once its `ready` file exists, which is written last; a crash before that leaves a folder that the next
//! builder removes. Who uses an environment holds a shared lock on it, so that it is not evicted meanwhile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::requirements::{self, ALWAYS, Lock, Requirements};
use crate::connector::{Error, LogLevel};

mod cache;
mod index;
mod installer;
mod interpreter;
mod resolve;

pub(crate) use super::requirements::{LOCK_FILE, WHEELS_DIR};
pub(crate) use cache::Hold;
pub(crate) use index::{Credentials, Index};
pub(crate) use resolve::resolve;

/// What a package that needs system libraries carries; it is run when an image is built, never on a host.
const DRIVERS_DIR: &str = "drivers";
/// Is in an environment that wants for `requests`; its age says when that was tried.
const WITHOUT_REQUESTS: &str = "without-requests";
/// No new try to get it before.
const TRY_AGAIN: Duration = Duration::from_secs(600);

/// Receives a line per step of the preparation, and the installer's own lines.
pub(crate) type Tell<'a> = &'a (dyn Fn(LogLevel, &str) + Sync);

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Holds every environment; may be deleted while no job runs.
    pub(crate) cache_dir: PathBuf,
    /// Environments above this size together are evicted, least recently used first.
    pub(crate) cache_bytes_max: u64,
    /// Where interpreters and `uv` are looked for, as in PATH.
    pub(crate) search_path: OsString,
    /// The version the connection asks for, such as "3.13"; `None` takes 3.13, else the newest there is.
    pub(crate) python: Option<String>,
    /// Environment of the installers: proxies, certificates, package indexes, HOME.
    pub(crate) variables: Vec<(String, String)>,
    /// Where this host gets packages from.
    pub(crate) index: Index,
    /// Whether packages may be built from source, which runs their code here.
    pub(crate) allow_source_builds: bool,
    pub(crate) place: Place,
}

/// What a developer is told of, an agent refuses: a lock of other requirements, a `drivers` folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Developer,
    Agent,
}

/// An environment, kept from eviction as long as this value lives.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) python: PathBuf,
    pub(crate) hold: Hold,
}

/// What one environment is made from.
struct Wish {
    requirements: Requirements,
    lock: Option<Lock>,
}

/// Returns the interpreter of the project's environment, building the environment first if need be.
pub(crate) async fn prepare(settings: &Settings, project: &Path, tell: Tell<'_>) -> Result<Prepared, Error> {
    let wish = read(settings, project, tell)?;
    let version = settings.python.as_deref().unwrap_or("default");
    let key = wish.requirements.digest().map_err(refused)?;
    let lock = wish.lock.as_ref().map_or("", |lock| &lock.text);
    let slot = cache::Slot::new(&settings.cache_dir, &[version, &key, lock]);
    let broken = |source| Error::Environment { path: slot.home().to_owned(), source };
    std::fs::create_dir_all(&settings.cache_dir).map_err(broken)?;
    let (mut has_built, mut as_it_is) = (false, false);
    loop {
        let hold = slot.share(tell).await.map_err(broken)?;
        if slot.is_ready() && (as_it_is || !is_due(slot.home())) {
            slot.touch();
            if has_built {
                cache::evict(&settings.cache_dir, settings.cache_bytes_max, tell);
            }
            return Ok(Prepared { python: slot.interpreter(), hold });
        }
        drop(hold);
        // What others use is not built anew under them, nor waited for: it does as it is.
        let building = if slot.is_ready() { slot.try_lock() } else { slot.lock(tell).await.map(Some) };
        as_it_is = true;
        let Some(_building) = building.map_err(broken)? else { continue };
        if !slot.is_ready() || is_due(slot.home()) {
            slot.clear().map_err(broken)?;
            installer::Builder { settings, project, home: slot.home(), tell }.build(&wish).await?;
            slot.mark(&wish.requirements.text()).map_err(broken)?;
            has_built = true;
        }
    }
}

/// Whether it is time to try for `requests` again.
fn is_due(home: &Path) -> bool {
    let tried = std::fs::metadata(home.join(WITHOUT_REQUESTS)).and_then(|metadata| metadata.modified());
    tried.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > TRY_AGAIN))
}

fn read(settings: &Settings, project: &Path, tell: Tell<'_>) -> Result<Wish, Error> {
    check_drivers(settings.place, project, tell)?;
    let requirements = Requirements::read(project).map_err(refused)?;
    settings.index.admit(&requirements)?;
    if !settings.allow_source_builds
        && let Some(name) = requirements.no_binary.first()
    {
        let what = format!("`--no-binary {name}` asks for a build from source, which is not allowed here");
        return Err(Error::RequirementRefused { what });
    }
    let lock = match requirements.lock(project) {
        Err(requirements::Error::StaleLock) if settings.place == Place::Developer => {
            tell(LogLevel::Warning, "requirements.lock belongs to other requirements and is left out of account");
            None
        }
        lock => lock.map_err(refused)?,
    };
    Ok(Wish { requirements, lock })
}

fn check_drivers(place: Place, project: &Path, tell: Tell<'_>) -> Result<(), Error> {
    match place {
        _ if !project.join(DRIVERS_DIR).is_dir() => Ok(()),
        Place::Agent => Err(Error::DriversNeedImage),
        Place::Developer => {
            let what = "drivers/installation.sh is not run on this machine: install what it installs by yourself. An \
                        agent refuses this project on its host (DRIVERS_NEED_IMAGE)";
            tell(LogLevel::Warning, what);
            Ok(())
        }
    }
}

fn refused(error: requirements::Error) -> Error {
    Error::RequirementRefused { what: crate::context::chain(&error) }
}

impl Wish {
    /// Whether nothing is asked for but what the runtime itself promises.
    fn is_bare(&self) -> bool {
        self.lock.is_none() && self.requirements.lines.is_empty() && !self.requirements.is_hashed()
    }

    /// What goes into one installation, and whether `requests` needs a second one: with hashes, every line of the first
    /// must have its own.
    fn text(&self) -> (String, bool) {
        match &self.lock {
            Some(lock) => (lock.text.clone(), false),
            None if self.requirements.is_hashed() => (self.requirements.text(), true),
            None => (format!("{}{ALWAYS}\n", self.requirements.text()), false),
        }
    }
}

#[cfg(test)]
mod tests;
