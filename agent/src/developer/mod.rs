//! What a connector's developer runs on their own machine. `debug` is the same engine as a job of the agent: the same
//! host, the same window, the same lake, in the project's `files` folder; only who asks and where it is looked at
//! differ. Needs no agent, no control plane, no account.

mod api;
mod check;
mod compare;
mod debug;
mod deploy;
mod happening;
mod history;
mod ignore;
mod limit;
mod local;
mod lock;
mod look;
mod package;
mod profile;
mod project;
mod sealed;
mod setup;
mod summary;
mod syncs;
mod target;
mod template;
mod timing;
mod tool;
mod trace;
mod unreadable;
mod uploads;
mod walled;
mod warehouse;

pub(crate) use self::api::Api;
pub(crate) use self::check::{Level, validate};
pub(crate) use self::compare::{compare, other_warehouse};
pub(crate) use self::debug::{CONNECTION_NAME, Error, Settings, debug};
pub(crate) use self::deploy::{Deployed, Error as DeployError, Wanted, deploy, download, find};
pub(crate) use self::happening::{Change, Happening, TableChange};
pub(crate) use self::history::{
    Connection, Error as HistoryError, Which, Whose, diff, differences_json, rewind, timeline,
};
pub(crate) use self::lock::{Locked, lock};
pub(crate) use self::look::{Error as LookError, Format, overview, sql};
pub(crate) use self::package::{Package, package};
pub(crate) use self::profile::{Profile, control_plane, profile};
pub(crate) use self::project::{Error as ProjectError, Project, Sources};
pub(crate) use self::sealed::seal;
pub(crate) use self::setup::{Outcome, TestResult, form, setup_tests};
pub(crate) use self::summary::{grouped, log_line, nothing_moved, progress_line, table};
pub(crate) use self::syncs::{syncs, syncs_table};
pub(crate) use self::target::{target, unignored};
pub(crate) use self::template::{Template, write_ci};
pub(crate) use self::timing::Timing;
pub(crate) use self::tool::Tools;
pub(crate) use self::trace::{block, of as trace_of, place};
pub(crate) use self::walled::Walled;
pub(crate) use self::warehouse::Warehouse;
