//! The host's frames as events. The host runs foreign code, so nothing it sends is believed: sizes are capped before
//! memory is taken, batches are validated, and what does not parse ends the sync.

use inshore_columnar::frame::{FRAME_VERSION, Frame, FrameError, HEAD_BYTES, Kind, head};
use inshore_columnar::{TableName, TableSchema};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::output;
use super::question::Question;
use crate::connector::{EndKind, Error, Event, LogLine, LogOrigin, Warning, WarningKind};

/// The shim refuses larger states in the connector; this side does not trust it.
const STATE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// One step of the conversation.
pub(super) enum Received {
    Event(Event),
    /// The last word of the host: how the sync ended, or why it failed.
    Ended(Result<EndKind, Error>),
    /// The socket closed without a last word.
    Closed,
}

/// The next frame as an event.
pub(super) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Received, Error> {
    match read(stream).await? {
        Some(frame) => interpret(frame),
        None => Ok(Received::Closed),
    }
}

/// The first frame says which version of the frames the host speaks.
pub(super) async fn receive_hello(stream: &mut (impl AsyncRead + Unpin)) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Hello {
        version: u16,
    }
    let Some(frame) = read(stream).await? else { return Ok(false) };
    let version = match frame.kind {
        Kind::Hello => frame.parse::<Hello>()?.version,
        kind => return Err(violated(format!("{kind:?} came before Hello"))),
    };
    if version == FRAME_VERSION {
        Ok(true)
    } else {
        Err(violated(format!("the host speaks version {version}, this job {FRAME_VERSION}")))
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, Error> {
    let mut first = [0; HEAD_BYTES];
    // A process that dies may leave half a frame: that is its death, not a violation.
    if stream.read_exact(&mut first).await.is_err() {
        return Ok(None);
    }
    let (kind, length) = head(first)?;
    let mut payload = Vec::with_capacity(length);
    while payload.len() < length {
        let rest = u64::try_from(length - payload.len()).unwrap_or(u64::MAX);
        if !(&mut *stream).take(rest).read_buf(&mut payload).await.is_ok_and(|bytes| bytes > 0) {
            return Ok(None);
        }
    }
    Ok(Some(Frame { kind, payload }))
}

fn interpret(frame: Frame) -> Result<Received, Error> {
    let event = match frame.kind {
        Kind::Rows => Event::Rows(frame.into_rows()?),
        Kind::Schema => Event::Schema(frame.parse::<SchemaFrame>()?.tables),
        Kind::Truncate => {
            let truncate: TruncateFrame = frame.parse()?;
            Event::Truncate { table: truncate.table, deferred: truncate.deferred }
        }
        Kind::Checkpoint => checkpoint(&frame)?,
        Kind::Log => {
            let log: LogFrame = frame.parse()?;
            Event::Log(LogLine { level: output::level(&log.level), origin: LogOrigin::Library, message: log.message })
        }
        Kind::Warning => Event::Warning(frame.parse::<WarningFrame>()?.into()),
        Kind::Error => {
            let error: ErrorFrame = frame.parse()?;
            Event::ConnectorError { message: error.message, trace: error.trace }
        }
        Kind::End => return Ok(Received::Ended(Ok(ending(&frame.parse::<EndFrame>()?.exit)))),
        Kind::Failed => {
            let failed: FailedFrame = frame.parse()?;
            return Ok(Received::Ended(Err(Error::from_host(&failed.kind, failed.trace))));
        }
        Kind::Answer => Event::Answer(frame.parse::<Box<RawValue>>()?.get().to_owned()),
        Kind::FileChunk => file_chunk(frame.payload)?,
        Kind::FileEnd => {
            let FileEndFrame { upload, table, path } = frame.parse()?;
            Event::FileEnd { upload, table, path }
        }
        Kind::FileAbandon => Event::FileAbandoned { upload: frame.parse::<FileAbandonFrame>()?.upload },
        kind @ (Kind::Hello | Kind::Start | Kind::Ack | Kind::Stop) => {
            return Err(violated(format!("{kind:?} is not for the host to send now")));
        }
    };
    Ok(Received::Event(event))
}

fn checkpoint(frame: &Frame) -> Result<Event, Error> {
    let checkpoint: CheckpointFrame = frame.parse()?;
    let state = checkpoint.state.get();
    if state.len() > STATE_BYTES_MAX {
        return Err(violated(format!("a state of {} bytes passes the limit of {STATE_BYTES_MAX}", state.len())));
    }
    Ok(Event::Checkpoint { id: checkpoint.checkpoint, state: state.to_owned() })
}

fn file_chunk(mut payload: Vec<u8>) -> Result<Event, Error> {
    let number =
        payload.first_chunk::<8>().copied().ok_or_else(|| violated("a FileChunk without a number".to_owned()))?;
    payload.drain(..number.len());
    Ok(Event::FileChunk { upload: u64::from_le_bytes(number), bytes: payload })
}

fn ending(exit: &str) -> EndKind {
    if exit == "exited" { EndKind::Exited } else { EndKind::Finished }
}

fn violated(what: String) -> Error {
    Error::FrameViolated { what }
}

#[derive(Deserialize)]
struct SchemaFrame {
    tables: Vec<TableSchema>,
}

#[derive(Deserialize)]
struct TruncateFrame {
    table: TableName,
    #[serde(default)]
    deferred: bool,
}

#[derive(Deserialize)]
struct CheckpointFrame {
    checkpoint: u64,
    state: Box<RawValue>,
}

#[derive(Deserialize)]
struct LogFrame {
    level: String,
    message: String,
}

#[derive(Deserialize)]
struct WarningFrame {
    message: String,
    topic: String,
}

impl From<WarningFrame> for Warning {
    fn from(frame: WarningFrame) -> Warning {
        let kind = match frame.topic.as_str() {
            "columns" => WarningKind::Columns,
            "schema" => WarningKind::Schema,
            "state" => WarningKind::State,
            "exited" => WarningKind::Exited,
            _ => WarningKind::Connector,
        };
        Warning { kind, message: frame.message }
    }
}

#[derive(Deserialize)]
struct FileEndFrame {
    upload: u64,
    table: TableName,
    path: String,
}

#[derive(Deserialize)]
struct FileAbandonFrame {
    upload: u64,
}

#[derive(Deserialize)]
struct ErrorFrame {
    message: String,
    trace: Option<String>,
}

#[derive(Deserialize)]
struct EndFrame {
    exit: String,
}

#[derive(Deserialize)]
struct FailedFrame {
    kind: String,
    trace: String,
}

/// The answer to a checkpoint.
pub(super) fn acknowledgement(checkpoint: u64) -> Result<Vec<u8>, FrameError> {
    Frame::json(Kind::Ack, &serde_json::json!({"checkpoint": checkpoint}))?.encode()
}

/// The message that starts the sync, or puts a question instead.
pub(super) fn start(start: &super::Start, question: Option<&Question>) -> Result<Vec<u8>, FrameError> {
    let Some(question) = question else { return Frame::json(Kind::Start, start)?.encode() };
    let json = |source| FrameError::Json { kind: Kind::Start, source };
    let mut message = serde_json::to_value(start).map_err(json)?;
    match question {
        Question::Form => message["mode"] = "form".into(),
        Question::Tests(wanted) => {
            message["mode"] = "test".into();
            message["tests"] = serde_json::to_value(wanted).map_err(json)?;
        }
    }
    Frame::json(Kind::Start, &message)?.encode()
}
