//! A project on a developer's machine: where things lie, and what a run starts from. `files/state.json` is the authority
//! for the state: who edits it, edits the next run.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use inshore_config::Environment;
use serde_json::value::RawValue;

use super::sealed;
use super::unreadable::{Unreadable, read};

/// Keys that a configuration may have.
const CONFIGURATION_KEYS_MAX: usize = 100;
/// The variables that name a configuration and a state when no flag does.
const CONFIGURATION_VARIABLE: &str = "FIVETRAN_CONFIGURATION";
const STATE_VARIABLE: &str = "FIVETRAN_STATE";

/// What is wrong with a project, before anything runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} has no connector.py", path.display())]
    NoConnector { path: PathBuf },
    #[error(transparent)]
    Read(#[from] Unreadable),
    #[error("change {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not JSON: line {}, column {}", path.display(), source.line(), source.column())]
    NotJson { path: PathBuf, source: serde_json::Error },
    #[error("{}: the value of `{key}` must be a text in quotes", path.display())]
    NotText { path: PathBuf, key: String },
    #[error("{} has {count} keys; at most {CONFIGURATION_KEYS_MAX} are possible", path.display())]
    TooManyKeys { path: PathBuf, count: usize },
    #[error("{} must hold a JSON object", path.display())]
    NotObject { path: PathBuf },
    #[error(transparent)]
    Sealed(#[from] sealed::Error),
    #[error("{} is being run: wait for its end, or stop it with Ctrl-C where it runs", path.display())]
    Busy { path: PathBuf },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::NoConnector { .. } => "PKG-003",
            Error::Read(_) => Unreadable::CODE,
            Error::Write { .. } => "PKG-010",
            Error::Sealed(_) => "DEV-005",
            Error::Busy { .. } => "DEV-011",
            Error::NotJson { .. } | Error::NotText { .. } | Error::TooManyKeys { .. } | Error::NotObject { .. } => {
                "PKG-011"
            }
        }
    }
}

/// A folder with a `connector.py`.
#[derive(Debug)]
pub(crate) struct Project {
    folder: PathBuf,
}

/// What flags and environment name instead of the project's own files.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) configuration: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
}

impl Project {
    pub(crate) fn open(folder: &Path) -> Result<Project, Error> {
        let folder = folder.canonicalize().map_err(Unreadable::at(folder))?;
        if !folder.join("connector.py").is_file() {
            return Err(Error::NoConnector { path: folder });
        }
        Ok(Project { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything that runs leave behind.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.files().join("state.json")
    }

    pub(crate) fn tables(&self) -> PathBuf {
        self.files().join("tables")
    }

    /// Files that travelled beside rows, by table.
    pub(super) fn uploads(&self) -> PathBuf {
        self.files().join("uploads")
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        self.files().join("warehouse.db")
    }

    /// What the tables held after the last run, and before it.
    pub(crate) fn overview(&self) -> PathBuf {
        self.files().join("tables.json")
    }

    /// The flag's file, else the variable's, else `configuration.json`, else nothing.
    pub(crate) fn configuration(
        &self,
        sources: &Sources,
        environment: &Environment,
    ) -> Result<BTreeMap<String, String>, Error> {
        let path = named(sources.configuration.as_deref(), environment, CONFIGURATION_VARIABLE).or_else(|| {
            let own = self.folder.join("configuration.json");
            own.exists().then_some(own)
        });
        let mut configuration = path.map_or_else(|| Ok(BTreeMap::new()), |path| read_configuration(&path))?;
        sealed::open(&mut configuration, environment.get("HOME").map(Path::new))?;
        Ok(configuration)
    }

    /// The flag's file, else the variable's, else `files/state.json`, else an empty object.
    pub(crate) fn state(&self, sources: &Sources, environment: &Environment) -> Result<Box<RawValue>, Error> {
        self.named_state(sources, environment)?.map_or_else(|| self.own_state(), Ok)
    }

    /// The flag's file, else the variable's.
    pub(super) fn named_state(
        &self,
        sources: &Sources,
        environment: &Environment,
    ) -> Result<Option<Box<RawValue>>, Error> {
        named(sources.state.as_deref(), environment, STATE_VARIABLE).map(|path| read_state(&path)).transpose()
    }

    /// Of `files/state.json`, else the empty one.
    pub(super) fn own_state(&self) -> Result<Box<RawValue>, Error> {
        let own = self.state_file();
        if own.exists() { read_state(&own) } else { parse_state(&own, "") }
    }
}

/// Nobody else runs the project, or changes what its next run starts from, while this is held. The end of the process
/// gives it back.
#[derive(Debug)]
pub(crate) struct Occupied {
    _lock: File,
}

impl Project {
    /// Makes the folder of what runs leave, which is the developer's alone and no business of a repository, and holds it.
    pub(crate) fn occupy(&self) -> Result<Occupied, Error> {
        let files = self.files();
        let failed = |source| Error::Write { path: files.clone(), source };
        std::fs::create_dir_all(&files).map_err(failed)?;
        std::fs::set_permissions(&files, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let ignore = files.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(ignore, "*\n").map_err(failed)?;
        }
        let lock = File::options().create(true).append(true).open(files.join("run.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Occupied { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path: self.folder.clone() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// What people do to a project's own state and files. Each is refused while the project is being run.
impl Project {
    /// Makes `text` the state that the next run starts from.
    pub(crate) fn set_state(&self, text: &str) -> Result<(), Error> {
        let _occupied = self.occupy()?;
        self.set_state_locked(text)
    }

    /// The same, for whoever occupies the project already.
    pub(super) fn set_state_locked(&self, text: &str) -> Result<(), Error> {
        let path = self.state_file();
        parse_state(&path, text)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Write { path, source }
        };
        super::local::replace(&path, text.trim()).map_err(failed(&path))
    }

    /// Removes everything that runs left. False when there was nothing.
    pub(crate) fn reset(&self) -> Result<bool, Error> {
        let path = self.files();
        if !path.exists() {
            return Ok(false);
        }
        let _occupied = self.occupy()?;
        match std::fs::remove_dir_all(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Write { path, source }),
        }
    }
}

fn named(flag: Option<&Path>, environment: &Environment, variable: &str) -> Option<PathBuf> {
    flag.map(Path::to_owned).or_else(|| environment.get(variable).map(PathBuf::from))
}

fn read_configuration(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let not_json = |source| Error::NotJson { path: path.to_owned(), source };
    let values: serde_json::Value = serde_json::from_str(&read(path)?).map_err(not_json)?;
    let serde_json::Value::Object(values) = values else { return Err(Error::NotObject { path: path.to_owned() }) };
    if values.len() > CONFIGURATION_KEYS_MAX {
        return Err(Error::TooManyKeys { path: path.to_owned(), count: values.len() });
    }
    let text = |(key, value)| match value {
        serde_json::Value::String(text) => Ok((key, text)),
        _ => Err(Error::NotText { path: path.to_owned(), key }),
    };
    values.into_iter().map(text).collect()
}

fn read_state(path: &Path) -> Result<Box<RawValue>, Error> {
    parse_state(path, &read(path)?)
}

pub(super) fn parse_state(path: &Path, text: &str) -> Result<Box<RawValue>, Error> {
    let text = if text.trim().is_empty() { "{}" } else { text.trim() };
    serde_json::from_str(text).map_err(|source| Error::NotJson { path: path.to_owned(), source })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A project of these files in a folder of its own.
    pub(crate) fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("connector.py", "pass")].iter().chain(files) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let project = Project::open(folder.path()).expect("a project");
        (folder, project)
    }

    #[test]
    fn a_folder_without_a_connector_is_no_project() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Project::open(folder.path()).expect_err("empty").code(), "PKG-003");
        assert_eq!(Project::open(Path::new("/nonexistent/x")).expect_err("absent").code(), "PKG-010");
    }

    #[test]
    fn a_configuration_is_an_object_of_texts() {
        let cases = [
            ("{}", None),
            (r#"{"a": "1"}"#, None),
            (r#"{"a": 1}"#, Some("`a`")),
            ("[]", Some("object")),
            ("{", Some("line 1, column 1")),
        ];
        for (text, complaint) in cases {
            let (_folder, project) = project(&[("configuration.json", text)]);
            match (project.configuration(&Sources::default(), &Environment::default()), complaint) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                    assert_eq!(error.code(), "PKG-011");
                }
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
        let many: BTreeMap<String, &str> = (0..=CONFIGURATION_KEYS_MAX).map(|key| (key.to_string(), "x")).collect();
        let (_folder, project) = project(&[("configuration.json", &serde_json::to_string(&many).expect("JSON"))]);
        assert!(
            project
                .configuration(&Sources::default(), &Environment::default())
                .expect_err("too many")
                .to_string()
                .contains("101 keys")
        );
    }

    #[test]
    fn a_named_file_wins_and_must_be_there() {
        let (folder, project) = project(&[("files/state.json", "{\"n\": 1}"), ("other.json", "[2]")]);
        assert_eq!(project.state(&Sources::default(), &Environment::default()).expect("a state").get(), "{\"n\": 1}");
        let named = |name: &str| Sources { state: Some(folder.path().join(name)), ..Sources::default() };
        let variable: Environment =
            [("FIVETRAN_STATE".to_owned(), folder.path().join("other.json").display().to_string())]
                .into_iter()
                .collect();
        assert_eq!(project.state(&Sources::default(), &variable).expect("a state").get(), "[2]");
        assert_eq!(project.state(&named("other.json"), &Environment::default()).expect("a state").get(), "[2]");
        assert_eq!(
            project.state(&named("absent.json"), &Environment::default()).expect_err("absent").code(),
            "PKG-010"
        );
    }
}
