//! What a connector's developer runs on their own machine. `debug` is the same engine as a job of the agent: the same
//! host, the same window, the same lake, in the project's `files` folder; only who asks and where it is looked at
//! differ. Needs no agent, no control plane, no account.

mod debug;
mod local;
mod lock;
mod project;
mod summary;
mod warehouse;

pub(crate) use self::debug::{Error, Settings, debug};
pub(crate) use self::lock::lock;
pub(crate) use self::project::{Project, Sources};
pub(crate) use self::summary::{grouped, log_line, nothing_moved, progress_line, table};
pub(crate) use self::warehouse::Warehouse;
