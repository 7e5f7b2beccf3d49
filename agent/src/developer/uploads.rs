//! `files/uploads`: the files that travelled beside rows, one folder per table, where a developer looks for them. They lie
//! in the lake; here are links to their folders.

use std::io;
use std::path::Path;

use super::debug::SCHEMA;
use super::project::Project;
use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::destination::Lake;

/// Links the folder of every table that has files. What cannot be linked is said, and lies in the lake all the same.
pub(super) fn show(project: &Project, lake: &Lake, say: &(dyn Fn(LogLine) + Sync)) {
    for table in lake.live_tables() {
        let folder = Path::new(&table.schema).join(&table.table).join("_files");
        if !project.tables().join(&folder).is_dir() {
            continue;
        }
        let name =
            if table.schema == SCHEMA { table.table.clone() } else { format!("{}.{}", table.schema, table.table) };
        let (level, message) = match link(&Path::new("../tables").join(folder), &project.uploads().join(&name)) {
            Ok(()) => (LogLevel::Info, format!("files of {name} are in files/uploads/{name}")),
            Err(error) => (LogLevel::Warning, format!("files/uploads/{name} could not be linked: {error}")),
        };
        say(LogLine { level, origin: LogOrigin::Library, message });
    }
}

fn link(folder: &Path, place: &Path) -> io::Result<()> {
    if place.is_symlink() {
        return Ok(());
    }
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::os::unix::fs::symlink(folder, place)
}
