//! One job process, seen from the agent: spawned with its socket as stdin, told to stop, killed when it must be, and
//! always ending in exactly one outcome.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::link::{self, FromJob, Request, ToJob};
use super::outcome::{self, Outcome};
use super::spec::{JobRef, ProgressFrame};
use crate::context::{Stop, now_ms};
use crate::log_fields;

/// How long a cancelled job may take before it is killed.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(60);
/// How long a job whose outcome is known may take to leave.
const EXIT_GRACE: Duration = Duration::from_secs(5);
/// Environment variables of the agent that a job inherits, beside those that installers and connectors may see; every
/// other one is left behind.
const INHERITED: [&str; 6] =
    ["PATH", "LC_ALL", "TMPDIR", "CREDENTIALS_DIRECTORY", "INSHORE_FAIL_POINTS", log_fields::JOURNAL_STREAM];
/// What glibc's allocator is told in a job: few arenas, and large blocks given back to the system once they are free. A
/// job's buffers are large and come from several threads; without this a third more stays resident.
const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "4194304")];

/// How job processes are started and ended.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) cancel_grace: Duration,
}

/// The agent's end of a job's stop line.
pub(crate) type Stops = watch::Receiver<Stop>;

/// Runs one job process to its end.
pub(crate) async fn run(
    launch: &Launch,
    request: Request,
    stops: Stops,
    progress: mpsc::Sender<ProgressFrame>,
) -> Outcome {
    let started_at_ms = now_ms();
    let attempt = request.spec.job_ref();
    let scratch = request.scratch_dir.clone();
    let told = converse(launch, request, stops.clone(), progress).await.unwrap_or_else(|error| {
        tracing::error!(%attempt, error = &error as &dyn std::error::Error, "job process failed");
        None
    });
    remove(&scratch).await;
    match told {
        // A job speaks for itself only.
        Some(outcome) => Outcome { job_id: attempt.job_id, generation: attempt.generation, ..outcome },
        // Whatever a cancelled job was killed in the middle of, the chain's head knows.
        None if *stops.borrow() == Stop::Cancel => outcome::stopped(&attempt, Stop::Cancel, started_at_ms, now_ms()),
        None => outcome::died(&attempt, started_at_ms, now_ms()),
    }
}

/// The job's outcome; `None` when it ended without one, or had to be killed.
async fn converse(
    launch: &Launch,
    request: Request,
    stops: Stops,
    progress: mpsc::Sender<ProgressFrame>,
) -> Result<Option<Outcome>, link::Error> {
    let attempt = request.spec.job_ref();
    let (mut child, stream) = spawn(launch)?;
    let (reader, writer) = stream.into_split();
    let mut patience = EXIT_GRACE;
    let result = {
        let mut listening = pin!(listen(reader, &attempt, progress));
        let mut telling = pin!(tell(writer, request, stops.clone()));
        let mut overdue = pin!(overdue(stops, launch.cancel_grace));
        let mut hears = true;
        loop {
            tokio::select! {
                biased;
                ended = &mut listening => break ended,
                () = &mut overdue => {
                    tracing::warn!(%attempt, "the job does not end: killing it");
                    patience = Duration::ZERO;
                    break Ok(None);
                }
                // What was said last may be an outcome, also when the job hears nothing any more.
                _ = &mut telling, if hears => hears = false,
            }
        }
    };
    // Whatever is left of the process goes now: its outcome is known, or will never come.
    let status = end(&mut child, patience).await;
    if matches!(result, Ok(None)) {
        tracing::error!(%attempt, status, "job process ended without an outcome");
    }
    result
}

/// The job's messages until its outcome; `None` when it ended without one.
async fn listen(
    mut reader: OwnedReadHalf,
    attempt: &JobRef,
    progress: mpsc::Sender<ProgressFrame>,
) -> Result<Option<Outcome>, link::Error> {
    loop {
        match link::receive(&mut reader).await? {
            Some(FromJob::Progress { progress: frame }) => {
                let own = frame.job_id == attempt.job_id && frame.generation == attempt.generation;
                // A full queue only means that a newer frame follows.
                if own {
                    drop(progress.try_send(frame));
                }
            }
            Some(FromJob::Outcome { outcome }) => return Ok(Some(*outcome)),
            None => return Ok(None),
        }
    }
}

/// Says what is to be done, then what is asked for meanwhile. Holds the line open; ends only when nobody listens.
async fn tell(mut writer: OwnedWriteHalf, request: Request, mut stops: Stops) -> Result<(), link::Error> {
    link::send(&mut writer, &ToJob::Start { request: Box::new(request) }).await?;
    let mut known = Stop::No;
    while known < Stop::Cancel {
        known = stop_beyond(&mut stops, known).await;
        let message = if known == Stop::Cancel { ToJob::Cancel } else { ToJob::Drain };
        link::send(&mut writer, &message).await?;
    }
    std::future::pending().await
}

/// What is asked for once it is more than `known`; an agent that is gone asks for everything.
async fn stop_beyond(stops: &mut Stops, known: Stop) -> Stop {
    stops.wait_for(|stop| *stop > known).await.map_or(Stop::Cancel, |stop| *stop)
}

/// Returns once a cancel was asked for and its grace is over.
async fn overdue(mut stops: Stops, grace: Duration) {
    stop_beyond(&mut stops, Stop::Drain).await;
    tokio::time::sleep(grace).await;
}

fn spawn(launch: &Launch) -> Result<(Child, UnixStream), link::Error> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let passed = |name: &OsString| INHERITED.iter().chain(&link::PASSED_ON).any(|passed| name == passed);
    let child = Command::new(&launch.executable)
        .args(&launch.arguments)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| passed(name)))
        .envs(ALLOCATOR)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// Awaits the process, kills it once `patience` is over, and says how it ended.
async fn end(child: &mut Child, patience: Duration) -> String {
    if let Ok(Ok(status)) = tokio::time::timeout(patience, child.wait()).await {
        return status.to_string();
    }
    if let Err(error) = child.kill().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "job process could not be killed");
    }
    "killed".to_owned()
}

async fn remove(scratch: &std::path::Path) {
    match tokio::fs::remove_dir_all(scratch).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(error = &error as &dyn std::error::Error, "scratch folder could not be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
