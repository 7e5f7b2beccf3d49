//! Frames between the connector's process (the host) and the job, over a byte stream: u32-LE length of what follows,
//! one byte of kind, payload. Most payloads are JSON; [`Kind::Rows`] is a u32-LE header length, a JSON header and an
//! Arrow IPC stream; [`Kind::FileChunk`] holds bytes. The header ends with spaces, so that the stream's values lie
//! aligned in the payload and are read where they are.
//!
//! The host runs foreign code, so nothing it sends is believed: lengths are capped before memory is taken, and a batch
//! is validated before anyone reads it.

use std::io::{self, Read, Write};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::batch::{BatchError, RowBatch};
use crate::schema::TableSchema;

/// Grows with every change that an older peer cannot read; the host names it in Hello.
pub const FRAME_VERSION: u16 = 1;
/// A frame above this is refused by both sides: kind byte and payload together.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;
/// What a frame begins with: length and kind.
pub const HEAD_BYTES: usize = LENGTH_BYTES + 1;
/// The Arrow stream begins at a multiple of this in its payload.
const STREAM_ALIGNMENT: usize = 64;

/// What a frame says; the first group goes from the host to the job, the second back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Hello,
    Schema,
    Rows,
    Truncate,
    Checkpoint,
    Log,
    Warning,
    Error,
    End,
    Failed,
    /// What a project says that is asked for its form or its tests.
    Answer,
    /// Bytes of a file: u64-LE number of its upload, then the bytes. No JSON, like Rows.
    FileChunk,
    /// The file of an upload is whole, and belongs to the open window of its table.
    FileEnd,
    /// Nothing of an upload is wanted any more.
    FileAbandon,

    Start,
    Ack,
    Stop,
}

const KINDS: [(u8, Kind); 17] = [
    (1, Kind::Hello),
    (2, Kind::Schema),
    (3, Kind::Rows),
    (4, Kind::Truncate),
    (5, Kind::Checkpoint),
    (6, Kind::Log),
    (7, Kind::Warning),
    (8, Kind::Error),
    (9, Kind::End),
    (10, Kind::Failed),
    (11, Kind::Answer),
    (12, Kind::FileChunk),
    (13, Kind::FileEnd),
    (14, Kind::FileAbandon),
    (64, Kind::Start),
    (65, Kind::Ack),
    (66, Kind::Stop),
];

impl Kind {
    #[must_use]
    pub fn code(self) -> u8 {
        KINDS.iter().find(|(_, kind)| *kind == self).map(|(code, _)| *code).expect("every kind is in the table")
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Kind> {
        KINDS.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind)
    }
}

/// One frame, not yet interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {bytes} bytes passes the limit of {FRAME_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("an empty frame")]
    Empty,
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("the stream broke")]
    Io(#[source] io::Error),
    #[error("the payload of {kind:?} is not the expected JSON")]
    Json { kind: Kind, source: serde_json::Error },
    #[error("the rows are not Arrow")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the rows contradict themselves")]
    Batch(#[from] BatchError),
}

impl Frame {
    pub fn json<T: Serialize>(kind: Kind, payload: &T) -> Result<Frame, FrameError> {
        let payload = serde_json::to_vec(payload).map_err(|source| FrameError::Json { kind, source })?;
        Ok(Frame { kind, payload })
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.payload).map_err(|source| FrameError::Json { kind: self.kind, source })
    }

    /// A batch as a frame. [`FrameError::TooLarge`] tells the caller to send fewer rows.
    pub fn rows(batch: &RowBatch) -> Result<Frame, FrameError> {
        let mut payload = Vec::new();
        Frame::write_rows(batch, &mut payload)?;
        let frame = Frame { kind: Kind::Rows, payload };
        frame.checked_length()?;
        Ok(frame)
    }

    /// The payload of a batch's frame, in place of what the buffer held: its memory is used again.
    pub fn write_rows(batch: &RowBatch, payload: &mut Vec<u8>) -> Result<(), FrameError> {
        let header =
            RowsHeader { schema: batch.schema.clone(), sets: batch.sets.clone(), untyped: batch.untyped.clone() };
        let mut header = serde_json::to_vec(&header).map_err(|source| FrameError::Json { kind: Kind::Rows, source })?;
        let padded = (LENGTH_BYTES + header.len()).next_multiple_of(STREAM_ALIGNMENT) - LENGTH_BYTES;
        header.resize(padded, b' ');
        let length = u32::try_from(header.len()).map_err(|_| FrameError::TooLarge { bytes: header.len() })?;
        payload.clear();
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&header);
        let mut writer = StreamWriter::try_new(&mut *payload, &batch.rows.schema())?;
        writer.write(&batch.rows)?;
        writer.finish()?;
        Ok(())
    }

    /// The batch of a Rows frame, validated. Its arrays lie in the payload.
    pub fn into_rows(self) -> Result<RowBatch, FrameError> {
        let (length, rest) = self.payload.split_first_chunk::<LENGTH_BYTES>().ok_or(FrameError::Truncated)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| FrameError::Truncated)?;
        let (header, _) = rest.split_at_checked(length).ok_or(FrameError::Truncated)?;
        let header: RowsHeader =
            serde_json::from_slice(header).map_err(|source| FrameError::Json { kind: Kind::Rows, source })?;
        let mut stream = Buffer::from_vec(self.payload).slice(LENGTH_BYTES + length);
        let rows = StreamDecoder::new().decode(&mut stream)?.ok_or(FrameError::Truncated)?;
        let table = header.schema.name.clone();
        let batch = RowBatch { table, schema: header.schema, rows, sets: header.sets, untyped: header.untyped };
        batch.validate()?;
        Ok(batch)
    }

    /// Length prefix, kind and payload.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let mut bytes = Vec::with_capacity(LENGTH_BYTES + 1 + self.payload.len());
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    pub fn write(&self, out: &mut impl Write) -> Result<(), FrameError> {
        let length = self.checked_length()?;
        let [a, b, c, d] = length.to_le_bytes();
        out.write_all(&[a, b, c, d, self.kind.code()]).map_err(FrameError::Io)?;
        out.write_all(&self.payload).map_err(FrameError::Io)
    }

    /// The first frame of the bytes and how many bytes it took; `None` when it is not complete yet.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = body_length(*length)?;
        let Some((body, _)) = rest.split_at_checked(length) else { return Ok(None) };
        let (kind, payload) = body.split_first().ok_or(FrameError::Empty)?;
        Ok(Some((Frame { kind: known(*kind)?, payload: payload.to_vec() }, LENGTH_BYTES + length)))
    }

    /// The next frame; `None` at the end of the stream.
    pub fn read(input: &mut impl Read) -> Result<Option<Frame>, FrameError> {
        let mut bytes = [0; HEAD_BYTES];
        if !read_or_end(input, &mut bytes)? {
            return Ok(None);
        }
        let (kind, length) = head(bytes)?;
        let mut payload = Vec::new();
        let limit = u64::try_from(length).map_err(|_| FrameError::TooLarge { bytes: length })?;
        input.take(limit).read_to_end(&mut payload).map_err(FrameError::Io)?;
        if payload.len() < length {
            return Err(FrameError::Truncated);
        }
        Ok(Some(Frame { kind, payload }))
    }

    fn checked_length(&self) -> Result<u32, FrameError> {
        let bytes = self.payload.len() + 1;
        u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX).ok_or(FrameError::TooLarge { bytes })
    }
}

/// The kind of the frame that begins so, and the length of its payload, checked against the limit.
pub fn head(bytes: [u8; HEAD_BYTES]) -> Result<(Kind, usize), FrameError> {
    let [a, b, c, d, kind] = bytes;
    let length = body_length([a, b, c, d])?;
    Ok((known(kind)?, length - 1))
}

fn known(kind: u8) -> Result<Kind, FrameError> {
    Kind::from_code(kind).ok_or(FrameError::UnknownKind(kind))
}

fn body_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let bytes = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    match bytes {
        0 => Err(FrameError::Empty),
        _ if bytes > FRAME_BYTES_MAX => Err(FrameError::TooLarge { bytes }),
        _ => Ok(bytes),
    }
}

/// False when the stream ends before the first byte.
fn read_or_end(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, FrameError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(true)
}

#[derive(Serialize, Deserialize)]
struct RowsHeader {
    schema: TableSchema,
    #[serde(default)]
    sets: Vec<Vec<u32>>,
    #[serde(default)]
    untyped: Vec<String>,
}

#[cfg(test)]
mod tests;
