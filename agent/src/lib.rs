//! The data mover. Modules stand in the order in which a job flows through them:
//! channel → job → connector → batch → destination → report; `sync` joins the middle three in the commit protocol, and
//! `agent` is the only place where channel and jobs meet.

mod agent;
mod batch;
mod channel;
mod cli;
mod connector;
mod context;
mod destination;
mod developer;
mod enrol;
mod failpoint;
#[cfg(test)]
mod fixture;
mod health;
mod identity;
mod installation;
mod job;
mod log_fields;
mod report;
mod sandbox;
mod sync;
mod tasks;

pub use cli::main;
