//! `inshore-control`: command line, logging, configuration, runtime, exit code. What the program does is in `app`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use inshore_control_plane::{app, config, log};

/// Exit code of an invalid configuration, the same as the agent's.
const EXIT_CONFIG: u8 = 3;

#[derive(Debug, Parser)]
#[command(
    name = "inshore-control",
    version,
    about = "Inshore control plane: REST, agents' channel, scheduler, dashboard"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Serve { config: file } = Arguments::parse().command;
    let settings = match config::load(&file) {
        Ok(settings) => settings,
        Err(error) => {
            log::start(config::LogFormat::Text);
            log::failure("the configuration is not usable", &error);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    log::start(settings.log_format);
    match app::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure("the control plane stops", &error);
            ExitCode::FAILURE
        }
    }
}
