//! The connector's log as a table of the destination, `inshore_log.connector_sdk_log`: lines wait here and become rows of
//! the next commit. What is printed comes by a pipe of its own: a line just before a checkpoint may go with the one after
//! it. All connections write the one table.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array};
use arrow::datatypes::{DataType as Arrow, Field, Schema};
use arrow::error::ArrowError;
use inshore_columnar::batch::OP_COLUMN;
use inshore_columnar::{Column, DataType, Op, RowBatch, TableName, TableSchema};

use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::destination::SHARED_SCHEMA;

const TABLE: &str = "connector_sdk_log";
/// Lines of one commit window; what follows is counted and told in one line. The journal on the host has all.
const LINES_MAX: usize = 10_000;
/// Bytes of their messages.
const BYTES_MAX: usize = 16 << 20;

pub(super) const KEY: [&str; 1] = ["id"];
/// The columns, key first.
const COLUMNS: [(&str, DataType); 7] = [
    ("id", DataType::String),
    ("connection_id", DataType::String),
    ("sync_id", DataType::String),
    ("event_time", DataType::UtcDatetime),
    ("level", DataType::String),
    ("message", DataType::String),
    ("message_origin", DataType::String),
];

/// The lines of one sync that no commit has taken yet.
#[derive(Debug)]
pub(crate) struct LogTable {
    connection_id: String,
    sync_id: String,
    /// Ids rise with time within a connection, so that the files of the table hold ranges of them that do not overlap.
    prefix: String,
    next: u64,
    lines: Vec<(i64, LogLine)>,
    bytes: usize,
    left_out: u64,
}

impl LogTable {
    /// `attempt` tells this run of the sync from any other one.
    pub(crate) fn new(connection_id: &str, sync_id: &str, started_at_ms: i64, attempt: u32) -> LogTable {
        LogTable {
            connection_id: connection_id.to_owned(),
            sync_id: sync_id.to_owned(),
            prefix: format!("{connection_id}-{started_at_ms:013}-{attempt:08x}"),
            next: 0,
            lines: Vec::new(),
            bytes: 0,
            left_out: 0,
        }
    }

    pub(super) fn name() -> TableName {
        TableName::new(SHARED_SCHEMA, TABLE)
    }

    pub(super) fn line(&mut self, at_ms: i64, line: &LogLine) {
        if self.lines.len() >= LINES_MAX || self.bytes + line.message.len() > BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.bytes += line.message.len();
        self.lines.push((at_ms, line.clone()));
    }

    /// The lines so far as rows; `None` when there are none.
    pub(super) fn take(&mut self, now_ms: i64) -> Result<Option<RowBatch>, ArrowError> {
        let mut lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        if self.left_out > 0 {
            let message = format!("{} more lines are in the journal on the agent's host only", self.left_out);
            lines.push((now_ms, LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message }));
            self.left_out = 0;
        }
        if lines.is_empty() { Ok(None) } else { self.batch(&lines).map(Some) }
    }

    fn batch(&mut self, lines: &[(i64, LogLine)]) -> Result<RowBatch, ArrowError> {
        let first = self.next;
        self.next += lines.len() as u64;
        let ids = (first..self.next).map(|number| format!("{}-{number:010}", self.prefix));
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(lines.iter().map(|_| text))) };
        let texts = |text: fn(&LogLine) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(lines.iter().map(|(_, line)| text(line))))
        };
        let times = TimestampMicrosecondArray::from_iter_values(lines.iter().map(|(at, _)| at.saturating_mul(1000)));
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            same(&self.connection_id),
            same(&self.sync_id),
            Arc::new(times.with_timezone("UTC")),
            texts(|line| level(line.level)),
            texts(|line| &line.message),
            texts(|line| origin(line.origin)),
            Arc::new(UInt8Array::from_iter_values(lines.iter().map(|_| Op::Upsert.code()))),
        ];
        let columns = COLUMNS.map(|(name, data_type)| Column { name: name.to_owned(), data_type, declared: true });
        let schema = TableSchema { name: Self::name(), key: KEY.map(str::to_owned).into(), columns: columns.into() };
        let mut fields: Vec<Field> =
            COLUMNS.iter().map(|(name, data_type)| Field::new(*name, data_type.to_arrow(), true)).collect();
        fields.push(Field::new(OP_COLUMN, Arrow::UInt8, false));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        Ok(RowBatch { table: Self::name(), schema, rows, sets: Vec::new(), untyped: Vec::new() })
    }
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
        LogLevel::Severe => "SEVERE",
    }
}

/// As production lines spell them; what the connector printed has no origin there.
fn origin(origin: LogOrigin) -> &'static str {
    match origin {
        LogOrigin::Connector => "connector_sdk",
        LogOrigin::Library => "library",
        LogOrigin::Output => "output",
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine { level: LogLevel::Error, origin: LogOrigin::Connector, message: message.to_owned() }
    }

    #[test]
    fn lines_become_valid_rows_once_and_ids_rise() {
        let mut table = LogTable::new("con_1", "job_1", 1_700_000_000_000, 7);
        assert!(table.take(0).expect("rows").is_none());
        table.line(5, &line("a\nb"));
        let first = table.take(0).expect("rows").expect("a line");
        first.validate().expect("a batch like those of connectors");
        table.line(6, &line("c"));
        let second = table.take(0).expect("rows").expect("a line");
        let id = |batch: &RowBatch| batch.rows.column(0).as_string::<i32>().value(0).to_owned();
        assert!(id(&first) < id(&second), "{} {}", id(&first), id(&second));
        assert_eq!(first.rows.column(4).as_string::<i32>().value(0), "ERROR");
        assert_eq!(first.rows.column(5).as_string::<i32>().value(0), "a\nb");
        assert!(table.take(0).expect("rows").is_none());
    }

    #[test]
    fn a_flood_is_bounded_and_summed_up_in_one_line() {
        let mut table = LogTable::new("con_1", "job_1", 0, 0);
        (0..LINES_MAX + 5).for_each(|_| table.line(0, &line("x")));
        let rows = table.take(9).expect("rows").expect("lines").rows;
        assert_eq!(rows.num_rows(), LINES_MAX + 1);
        let last = rows.column(5).as_string::<i32>().value(LINES_MAX).to_owned();
        assert!(last.starts_with("5 more lines"), "{last}");
        let long = "x".repeat(1 << 20);
        (0..100).for_each(|_| table.line(0, &line(&long)));
        assert_eq!(table.take(9).expect("rows").expect("lines").rows.num_rows(), 17);
    }
}
