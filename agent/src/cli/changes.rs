//! `--watch`: the project is run again when one of its files has changed. Looks at times and sizes; what runs write
//! (`files`), hidden names and virtual environments do not count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the project is looked at.
const EVERY: Duration = Duration::from_millis(300);
/// More files than this are not looked at.
const FILES_MAX: usize = 10_000;
const LEFT_OUT: [&str; 2] = ["files", "__pycache__"];

/// The project's files, as they were at one moment.
#[derive(Debug, PartialEq)]
pub(super) struct Seen(BTreeMap<PathBuf, (SystemTime, u64)>);

pub(super) fn see(project: &Path) -> Seen {
    let mut files = BTreeMap::new();
    let mut folders = vec![project.to_owned()];
    while let Some(folder) = folders.pop() {
        // A file may go while it is looked at: it is gone, then.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            let Ok(metadata) = path.metadata() else { continue };
            if name.starts_with('.') || LEFT_OUT.contains(&&*name) || path.join("pyvenv.cfg").exists() {
                continue;
            }
            if metadata.is_dir() {
                folders.push(path);
            } else if files.len() < FILES_MAX {
                files.insert(path, (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len()));
            }
        }
    }
    Seen(files)
}

impl Seen {
    /// What a change is measured against after a run: code as it was before the run, since its author may have changed it
    /// meanwhile; other files as they are now, since the connector may have written them.
    pub(super) fn after(self, now: Seen) -> Seen {
        let is_code = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "py");
        let code = self.0.into_iter().filter(|(path, _)| is_code(path));
        let others = now.0.into_iter().filter(|(path, _)| !is_code(path));
        Seen(code.chain(others).collect())
    }
}

/// Waits for a change; false when Ctrl-C came first.
pub(super) async fn changed(project: &Path, since: &Seen) -> bool {
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return false,
            () = tokio::time::sleep(EVERY) => {}
        }
        if see(project) != *since {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_its_author_writes_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("connector.py", "1");
        let before = see(folder.path());
        for name in ["files/state.json", ".git/index", "__pycache__/x.pyc", "env/pyvenv.cfg", "env/lib/x.py"] {
            write(name, "x");
            assert_eq!(see(folder.path()), before, "{name}");
        }
        write("sub/helper.py", "1");
        let grown = see(folder.path());
        assert_ne!(grown, before);
        // Code that changed during a run counts, data that the connector wrote does not.
        write("cache.csv", "1");
        assert_eq!(grown.after(see(folder.path())), see(folder.path()));
        let before = see(folder.path());
        write("connector.py", "22");
        assert_ne!(before.after(see(folder.path())), see(folder.path()));
    }
}
