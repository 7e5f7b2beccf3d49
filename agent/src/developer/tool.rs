//! DuckDB as a tool of this user: its wheel in an environment of its own, built once, and the Python helpers that use
//! it. Connectors never see it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use inshore_config::Environment;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::connector::sdk::environment::Prepared;
use crate::connector::{self, LogLevel, LogLine, LogOrigin, sdk};
use crate::context::chain;

/// Where tools come from, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) sdk_dir: &'a Path,
    pub(crate) environment: &'a Environment,
}

/// Why a helper did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("prepare DuckDB")]
    Prepare(#[from] connector::Error),
    #[error("run {helper}")]
    Run {
        helper: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// In the helper's own words.
    #[error("{words}")]
    Failed { words: String },
}

/// Where it is noted that DuckDB could not be prepared; its age says when that was.
const UNAVAILABLE: &str = "duckdb-unavailable";
/// No new try by itself before.
const TRY_AGAIN: Duration = Duration::from_secs(600);

impl Tools<'_> {
    /// Why the last try failed, while it is too early for the next one.
    pub(super) fn unavailable(&self) -> Option<String> {
        let path = self.note();
        let age = std::fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
        if age > TRY_AGAIN { None } else { std::fs::read_to_string(path).ok() }
    }

    fn note(&self) -> PathBuf {
        self.environment.cache_dir().join("tools").join(UNAVAILABLE)
    }

    /// A host without an index would try in vain at the end of every run.
    fn remember(&self, prepared: &Result<Prepared, connector::Error>) {
        let noted = match prepared {
            Ok(_) => std::fs::remove_file(self.note()),
            Err(error) => {
                let text = chain(error);
                std::fs::write(self.note(), text.lines().last().unwrap_or_default())
            }
        };
        if let Err(error) = noted {
            tracing::debug!(%error, "whether DuckDB is to be had was not noted");
        }
    }

    async fn python(&self, tell: &(dyn Fn(LogLine) + Sync)) -> Result<Prepared, Error> {
        let settings = sdk::environment::Settings {
            cache_dir: self.environment.cache_dir().join("tools"),
            cache_bytes_max: u64::MAX,
            search_path: self.environment.search_path().into(),
            python: None,
            variables: self.environment.variables(),
            index: sdk::environment::Index::default(),
            allow_source_builds: false,
            place: sdk::environment::Place::Developer,
        };
        let say = |level: LogLevel, message: &str| {
            tell(LogLine { level, origin: LogOrigin::Library, message: format!("DuckDB: {message}") });
        };
        let prepared = sdk::environment::prepare(&settings, &self.sdk_dir.join("tools/duckdb"), &say).await;
        self.remember(&prepared);
        Ok(prepared?)
    }

    /// Runs a helper of the SDK's folder with a request on stdin, and waits for its end.
    pub(super) async fn run(
        &self,
        helper: &'static str,
        request: &[u8],
        output: Stdio,
        tell: &(dyn Fn(LogLine) + Sync),
    ) -> Result<(), Error> {
        let prepared = self.python(tell).await?;
        let failed = |source| Error::Run { helper, source };
        let mut child = Command::new(&prepared.python)
            .args(["-I", "-B"])
            .arg(self.sdk_dir.join(helper))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(request).await.map_err(failed)?;
        }
        let ended = child.wait_with_output().await.map_err(failed)?;
        if ended.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        Err(Error::Failed { words: if words.is_empty() { format!("{helper} ended: {}", ended.status) } else { words } })
    }
}
