//! What can be wrong with a file of ours: each error says which file, where in it, and what to do.

use std::path::PathBuf;

/// Which of the two files an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Agent,
    Policy,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "read {path}: the file does not exist; the package puts a commented sample into /etc/inshore, the sources have it in config/"
    )]
    Missing { file: FileKind, path: PathBuf },
    #[error("read {path}")]
    Unreadable { file: FileKind, path: PathBuf, source: std::io::Error },
    #[error("trust {path}: mode {mode:o} lets others than its owner write it; make it 0644 and owned by root")]
    WritableByOthers { file: FileKind, path: PathBuf, mode: u32 },
    #[error("read {path}: line {line}, column {column}: {message}")]
    Malformed { file: FileKind, path: PathBuf, line: usize, column: usize, message: String },
    #[error("read {path}: line {line}, column {column}: unknown key `{key}`{}", suggestion(nearest.as_deref()))]
    UnknownKey { file: FileKind, path: PathBuf, line: usize, column: usize, key: String, nearest: Option<String> },
}

impl Error {
    /// The code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { file: FileKind::Agent, .. } => "CFG-001",
            Error::Unreadable { file: FileKind::Agent, .. } | Error::Malformed { file: FileKind::Agent, .. } => {
                "CFG-002"
            }
            Error::UnknownKey { file: FileKind::Agent, .. } => "CFG-003",
            Error::Missing { file: FileKind::Policy, .. } => "CFG-004",
            Error::Unreadable { file: FileKind::Policy, .. } | Error::Malformed { file: FileKind::Policy, .. } => {
                "CFG-005"
            }
            Error::WritableByOthers { file: FileKind::Agent, .. } => "CFG-002",
            Error::WritableByOthers { file: FileKind::Policy, .. } => "CFG-005",
            Error::UnknownKey { file: FileKind::Policy, .. } => "CFG-006",
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
