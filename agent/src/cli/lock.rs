//! `inshore lock`: pins a project's requirements.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, debug, print, runtime, say_line};
use crate::developer::{self, Project};

#[derive(Debug, Args)]
pub(super) struct LockArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The Python version that the connection will run under, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
}

pub(super) fn run(arguments: &LockArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    let locked = write(&project, arguments.python_version.clone())?;
    let wheels = if locked.wheels == 0 { String::new() } else { format!(", {} wheels beside it", locked.wheels) };
    print(&format!("{}: {} distributions{wheels}", locked.file.display(), locked.distributions));
    Ok(())
}

/// Pins the requirements of a project for one Python version.
pub(super) fn write(project: &Project, python: Option<String>) -> Result<developer::Locked, Failure> {
    let settings = debug::plain_settings(None, python)?;
    let locked = runtime("lock", 2)?.block_on(developer::lock(project, &settings, &say_line));
    locked.map_err(|error| Failure::new(error.code(), &error))
}
