//! Finds the interpreter: on the search path, among those that `uv` manages, or fetched by `uv`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::installer::{Builder, on_path};
use crate::connector::{Error, LogLevel};

/// How long looking for an interpreter may take.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);
/// Tried in this order when the connection does not name a version.
const VERSIONS: [Version; 6] = [Version(13), Version(15), Version(14), Version(12), Version(11), Version(10)];
/// The end of security fixes, as python.org publishes it: minor version, year and month.
const ENDS: [(u8, &str); 6] =
    [(10, "2026-10"), (11, "2027-10"), (12, "2028-10"), (13, "2029-10"), (14, "2030-10"), (15, "2031-10")];

/// 3.x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u8);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "3.{}", self.0)
    }
}

impl Version {
    /// "3.12", or "3.12.4": patch levels are not told apart.
    fn parse(text: &str) -> Option<Version> {
        let mut parts = text.trim().split('.');
        let minor = (parts.next()? == "3").then(|| parts.next()?.parse().ok()).flatten()?;
        let patch = parts.next().is_none_or(|patch| patch.parse::<u8>().is_ok());
        let version = Version(minor);
        (patch && parts.next().is_none() && VERSIONS.contains(&version)).then_some(version)
    }
}

pub(super) struct Interpreter {
    /// Its own path: what is on the search path may be a launcher that depends on its surroundings.
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

impl Interpreter {
    /// The month after which this version gets no fixes, when that is past.
    pub(super) fn ended_at(&self) -> Option<&'static str> {
        ended(self.version, &chrono::Utc::now().format("%Y-%m").to_string())
    }
}

fn ended(version: Version, month: &str) -> Option<&'static str> {
    ENDS.iter().find(|(minor, end)| *minor == version.0 && *end < month).map(|(_, end)| *end)
}

pub(super) async fn find(builder: &Builder<'_>) -> Result<Interpreter, Error> {
    let asked = builder.settings.python.as_deref();
    let absent = |wanted: String| Err(Error::PythonAbsent { wanted });
    let wanted = match asked.map(Version::parse) {
        Some(Some(version)) => vec![version],
        Some(None) => return absent(format!("{} (3.10 to 3.15 are possible)", asked.unwrap_or_default())),
        None => VERSIONS.to_vec(),
    };
    // A launcher may take a second to answer: each is asked once, whichever versions are looked for.
    let mut known = HashMap::new();
    for version in &wanted {
        for name in [format!("python{version}"), "python3".to_owned()] {
            for path in on_path(&builder.settings.search_path, &name) {
                let found = match known.entry(path) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let found = probe(builder, entry.key()).await;
                        entry.insert(found)
                    }
                };
                if let Some(found) = found.take_if(|found| found.version == *version) {
                    return Ok(found);
                }
            }
        }
    }
    // With no wish of its own, a connection takes what `uv` would.
    if let Some(uv) = builder.uv()
        && let Some(found) = managed(builder, &uv, wanted[0]).await?
    {
        return Ok(found);
    }
    absent(wanted.iter().map(Version::to_string).collect::<Vec<_>>().join(" or "))
}

/// An interpreter that `uv` has, or can get.
async fn managed(builder: &Builder<'_>, uv: &Path, version: Version) -> Result<Option<Interpreter>, Error> {
    if let Some(found) = known_to_uv(builder, uv, version).await {
        return Ok(Some(found));
    }
    if builder.settings.index.is_offline() {
        return Ok(None);
    }
    (builder.tell)(LogLevel::Info, &format!("python {version} is not on this host: uv gets it"));
    let install = builder.command(uv, &["python", "install", "--no-bin", &version.to_string()]);
    match builder.run(install).await {
        Ok(()) => Ok(known_to_uv(builder, uv, version).await),
        Err(Error::Requirements { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn known_to_uv(builder: &Builder<'_>, uv: &Path, version: Version) -> Option<Interpreter> {
    let text = version.to_string();
    let mut find = builder.command(uv, &["python", "find", "--no-project", "--no-python-downloads", &text]);
    let output = tokio::time::timeout(PROBE_TIME_MAX, find.stderr(Stdio::null()).output()).await.ok()?.ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    if !output.status.success() {
        return None;
    }
    probe(builder, Path::new(path.trim())).await.filter(|found| found.version == version)
}

/// What the program at this path is, if it is one of the versions that can be used.
async fn probe(builder: &Builder<'_>, path: &Path) -> Option<Interpreter> {
    let script = "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])";
    let mut command = builder.command(path, &["-I", "-c", script]);
    let output = tokio::time::timeout(PROBE_TIME_MAX, command.stderr(Stdio::null()).output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (executable, version) = text.trim().split_once('\n')?;
    let version = Version::parse(version).filter(|_| output.status.success())?;
    Some(Interpreter { path: PathBuf::from(executable), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_people_write_them() {
        for (text, version) in [("3.12", 12), ("3.10.18", 10), ("3.15", 15)] {
            assert_eq!(Version::parse(text), Some(Version(version)), "{text}");
        }
        for text in ["3", "3.9", "3.16", "2.7", "3.12.x", "3.12.1.0", "python3.12", ""] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_version_past_its_end_says_since_when() {
        assert_eq!(ended(Version(10), "2026-10"), None);
        assert_eq!(ended(Version(10), "2026-11"), Some("2026-10"));
        assert_eq!(ended(Version(13), "2026-11"), None);
    }
}
