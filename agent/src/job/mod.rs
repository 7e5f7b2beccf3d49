//! Leased work: one child process per job, same binary. The agent's side is `dispatcher` (what runs) and `child` (one
//! process); the job's side is `main` (the conversation) and `run` (the work). `spec` and `outcome` are the only places
//! where wire types are turned into ours and back.

mod checks;
mod child;
mod dispatcher;
#[cfg(test)]
mod fixture;
pub(crate) mod journal;
mod link;
mod main;
mod outcome;
mod package;
mod run;
mod spec;

pub(crate) use child::{CANCEL_GRACE, Launch};
pub(crate) use dispatcher::{Admission, Dispatcher, JobEvent, Reserved};
pub(crate) use link::{Limits, Request, Signer};
pub(crate) use main::main;
pub(crate) use outcome::{code_of, code_of_package, not_started};
pub(crate) use package::unpack as unpack_package;
pub(crate) use spec::{Opened, SecretError, open_salt, open_settings};
