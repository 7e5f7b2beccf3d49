//! The job process: takes its request from the socket it inherited as stdin, runs, sends its outcome, ends. When the
//! agent's end of the socket closes, the agent has died: the job stops by itself.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::link::{self, FromJob, ToJob};
use super::run;
use super::spec::ProgressFrame;
use crate::context::{Context, Progress, Stop};
use crate::{log_fields, report, tasks};

/// How often the agent hears how far the job is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How long an orphaned job may take to close its connector before it ends regardless.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// Runs the job whose request waits on stdin. An error here means that the agent never hears an outcome.
pub(crate) async fn main() -> Result<(), link::Error> {
    let stream = inherited()?;
    let (mut reader, mut writer) = stream.into_split();
    let Some(ToJob::Start { request }) = link::receive(&mut reader).await? else {
        return Err(link::Error::Malformed);
    };
    let (stop, stopping) = watch::channel(Stop::No);
    let (progress, progressing) = watch::channel(Progress::default());
    let listener = tasks::spawn("stop requests", listen(reader, stop));
    let attempt = request.spec.job_ref();
    log_fields::set(vec![
        ("AGENT_ID", request.agent_id.clone()),
        ("CONNECTION_ID", request.spec.connection_id.to_string()),
        ("SYNC_ID", request.spec.job_id.to_string()),
    ]);
    let labels = request.labels();
    let finished = CancellationToken::new();
    let working = async {
        let outcome = Box::pin(run::run(Context { progress, stop: stopping }, *request)).await;
        finished.cancel();
        outcome
    };
    // Two futures: an agent that does not read holds up its reports, never the work.
    let reporting =
        tell_progress(&mut writer, progressing, &finished, |progress| report::progress(&labels, &attempt, progress));
    let (outcome, told) = tokio::join!(working, reporting);
    listener.abort();
    told?;
    link::send(&mut writer, &FromJob::Outcome { outcome: Box::new(outcome) }).await
}

/// The socket is duplicated from stdin, so that nothing below can close it by accident.
fn inherited() -> Result<UnixStream, link::Error> {
    let stream = StdUnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Reports until the work is finished, always whole messages. An error says that the agent is gone, which the listener
/// acts on.
async fn tell_progress(
    writer: &mut OwnedWriteHalf,
    mut progressing: watch::Receiver<Progress>,
    finished: &CancellationToken,
    frame: impl Fn(&Progress) -> ProgressFrame,
) -> Result<(), link::Error> {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    while finished.run_until_cancelled(ticks.tick()).await.is_some() {
        if progressing.has_changed().unwrap_or(false) {
            let progress = frame(&progressing.borrow_and_update());
            link::send(writer, &FromJob::Progress { progress }).await?;
        }
    }
    Ok(())
}

async fn listen(mut reader: OwnedReadHalf, stop: watch::Sender<Stop>) {
    loop {
        let asked = match link::receive(&mut reader).await {
            Ok(Some(ToJob::Drain)) => Stop::Drain,
            Ok(Some(ToJob::Cancel)) => Stop::Cancel,
            Ok(Some(ToJob::Start { .. })) => continue,
            Ok(None) | Err(_) => break,
        };
        stop.send_modify(|stop| *stop = asked.max(*stop));
    }
    tracing::warn!("the agent is gone: stopping");
    stop.send_replace(Stop::Cancel);
    tokio::time::sleep(ORPHAN_GRACE).await;
    die();
}

/// Ends this process without a core file, which would hold its secrets. The connector's process group ends itself when
/// its socket closes.
fn die() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        tracing::error!(error = &error as &dyn std::error::Error, "this process could not kill itself");
    }
    std::process::abort()
}
