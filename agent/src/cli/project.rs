//! The small verbs of a project: `init`, `reset`, `state`.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};
use inshore_config::Environment;

use super::{Failure, print, say};
use crate::developer::{Project, ProjectError, Sources, Template};

/// The editor when the environment names none.
const EDITOR: &str = "vi";

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder of the new project.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// What to start from.
    #[arg(long, value_enum, default_value = "default")]
    template: TemplateArg,
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
    let files = template.write(&arguments.path, arguments.force);
    let files = files.map_err(|error| Failure::new(error.code(), &error))?;
    let path = arguments.path.display();
    say(&format!("a new connector in {path}:\n"));
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
fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("without a terminal nobody can be asked: repeat with --yes"));
    }
    let mut answer = String::new();
    let asked = std::io::stderr().write_all(question.as_bytes()).and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::new("PKG-010", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Print the state that the next run starts from.
    Get(StateArgs),
    /// Replace it by this JSON, or by what stdin holds.
    Set(StateSetArgs),
    /// Open it in $VISUAL or $EDITOR.
    Edit(StateArgs),
}

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// The folder that holds connector.py.
    #[arg(long, default_value = ".")]
    project: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct StateSetArgs {
    /// The new state as JSON; `-` reads stdin.
    state: String,
    #[command(flatten)]
    project: StateArgs,
}

pub(super) fn state(command: &StateCommand) -> Result<(), Failure> {
    match command {
        StateCommand::Get(arguments) => print(&own_state(&open(&arguments.project)?)?),
        StateCommand::Set(arguments) => set_state(arguments)?,
        StateCommand::Edit(arguments) => edit_state(&open(&arguments.project)?)?,
    }
    Ok(())
}

fn own_state(project: &Project) -> Result<String, Failure> {
    // Only the project's own: no variable may make `get` show what `set` does not change.
    let state = project.state(&Sources::default(), &Environment::default()).map_err(failure)?;
    Ok(state.get().to_owned())
}

fn set_state(arguments: &StateSetArgs) -> Result<(), Failure> {
    let project = open(&arguments.project.project)?;
    let text = if arguments.state == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::new("PKG-010", &error))?;
        text
    } else {
        arguments.state.clone()
    };
    project.set_state(&text).map_err(failure)?;
    say("the next run starts from this state");
    Ok(())
}

fn edit_state(project: &Project) -> Result<(), Failure> {
    let environment = Environment::own();
    let editor = environment.get("VISUAL").or_else(|| environment.get("EDITOR")).unwrap_or(EDITOR);
    let scratch =
        tempfile::Builder::new().suffix(".json").tempfile().map_err(|error| Failure::new("PKG-010", &error))?;
    let before = pretty(&own_state(project)?);
    std::fs::write(scratch.path(), &before).map_err(|error| Failure::new("PKG-010", &error))?;
    // The variable may hold options too, as in `code --wait`.
    let mut words = editor.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(EDITOR));
    command.args(words).arg(scratch.path()).stdin(Stdio::inherit());
    let ended = command
        .status()
        .map_err(|error| Failure { text: format!("start {editor}: {error}"), ..Failure::new("PKG-010", &error) })?;
    let after = std::fs::read_to_string(scratch.path()).map_err(|error| Failure::new("PKG-010", &error))?;
    if !ended.success() || after == before {
        say("the state stays as it was");
        return Ok(());
    }
    project.set_state(&after).map_err(failure)?;
    say("the next run starts from this state");
    Ok(())
}

fn pretty(state: &str) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(state);
    value.and_then(|value| serde_json::to_string_pretty(&value)).map_or_else(|_| state.to_owned(), |text| text + "\n")
}

fn open(folder: &Path) -> Result<Project, Failure> {
    Project::open(folder).map_err(failure)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failure(error: ProjectError) -> Failure {
    Failure::new(error.code(), &error)
}
