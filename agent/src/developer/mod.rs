//! What a connector's developer runs on their own machine. `debug` is the same engine as a job of the agent: the same
//! host, the same window, the same lake, in the project's `files` folder; only who asks and where it is looked at
//! differ. Needs no agent, no control plane, no account.

mod check;
mod debug;
mod happening;
mod limit;
mod local;
mod lock;
mod look;
mod project;
mod sealed;
mod summary;
mod template;
mod tool;
mod trace;
mod warehouse;

pub(crate) use self::check::{Level, validate};
pub(crate) use self::debug::{CONNECTION_NAME, Error, Settings, debug};
pub(crate) use self::happening::{Change, Happening, TableChange};
pub(crate) use self::lock::lock;
pub(crate) use self::look::{Error as LookError, Format, overview, sql};
pub(crate) use self::project::{Error as ProjectError, Project, Sources};
pub(crate) use self::summary::{grouped, log_line, nothing_moved, progress_line, table};
pub(crate) use self::template::Template;
pub(crate) use self::tool::Tools;
pub(crate) use self::trace::{block, of as trace_of, place};
pub(crate) use self::warehouse::Warehouse;
