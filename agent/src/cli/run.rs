//! `inshore run`: a project without an agent, into a lake of one's own.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, debug, say};
use crate::developer::{self, Project};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    debug: debug::DebugArgs,
    /// Where rows go; else destination.json of the project. `${NAME}` in it is a variable.
    #[arg(long, value_name = "FILE")]
    destination_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let project = Project::open(arguments.debug.project()).map_err(|error| Failure::new(error.code(), &error))?;
    let mut settings = debug::settings(&arguments.debug)?;
    if arguments.debug.compares() {
        return Err(Failure::usage("--compare looks at files/warehouse.db, which `inshore debug` writes"));
    }
    if settings.since.is_some() {
        return Err(Failure::usage("--since-state goes back in the project's own lake: `inshore debug` does that"));
    }
    let target = developer::target(arguments.destination_file.as_deref(), &project, &settings.environment);
    let target = target.map_err(|error| Failure { exit: 3, ..Failure::new(error.code(), &error) })?;
    for name in developer::unignored(&project) {
        say(&format!("warning: Git does not ignore {name}, which holds values of your own: put it into .gitignore"));
    }
    settings.target = Some(target);
    settings.as_on_an_agent = true;
    debug::drive(&project, &settings, &arguments.debug, "run")
}
