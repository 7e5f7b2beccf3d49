//! `inshore inspect` and `inshore sql`: what a run left, for people and for programs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use inshore_config::Environment;

use super::{Failure, print, runtime, say_line};
use crate::developer::{self, Format, LookError, Project, Tools};
use crate::{agent, installation};

/// Rows of a table for people, unless they ask for more.
const ROWS_MAX: usize = 100;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// How it is written.
    #[arg(long, short, value_enum, default_value = "text")]
    output: InspectOutput,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InspectOutput {
    Text,
    Json,
}

pub(super) fn inspect(arguments: &InspectArgs) -> Result<(), Failure> {
    let project = open(&arguments.project)?;
    let overview = developer::overview(&project).map_err(|error| Failure::new(error.code(), &error))?;
    match arguments.output {
        InspectOutput::Text => print(overview.text().trim_end()),
        InspectOutput::Json => print(&serde_json::to_string(&overview).expect("plain structs always serialise")),
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// What to ask, in DuckDB's SQL. The tables lie in the schema `tester`.
    query: String,
    /// The folder that holds connector.py.
    #[arg(long, default_value = ".")]
    project: PathBuf,
    /// How rows are written. JSON and CSV hold all of them, decimals and times as texts.
    #[arg(long, short, value_enum, default_value = "text")]
    output: SqlOutput,
    /// Rows that a table shows.
    #[arg(long, default_value_t = ROWS_MAX)]
    rows: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SqlOutput {
    Text,
    Json,
    Jsonl,
    Csv,
}

pub(super) fn sql(arguments: &SqlArgs) -> Result<(), Failure> {
    let project = open(&arguments.project)?;
    let executable = agent::executable().map_err(|error| Failure::new(error.code(), &error))?;
    let (sdk_dir, environment) = (installation::sdk_dir(&executable), Environment::own());
    let tools = Tools { sdk_dir: &sdk_dir, environment: &environment };
    let format = match arguments.output {
        SqlOutput::Text => Format::Table,
        SqlOutput::Json => Format::Json,
        SqlOutput::Jsonl => Format::Jsonl,
        SqlOutput::Csv => Format::Csv,
    };
    let tell = say_line;
    let query = developer::sql(&project, tools, &arguments.query, format, arguments.rows, &tell);
    runtime("sql", 1)?.block_on(query).map_err(|error: LookError| Failure::new(error.code(), &error))
}

fn open(folder: &std::path::Path) -> Result<Project, Failure> {
    Project::open(folder).map_err(|error| Failure::new(error.code(), &error))
}
