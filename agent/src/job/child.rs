//! One job process, seen from the agent: spawned with its socket as stdin, told to stop, killed when it must be, and
//! always ending in exactly one outcome.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::link::{self, FromJob, Request, ToJob};
use super::outcome::{self, Outcome};
use super::spec::ProgressFrame;
use crate::context::{Stop, now_ms};
use crate::tasks;

/// How long a cancelled job may take before it is killed.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(60);
/// Environment variables of the agent that a job inherits; every other one is left behind.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "CREDENTIALS_DIRECTORY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "INSHORE_FAIL_POINTS",
    "PIP_CERT",
    "PIP_FIND_LINKS",
];

/// How job processes are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) executable: PathBuf,
}

/// The agent's end of a job's stop line.
pub(crate) type Stops = watch::Receiver<Stop>;

/// Runs one job process to its end.
pub(crate) async fn run(
    launch: &Launch,
    request: Request,
    mut stops: Stops,
    progress: mpsc::Sender<ProgressFrame>,
) -> Outcome {
    let started_at_ms = now_ms();
    let attempt = request.spec.job_ref();
    let scratch = request.scratch_dir.clone();
    let ended = match converse(launch, request, &mut stops, progress).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => outcome::died(&attempt, started_at_ms, now_ms()),
        Err(error) => {
            tracing::error!(%attempt, error = &error as &dyn std::error::Error, "job process failed");
            outcome::died(&attempt, started_at_ms, now_ms())
        }
    };
    remove(&scratch).await;
    ended
}

async fn converse(
    launch: &Launch,
    request: Request,
    stops: &mut Stops,
    progress: mpsc::Sender<ProgressFrame>,
) -> Result<Option<Outcome>, link::Error> {
    let (mut child, stream) = spawn(launch)?;
    let (reader, mut writer) = stream.into_split();
    link::send(&mut writer, &ToJob::Start { request: Box::new(request) }).await?;
    let mut listener = tasks::spawn("job messages", listen(reader, progress));
    let result = supervise(&mut listener, &mut writer, stops).await;
    // Whatever is left of the process goes now: its outcome is known, or will never come.
    end(&mut child).await;
    result
}

/// The job's messages until its outcome; `None` when it ended without one.
async fn listen(
    mut reader: OwnedReadHalf,
    progress: mpsc::Sender<ProgressFrame>,
) -> Result<Option<Outcome>, link::Error> {
    loop {
        match link::receive(&mut reader).await? {
            Some(FromJob::Progress { progress: frame }) => {
                // A full queue only means that a newer frame follows.
                drop(progress.try_send(frame));
            }
            Some(FromJob::Outcome { outcome }) => return Ok(Some(*outcome)),
            None => return Ok(None),
        }
    }
}

async fn supervise(
    listener: &mut tokio::task::JoinHandle<Result<Option<Outcome>, link::Error>>,
    writer: &mut OwnedWriteHalf,
    stops: &mut Stops,
) -> Result<Option<Outcome>, link::Error> {
    let mut known = Stop::No;
    let mut deadline = None;
    loop {
        tokio::select! {
            biased;
            joined = &mut *listener => return joined.unwrap_or(Ok(None)),
            () = until(deadline) => return Ok(None),
            beyond = stop_beyond(stops, known), if known < Stop::Cancel => {
                known = beyond;
                let message = if known == Stop::Cancel { ToJob::Cancel } else { ToJob::Drain };
                if known == Stop::Cancel {
                    deadline = Some(tokio::time::Instant::now() + CANCEL_GRACE);
                }
                link::send(writer, &message).await?;
            }
        }
    }
}

/// What is asked for once it is more than `known`; an agent that is gone asks for everything.
async fn stop_beyond(stops: &mut Stops, known: Stop) -> Stop {
    stops.wait_for(|stop| *stop > known).await.map_or(Stop::Cancel, |stop| *stop)
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn spawn(launch: &Launch) -> Result<(Child, UnixStream), link::Error> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(&launch.executable);
    command
        .arg("job")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| INHERITED.iter().any(|inherited| name == inherited)))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

async fn end(child: &mut Child) {
    let ended = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
    if ended.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "job process could not be killed");
    }
}

async fn remove(scratch: &std::path::Path) {
    match tokio::fs::remove_dir_all(scratch).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(error = &error as &dyn std::error::Error, "scratch folder could not be removed");
        }
        _ => {}
    }
}
