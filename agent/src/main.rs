//! The binary `inshore`: arguments, logging, runtime, command, exit code. What each command does is in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    inshore_agent::main()
}
