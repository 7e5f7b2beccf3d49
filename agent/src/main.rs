//! The binary `inshore`: logging, config, runtime, command, exit code.
fn main() {}
