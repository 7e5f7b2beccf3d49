//! Runs the Python host as a child process and turns its frames into events.
//!
//! One task, the supervisor, owns the process: it reads frames, watches memory, and ends the whole process tree
//! whichever way the sync ends.

use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::environment::Hold;
use super::frames::{self, Received};
use super::launch::{self, Launched};
use super::process::{self, Tree};
use super::question::Question;
use super::{Settings, output};
use crate::connector::{EndKind, Error, Event, LogLevel, LogLine, LogOrigin, Source};
use crate::sandbox::{self, Group, Room};
use crate::tasks;

/// Events between the supervisor and the job; row batches are about 1 MiB each.
const EVENTS_MAX: usize = 8;
/// What a host that said its last word may take to flush its output and exit.
const EXIT_GRACE: Duration = Duration::from_secs(2);
const MEMORY_STEP: Duration = Duration::from_millis(100);
/// Every so many steps the whole tree is measured, not only the first process.
const MEMORY_TREE_STEPS: u32 = 10;
const SCRATCH_STEP: Duration = Duration::from_secs(1);
/// In a sandbox the host is the child of the first process, and that one of bubblewrap.
const SANDBOX_DEPTH: usize = 2;

/// How a connector ends that the sandbox's limit of processes stopped.
const TOO_MANY: &str = "it ran more processes and threads than the policy's sandbox.processes_max";

/// A running SDK connector.
#[derive(Debug)]
pub(crate) struct SdkSource {
    events: mpsc::Receiver<Result<Event, Error>>,
    writer: OwnedWriteHalf,
    stop: CancellationToken,
    /// Stops the supervisor when the source is dropped without a close.
    _stop_on_drop: DropGuard,
    supervisor: Option<JoinHandle<()>>,
    /// The interpreter and its packages stay where they are as long as they are used.
    pub(super) environment: Option<Hold>,
}

impl Source for SdkSource {
    async fn next(&mut self) -> Result<Event, Error> {
        self.events.recv().await.unwrap_or(Err(Error::Closed))
    }

    /// A host that died cannot be told; why it died is the next event.
    async fn acknowledge(&mut self, checkpoint: u64) -> Result<(), Error> {
        if let Err(error) = self.writer.write_all(&frames::acknowledgement(checkpoint)?).await {
            tracing::debug!(%error, checkpoint, "the connector is gone before its acknowledgement");
        }
        Ok(())
    }

    async fn close(&mut self) {
        self.events.close();
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the connector's supervisor failed");
        }
    }
}

/// Starts the host with `python` and gives it its first message.
pub(super) async fn start(settings: Settings, python: &Path, question: Option<&Question>) -> Result<SdkSource, Error> {
    let first = frames::start(&settings.start, question)?;
    if settings.exclusive {
        // What leaves its own parents comes to us, where it is found at close.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Error::Start(errno.into()))?;
    }
    let marker = uuid::Uuid::new_v4().to_string();
    let oom_kills = process::oom_kills();
    let Launched { mut child, stream, room } = launch::launch(&settings, python, &marker).await?;
    let (reader, writer) = stream.into_split();
    let root = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(Error::Closed)?;
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let outputs = capture_outputs(&mut child, &events);
    let depth = if room.is_some() { SANDBOX_DEPTH } else { 0 };
    let tree = Tree::new(root, depth, marker, settings.exclusive);
    let memory_bytes_max = settings.memory_bytes_max;
    let supervisor = Supervisor { child, tree, room, reader, events, outputs, memory_bytes_max, oom_kills };

    let stop = CancellationToken::new();
    let supervisor = tasks::spawn("connector-supervisor", supervisor.run(stop.clone()));
    let guard = stop.clone().drop_guard();
    let mut source = SdkSource {
        events: received,
        writer,
        stop,
        _stop_on_drop: guard,
        supervisor: Some(supervisor),
        environment: None,
    };
    if let Err(error) = source.writer.write_all(&first).await {
        tracing::debug!(%error, "the connector's process is gone before its first message");
    }
    Ok(source)
}

fn capture_outputs(child: &mut Child, events: &mpsc::Sender<Result<Event, Error>>) -> Vec<JoinHandle<()>> {
    let stdout =
        child.stdout.take().map(|stdout| tasks::spawn("connector-stdout", output::capture(stdout, events.clone())));
    let stderr =
        child.stderr.take().map(|stderr| tasks::spawn("connector-stderr", output::capture(stderr, events.clone())));
    stdout.into_iter().chain(stderr).collect()
}

struct Supervisor {
    child: Child,
    tree: Tree,
    room: Option<Room>,
    reader: OwnedReadHalf,
    events: mpsc::Sender<Result<Event, Error>>,
    outputs: Vec<JoinHandle<()>>,
    memory_bytes_max: u64,
    oom_kills: Option<u64>,
}

impl Supervisor {
    async fn run(mut self, stop: CancellationToken) {
        let ended = {
            let over = watch_memory(self.tree.clone(), self.memory_bytes_max, self.room.as_ref().map(Room::group));
            let orphans = end_orphans(&mut self.child, &self.tree);
            let full = watch_scratch(self.tree.clone(), self.room.as_ref().map(Room::scratch));
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(Error::Closed),
                error = over => Err(error),
                error = full => Err(error),
                never = orphans => match never {},
                ended = read_events(&mut self.reader, &self.events) => ended,
            }
        };
        let last = match ended {
            Ok(ended) => tokio::select! {
                biased;
                () = stop.cancelled() => Err(Error::Closed),
                last = self.conclude(ended) => last,
            },
            Err(error) => Err(error),
        };
        self.tree.end().await;
        if let Err(error) = self.child.wait().await {
            tracing::debug!(%error, "the connector's process could not be awaited");
        }
        for output in &self.outputs {
            output.abort();
        }
        self.leave().await;
        // A closed source listens no more.
        if self.events.send(last).await.is_err() {
            tracing::debug!("the connector ended after its source was closed");
        }
    }

    /// Lets the host flush its output and exit, so that its log comes before its end.
    async fn conclude(&mut self, ended: Option<Result<EndKind, Error>>) -> Result<Event, Error> {
        let outputs = std::mem::take(&mut self.outputs);
        let quiet = async {
            let status = self.child.wait().await;
            for output in outputs {
                if let Err(error) = output.await {
                    tracing::error!(%error, "the reader of a connector's output failed");
                }
            }
            status.ok()
        };
        let status = tokio::time::timeout(EXIT_GRACE, quiet).await.ok().flatten();
        match ended {
            // Part of it was killed, whatever it made of that.
            Some(Ok(_)) if self.kernel_killed() => Err(Error::OutOfMemory { how: killed_at(self.memory_bytes_max) }),
            // Whatever it made of that: faster than the sandbox counts, it met the kernel's limit.
            Some(_) if self.refused_processes() => Err(Error::Died { how: TOO_MANY.to_owned() }),
            Some(last) => last.map(Event::End),
            None => Err(self.cause_of_death(status)),
        }
    }

    /// Tells what the sandbox refused, and removes it.
    async fn leave(&mut self) {
        let Some(room) = self.room.take() else { return };
        for (target, by, count) in room.refusals() {
            let message = format!("egress refused: {target}, {count} times; {}", by.place());
            let line = LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message };
            if self.events.send(Ok(Event::Log(line))).await.is_err() {
                break;
            }
        }
        if let Err(error) = tokio::task::spawn_blocking(move || drop(room)).await {
            tracing::warn!(%error, "the sandbox's folder could not be removed");
        }
    }

    fn kernel_killed(&self) -> bool {
        let group = self.room.as_ref().map(Room::group);
        group.is_some_and(|group| group.as_ref().as_ref().is_some_and(|group| group.oom_kills() > 0))
    }

    fn refused_processes(&self) -> bool {
        let group = self.room.as_ref().map(Room::group);
        group.is_some_and(|group| group.as_ref().as_ref().is_some_and(|group| group.refused_processes() > 0))
    }

    fn cause_of_death(&self, status: Option<ExitStatus>) -> Error {
        if self.kernel_killed() {
            return Error::OutOfMemory { how: killed_at(self.memory_bytes_max) };
        }
        let Some(status) = status else {
            return Error::Died { how: "it closed its link to the job".to_owned() };
        };
        let status = match self.room.as_ref().map_or(Ok(status), |_| launch::ended_inside(status)) {
            Ok(status) => status,
            Err(launch::TooMany) => return Error::Died { how: TOO_MANY.to_owned() },
        };
        if status.signal() == Some(9) && process::oom_kills() > self.oom_kills {
            return Error::OutOfMemory { how: "the kernel killed it at the limit of its control group".to_owned() };
        }
        Error::Died { how: status.to_string() }
    }
}

/// Forwards events until the host's last word; `None` when it closed the socket without one.
async fn read_events(
    reader: &mut OwnedReadHalf,
    events: &mpsc::Sender<Result<Event, Error>>,
) -> Result<Option<Result<EndKind, Error>>, Error> {
    if !frames::receive_hello(reader).await? {
        return Ok(None);
    }
    loop {
        match frames::receive(reader).await? {
            Received::Event(event) => events.send(Ok(event)).await.map_err(|_| Error::Closed)?,
            Received::Ended(last) => return Ok(Some(last)),
            Received::Closed => return Ok(None),
        }
    }
}

/// What the host forked holds a copy of the socket: once the host is gone its tree is ended, so that the reader sees
/// the end of the stream.
async fn end_orphans(child: &mut Child, tree: &Tree) -> Infallible {
    if let Err(error) = child.wait().await {
        tracing::debug!(%error, "the connector's process could not be awaited");
    }
    tree.end().await;
    std::future::pending().await
}

fn killed_at(bytes_max: u64) -> String {
    format!("the kernel killed at the limit of its control group, the limit is {bytes_max}")
}

/// Returns only when the connector's processes hold too much.
async fn watch_memory(tree: Tree, bytes_max: u64, group: Option<Arc<Option<Group>>>) -> Error {
    let mut steps = tokio::time::interval(MEMORY_STEP);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut step: u32 = 0;
    loop {
        steps.tick().await;
        step = step.wrapping_add(1);
        let whole = step.is_multiple_of(MEMORY_TREE_STEPS);
        let (tree, group) = (tree.clone(), group.clone());
        let measure = move || {
            let kills = group.as_ref().and_then(|group| group.as_ref().as_ref()).map_or(0, Group::oom_kills);
            (if whole { tree.bytes() } else { tree.host_bytes() }, kills)
        };
        let (bytes, kills) = tokio::task::spawn_blocking(measure).await.unwrap_or((0, 0));
        if kills > 0 {
            return Error::OutOfMemory { how: killed_at(bytes_max) };
        }
        if bytes > bytes_max {
            return Error::OutOfMemory { how: format!("{bytes} bytes are resident, the limit is {bytes_max}") };
        }
    }
}

/// Returns only when the connector's files take too much.
async fn watch_scratch(tree: Tree, scratch: Option<(Vec<PathBuf>, u64)>) -> Error {
    let Some((folders, bytes_max)) = scratch else { return std::future::pending().await };
    loop {
        tokio::time::sleep(SCRATCH_STEP).await;
        let (tree, folders) = (tree.clone(), folders.clone());
        let measure = move || sandbox::used_bytes(&folders, &tree.pids());
        let bytes = tokio::task::spawn_blocking(measure).await.unwrap_or(0);
        if bytes > bytes_max {
            return Error::Died {
                how: format!("its files in HOME and /tmp took {bytes} bytes, the limit is {bytes_max}"),
            };
        }
    }
}

#[cfg(test)]
mod tests;
