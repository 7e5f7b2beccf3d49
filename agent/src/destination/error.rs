//! What can go wrong at a destination, with the code that each failure carries upward. The text stays on the host.

use inshore_columnar::TableName;

/// A failure at the destination. `code` names the page in docs/errors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("write {path}: the destination is read-only or refuses access")]
    ReadOnly { path: String, source: object_store::Error },
    #[error("write {path}: the destination is full")]
    Full { path: String, source: object_store::Error },
    #[error("reach {path}")]
    Unreachable { path: String, source: object_store::Error },
    #[error("find the destination {path}: it is not there (any more)")]
    Vanished { path: String },
    #[error("open the destination {uri}: {reason}")]
    BadLocation { uri: String, reason: &'static str },
    #[error("prepare the destination {uri}")]
    BadOptions { uri: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("reach {path}: the store does not accept the credentials, or there are none")]
    Credentials { path: String, source: object_store::Error },
    #[error("reach {path}: the bucket or container is not there, or in another region")]
    StoreMissing { path: String, source: object_store::Error },
    #[error("reach the store: its clock is {skew_seconds} seconds ahead of this host's, and it refuses our requests")]
    Clock { skew_seconds: i64, source: object_store::Error },
    #[error("trust the store of {path}: its certificate is signed by nobody that this host knows")]
    Untrusted { path: String, source: object_store::Error },
    #[error("verify chain slot {slot}: {reason}")]
    Altered { slot: u64, reason: String },
    #[error(
        "roll {table} forward: its marker {marker} is above the chain's head {head}; the chain was truncated or replaced"
    )]
    MarkerAboveHead { table: TableName, marker: u64, head: u64 },
    #[error("read {path} of {table}: the file is missing")]
    FileMissing { table: TableName, path: String },
    #[error("write {table}: an entry of the chain names rows for it, and it does not exist any more")]
    TableAbsent { table: TableName },
    #[error("read {path}: its bytes are not the ones that were committed")]
    FileDamaged { path: String },
    #[error("write {table}: the table belongs to {owner}")]
    NotOwned { table: TableName, owner: String },
    #[error("read the log of {table} at {path}: {reason}")]
    TableLog { table: TableName, path: String, reason: String },
    #[error("read or write the Iceberg metadata of {table} at {path}")]
    TableMetadata { table: TableName, path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("write {table}: column {column} has type {data_type}, which a Delta table cannot hold")]
    TypeNotSupported { table: TableName, column: String, data_type: String },
    #[error("write {table}: the name is reserved")]
    NameReserved { table: TableName },
    /// The limit is `FILE_BYTES_MAX`.
    #[error("take a file beside a row: it passes the limit of {limit_bytes} bytes")]
    UploadTooLarge { limit_bytes: u64 },
    /// `what` may hold the file's path, which is a value of its row.
    #[error("take a file beside a row: {what}")]
    UploadRefused { what: String },
    #[error("write under claim {claim_seq}: a newer writer holds the connection (head {head})")]
    Fenced { claim_seq: u64, head: u64 },
    #[error("claim the connection: the head has generation {head}, this job {mine}")]
    FencedByGeneration { head: u64, mine: u64 },
    #[error("claim the connection: generation {mine} is too far above the head's {head}")]
    GenerationJump { head: u64, mine: u64 },
    #[error("commit {table}: {attempts} attempts met another writer")]
    Contended { table: TableName, attempts: u32 },
    #[error("commit: {reason}")]
    BadRequest { reason: String },
    #[error("read or write Parquet for {table}")]
    Parquet { table: TableName, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("finish background work")]
    Worker { source: tokio::task::JoinError },
}

impl Error {
    /// The code of docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::ReadOnly { .. } => "DST-001",
            Error::Full { .. } => "DST-002",
            Error::Unreachable { .. } | Error::Vanished { .. } | Error::BadLocation { .. } => "DST-003",
            Error::BadOptions { .. } | Error::Credentials { .. } => "DST-012",
            Error::StoreMissing { .. } => "DST-013",
            Error::Clock { .. } => "DST-014",
            Error::Untrusted { .. } => "DST-015",
            Error::Altered { .. } => "DST-004",
            Error::MarkerAboveHead { .. } => "DST-005",
            Error::FileMissing { .. }
            | Error::FileDamaged { .. }
            | Error::TableLog { .. }
            | Error::TableMetadata { .. }
            | Error::TableAbsent { .. } => "DST-006",
            Error::NotOwned { .. } | Error::NameReserved { .. } | Error::Contended { .. } => "DST-008",
            Error::Fenced { .. } | Error::FencedByGeneration { .. } => "DST-009",
            Error::GenerationJump { .. } => "DST-010",
            Error::TypeNotSupported { .. } => "SDK-008",
            Error::UploadTooLarge { .. } => "SDK-021",
            Error::UploadRefused { .. } => "SDK-022",
            Error::BadRequest { .. } | Error::Parquet { .. } | Error::Worker { .. } => "AGT-003",
        }
    }

    /// True when the connector's own input is at fault: the text may quote it.
    pub(crate) fn quotes_input(&self) -> bool {
        matches!(self, Error::UploadTooLarge { .. } | Error::UploadRefused { .. })
    }

    /// True when a newer writer holds the connection: the batch is dropped, nothing else is wrong.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self, Error::Fenced { .. } | Error::FencedByGeneration { .. })
    }

    pub(crate) fn parquet(table: &TableName, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Parquet { table: table.clone(), source: source.into() }
    }
}
