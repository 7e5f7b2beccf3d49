//! What a project asks to be installed: requirements.txt, or `[project].dependencies` of pyproject.toml, which wins.
//!
//! The SDK and `requests` are the runtime's to provide, so lines that name them are left out. The proprietary half of
//! newer SDKs is never installed, not even as somebody's dependency: the constraints make it unresolvable.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Files included by `-r` may nest this deep.
const INCLUDES_MAX: usize = 8;
const PROVIDED: [&str; 2] = ["fivetran-connector-sdk", "requests"];

/// Installed into every environment.
pub(super) const ALWAYS: &str = "requests>=2,<3";
/// Bounds on whatever the resolver picks.
pub(super) const CONSTRAINTS: &str = "fivetran-connector-sdk<3\nfivetran-connector-sdk-core<0\n";

/// Lines for the installer, includes inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Requirements {
    pub(super) lines: Vec<String>,
}

impl Requirements {
    pub(super) fn read(project: &Path) -> io::Result<Requirements> {
        let mut lines = match pyproject(project)? {
            Some(dependencies) => dependencies,
            None => included(project, "requirements.txt", INCLUDES_MAX)?.unwrap_or_default(),
        };
        lines.retain(|line| !name(line).is_some_and(|name| PROVIDED.contains(&name.as_str())));
        lines.push(ALWAYS.to_owned());
        Ok(Requirements { lines })
    }

    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Names the environment that fits. Lines that name files of the project tie it to that project.
    pub(super) fn key(&self, project: &Path, python: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(python);
        hash.update([0]);
        hash.update(self.text());
        hash.update(CONSTRAINTS);
        if self.lines.iter().any(|line| names_a_file(line)) {
            hash.update(project.as_os_str().as_encoded_bytes());
        }
        let mut key = hex::encode(hash.finalize());
        key.truncate(32);
        key
    }
}

fn pyproject(project: &Path) -> io::Result<Option<Vec<String>>> {
    let Some(text) = read_if_there(&project.join("pyproject.toml"))? else { return Ok(None) };
    let table: toml::Table = text.parse().map_err(io::Error::other)?;
    let dependencies =
        table.get("project").and_then(|project| project.get("dependencies")).and_then(toml::Value::as_array);
    Ok(dependencies.map(|list| list.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()))
}

/// The lines of a requirements file; `None` when there is no such file.
fn included(project: &Path, file: &str, depth_left: usize) -> io::Result<Option<Vec<String>>> {
    let Some(text) = read_if_there(&project.join(file))? else { return Ok(None) };
    let mut lines = Vec::new();
    for line in joined(&text) {
        let include = ["-r ", "--requirement ", "--requirement="].iter().find_map(|flag| line.strip_prefix(flag));
        match include.map(str::trim) {
            None => lines.push(line),
            Some(_) if depth_left == 0 => {
                return Err(io::Error::other("requirements files include each other too deeply"));
            }
            Some(nested) => {
                let missing = || io::Error::other(format!("{file} includes {nested}, which is not in the project"));
                let nested = Path::new(file).with_file_name(nested);
                let nested = nested.to_str().ok_or_else(missing)?;
                lines.extend(included(project, nested, depth_left - 1)?.ok_or_else(missing)?);
            }
        }
    }
    Ok(Some(lines))
}

/// Lines without comments and blanks, continuations joined.
fn joined(text: &str) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}').replace("\\\r\n", "").replace("\\\n", "");
    let without_comment = |line: &str| match line.split_once(" #") {
        Some((line, _)) => line.trim().to_owned(),
        None => line.trim().to_owned(),
    };
    text.lines().map(without_comment).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The normalised name of the distribution that a line asks for.
fn name(line: &str) -> Option<String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(line.len());
    let (name, _) = line.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let words: Vec<&str> = name.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    Some(words.join("-").to_ascii_lowercase())
}

fn names_a_file(line: &str) -> bool {
    let starts = ["-", ".", "/", "file:"];
    starts.iter().any(|start| line.starts_with(start)) || line.contains("@ file:")
}

fn read_if_there(file: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(files: &[(&str, &str)]) -> Vec<String> {
        let project = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(project.path().join(name), text).unwrap();
        }
        Requirements::read(project.path()).unwrap().lines
    }

    #[test]
    fn the_runtime_provides_the_sdk_and_requests() {
        let text = "Fivetran_Connector.SDK==2.1\nrequests[socks]>=2.30 # http\nrequests-toolbelt\n# note\n\npython-dateutil==2.9 \\\n  ; python_version > '3'\n";
        assert_eq!(
            lines(&[("requirements.txt", text)]),
            ["requests-toolbelt", "python-dateutil==2.9   ; python_version > '3'", ALWAYS]
        );
        assert_eq!(lines(&[]), [ALWAYS]);
    }

    #[test]
    fn pyproject_wins_and_includes_are_inlined() {
        let pyproject = "[project]\nname = 'x'\ndependencies = ['six>=1', 'requests']\n";
        assert_eq!(lines(&[("requirements.txt", "idna\n"), ("pyproject.toml", pyproject)]), ["six>=1", ALWAYS]);
        assert_eq!(lines(&[("requirements.txt", "-r more.txt\nb\n"), ("more.txt", "a\n")]), ["a", "b", ALWAYS]);
        assert_eq!(lines(&[("requirements.txt", "a\n"), ("pyproject.toml", "[tool.x]\n")]), ["a", ALWAYS]);
    }

    #[test]
    fn the_key_tells_apart_what_must_be() {
        let of = |line: &str| Requirements { lines: vec![line.to_owned()] };
        let (here, there) = (Path::new("/here"), Path::new("/there"));
        assert_eq!(of("six").key(here, "3.13"), of("six").key(there, "3.13"));
        assert_ne!(of("six").key(here, "3.13"), of("six").key(here, "3.12"));
        assert_ne!(of("six").key(here, "3.13"), of("idna").key(here, "3.13"));
        assert_ne!(of("./wheel.whl").key(here, "3.13"), of("./wheel.whl").key(there, "3.13"));
    }

    #[test]
    fn files_that_include_each_other_are_refused() {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("requirements.txt"), "-r requirements.txt\n").unwrap();
        assert!(Requirements::read(project.path()).is_err());
    }
}
