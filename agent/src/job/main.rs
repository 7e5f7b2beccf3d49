//! The job process: takes its request from the socket it inherited as stdin, runs, sends its outcome, ends. When the
//! agent's end of the socket closes, the agent has died: the job stops by itself.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::link::{self, FromJob, Request, ToJob};
use super::outcome::Outcome;
use super::run;
use crate::context::{Context, Progress, Stop};
use crate::{report, tasks};

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
    let context = Context { progress, stop: stopping };
    let outcome = work(context, *request, progressing, &mut writer).await?;
    link::send(&mut writer, &FromJob::Outcome { outcome: Box::new(outcome) }).await?;
    listener.abort();
    Ok(())
}

/// The socket is duplicated from stdin, so that nothing below can close it by accident.
fn inherited() -> Result<UnixStream, link::Error> {
    let stream = StdUnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

async fn work(
    context: Context,
    request: Request,
    mut progressing: watch::Receiver<Progress>,
    writer: &mut OwnedWriteHalf,
) -> Result<Outcome, link::Error> {
    let labels = request.labels();
    let attempt = request.spec.job_ref();
    let mut running = std::pin::pin!(run::run(context, request));
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    loop {
        tokio::select! {
            biased;
            outcome = &mut running => return Ok(outcome),
            _ = ticks.tick() => {
                if progressing.has_changed().unwrap_or(false) {
                    let progress = report::progress(&labels, &attempt, &progressing.borrow_and_update());
                    link::send(writer, &FromJob::Progress { progress }).await?;
                }
            }
        }
    }
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
    std::process::abort();
}
