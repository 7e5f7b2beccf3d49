//! `inshore state`: what the next run of a project starts from, and what earlier runs started from.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};
use inshore_config::Environment;

use super::place::PlaceArgs;
use super::project::{confirmed, failure, open};
use super::{Failure, print, runtime, say};
use crate::developer::{self, HistoryError, Project, Sources, Which};

/// The editor when the environment names none.
const EDITOR: &str = "vi";

#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Print the state that the next run starts from.
    Get(StateArgs),
    /// Replace it by this JSON, or by what stdin holds.
    Set(StateSetArgs),
    /// Open it in $VISUAL or $EDITOR.
    Edit(StateArgs),
    /// List the states that runs committed, newest first.
    History(HistoryArgs),
    /// Show where two states differ.
    Diff(DiffArgs),
    /// Start the next run from the state of an earlier commit. Asks first.
    Rewind(RewindArgs),
}

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// The folder that holds connector.py.
    #[arg(long, default_value = ".")]
    pub(super) project: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct StateSetArgs {
    /// The new state as JSON; `-` reads stdin.
    state: String,
    #[command(flatten)]
    project: StateArgs,
}

pub(super) fn run(command: &StateCommand) -> Result<(), Failure> {
    match command {
        StateCommand::Get(arguments) => print(&own_state(&open(&arguments.project)?)?),
        StateCommand::Set(arguments) => set_state(arguments)?,
        StateCommand::Edit(arguments) => edit_state(&open(&arguments.project)?)?,
        StateCommand::History(arguments) => history(arguments)?,
        StateCommand::Diff(arguments) => diff(arguments)?,
        StateCommand::Rewind(arguments) => rewind(arguments)?,
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Commits that are listed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

fn history(arguments: &HistoryArgs) -> Result<(), Failure> {
    let (whose, _) = arguments.place.open()?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let timeline = runtime("state", 1)?.block_on(developer::timeline(&whose, limit)).map_err(told)?;
    match arguments.output {
        Output::Text => print(timeline.text().trim_end()),
        Output::Json => print(&serde_json::to_string(&timeline).expect("plain structs always serialise")),
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// A commit's number; else the newest commit whose state differs.
    from: Option<Which>,
    /// A commit's number, or `current`: what the next run starts from.
    #[arg(default_value = "current")]
    to: Which,
    #[command(flatten)]
    place: PlaceArgs,
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

fn diff(arguments: &DiffArgs) -> Result<(), Failure> {
    let (whose, _) = arguments.place.open()?;
    let compared = developer::diff(&whose, arguments.from, arguments.to);
    let (from, differences) = runtime("state", 1)?.block_on(compared).map_err(told)?;
    if arguments.output == Output::Json {
        print(&developer::differences_json(from, arguments.to, &differences).to_string());
        return Ok(());
    }
    say(&format!("{from} → {}", arguments.to));
    differences.iter().for_each(|difference| print(&difference.to_string()));
    if differences.is_empty() {
        say("the states are the same");
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct RewindArgs {
    /// The commit's number, as `state history` lists it.
    commit: u64,
    #[command(flatten)]
    place: PlaceArgs,
    /// Do not ask.
    #[arg(long, short, visible_aliases = ["force", "non-interactive"])]
    yes: bool,
}

fn rewind(arguments: &RewindArgs) -> Result<(), Failure> {
    let (whose, agent) = arguments.place.open()?;
    if let Some(agent) = &agent {
        agent.check_idle()?;
    }
    let runtime = runtime("state", 1)?;
    let rewind = runtime.block_on(developer::rewind(&whose, arguments.commit)).map_err(told)?;
    if rewind.differences.is_empty() {
        say("the next run starts from this state already");
        return Ok(());
    }
    rewind.differences.iter().for_each(|difference| say(&difference.to_string()));
    let question = format!("start the next run from the state of commit {}? [y/N] ", arguments.commit);
    if !arguments.yes && !confirmed(&question)? {
        say("the state stays as it was");
        return Ok(());
    }
    if let Some(agent) = &agent {
        // Asking took its time.
        agent.check_idle()?;
    }
    let writer = |generation| agent.as_ref().map(|agent| agent.writer(generation));
    let commit = runtime.block_on(rewind.go_back(writer)).map_err(told)?;
    say(&format!("the next run starts from this state (commit {commit}); rows stay as they are"));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn told(error: HistoryError) -> Failure {
    Failure::new(error.code(), &error)
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
