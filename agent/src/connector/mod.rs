//! What reads a source. One trait, `Source`, whatever kind of connector stands behind it: a stream of events in the
//! connector's own order, an acknowledgement per checkpoint, and a close that leaves no process behind.
//!
//! Nothing here knows of destinations, commits or the channel. The text in events and errors (messages, tracebacks)
//! stays on this host; only [`Error`]'s kind decides what goes up.

mod error;
pub(crate) mod sdk;

use inshore_columnar::{RowBatch, TableName, TableSchema};

pub(crate) use error::Error;

/// A connector that runs.
pub(crate) trait Source {
    /// The next event, or why the connector failed. Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self) -> Result<Event, Error>;
    /// Everything up to this checkpoint is durable: whoever waits for it in the connector goes on.
    async fn acknowledge(&mut self, checkpoint: u64) -> Result<(), Error>;
    /// Ends the connector with every process it started, and returns when they are gone.
    async fn close(&mut self);
}

#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// What the connector declared, before the first row. Tables without values exist too.
    Schema(Vec<TableSchema>),
    Rows(RowBatch),
    Truncate {
        table: TableName,
        /// Rows are marked when the sync ends well, instead of with the next commit.
        deferred: bool,
    },
    Checkpoint {
        id: u64,
        state: String,
    },
    /// Bytes of a file that travels beside a row, in their order.
    FileChunk {
        upload: u64,
        bytes: Vec<u8>,
    },
    /// The file is whole. Its row is in the same window.
    FileEnd {
        upload: u64,
        table: TableName,
        path: String,
    },
    FileAbandoned {
        upload: u64,
    },
    Log(LogLine),
    Warning(Warning),
    /// The connector asks for a person: nothing after this may be committed.
    ConnectorError {
        message: String,
        trace: Option<String>,
    },
    /// JSON of a project that was asked for its form or its tests; a sync has none.
    Answer(String),
    End(EndKind),
}

/// How a sync ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndKind {
    Finished,
    /// `sys.exit(0)` inside `update`: a success with a warning.
    Exited,
}

/// A sentence for the operator; the sync goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) kind: WarningKind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WarningKind {
    /// The connector's own `op.warning`.
    Connector,
    /// Column names that meet after renaming, or belong to the system.
    Columns,
    /// A declaration that was fitted.
    Schema,
    /// A state that is not an object, or near its limit.
    State,
    Exited,
    /// The table of lines at the destination could not be written.
    LogTable,
}

/// One line of the connector's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) level: LogLevel,
    pub(crate) origin: LogOrigin,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Severe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOrigin {
    /// The connector's calls of `Logging`.
    Connector,
    /// The runtime: environment, host, limits.
    Library,
    /// Whatever else came out of stdout and stderr.
    Output,
}
