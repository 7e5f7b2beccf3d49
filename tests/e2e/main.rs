//! End to end: the staged binaries against each other on loopback. This file is the index only.

#![expect(clippy::print_stdout, reason = "a test prints what it counted")]

mod bad_input;
mod canaries;
mod checkpoints;
mod control_loss;
mod crash;
mod debug;
mod debug_flags;
mod deploy;
mod developer;
mod forms;
mod freeze;
mod full_size;
mod governance;
mod hostile;
mod hostile_lake;
mod kill;
mod logs;
mod object_store;
mod odd_connectors;
mod python_debug;
mod readers;
mod resync;
mod run_verb;
mod sandbox;
mod script;
mod setup_tests;
mod state_history;
mod stop;
mod takeover;
mod templates;
mod tutorial;
mod type_lock;
mod uploads;
mod walled;
