//! Builds one environment with `uv`, or with `venv` and `pip`; every line they say is passed on as it comes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::index::CredentialFiles;
use super::interpreter::{self, Interpreter};
use super::{ALWAYS, Place, Settings, Tell, Wish};
use crate::connector::sdk::requirements::{Requirements, masked};
use crate::connector::{Error, LogLevel};

/// Lines of the installer kept for the error.
const TAIL_LINES: usize = 12;
/// Lines of one step passed on; a compiler may say millions.
const LINES_TOLD_MAX: usize = 2_000;
const LINE_BYTES_MAX: usize = 1_000;

pub(super) struct Builder<'a> {
    pub(super) settings: &'a Settings,
    pub(super) project: &'a Path,
    pub(super) home: &'a Path,
    pub(super) tell: Tell<'a>,
}

impl Builder<'_> {
    pub(super) async fn build(&self, wish: &Wish) -> Result<(), Error> {
        let found = self.make(false).await?;
        (self.tell)(LogLevel::Info, &format!("preparing an environment for python {}", found.version));
        if let Some(since) = found.ended_at() {
            let words = format!("python {} has had no security fixes since {since}", found.version);
            (self.tell)(LogLevel::Warning, &words);
        }
        let (text, wants_requests) = wish.text();
        let constraints = self.write("constraints.txt", &wish.requirements.constraints_text())?;
        let mut install = self.installer();
        install.arg("-r").arg(self.write("requirements.txt", &self.for_installer(&wish.requirements, &text))?);
        match &wish.lock {
            Some(lock) => {
                install.arg("--require-hashes");
                if let Some(wheels) = &lock.wheels {
                    install.arg("--find-links").arg(wheels);
                }
                (self.tell)(LogLevel::Info, "installing what requirements.lock pins");
            }
            None => {
                install.arg("-c").arg(&constraints).args(self.options_of(&wish.requirements));
                (self.tell)(LogLevel::Info, &format!("installing {} requirements", wish.requirements.lines.len() + 1));
            }
        }
        if wish.is_bare() {
            return self.run_bare(install).await;
        }
        self.run(install).await?;
        if wants_requests {
            let always = self.write("always.txt", &format!("{ALWAYS}\n"))?;
            let mut install = self.installer();
            install.arg("-r").arg(always).arg("-c").arg(&constraints);
            self.run(install).await?;
        }
        (self.tell)(LogLevel::Info, "the environment is ready");
        Ok(())
    }

    /// `requests` alone, which the runtime promises and a connector may not need: without an index the environment is
    /// usable all the same, and the next use of it tries again.
    async fn run_bare(&self, mut install: Command) -> Result<(), Error> {
        let hurry = match self.uv() {
            Some(_) => [("UV_HTTP_TIMEOUT", "10"), ("UV_HTTP_RETRIES", "1")],
            None => [("PIP_DEFAULT_TIMEOUT", "10"), ("PIP_RETRIES", "1")],
        };
        install.envs(hurry);
        match self.run(install).await {
            Err(Error::Requirements { .. }) => {
                self.write(super::WITHOUT_REQUESTS, "")?;
                let words = "requests could not be installed: no package index answers. A connector that does not import it \
                             runs all the same";
                (self.tell)(LogLevel::Warning, words);
                Ok(())
            }
            ended => {
                (self.tell)(LogLevel::Info, "the environment is ready");
                ended
            }
        }
    }

    /// The empty environment; `with_pip` puts `pip` into it, whatever made it.
    pub(super) async fn make(&self, with_pip: bool) -> Result<Interpreter, Error> {
        let found = interpreter::find(self).await?;
        let mut make = match self.uv() {
            Some(uv) => {
                let mut make = self.command(&uv, &["venv", "--no-project", "--python"]);
                make.arg(&found.path);
                if with_pip {
                    make.arg("--seed").args(self.settings.index.arguments());
                }
                make
            }
            None => self.command(&found.path, &["-I", "-m", "venv"]),
        };
        make.arg(self.home);
        self.run(make).await?;
        Ok(found)
    }

    pub(super) fn uv(&self) -> Option<PathBuf> {
        on_path(&self.settings.search_path, "uv").into_iter().next()
    }

    pub(super) fn python(&self) -> PathBuf {
        self.home.join("bin/python")
    }

    /// Indexes of the project may hold credentials, so they go into the file.
    pub(super) fn for_installer(&self, requirements: &Requirements, text: &str) -> String {
        let mut lines: Vec<&str> = requirements.index_options.iter().map(String::as_str).collect();
        if self.uv().is_some() {
            lines.retain(|line| !line.starts_with("--trusted-host "));
        }
        lines.push(text);
        lines.join("\n")
    }

    fn installer(&self) -> Command {
        let python = self.python();
        let mut install = match self.uv() {
            Some(uv) => {
                let mut install = self.command(&uv, &["pip", "install", "--python"]);
                install.arg(&python);
                install
            }
            None => self.command(&python, &["-I", "-m", "pip", "install", "--no-input", "--progress-bar", "off"]),
        };
        install.args(self.settings.index.arguments()).args(self.source_builds());
        install
    }

    /// No build from source, where none is allowed.
    pub(super) fn source_builds(&self) -> Option<&'static str> {
        let no = if self.uv().is_some() { "--no-build" } else { "--only-binary=:all:" };
        (!self.settings.allow_source_builds).then_some(no)
    }

    /// The options of the project's own file, for whichever installer there is.
    pub(super) fn options_of(&self, requirements: &Requirements) -> Vec<OsString> {
        let is_uv = self.uv().is_some();
        let mut options: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| options.extend(words.iter().map(OsString::from));
        requirements.no_binary.iter().for_each(|name| add(&["--no-binary", name]));
        requirements.only_binary.iter().for_each(|name| add(&["--only-binary", name]));
        if requirements.require_hashes {
            add(&["--require-hashes"]);
        }
        if requirements.allow_prereleases {
            add(if is_uv { &["--prerelease", "allow"] } else { &["--pre"] });
        }
        if requirements.prefer_binary {
            if is_uv {
                (self.tell)(
                    LogLevel::Warning,
                    "--prefer-binary has no counterpart in uv: the newest versions are taken",
                );
            } else {
                add(&["--prefer-binary"]);
            }
        }
        if is_uv {
            let hosts = requirements.index_options.iter().filter_map(|line| line.strip_prefix("--trusted-host "));
            hosts.for_each(|host| add(&["--allow-insecure-host", host]));
            if requirements.index_options.iter().any(|line| line.starts_with("--extra-index-url ")) {
                // As pip does, which the file was written for: the best version of all indexes.
                add(&["--index-strategy", "unsafe-best-match"]);
            }
        }
        for folder in &requirements.find_links {
            options.push("--find-links".into());
            options.push(folder.clone().into());
        }
        options
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.home.join(name);
        std::fs::write(&path, text).map_err(|source| self.broken(source))?;
        Ok(path)
    }

    pub(super) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.project)
            .env_clear()
            .envs(self.settings.variables.iter().cloned())
            .env("PATH", &self.settings.search_path)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("UV_NO_PROGRESS", "1")
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if self.settings.place == Place::Agent {
            let folder = self.settings.cache_dir.with_file_name("interpreters");
            command.env("UV_PYTHON_INSTALL_DIR", folder);
        }
        command
    }

    /// Runs one step; its last lines explain a failure.
    pub(super) async fn run(&self, mut command: Command) -> Result<(), Error> {
        let _files = self.with_credentials(&mut command)?;
        let done = self.run_for_lines(&mut command).await.map_err(|source| self.broken(source))?;
        if done.status.success() { Ok(()) } else { Err(Error::Requirements { tail: done.tail() }) }
    }

    /// A developer reads the installer's lines only who asks for them; a host keeps them in its journal.
    fn level(&self) -> LogLevel {
        match self.settings.place {
            Place::Developer => LogLevel::Debug,
            Place::Agent => LogLevel::Info,
        }
    }

    pub(super) fn with_credentials(&self, command: &mut Command) -> Result<Option<CredentialFiles>, Error> {
        let files = self.settings.index.credential_files().map_err(|source| self.broken(source))?;
        if let Some(files) = &files {
            command.envs(files.variables());
        }
        Ok(files)
    }

    pub(super) async fn run_for_lines(&self, command: &mut Command) -> io::Result<Done> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let told = AtomicUsize::new(0);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = tokio::join!(self.lines(out, &told), self.lines(err, &told));
        Ok(Done { status: child.wait().await?, out, err, tail_lines: self.tail_lines() })
    }

    async fn lines(&self, stream: Option<impl AsyncRead + Unpin>, told: &AtomicUsize) -> Vec<String> {
        let mut kept = Vec::new();
        let Some(stream) = stream else { return kept };
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while let Ok(1..) = stream.read_until(b'\n', &mut bytes).await {
            let line = masked(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
            let line = line.get(..line.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default().to_owned();
            if line.is_empty() {
                continue;
            }
            if told.fetch_add(1, Ordering::Relaxed) < LINES_TOLD_MAX {
                (self.tell)(self.level(), &line);
            }
            if kept.len() == LINES_TOLD_MAX {
                kept.remove(0);
            }
            kept.push(line);
        }
        kept
    }

    fn tail_lines(&self) -> usize {
        match self.settings.place {
            Place::Developer => LINES_TOLD_MAX,
            Place::Agent => TAIL_LINES,
        }
    }

    pub(super) fn broken(&self, source: io::Error) -> Error {
        Error::Environment { path: self.home.to_owned(), source }
    }
}

/// A step that ended, and what it said.
pub(super) struct Done {
    pub(super) status: ExitStatus,
    pub(super) out: Vec<String>,
    err: Vec<String>,
    tail_lines: usize,
}

impl Done {
    /// The last lines, of what explains a failure if there is any. A developer has not seen any of them: all are told.
    pub(super) fn tail(&self) -> String {
        if self.tail_lines > TAIL_LINES {
            return [&self.out[..], &self.err[..]].concat().join("\n");
        }
        let lines = if self.err.is_empty() { &self.out } else { &self.err };
        lines[lines.len().saturating_sub(self.tail_lines)..].join("\n")
    }
}

pub(super) fn on_path(search_path: &OsString, name: &str) -> Vec<PathBuf> {
    std::env::split_paths(search_path).map(|folder| folder.join(name)).filter(|path| path.is_file()).collect()
}
