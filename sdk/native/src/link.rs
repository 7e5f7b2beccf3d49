//! The socket to the job: a queue bounded in bytes, one thread that writes it, one that reads acknowledgements.
//!
//! Pushing never blocks, so that frames are queued in the order in which builders were emptied; whoever pushed waits
//! for room afterwards. When the job is gone this process has nothing left to do: the reader ends it, with every
//! process of its group, without asking the interpreter.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inshore_columnar::RowBatch;
use inshore_columnar::frame::{Frame, FrameError, Kind};
use serde_json::json;

/// Bytes queued for the job before producers wait.
pub(crate) const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a wait lasts before the caller looks at signals again.
pub(crate) const WAIT_STEP: Duration = Duration::from_millis(500);

/// A larger batch is rare: its room is given back.
const PAYLOAD_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// About what the batches under way take.
const FREED_BYTES_KEPT: usize = 8 * 1024 * 1024;

/// What a control frame weighs in the queue besides its text.
const CONTROL_BYTES: usize = 64;

pub(crate) struct Link {
    queue: Mutex<Queue>,
    /// Something was queued, or the link closed.
    queued: Condvar,
    /// Something was written, acknowledged, or the link closed.
    moved: Condvar,
    bytes: AtomicUsize,
    ending: AtomicBool,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<(Outgoing, usize)>,
    writing: bool,
    lost: bool,
    acknowledged: u64,
}

/// Rows are encoded by the writing thread, outside the GIL.
enum Outgoing {
    Rows(RowBatch),
    Control(Frame),
}

/// How a bounded wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Done,
    NotYet,
    Lost,
}

/// The job closed its end, or never started the sync.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) String);

impl Link {
    /// Takes stdin as the socket and waits for the start message.
    pub(crate) fn open() -> Result<(UnixStream, String), Lost> {
        let lost = |error: std::io::Error| Lost(error.to_string());
        let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(lost)?);
        match Frame::read(&mut stream) {
            Ok(Some(Frame { kind: Kind::Start, payload })) => {
                String::from_utf8(payload).map(|start| (stream, start)).map_err(|error| Lost(error.to_string()))
            }
            Ok(_) => Err(Lost("the job closed the socket before it started the sync".to_owned())),
            Err(error) => Err(Lost(error.to_string())),
        }
    }

    pub(crate) fn start(stream: UnixStream) -> Result<Arc<Link>, Lost> {
        keep_freed_pages();
        let lost = |error: std::io::Error| Lost(error.to_string());
        let link = Arc::new(Link {
            queue: Mutex::new(Queue::default()),
            queued: Condvar::new(),
            moved: Condvar::new(),
            bytes: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        });
        let reading = stream.try_clone().map_err(lost)?;
        let (reader, writer) = (Arc::clone(&link), Arc::clone(&link));
        std::thread::Builder::new().name("inshore-read".into()).spawn(move || reader.read(reading)).map_err(lost)?;
        std::thread::Builder::new().name("inshore-write".into()).spawn(move || writer.write(stream)).map_err(lost)?;
        Ok(link)
    }

    pub(crate) fn push_rows(&self, rows: RowBatch, bytes: usize) {
        self.push(Outgoing::Rows(rows), bytes);
    }

    pub(crate) fn push_control(&self, frame: Frame) {
        let bytes = frame.payload.len() + CONTROL_BYTES;
        self.push(Outgoing::Control(frame), bytes);
    }

    fn push(&self, frame: Outgoing, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.locked().frames.push_back((frame, bytes));
        self.queued.notify_one();
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes.load(Ordering::Acquire) <= QUEUE_BYTES_MAX
    }

    pub(crate) fn wait_for_room(&self) -> Waited {
        self.wait(|_| self.has_room())
    }

    pub(crate) fn wait_for_ack(&self, checkpoint: u64) -> Waited {
        self.wait(|queue| queue.acknowledged >= checkpoint)
    }

    /// Or until nobody reads any more: whoever has the last frame may close before the writer knows.
    pub(crate) fn wait_until_written(&self) -> Waited {
        self.wait(|queue| queue.lost || queue.frames.is_empty() && !queue.writing)
    }

    /// From here on the job may close its end: the sync is over.
    pub(crate) fn set_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// One step of waiting, so that the caller can look at signals between steps.
    fn wait(&self, done: impl Fn(&Queue) -> bool) -> Waited {
        let queue = self.locked();
        let (queue, _) = self
            .moved
            .wait_timeout_while(queue, WAIT_STEP, |queue| !queue.lost && !done(queue))
            .unwrap_or_else(PoisonError::into_inner);
        match (done(&queue), queue.lost) {
            (true, _) => Waited::Done,
            (false, true) => Waited::Lost,
            (false, false) => Waited::NotYet,
        }
    }

    fn write(&self, mut stream: UnixStream) {
        let mut payload = Vec::new();
        while let Some((frame, bytes)) = self.next() {
            let written = send(&mut stream, frame, &mut payload);
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            let mut queue = self.locked();
            queue.writing = false;
            queue.lost |= written.is_err();
            self.moved.notify_all();
            if queue.lost {
                return;
            }
        }
    }

    fn next(&self) -> Option<(Outgoing, usize)> {
        let queue = self.locked();
        let mut queue = self
            .queued
            .wait_while(queue, |queue| queue.frames.is_empty() && !queue.lost)
            .unwrap_or_else(PoisonError::into_inner);
        let next = queue.frames.pop_front();
        queue.writing = next.is_some();
        next
    }

    fn read(&self, mut stream: UnixStream) {
        while let Ok(Some(frame)) = Frame::read(&mut stream) {
            match acknowledged(&frame) {
                Some(checkpoint) => {
                    self.locked().acknowledged = checkpoint;
                    self.moved.notify_all();
                }
                None if frame.kind == Kind::Stop => break,
                None => {}
            }
        }
        self.locked().lost = true;
        self.queued.notify_all();
        self.moved.notify_all();
        if !self.ending.load(Ordering::Acquire) {
            end_process_group();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batches come and go all the time. Freeing one large block tells the C library that such blocks are usual here, so that
/// it keeps freed pages of that size instead of asking the kernel for new ones batch after batch.
fn keep_freed_pages() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FREED_BYTES_KEPT)));
}

fn acknowledged(frame: &Frame) -> Option<u64> {
    (frame.kind == Kind::Ack).then(|| frame.parse::<serde_json::Value>().ok()?.get("checkpoint")?.as_u64()).flatten()
}

/// Rows that cannot be framed are a fault of this runtime: it says so, then the link is lost. `payload` is room for the
/// rows, used again and again.
fn send(stream: &mut UnixStream, frame: Outgoing, payload: &mut Vec<u8>) -> Result<(), FrameError> {
    let rows = match frame {
        Outgoing::Rows(rows) => rows,
        Outgoing::Control(frame) => return frame.write(stream),
    };
    let framed = Frame::write_rows(&rows, payload);
    drop(rows);
    let frame = Frame { kind: Kind::Rows, payload: std::mem::take(payload) };
    let written = framed.and_then(|()| frame.write(stream));
    *payload = frame.payload;
    payload.clear();
    payload.shrink_to(PAYLOAD_BYTES_KEPT);
    if let Err(error) = &written
        && !matches!(error, FrameError::Io(_))
    {
        Frame::json(Kind::Failed, &json!({"kind": "internal", "trace": error.to_string()}))?.write(stream)?;
    }
    written
}

/// A hanging connector must not outlive its job, even one that never lets go of the GIL.
fn end_process_group() {
    use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};
    let ended = if getpgrp() == getpid() {
        kill_current_process_group(Signal::KILL)
    } else {
        kill_process(getpid(), Signal::KILL)
    };
    if ended.is_err() {
        std::process::abort();
    }
}
