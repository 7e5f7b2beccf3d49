//! The projects that `inshore init` writes. They are part of the binary: nothing is fetched.

use std::path::{Path, PathBuf};

/// A project to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Default,
    IncrementalRest,
    Oauth2,
    Database,
    Pagination,
}

/// Why no project was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} has {} already; --force replaces it", folder.display(), list(files))]
    Occupied { folder: PathBuf, files: Vec<&'static str> },
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Occupied { .. } => "DEV-001",
            Error::Write { .. } => "PKG-010",
        }
    }
}

fn list(files: &[&str]) -> String {
    files.join(", ")
}

macro_rules! own {
    ($folder:literal) => {
        [
            ("connector.py", include_str!(concat!("template/", $folder, "/connector.py"))),
            ("configuration.json", include_str!(concat!("template/", $folder, "/configuration.json"))),
            ("README.md", include_str!(concat!("template/", $folder, "/README.md"))),
            ("requirements.txt", include_str!("template/requirements.txt")),
            (".gitignore", include_str!("template/gitignore")),
        ]
    };
}

/// What checks a project wherever it is pushed, and what tells a coding assistant how.
const CI: [(&str, &str); 2] = [
    (".github/workflows/connector.yml", include_str!("template/ci/connector.yml")),
    ("AGENTS.md", include_str!("template/ci/AGENTS.md")),
];

impl Template {
    /// Its files, by name.
    fn files(self) -> [(&'static str, &'static str); 5] {
        match self {
            Template::Default => own!("default"),
            Template::IncrementalRest => own!("incremental-rest"),
            Template::Oauth2 => own!("oauth2"),
            Template::Database => own!("database"),
            Template::Pagination => own!("pagination"),
        }
    }

    /// Writes the project into `folder`, which is made where it is absent; with what continuous integration needs, when
    /// asked to. Replaces files only when told to.
    pub(crate) fn write(self, folder: &Path, ci: bool, replace: bool) -> Result<Vec<&'static str>, Error> {
        let wanted: Vec<_> = self.files().into_iter().chain(CI.into_iter().filter(|_| ci)).collect();
        write(&wanted, folder, replace)
    }
}

/// Adds what continuous integration needs to a project that is there.
pub(crate) fn write_ci(folder: &Path, replace: bool) -> Result<Vec<&'static str>, Error> {
    write(&CI, folder, replace)
}

fn write(wanted: &[(&'static str, &str)], folder: &Path, replace: bool) -> Result<Vec<&'static str>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
    let files: Vec<_> = wanted.iter().map(|(name, _)| *name).filter(|name| there(name)).collect();
    if !files.is_empty() && !replace {
        return Err(Error::Occupied { folder: folder.to_owned(), files });
    }
    for (name, text) in wanted {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
        std::fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(wanted.iter().map(|(name, _)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_written_once_and_never_over_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let project = folder.path().join("new/project");
        assert_eq!(Template::Default.write(&project, false, false).expect("written").len(), 5);
        std::fs::write(project.join("connector.py"), "mine").expect("a file");
        std::fs::remove_file(project.join("README.md")).expect("removed");
        let error = Template::Database.write(&project, true, false).expect_err("occupied");
        assert_eq!(error.code(), "DEV-001");
        assert!(error.to_string().contains("connector.py, configuration.json"), "{error}");
        assert_eq!(std::fs::read_to_string(project.join("connector.py")).expect("a file"), "mine");
        assert!(!project.join("README.md").exists(), "nothing is written when something is in the way");
        Template::Database.write(&project, true, true).expect("replaced");
        assert!(std::fs::read_to_string(project.join("connector.py")).expect("a file").contains("sqlite3"));
        assert!(project.join(".github/workflows/connector.yml").exists() && project.join("AGENTS.md").exists());
        assert_eq!(write_ci(&project, false).expect_err("occupied").code(), "DEV-001");
    }
}
