//! `inshore validate`: what can be found wrong with a project without a sync and without a network.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, debug, print, runtime, say, say_line};
use crate::developer::{self, Happening, Level, Project};

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The configuration that schema() gets; else as in `debug`.
    #[arg(long)]
    configuration: Option<PathBuf>,
    /// The Python version, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
    /// How findings are written.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    /// One JSON object a line.
    Jsonl,
}

pub(super) fn run(arguments: &ValidateArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    let settings = debug::plain_settings(arguments.configuration.clone(), arguments.python_version.clone())?;
    let tell = |happening: Happening| {
        if let Happening::Line(line) = happening {
            say_line(line);
        }
    };
    let findings = runtime("validate", 1)?.block_on(developer::validate(&project, &settings, &tell));
    let findings = findings.map_err(|error| Failure::new(error.code(), &error))?;
    for finding in &findings {
        match arguments.output {
            Output::Text => print(&finding.to_string()),
            Output::Jsonl => print(&serde_json::to_string(finding).expect("plain structs always serialise")),
        }
    }
    let errors: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Error).collect();
    let Some(first) = errors.first() else {
        say("the project is fit to run");
        return Ok(());
    };
    let code = first.code.clone().unwrap_or_else(|| "PKG-010".to_owned());
    Err(Failure { code, text: format!("the project has {} to mend", count(errors.len())), exit: 1 })
}

fn count(errors: usize) -> String {
    if errors == 1 { "one error".to_owned() } else { format!("{errors} errors") }
}
