//! The control plane: decides when a connection syncs and which agent does it, and remembers how it went. It holds no
//! row, no cursor, no state and no readable secret.
//!
//! How a sync flows: `api` or `schedule` makes one due → `job` offers it to an agent over `channel` → `lease` says who
//! holds it → the agent's outcome is stored by `store` → `web` and `api` show it.

pub mod app;
pub mod config;
pub mod log;

mod api;
mod catalogue;
mod channel;
mod enrolment;
mod job;
mod keys;
mod lease;
mod package;
mod schedule;
mod schema;
mod server;
mod store;
mod tasks;
mod time;
mod tls;
mod web;

#[cfg(test)]
mod tests;
