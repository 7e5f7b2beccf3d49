//! `inshore lock`: writes `requirements.lock`, and the wheels that no index has, into the project.

use std::path::{Path, PathBuf};

use super::debug::{Error, Settings, environment_settings};
use super::project::Project;
use crate::connector::{LogLevel, LogLine, LogOrigin, sdk};

/// What was written.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) file: PathBuf,
    pub(crate) distributions: usize,
    pub(crate) wheels: usize,
}

/// Resolves the project's requirements as an agent would, and pins what was found.
pub(crate) async fn lock(
    project: &Project,
    settings: &Settings,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Locked, Error> {
    let folder = tempfile::Builder::new().prefix("inshore-lock-").tempdir();
    let folder = folder.map_err(|source| Error::Prepare { path: std::env::temp_dir(), source })?;
    let environment = environment_settings(settings);
    let say = |level: LogLevel, message: &str| {
        tell(LogLine { level, origin: LogOrigin::Library, message: message.to_owned() });
    };
    let resolved = sdk::environment::resolve(&environment, project.folder(), folder.path(), &say).await?;
    let file = project.folder().join(sdk::environment::LOCK_FILE);
    write(&file, resolved.lock.as_bytes())?;
    copy_wheels(&resolved.wheels, &project.folder().join(sdk::environment::WHEELS_DIR))?;
    let distributions = resolved.lock.lines().filter(|line| line.contains("==")).count();
    Ok(Locked { file, distributions, wheels: resolved.wheels.len() })
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    std::fs::write(path, content).map_err(|source| Error::Prepare { path: path.to_owned(), source })
}

fn copy_wheels(wheels: &[PathBuf], folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Prepare { path: folder.to_owned(), source };
    for wheel in wheels {
        std::fs::create_dir_all(folder).map_err(failed)?;
        let name = wheel.file_name().unwrap_or_default();
        std::fs::copy(wheel, folder.join(name)).map_err(failed)?;
    }
    Ok(())
}
