//! `inshore debug`: runs a project on this machine and tells what it did.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use inshore_columnar::{Inference, Naming};
use inshore_config::{Environment, Policy};
use inshore_protocol::Code;
use tokio::sync::watch;
use tokio::time::Instant;

use super::events::Events;
use super::screen::{ProgressArg, Screen};
use super::{Failure, changes, runtime, say, say_line};
use crate::context::{Context, Progress, Stop};
use crate::developer::{self, Happening, Project, Sources, Walled};
use crate::sync::{self, Verdict};
use crate::{agent, installation, job};

/// The connector and everything it starts, as on the platform's own debugger.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// What the original runtime grants a checkpoint.
const CHECKPOINT_TIMEOUT_MS: u64 = 120_000;
const EXIT_INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(super) struct DebugArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The configuration; else FIVETRAN_CONFIGURATION, else configuration.json of the project, else empty.
    #[arg(long)]
    configuration: Option<PathBuf>,
    /// The state to start from; else FIVETRAN_STATE, else files/state.json of the project, else empty.
    #[arg(long)]
    state: Option<PathBuf>,
    /// How tables and columns are named.
    #[arg(long, value_enum, ignore_case = true, default_value = "FIVETRAN")]
    naming: NamingArg,
    /// Which undeclared values have a type of their own.
    #[arg(long, value_enum, default_value = "compatible")]
    inference: InferenceArg,
    /// The Python version, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressArg,
    /// Show every line of the installer, not only when it fails.
    #[arg(long, short)]
    verbose: bool,
    /// End after so many rows. They are kept, and the state stays that of the last checkpoint before.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    limit_rows: Option<u64>,
    /// Start from the state of an earlier commit, as `inshore state history` numbers them.
    #[arg(long, value_name = "COMMIT", conflicts_with = "state")]
    since_state: Option<u64>,
    /// Show where the time went, by table: user code, encoding, back-pressure, checkpoint; and peak memory.
    #[arg(long)]
    profile: bool,
    /// Compare the tables afterwards with those of another run: a folder with a warehouse.db.
    #[arg(long, value_name = "DIR")]
    compare: Option<PathBuf>,
    /// Run again whenever a file of the project changes, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Run as an agent would: FIVETRAN_DEPLOYMENT_MODEL=hybrid_cloud, no debug lines, checkpoints
    /// that take more than 120 s raise TimeoutError.
    #[arg(long, value_enum)]
    simulate: Option<SimulateArg>,
    /// Run the connector in the sandbox that agents put it into.
    #[arg(long)]
    sandbox: bool,
    /// Print at the end where the connector connected to, as an egress list. Runs in the sandbox, with every target open.
    #[arg(long)]
    record_egress: bool,
    /// The policy whose `[sandbox]` counts; else the defaults.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SimulateArg {
    Hybrid,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum NamingArg {
    Fivetran,
    Source,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InferenceArg {
    /// As the original runtime, except where that loses digits.
    Compatible,
    /// Exactly as the original runtime: 32-bit floats.
    Strict,
    /// Decimals, dates, datetimes and numpy's scalars keep their types.
    Rich,
}

pub(super) fn run(arguments: &DebugArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    drive(&project, &settings(arguments)?, arguments, "debug")
}

/// Runs the project to its end, and tells of it as the arguments say.
pub(super) fn drive(
    project: &Project,
    settings: &developer::Settings,
    arguments: &DebugArgs,
    command: &'static str,
) -> Result<(), Failure> {
    let other = arguments.compare.as_deref().map(|path| developer::other_warehouse(path, project)).transpose();
    let other = other.map_err(|error| Failure::new(error.code(), &error))?;
    loop {
        let before = changes::see(project.folder());
        let ended = runtime(command, 2)?
            .block_on(debug(project, settings, arguments, command))
            .and_then(|()| other.as_deref().map_or(Ok(()), |other| compare(project, settings, other)));
        match ended {
            Err(failure) if arguments.watch && failure.exit != EXIT_INTERRUPTED => super::complain(&failure),
            Ok(()) if arguments.watch => {}
            ended => return ended,
        }
        say("waiting for a change of the project; Ctrl-C ends");
        let before = before.after(changes::see(project.folder()));
        if !runtime("watch", 1)?.block_on(changes::changed(project.folder(), &before)) {
            return Ok(());
        }
    }
}

/// Tells how the tables differ from those of another run; that they do is a failure.
fn compare(project: &Project, settings: &developer::Settings, other: &Path) -> Result<(), Failure> {
    let work = developer::compare(project, settings.tools(), other, &say_line);
    let comparison = runtime("compare", 1)?.block_on(work).map_err(|error| Failure::new(error.code(), &error))?;
    say(&format!("\ncompared with {}:\n{}", other.display(), comparison.text().trim_end()));
    if comparison.is_equal() {
        return Ok(());
    }
    let text = format!("the tables are not those of {}", other.display());
    Err(Failure { code: Code::TablesDiffer.text().to_owned(), text, exit: 1 })
}

impl DebugArgs {
    pub(super) fn compares(&self) -> bool {
        self.compare.is_some()
    }

    pub(super) fn project(&self) -> &Path {
        &self.project
    }
}

pub(super) fn settings(arguments: &DebugArgs) -> Result<developer::Settings, Failure> {
    let plain = plain_settings(arguments.configuration.clone(), arguments.python_version.clone())?;
    Ok(developer::Settings {
        sources: Sources { state: arguments.state.clone(), ..plain.sources },
        naming: match arguments.naming {
            NamingArg::Fivetran => Naming::Fivetran,
            NamingArg::Source => Naming::Source,
        },
        inference: match arguments.inference {
            InferenceArg::Compatible => Inference::Compatible,
            InferenceArg::Strict => Inference::Strict,
            InferenceArg::Rich => Inference::Rich,
        },
        rows_max: arguments.limit_rows,
        checkpoint_timeout_ms: arguments.simulate.map(|SimulateArg::Hybrid| CHECKPOINT_TIMEOUT_MS),
        profile: arguments.profile,
        since: arguments.since_state,
        walled: walled(arguments)?,
        as_on_an_agent: arguments.simulate.is_some(),
        ..plain
    })
}

fn walled(arguments: &DebugArgs) -> Result<Option<Walled>, Failure> {
    if !arguments.sandbox && !arguments.record_egress {
        let policy =
            arguments.policy.as_ref().map(|_| Failure::usage("--policy goes with --sandbox or --record-egress"));
        return policy.map_or(Ok(None), Err);
    }
    let policy = arguments.policy.as_deref().map_or(Ok(Policy::default()), Policy::load);
    let policy = policy.map_err(|error| Failure::new(error.code(), &error))?;
    let inside = agent::executable().map_err(|error| Failure::new(error.code(), &error))?;
    let walled = Walled::new(policy.sandbox, inside);
    Ok(Some(if arguments.record_egress { walled.recording() } else { walled }))
}

/// What a run takes when nothing else is asked for.
pub(super) fn plain_settings(
    configuration: Option<PathBuf>,
    python: Option<String>,
) -> Result<developer::Settings, Failure> {
    let executable = agent::executable().map_err(|error| Failure::new(error.code(), &error))?;
    Ok(developer::Settings {
        sources: Sources { configuration, state: None },
        naming: Naming::Fivetran,
        inference: Inference::default(),
        python,
        sdk_dir: installation::sdk_dir(&executable),
        memory_bytes_max: MEMORY_BYTES_MAX,
        rows_max: None,
        checkpoint_timeout_ms: None,
        profile: false,
        since: None,
        target: None,
        walled: None,
        as_on_an_agent: false,
        environment: Environment::own(),
    })
}

async fn debug(
    project: &Project,
    settings: &developer::Settings,
    arguments: &DebugArgs,
    command: &str,
) -> Result<(), Failure> {
    let (stop, stopping) = watch::channel(Stop::No);
    let (sender, progressing) = watch::channel(Progress::default());
    let events = (arguments.progress == ProgressArg::Json)
        .then(|| Events::new(progressing.clone(), start_fields(project, settings, arguments, command)));
    let screen = Screen::new(arguments.progress, arguments.verbose, events);
    let started = Instant::now();
    let tell = |happening: Happening| screen.happening(&happening);
    let mut context = Context { progress: sender, stop: stopping };
    let result = {
        let work = developer::debug(&mut context, project, settings, &tell);
        tokio::select! {
            biased;
            result = work => result,
            () = screen.watch(progressing, started) => unreachable!("a screen watches until the work ends"),
            () = interrupted(&stop) => Err(developer::Error::Stopped),
        }
    };
    let finished = match result {
        Ok(finished) => finished,
        Err(error) => {
            let failure = Failure::new(error.code(), &error);
            end(&screen, Some((&failure, None)), None);
            return Err(failure);
        }
    };
    let progress = context.progress.borrow().clone();
    screen.summary(&progress, &finished.warehouse, started.elapsed());
    if let Some(timing) = &finished.timing {
        screen.timing(timing);
    }
    if let Some(rules) = settings.walled.as_ref().and_then(Walled::reached) {
        screen.egress(&rules);
    }
    conclude(finished.summary, &progress, &screen, project)
}

fn start_fields(
    project: &Project,
    settings: &developer::Settings,
    arguments: &DebugArgs,
    command: &str,
) -> serde_json::Value {
    let connection = settings.target.as_ref().map_or(developer::CONNECTION_NAME, |target| target.schema.as_str());
    serde_json::json!({
        "command": command,
        "project": project.folder(),
        "connection": connection,
        "naming": if settings.naming == Naming::Fivetran { "FIVETRAN" } else { "SOURCE" },
        "simulate": arguments.simulate.map(|_| "hybrid"),
        "python_version": settings.python,
    })
}

/// The first Ctrl-C cancels; the second does not wait for the connector.
async fn interrupted(stop: &watch::Sender<Stop>) {
    let mut asked = false;
    while tokio::signal::ctrl_c().await.is_ok() && !asked {
        stop.send_replace(Stop::Cancel);
        asked = true;
    }
}

fn conclude(summary: sync::Summary, progress: &Progress, screen: &Screen, project: &Project) -> Result<(), Failure> {
    if summary.verdict == Verdict::Succeeded {
        let quiet = developer::nothing_moved(progress);
        if let Some(why) = quiet {
            screen.say(why);
        }
        end(screen, None, quiet);
        return Ok(());
    }
    let Some(error) = summary.failure else {
        let code = Code::ProcessDied.text().to_owned();
        let failure = Failure { code, text: "stopped".to_owned(), exit: EXIT_INTERRUPTED };
        end(screen, Some((&failure, None)), None);
        return Err(failure);
    };
    let mut failure = Failure::new(job::code_of(&error).text(), &error);
    if let Some(block) = developer::block(&error, project.folder()) {
        failure.text = block;
    }
    let place = developer::trace_of(&error).and_then(|trace| developer::place(trace, project.folder()));
    let place = place.as_ref().map(|place| (place.file.as_path(), place.line));
    end(screen, Some((&failure, place)), None);
    Err(failure)
}

/// The last events of `--progress json`.
fn end(screen: &Screen, failure: Option<(&Failure, Option<(&Path, usize)>)>, quiet: Option<&str>) {
    let Some(events) = &screen.events else { return };
    let exit = failure.map_or(0, |(failure, _)| failure.exit);
    let status = match exit {
        0 => "succeeded",
        EXIT_INTERRUPTED => "cancelled",
        _ => "failed",
    };
    events.end(status, exit, failure, quiet);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DebugArgs,
    }

    #[test]
    fn the_flags_are_those_of_the_peer() {
        for line in ["x", "x p", "x p --configuration c --state s --naming FIVETRAN", "x --naming source --python 3.12"]
        {
            assert!(Line::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["x --naming other", "x --progress loud", "x a b"] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
