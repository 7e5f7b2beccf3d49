//! The interpreter that runs a project: one virtual environment per (requirements, Python version), built once and
//! kept. `uv` builds it where it is on the search path, else `venv` and `pip`.
//!
//! Two jobs may want the same environment at once: one builds under a file lock, the other waits. An environment
//! counts once its `ready` file exists, which is written last; a crash before that leaves a folder that the next
//! builder removes.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::requirements::{CONSTRAINTS, Requirements};
use crate::connector::Error;

const LOCK_STEP: Duration = Duration::from_millis(100);
/// How long looking for an interpreter may take.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);
/// Lines of the installer kept for the error.
const TAIL_LINES: usize = 12;
/// Tried in this order when the connection does not name a version.
const VERSIONS: [&str; 5] = ["3.13", "3.14", "3.12", "3.11", "3.10"];
const READY: &str = "ready";

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Holds every environment; may be deleted while no job runs.
    pub(crate) cache_dir: PathBuf,
    /// Where interpreters and `uv` are looked for, as in PATH.
    pub(crate) search_path: OsString,
    /// The version the connection asks for, such as "3.13"; `None` takes 3.13, else the newest there is.
    pub(crate) python: Option<String>,
    /// Environment of the installers: proxies, certificates, package indexes, HOME.
    pub(crate) variables: Vec<(String, String)>,
    /// Whether packages may be built from source, which runs their code here.
    pub(crate) allow_source_builds: bool,
}

/// Returns the interpreter of the project's environment, building the environment first if need be.
pub(crate) async fn prepare(
    settings: &Settings,
    project: &Path,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<PathBuf, Error> {
    let requirements = Requirements::read(project).map_err(|error| Error::Requirements { tail: error.to_string() })?;
    let version = settings.python.as_deref().unwrap_or("default");
    let home = settings.cache_dir.join(requirements.key(project, version));
    let broken = |source| Error::Environment { path: home.clone(), source };
    if is_ready(&home) {
        return Ok(interpreter(&home));
    }
    std::fs::create_dir_all(&settings.cache_dir).map_err(broken)?;
    let _lock = lock(&home.with_extension("lock"), tell).await.map_err(broken)?;
    if is_ready(&home) {
        return Ok(interpreter(&home));
    }
    match std::fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
        _ => {}
    }
    let builder = Builder { settings, project, home: &home, tell };
    builder.build(&requirements).await?;
    let marking = home.join("ready.new");
    std::fs::write(&marking, requirements.text()).map_err(broken)?;
    std::fs::rename(&marking, home.join(READY)).map_err(broken)?;
    Ok(interpreter(&home))
}

fn interpreter(home: &Path) -> PathBuf {
    home.join("bin/python")
}

/// The interpreter behind the link may have been uninstalled since.
fn is_ready(home: &Path) -> bool {
    home.join(READY).is_file() && interpreter(home).exists()
}

async fn lock(path: &Path, tell: &(dyn Fn(&str) + Sync)) -> io::Result<File> {
    let file = File::create(path)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            tell("another job is preparing the same environment");
            told = true;
        }
        tokio::time::sleep(LOCK_STEP).await;
    }
}

struct Builder<'a> {
    settings: &'a Settings,
    project: &'a Path,
    home: &'a Path,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl Builder<'_> {
    async fn build(&self, requirements: &Requirements) -> Result<(), Error> {
        let (python, version) = self.find_python().await?;
        (self.tell)(&format!("preparing an environment for python {version}"));
        let uv = on_path(&self.settings.search_path, "uv");
        let mut make = match &uv {
            Some(uv) => self.command(uv, &["venv", "--no-project", "--python"]),
            None => self.command(&python, &["-I", "-m", "venv"]),
        };
        if uv.is_some() {
            make.arg(&python);
        }
        make.arg(self.home);
        self.run(make).await?;

        let wanted = self.home.join("requirements.txt");
        let constraints = self.home.join("constraints.txt");
        let broken = |source| Error::Environment { path: self.home.to_owned(), source };
        std::fs::write(&wanted, requirements.text()).map_err(broken)?;
        std::fs::write(&constraints, CONSTRAINTS).map_err(broken)?;
        (self.tell)(&format!("installing {} requirements", requirements.lines.len()));
        let mut install = self.installer(uv.as_deref());
        install.arg("-r").arg(&wanted).arg("-c").arg(&constraints);
        self.run(install).await?;
        (self.tell)("the environment is ready");
        Ok(())
    }

    fn installer(&self, uv: Option<&Path>) -> Command {
        let python = interpreter(self.home);
        let mut install = match uv {
            Some(uv) => {
                let mut install = self.command(uv, &["pip", "install", "--python"]);
                install.arg(&python);
                install
            }
            None => self.command(&python, &["-I", "-m", "pip", "install", "--no-input", "--progress-bar", "off"]),
        };
        if !self.settings.allow_source_builds {
            install.arg(if uv.is_some() { "--no-build" } else { "--only-binary=:all:" });
        }
        install
    }

    /// The interpreter's own path: what is on the search path may be a launcher that depends on its surroundings.
    async fn find_python(&self) -> Result<(PathBuf, String), Error> {
        let wanted: Vec<&str> = match &self.settings.python {
            Some(version) => vec![version.as_str()],
            None => VERSIONS.to_vec(),
        };
        for version in &wanted {
            for name in [format!("python{version}"), "python3".to_owned()] {
                for path in all_on_path(&self.settings.search_path, &name) {
                    if let Some(found) = self.probe(&path, version).await {
                        return Ok(found);
                    }
                }
            }
        }
        Err(Error::PythonAbsent { wanted: wanted.join(" or ") })
    }

    async fn probe(&self, path: &Path, wanted: &str) -> Option<(PathBuf, String)> {
        let script = "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])";
        let mut command = self.command(path, &["-I", "-c", script]);
        let output = tokio::time::timeout(PROBE_TIME_MAX, command.stderr(Stdio::null()).output()).await.ok()?.ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (executable, version) = text.trim().split_once('\n')?;
        (output.status.success() && version == wanted).then(|| (PathBuf::from(executable), version.to_owned()))
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.project)
            .env_clear()
            .envs(self.settings.variables.iter().cloned())
            .env("PATH", &self.settings.search_path)
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs one step; its last lines explain a failure.
    async fn run(&self, mut command: Command) -> Result<(), Error> {
        let (status, tail) = run_for_tail(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
            .await
            .map_err(|source| Error::Environment { path: self.home.to_owned(), source })?;
        if status.success() { Ok(()) } else { Err(Error::Requirements { tail: tail.join("\n") }) }
    }
}

async fn run_for_tail(command: &mut Command) -> io::Result<(ExitStatus, Vec<String>)> {
    let mut child = command.spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, mut tail) = tokio::join!(last_lines(out), last_lines(err));
    if tail.is_empty() {
        tail = out;
    }
    Ok((child.wait().await?, tail))
}

async fn last_lines(stream: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut tail = std::collections::VecDeque::new();
    let Some(stream) = stream else { return Vec::new() };
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    tail.into()
}

fn on_path(search_path: &OsString, name: &str) -> Option<PathBuf> {
    all_on_path(search_path, name).into_iter().next()
}

fn all_on_path(search_path: &OsString, name: &str) -> Vec<PathBuf> {
    std::env::split_paths(search_path).map(|folder| folder.join(name)).filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests;
