//! `inshore debug`: runs a project on this machine and tells what it did.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use inshore_columnar::Naming;
use inshore_config::Environment;
use inshore_protocol::Code;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Failure, runtime};
use crate::connector::LogLine;
use crate::context::{Context, Progress, Stage, Stop};
use crate::developer::{self, Project, Sources, Warehouse};
use crate::sync::{self, Verdict};
use crate::{agent, job};

/// How often a terminal sees how far the run is, and how often a pipe does.
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The connector and everything it starts, as on the platform's own debugger.
const MEMORY_BYTES_MAX: u64 = 4 << 30;

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
    /// The Python version, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    progress: ProgressArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum NamingArg {
    Fivetran,
    Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProgressArg {
    /// A bar on a terminal, else a line every 10 s.
    Auto,
    Bar,
    Plain,
    None,
}

pub(super) fn run(arguments: &DebugArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    let settings = settings(arguments)?;
    runtime("debug", 2)?.block_on(debug(&project, &settings, arguments.progress))
}

fn settings(arguments: &DebugArgs) -> Result<developer::Settings, Failure> {
    let executable = agent::executable().map_err(|error| Failure::new(error.code(), &error))?;
    Ok(developer::Settings {
        sources: Sources { configuration: arguments.configuration.clone(), state: arguments.state.clone() },
        naming: match arguments.naming {
            NamingArg::Fivetran => Naming::Fivetran,
            NamingArg::Source => Naming::Source,
        },
        python: arguments.python_version.clone(),
        sdk_dir: agent::sdk_dir(&executable),
        memory_bytes_max: MEMORY_BYTES_MAX,
        environment: Environment::own(),
    })
}

async fn debug(project: &Project, settings: &developer::Settings, progress: ProgressArg) -> Result<(), Failure> {
    let screen = Screen::new(progress);
    let (stop, stopping) = watch::channel(Stop::No);
    let (sender, progressing) = watch::channel(Progress::default());
    let started = Instant::now();
    let tell = |line: LogLine| screen.log(&line);
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
    let finished = result.map_err(|error| Failure::new(error.code(), &error))?;
    let progress = context.progress.borrow().clone();
    screen.summary(&progress, &finished.warehouse, started.elapsed());
    conclude(finished.summary, &progress, &screen)
}

/// The first Ctrl-C cancels; the second does not wait for the connector.
async fn interrupted(stop: &watch::Sender<Stop>) {
    let mut asked = false;
    while tokio::signal::ctrl_c().await.is_ok() && !asked {
        stop.send_replace(Stop::Cancel);
        asked = true;
    }
}

fn conclude(summary: sync::Summary, progress: &Progress, screen: &Screen) -> Result<(), Failure> {
    if summary.verdict == Verdict::Succeeded {
        if let Some(why) = developer::nothing_moved(progress) {
            screen.say(why);
        }
        return Ok(());
    }
    match summary.failure {
        Some(error) => Err(Failure::new(job::code_of(&error).text(), &error)),
        None => Err(Failure { code: Code::ProcessDied.text().to_owned(), text: "stopped".to_owned(), exit: 130 }),
    }
}

/// Where words go: stderr, with one line of progress kept at the bottom of a terminal.
struct Screen {
    progress: ProgressArg,
    /// The bar as it stands on the terminal.
    bar: Mutex<String>,
}

impl Screen {
    fn new(progress: ProgressArg) -> Self {
        let progress = match progress {
            ProgressArg::Auto if std::io::stderr().is_terminal() => ProgressArg::Bar,
            ProgressArg::Auto => ProgressArg::Plain,
            chosen => chosen,
        };
        Self { progress, bar: Mutex::default() }
    }

    fn log(&self, line: &LogLine) {
        self.say(&developer::log_line(&chrono::Local::now().format("%H:%M:%S%.3f").to_string(), line));
    }

    fn say(&self, text: &str) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        write(&if bar.is_empty() { format!("{text}\n") } else { format!("\r\x1b[K{text}\n{bar}") });
    }

    async fn watch(&self, progress: watch::Receiver<Progress>, started: Instant) {
        let every = match self.progress {
            ProgressArg::Bar => BAR_EVERY,
            ProgressArg::None => return std::future::pending().await,
            ProgressArg::Plain | ProgressArg::Auto => LINE_EVERY,
        };
        loop {
            tokio::time::sleep(every).await;
            if progress.borrow().stage == Stage::Done {
                continue;
            }
            let line = developer::progress_line(&progress.borrow(), started.elapsed());
            if self.progress == ProgressArg::Bar {
                *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = line.clone();
                write(&format!("\r\x1b[K{line}"));
            } else {
                self.say(&line);
            }
        }
    }

    fn summary(&self, progress: &Progress, warehouse: &Warehouse, elapsed: Duration) {
        let bar = std::mem::take(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner));
        if !bar.is_empty() {
            write("\r\x1b[K");
        }
        let checkpoints = developer::grouped(progress.checkpoints);
        self.say(&format!("\n{}", developer::table(progress)));
        self.say(&format!("  {checkpoints} checkpoints, {:.1} s", elapsed.as_secs_f64()));
        match warehouse {
            Warehouse::Written { path } => self.say(&format!("  tables: {}", path.display())),
            Warehouse::ParquetOnly { folder, reason } => {
                self.say(&format!("  tables: {} as Parquet; no warehouse.db: {reason}", folder.display()));
            }
        }
    }
}

/// A terminal that went away takes no words; the run goes on.
fn write(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
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
