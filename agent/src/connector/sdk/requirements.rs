//! What a project asks to be installed: requirements.txt, or `[project].dependencies` of pyproject.toml, which wins.
//!
//! The SDK and `requests` are the runtime's to provide, so lines that name them are left out. The proprietary half of
//! newer SDKs is never installed, not even as somebody's dependency: the constraints make it unresolvable. A line that
//! cannot be honoured is refused: nothing is left out in silence.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

mod content;
mod file;
mod pyproject;

pub(super) use file::name;

const PROVIDED: [&str; 2] = ["fivetran-connector-sdk", "requests"];
/// What `inshore package` writes beside the requirements.
pub(crate) const LOCK_FILE: &str = "requirements.lock";
/// Wheels of the package that no index has, named by the lock.
pub(crate) const WHEELS_DIR: &str = "wheels";
/// The first words of a lock that is ours; other tools use the same file name.
const LOCK_MARK: &str = "# inshore lock 1, requirements sha256:";

/// Installed into every environment.
pub(super) const ALWAYS: &str = "requests>=2,<3";
/// Bounds on whatever the resolver picks.
pub(super) const CONSTRAINTS: [&str; 2] = ["fivetran-connector-sdk<3", "fivetran-connector-sdk-core<0"];

/// Why requirements cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read {file}")]
    Read {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is not text in UTF-8 or UTF-16")]
    NotText { file: String },
    #[error("{file} is not TOML: {what}")]
    NotToml { file: String, what: String },
    /// A line that asks for something that is not done here. Credentials in it are hidden.
    #[error("{file}: `{line}`: {why}")]
    Refused { file: String, line: String, why: String },
    #[error("requirements.lock belongs to other requirements: package the project again")]
    StaleLock,
}

/// One wish for the installer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// As it was written, without comments: relative paths stay relative.
    pub(super) text: String,
    /// The file or folder that it names.
    pub(super) path: Option<PathBuf>,
}

/// What the installer is asked for, includes inlined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    pub(super) lines: Vec<Line>,
    pub(super) constraints: Vec<String>,
    /// Options that name package indexes: `--index-url …`.
    pub(super) index_options: Vec<String>,
    /// Folders of wheels inside the project.
    pub(super) find_links: Vec<PathBuf>,
    /// Names after `--no-binary`.
    pub(super) no_binary: Vec<String>,
    /// Names after `--only-binary`.
    pub(super) only_binary: Vec<String>,
    pub(super) allow_prereleases: bool,
    pub(super) prefer_binary: bool,
    pub(super) require_hashes: bool,
}

/// The lock of a package, checked against its requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) text: String,
    /// Where the wheels of the package are.
    pub(super) wheels: Option<PathBuf>,
}

impl Requirements {
    pub(super) fn read(project: &Path) -> Result<Requirements, Error> {
        let mut found = match pyproject::read(project)? {
            Some(found) => found,
            None => file::read(project, "requirements.txt")?.unwrap_or_default(),
        };
        let provided = |text: &str| name(text).is_some_and(|name| PROVIDED.contains(&name.as_str()));
        found.lines.retain(|line| line.path.is_some() || !provided(&line.text));
        Ok(found)
    }

    /// The lock that belongs to these requirements. Files of the same name that other tools wrote are none.
    pub(super) fn lock(&self, project: &Path) -> Result<Option<Lock>, Error> {
        let Some(text) = content::text(project, LOCK_FILE)? else { return Ok(None) };
        let Some(rest) = text.strip_prefix(LOCK_MARK) else { return Ok(None) };
        if rest.lines().next() != Some(self.digest()?.as_str()) {
            return Err(Error::StaleLock);
        }
        let wheels = project.join(WHEELS_DIR);
        Ok(Some(Lock { text, wheels: wheels.is_dir().then_some(wheels) }))
    }

    /// What `inshore package` writes, from the resolver's lines.
    pub(super) fn lock_text(&self, resolved: &str) -> Result<String, Error> {
        Ok(format!("{LOCK_MARK}{}\n{resolved}", self.digest()?))
    }

    /// The lines for the installer: paths absolute, the runtime's own part left out.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.absolute())).collect()
    }

    pub(super) fn constraints_text(&self) -> String {
        CONSTRAINTS
            .iter()
            .copied()
            .chain(self.constraints.iter().map(String::as_str))
            .map(|l| format!("{l}\n"))
            .collect()
    }

    /// Whether every line is pinned by hashes, which makes the installer ask for them everywhere.
    pub(super) fn is_hashed(&self) -> bool {
        self.require_hashes || self.lines.iter().any(|line| line.text.contains("--hash="))
    }

    /// The same for the same wishes, wherever the project lies.
    pub(super) fn digest(&self) -> Result<String, Error> {
        let mut hash = Sha256::new();
        let mut part = |kind: &str, text: &str| {
            hash.update(kind);
            hash.update([0]);
            hash.update(text);
            hash.update([0]);
        };
        for line in &self.lines {
            part("line", &line.text);
            if let Some(path) = &line.path {
                part("content", &content::digest(path)?);
            }
        }
        for folder in &self.find_links {
            part("wheels", &content::digest(folder)?);
        }
        let texts = [&self.constraints, &self.index_options, &self.no_binary, &self.only_binary];
        for (index, texts) in texts.into_iter().enumerate() {
            texts.iter().for_each(|text| part(&index.to_string(), text));
        }
        for flag in [self.allow_prereleases, self.prefer_binary, self.require_hashes] {
            part("flag", if flag { "1" } else { "0" });
        }
        part("always", ALWAYS);
        CONSTRAINTS.iter().for_each(|text| part("always", text));
        Ok(hex::encode(hash.finalize()))
    }
}

impl Line {
    fn plain(text: String) -> Self {
        Self { text, path: None }
    }

    /// Whether it names what no index has: a repository, a file, a folder.
    pub(super) fn is_direct(&self) -> bool {
        self.path.is_some() || self.text.contains("git+") || self.text.contains("://")
    }

    fn absolute(&self) -> String {
        let Some(path) = &self.path else { return self.text.clone() };
        let rest = self.text.find([' ', '[']).and_then(|at| self.text.get(at..)).unwrap_or_default();
        format!("{}{rest}", path.display())
    }
}

/// The text without the `user:password` of a URL.
pub(super) fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '"').unwrap_or(after.len());
        let at = after.get(..end).and_then(|authority| authority.rfind('@')).unwrap_or(0);
        if at > 0 {
            masked.push_str("***");
        }
        rest = after.get(at..).unwrap_or_default();
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests;
