//! Secret references `${file:/path}`, `${env:NAME}`, `${cred:NAME}`, and the [`Secret`] they resolve to. Resolved on the
//! host only, at the last moment. A secret has no Display, a Debug that shows nothing, and is wiped when dropped.

use std::fmt;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

/// A file that holds a secret above this size is a mistake.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A value nobody should see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Where a secret is kept on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// The file's content without one trailing line end.
    File(PathBuf),
    /// An environment variable of the agent.
    Env(String),
    /// A systemd credential of the agent's unit.
    Cred(String),
}

/// References a policy allows: one, or all names in one place by a trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPattern {
    reference: SecretRef,
    /// What a name must begin with, where the pattern ended in `*`.
    is_prefix: bool,
}

/// A reference that does not lead to a secret. Page CFG-007.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("read a secret reference: write ${{file:/absolute/path}}, ${{env:NAME}} or ${{cred:NAME}}")]
    Form,
    #[error("read the secret file {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("read the secret file {path}: above 64 KiB")]
    TooLarge { path: PathBuf },
    #[error("read the secret {name} from the environment: it is not set there")]
    Env { name: String },
    #[error("read the credential {name}: the unit was given no credentials (CREDENTIALS_DIRECTORY is not set)")]
    NoCredentials { name: String },
}

impl SecretError {
    /// The code of the error's page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "CFG-007"
    }
}

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, by reference, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

impl SecretRef {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).ok_or(SecretError::Form)?;
        let (scheme, locator) = inner.split_once(':').ok_or(SecretError::Form)?;
        let reference = match scheme {
            "file" if is_plain_path(locator) => Self::File(locator.into()),
            "env" if is_name(locator, "_") => Self::Env(locator.to_owned()),
            "cred" if is_name(locator, "_-.") && !locator.starts_with('.') => Self::Cred(locator.to_owned()),
            _ => return Err(SecretError::Form),
        };
        Ok(reference)
    }

    /// Fetches the secret.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => read(path),
            Self::Env(name) => variable(name).map(Secret::new).ok_or_else(|| SecretError::Env { name: name.clone() }),
            Self::Cred(name) => {
                let folder = variable("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                read(&Path::new(&folder).join(name))
            }
        }
    }

    fn locator(&self) -> (u8, &str) {
        match self {
            Self::File(path) => (0, path.to_str().unwrap_or_default()),
            Self::Env(name) => (1, name),
            Self::Cred(name) => (2, name),
        }
    }
}

impl SecretPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        match text.strip_suffix("*}") {
            // The parser refuses empty names and trailing slashes, so it sees the prefix with one harmless letter more.
            Some(prefix) => {
                let reference = match SecretRef::parse(&format!("{prefix}x}}"))? {
                    SecretRef::File(path) => SecretRef::File(without_last(&path.to_string_lossy()).into()),
                    SecretRef::Env(name) => SecretRef::Env(without_last(&name)),
                    SecretRef::Cred(name) => SecretRef::Cred(without_last(&name)),
                };
                Ok(Self { reference, is_prefix: true })
            }
            None => Ok(Self { reference: SecretRef::parse(text)?, is_prefix: false }),
        }
    }

    /// Whether the pattern covers a reference.
    #[must_use]
    pub fn matches(&self, reference: &SecretRef) -> bool {
        let ((kind, pattern), (found, locator)) = (self.reference.locator(), reference.locator());
        let covered = match locator.strip_prefix(pattern) {
            Some(rest) if self.is_prefix => !rest.is_empty() && !rest.contains('/'),
            Some(rest) => rest.is_empty(),
            None => false,
        };
        kind == found && covered
    }
}

fn without_last(text: &str) -> String {
    let mut text = text.to_owned();
    text.pop();
    text
}

/// Absolute, in one spelling, without dots: what the policy compares is what is opened.
fn is_plain_path(text: &str) -> bool {
    let plain = Path::new(text).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let spelt_once = !text.contains("//") && !text.contains("/./") && !text.ends_with("/.") && !text.ends_with('/');
    text.starts_with('/') && plain && spelt_once && !text.chars().any(char::is_control)
}

fn is_name(text: &str, also: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || also.contains(letter);
    !text.is_empty() && text.len() <= 255 && text.chars().all(fits)
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let error = |source| SecretError::File { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(error)?;
    let length = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if length as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Secret::new(value.to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment for settings")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SecretPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_forms_are_references() {
        for good in ["${file:/run/secrets/db}", "${env:DB_PASSWORD}", "${cred:db-password.txt}"] {
            assert!(SecretRef::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "hunter2",
            "${file:relative}",
            "${file:/a/../b}",
            "${file:/a//b}",
            "${file:/a/./b}",
            "${file:/a/}",
            "${env:}",
            "${env:A B}",
            "${cred:../x}",
            "${cred:a/b}",
            "${cred:.}",
            "${vault:x}",
            "${file:/a",
            "x${env:A}",
        ] {
            assert!(SecretRef::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_and_environment_resolve_and_failures_have_a_code() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\r\n").expect("write");
        let reference = SecretRef::parse(&format!("${{file:{}}}", path.display())).expect("reference");
        let secret = reference.resolve().expect("resolves");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(SecretRef::parse("${env:PATH}").expect("reference").resolve().is_ok());
        for gone in ["${env:INSHORE_NO_SUCH_VARIABLE}", "${file:/no/such/file}"] {
            assert_eq!(SecretRef::parse(gone).expect("reference").resolve().expect_err("gone").code(), "CFG-007");
        }
        std::fs::write(&path, vec![b'x'; 70_000]).expect("write");
        assert!(matches!(reference.resolve(), Err(SecretError::TooLarge { .. })));
    }

    #[test]
    fn a_star_covers_one_name() {
        let pattern = SecretPattern::parse("${env:SHOP_*}").expect("pattern");
        let matches = |text: &str| pattern.matches(&SecretRef::parse(text).expect("reference"));
        assert!(matches("${env:SHOP_PASSWORD}"));
        assert!(!matches("${env:SHOP_}") && !matches("${env:HOME}") && !matches("${cred:SHOP_PASSWORD}"));
        assert!(SecretPattern::parse("${file:*}").is_err());
    }
}
