//! `inshore syncs`: how the runs of a deployed connection went.

use clap::{Args, ValueEnum};
use inshore_config::Environment;

use super::deploy::{ControlPlaneArgs, failure};
use super::{Failure, print};
use crate::developer;

#[derive(Debug, Args)]
pub(super) struct SyncsArgs {
    /// The connection's name.
    connection: String,
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
    /// The destination's name; else FIVETRAN_DESTINATION_NAME. Not needed where there is one only.
    #[arg(long)]
    destination: Option<String>,
    /// Only runs that stand like this.
    #[arg(long, value_enum)]
    status: Option<StatusArg>,
    /// Runs that are listed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StatusArg {
    Queued,
    Running,
    Succeeded,
    Failed,
    Rescheduled,
    Cancelled,
}

impl StatusArg {
    fn text(self) -> &'static str {
        match self {
            StatusArg::Queued => "queued",
            StatusArg::Running => "running",
            StatusArg::Succeeded => "succeeded",
            StatusArg::Failed => "failed",
            StatusArg::Rescheduled => "rescheduled",
            StatusArg::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
    Jsonl,
}

pub(super) fn run(arguments: &SyncsArgs) -> Result<(), Failure> {
    let environment = Environment::own();
    let api = arguments.control_plane.api(&environment)?;
    let destination = arguments.destination.as_deref().or_else(|| environment.get("FIVETRAN_DESTINATION_NAME"));
    let name = (destination, arguments.connection.as_str());
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let syncs = developer::syncs(&api, name, arguments.status.map(StatusArg::text), limit).map_err(failure)?;
    match arguments.output {
        Output::Text => print(developer::syncs_table(&syncs).trim_end()),
        Output::Json => print(&serde_json::Value::from(syncs).to_string()),
        Output::Jsonl => syncs.iter().for_each(|sync| print(&sync.to_string())),
    }
    Ok(())
}
