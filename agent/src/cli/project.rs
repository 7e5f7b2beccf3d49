//! The small verbs of a project: `init` and `reset`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Failure, say};
use crate::developer::{self, Project, ProjectError, Template};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder of the new project.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// What to start from.
    #[arg(long, value_enum, default_value = "default")]
    template: TemplateArg,
    /// Also write a pipeline for GitHub Actions and guidance for coding assistants (AGENTS.md). A project that is there gets
    /// these two alone.
    #[arg(long)]
    ci: bool,
    /// Replace files that are in the way.
    #[arg(long, short)]
    force: bool,
    /// Accepted for scripts; init asks nothing.
    #[arg(long, visible_alias = "yes", hide = true)]
    non_interactive: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TemplateArg {
    /// A small shop without any source: runs as it is.
    Default,
    /// A REST API that is asked for what changed.
    IncrementalRest,
    /// A REST API behind OAuth2 client credentials, with refresh.
    Oauth2,
    /// Tables of a database, read incrementally: runs as it is.
    Database,
    /// Page numbers, offsets, cursors and links.
    Pagination,
}

pub(super) fn init(arguments: &InitArgs) -> Result<(), Failure> {
    let template = match arguments.template {
        TemplateArg::Default => Template::Default,
        TemplateArg::IncrementalRest => Template::IncrementalRest,
        TemplateArg::Oauth2 => Template::Oauth2,
        TemplateArg::Database => Template::Database,
        TemplateArg::Pagination => Template::Pagination,
    };
    let is_there = arguments.ci && !arguments.force && arguments.path.join("connector.py").is_file();
    let files = if is_there {
        developer::write_ci(&arguments.path, false)
    } else {
        template.write(&arguments.path, arguments.ci, arguments.force)
    };
    let files = files.map_err(|error| Failure::new(error.code(), &error))?;
    let path = arguments.path.display();
    say(&if is_there { format!("added to {path}:\n") } else { format!("a new connector in {path}:\n") });
    for file in files {
        say(&format!("  {file}"));
    }
    let here = arguments.path == Path::new(".");
    let debug = if here { "inshore debug".to_owned() } else { format!("inshore debug {path}") };
    say(&format!("\nnext: {debug}"));
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct ResetArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Do not ask.
    #[arg(long, short, visible_aliases = ["force", "non-interactive"])]
    yes: bool,
}

pub(super) fn reset(arguments: &ResetArgs) -> Result<(), Failure> {
    let project = open(&arguments.project)?;
    let files = project.files();
    if files.exists()
        && !arguments.yes
        && !confirmed(&format!("remove {} with tables and state? [y/N] ", files.display()))?
    {
        say("nothing was removed");
        return Ok(());
    }
    let removed = project.reset().map_err(failure)?;
    say(&if removed { format!("removed {}", files.display()) } else { "there was nothing to remove".to_owned() });
    Ok(())
}

/// Asks on a terminal; without one, whoever means it says `--yes`.
pub(super) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("without a terminal nobody can be asked: repeat with --yes"));
    }
    let mut answer = String::new();
    let asked = std::io::stderr().write_all(question.as_bytes()).and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::new("PKG-010", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(super) fn open(folder: &Path) -> Result<Project, Failure> {
    Project::open(folder).map_err(failure)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
pub(super) fn failure(error: ProjectError) -> Failure {
    Failure::new(error.code(), &error)
}
