//! A file or folder that a developer named and that cannot be read: PKG-010, whoever needed it.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub(crate) struct Unreadable {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Unreadable {
    /// The page in docs/errors.
    pub(super) const CODE: &'static str = "PKG-010";

    /// Names the path of what failed.
    pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Unreadable {
        let path = path.to_owned();
        move |source| Unreadable { path, source }
    }
}

/// A whole file as text.
pub(super) fn read(path: &Path) -> Result<String, Unreadable> {
    std::fs::read_to_string(path).map_err(Unreadable::at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_its_cause() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("absent.json");
        let error = read(&path).expect_err("it is not there");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(error.to_string(), format!("read {}", path.display()));
        assert!(cause.contains("No such file"), "{cause}");
        std::fs::write(&path, "{}").expect("a file");
        assert_eq!(read(&path).expect("text"), "{}");
    }
}
