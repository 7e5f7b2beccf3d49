//! Turns a project's requirements into a lock: every distribution at one version, with hashes. What no index has, a
//! repository or a folder, is built into a wheel first, so that it can have a hash too.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::installer::Builder;
use super::{Settings, Tell, Wish, refused};
use crate::connector::Error;
use crate::connector::sdk::requirements::{Line, Requirements, masked, name};

/// What `inshore package` puts beside the project's files.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The text of `requirements.lock`.
    pub(crate) lock: String,
    /// Wheels that belong into the package's folder `wheels`; they lie in the folder that was given.
    pub(crate) wheels: Vec<PathBuf>,
}

/// Resolves for the interpreter of `settings`. `folder` is empty and takes tools and wheels.
pub(crate) async fn resolve(
    settings: &Settings,
    project: &Path,
    folder: &Path,
    tell: Tell<'_>,
) -> Result<Resolved, Error> {
    let requirements = Requirements::read(project).map_err(refused)?;
    settings.index.admit(&requirements)?;
    let home = folder.join("tools");
    let builder = Builder { settings, project, home: &home, tell };
    let is_direct = requirements.lines.iter().any(Line::is_direct);
    let with_pip = is_direct || builder.uv().is_none();
    let version = builder.make(with_pip).await?.version;
    let mut resolver = Resolver { builder, wheels_dir: folder.join("wheels"), notes: Vec::new(), wheels: Vec::new() };
    let mut plain = requirements.clone();
    for line in plain.lines.iter_mut().filter(|line| line.is_direct()) {
        *line = resolver.built(line).await?;
    }
    let resolved = resolver.resolved(plain).await?;
    let mut text = format!("# for python {version} on {} {}\n", std::env::consts::OS, std::env::consts::ARCH);
    resolver.notes.iter().for_each(|note| text.push_str(&format!("# {note}\n")));
    text.push_str(&resolved);
    let lock = requirements.lock_text(&text).map_err(refused)?;
    Ok(Resolved { lock, wheels: resolver.wheels })
}

struct Resolver<'a> {
    builder: Builder<'a>,
    wheels_dir: PathBuf,
    /// Where built wheels came from.
    notes: Vec<String>,
    wheels: Vec<PathBuf>,
}

impl Resolver<'_> {
    /// Builds one direct line into a wheel, and returns the line that asks for exactly that.
    async fn built(&mut self, line: &Line) -> Result<Line, Error> {
        let builder = &self.builder;
        let wanted = Requirements { lines: vec![line.clone()], ..Requirements::default() };
        let file = builder.write("direct.txt", &wanted.text())?;
        let mut wheel = builder.command(&builder.python(), &["-I", "-m", "pip", "wheel", "--no-deps", "--no-input"]);
        wheel.args(["--progress-bar", "off", "-r"]).arg(file).arg("-w").arg(&self.wheels_dir);
        wheel.args(builder.settings.index.arguments());
        let _files = builder.with_credentials(&mut wheel)?;
        let done = builder.run_for_lines(&mut wheel).await.map_err(|source| builder.broken(source))?;
        if !done.status.success() {
            return Err(Error::Requirements { tail: done.tail() });
        }
        let commit = done.out.iter().find_map(|line| line.trim().strip_prefix("Resolved ")).map(str::to_owned);
        let built = std::fs::read_dir(&self.wheels_dir).map_err(|source| self.builder.broken(source))?;
        let new = built.flatten().map(|entry| entry.path()).find(|path| !self.wheels.contains(path));
        let Some((path, (found, version))) = new.and_then(|path| Some((path.clone(), wheel_name(&path)?))) else {
            // The marker of the line does not fit here: nothing was built, and nothing will be installed.
            return Ok(line.clone());
        };
        self.wheels.push(path);
        self.notes.push(format!("{found} {version}: {}", commit.unwrap_or_else(|| masked(&line.text))));
        let extras = extras(&line.text);
        let marker = line.text.find(" ;").and_then(|at| line.text.get(at..)).unwrap_or_default();
        Ok(Line { text: format!("{found}{extras}=={version}{marker}"), path: None })
    }

    async fn resolved(&self, requirements: Requirements) -> Result<String, Error> {
        let builder = &self.builder;
        let wish = Wish { requirements, lock: None };
        let (mut text, wants_requests) = wish.text();
        if wants_requests {
            // Hashes of the file's own would be asked of `requests` too; the lock has hashes for everything anyway.
            text = without_hashes(&text);
            text.push_str(&format!("{}\n", super::ALWAYS));
        }
        let wanted = builder.write("requirements.txt", &builder.for_installer(&wish.requirements, &text))?;
        let constraints = builder.write("constraints.txt", &wish.requirements.constraints_text())?;
        let report = builder.home.join("report");
        let mut command = match builder.uv() {
            Some(uv) => {
                let words = ["pip", "compile", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"];
                let mut compile = builder.command(&uv, &words);
                compile.arg("--python").arg(builder.python()).arg("--output-file").arg(&report).arg(&wanted);
                compile
            }
            None => {
                let words = ["-I", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-input", "--report"];
                let mut install = builder.command(&builder.python(), &words);
                install.arg(&report).args(["--progress-bar", "off", "-r"]).arg(&wanted);
                install
            }
        };
        let mut options = Requirements { require_hashes: false, ..wish.requirements };
        if !self.wheels.is_empty() {
            options.find_links.push(self.wheels_dir.clone());
        }
        command.arg("-c").arg(&constraints).args(builder.settings.index.arguments());
        command.args(builder.source_builds()).args(builder.options_of(&options));
        builder.run(command).await?;
        let text = std::fs::read_to_string(&report).map_err(|source| builder.broken(source))?;
        if builder.uv().is_some() { Ok(text) } else { pinned(&text) }
    }
}

/// Name and version in the name of a wheel's file.
fn wheel_name(path: &Path) -> Option<(String, String)> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(".whl")?.split('-');
    Some((name(parts.next()?)?, parts.next()?.to_owned()))
}

/// `[a,b]` behind the name or the path of a line.
fn extras(line: &str) -> &str {
    let end = line.find(" @ ").or_else(|| line.find(" ;")).unwrap_or(line.len());
    let named = line.get(..end).unwrap_or_default();
    match (named.find('['), named.find(']')) {
        (Some(start), Some(end)) => named.get(start..=end).unwrap_or_default(),
        _ => "",
    }
}

fn without_hashes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().filter(|word| !word.starts_with("--hash=")).collect();
        kept.push_str(&words.join(" "));
        kept.push('\n');
    }
    kept
}

/// The part of pip's installation report that a lock needs.
#[derive(Deserialize)]
struct Report {
    install: Vec<Installed>,
}

#[derive(Deserialize)]
struct Installed {
    metadata: Metadata,
    download_info: DownloadInfo,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct DownloadInfo {
    url: String,
    archive_info: Option<ArchiveInfo>,
}

#[derive(Deserialize)]
struct ArchiveInfo {
    hashes: Option<std::collections::BTreeMap<String, String>>,
}

impl DownloadInfo {
    /// What the index says, or for a file of this host what it is.
    fn hash(self) -> Option<String> {
        let told = self.archive_info.and_then(|archive| archive.hashes);
        told.and_then(|hashes| hashes.get("sha256").cloned()).or_else(|| {
            let file = Url::parse(&self.url).ok()?.to_file_path().ok()?;
            Some(hex::encode(Sha256::digest(std::fs::read(file).ok()?)))
        })
    }
}

/// The lines of a lock, from pip's report.
fn pinned(report: &str) -> Result<String, Error> {
    let unreadable = |what: String| Error::Requirements { tail: format!("pip's report cannot be used: {what}") };
    let report: Report = serde_json::from_str(report).map_err(|error| unreadable(error.to_string()))?;
    let mut lines = Vec::new();
    for one in report.install {
        let hash = one.download_info.hash();
        let hash = hash.ok_or_else(|| unreadable(format!("{} has no hash", one.metadata.name)))?;
        let name = name(&one.metadata.name).ok_or_else(|| unreadable(format!("{:?} is no name", one.metadata.name)))?;
        lines.push(format!("{name}=={} \\\n    --hash=sha256:{hash}\n", one.metadata.version));
    }
    lines.sort();
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_pinned_lines() {
        let report = r#"{"version": "1", "install": [
            {"metadata": {"name": "Six", "version": "1.17"}, "download_info": {"url": "x", "archive_info": {"hashes": {"sha256": "aa"}}}},
            {"metadata": {"name": "a_b", "version": "2"}, "download_info": {"url": "y", "archive_info": {"hashes": {"sha256": "bb"}}}}]}"#;
        let lines = "a-b==2 \\\n    --hash=sha256:bb\nsix==1.17 \\\n    --hash=sha256:aa\n";
        assert_eq!(pinned(report).unwrap(), lines);
        for bad in ["{", r#"{"install": [{"metadata": {"name": "x", "version": "1"}, "download_info": {"url": "u"}}]}"#]
        {
            assert_eq!(pinned(bad).unwrap_err().code(), "PKG-006");
        }
    }

    #[test]
    fn a_wheel_and_a_line_give_up_their_parts() {
        let path = Path::new("/w/My_Lib-1.2+x-py3-none-any.whl");
        assert_eq!(wheel_name(path), Some(("my-lib".to_owned(), "1.2+x".to_owned())));
        assert_eq!(wheel_name(Path::new("/w/x.tar.gz")), None);
        for (line, found) in [
            ("a[x,y] @ git+https://h/[no]", "[x,y]"),
            ("./lib[z] ; python_version > '3'", "[z]"),
            ("./lib", ""),
            ("a @ git+https://h", ""),
        ] {
            assert_eq!(extras(line), found, "{line}");
        }
        assert_eq!(without_hashes("six==1 --hash=sha256:aa --hash=sha256:bb ; x\nb\n"), "six==1 ; x\nb\n");
    }
}
