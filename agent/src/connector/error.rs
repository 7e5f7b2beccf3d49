//! Why a connector could not run or did not finish. One variant per thing somebody can act on; [`Error::code`]
//! names its page. Traces are the user's own and stay on this host.

use std::io;
use std::path::PathBuf;

use inshore_columnar::frame::FrameError;

use crate::context::chain;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // The project (PKG-003, -004, -005).
    #[error("the project has no connector.py in its top folder")]
    NoConnectorFile,
    #[error("a file of the project is not valid Python\n{trace}")]
    Syntax { trace: String },
    #[error("connector.py does not bind a Connector to the name `connector`")]
    NoConnectorObject,

    // Its environment (PKG-006, -009, -012, -013).
    #[error("the project's requirements could not be installed\n{tail}")]
    Requirements { tail: String },
    #[error("{what}")]
    RequirementRefused { what: String },
    #[error("the project brings system libraries in its drivers folder, which only an image can hold")]
    DriversNeedImage,
    #[error("python {wanted} is not on this host")]
    PythonAbsent { wanted: String },
    #[error("could not prepare an environment in {}", path.display())]
    Environment { path: PathBuf, source: io::Error },

    // Its sandbox (POL-003).
    #[error("the connector's sandbox could not be made on this host")]
    Sandbox(#[from] crate::sandbox::Error),

    // What user code did (SDK-001 to -008, -011, -013, -014, -018, -019, -021 to -023).
    #[error("the connector raised an exception\n{trace}")]
    Raised { trace: String },
    #[error("the connector called sys.exit with a failure\n{trace}")]
    ExitNonZero { trace: String },
    #[error("the connector's process ended by itself: {how}")]
    Died { how: String },
    #[error("the connector ran out of memory: {how}")]
    OutOfMemory { how: String },
    #[error("the state is not JSON\n{trace}")]
    StateNotSerialisable { trace: String },
    #[error("the state is too large\n{trace}")]
    StateTooLarge { trace: String },
    #[error("a value does not fit its declared type\n{trace}")]
    ValueDoesNotFit { trace: String },
    #[error("a key column is null\n{trace}")]
    PrimaryKeyNull { trace: String },
    #[error("an update of a table without a key\n{trace}")]
    PrimaryKeyRequired { trace: String },
    #[error("an update or delete without the whole key\n{trace}")]
    PartialKey { trace: String },
    #[error("what schema() returned cannot be used\n{trace}")]
    SchemaWrong { trace: String },
    #[error("a row comes with a file, and the destination stores none\n{trace}")]
    FilesUnsupported { trace: String },
    #[error("a file is too large\n{trace}")]
    FileTooLarge { trace: String },
    #[error("a file cannot be taken as it is\n{trace}")]
    FileRefused { trace: String },
    #[error("more tables or columns than a sync may have\n{trace}")]
    TooManyNames { trace: String },
    #[error("the configuration form cannot be used\n{trace}")]
    FormWrong { trace: String },

    // The runtime's own faults (SDK-015, AGT-003).
    #[error("the connector's process broke the frame protocol: {what}")]
    FrameViolated { what: String },
    #[error("could not start the connector's process")]
    Start(#[source] io::Error),
    #[error("the connector was closed")]
    Closed,
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Error {
        Error::FrameViolated { what: chain(&error) }
    }
}

impl Error {
    /// The product's code of this failure.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::NoConnectorFile => "PKG-003",
            Error::Syntax { .. } => "PKG-004",
            Error::NoConnectorObject => "PKG-005",
            Error::Requirements { .. } => "PKG-006",
            Error::PythonAbsent { .. } => "PKG-009",
            Error::DriversNeedImage => "PKG-012",
            Error::RequirementRefused { .. } => "PKG-013",
            Error::Sandbox(_) => "POL-003",
            Error::Raised { .. } => "SDK-001",
            Error::ExitNonZero { .. } => "SDK-002",
            Error::Died { .. } => "SDK-003",
            Error::OutOfMemory { .. } => "SDK-004",
            Error::StateNotSerialisable { .. } => "SDK-005",
            Error::StateTooLarge { .. } => "SDK-006",
            Error::PrimaryKeyNull { .. } => "SDK-007",
            Error::ValueDoesNotFit { .. } => "SDK-008",
            Error::PrimaryKeyRequired { .. } => "SDK-011",
            Error::SchemaWrong { .. } => "SDK-013",
            Error::PartialKey { .. } => "SDK-014",
            Error::FrameViolated { .. } => "SDK-015",
            Error::FilesUnsupported { .. } => "SDK-018",
            Error::FormWrong { .. } => "SDK-019",
            Error::TooManyNames { .. } => "SDK-023",
            Error::FileTooLarge { .. } => "SDK-021",
            Error::FileRefused { .. } => "SDK-022",
            Error::Environment { .. } | Error::Start(_) | Error::Closed => "AGT-003",
        }
    }

    /// The failure that the host named in its last frame.
    pub(super) fn from_host(kind: &str, trace: String) -> Error {
        match kind {
            "no_connector" => Error::NoConnectorFile,
            "no_object" => Error::NoConnectorObject,
            "syntax" => Error::Syntax { trace },
            "schema" => Error::SchemaWrong { trace },
            "memory" => Error::OutOfMemory { how: format!("MemoryError\n{trace}") },
            "exit" => Error::ExitNonZero { trace },
            "interrupted" => Error::Died { how: "KeyboardInterrupt".to_owned() },
            "state_type" => Error::StateNotSerialisable { trace },
            "state_size" => Error::StateTooLarge { trace },
            "value" => Error::ValueDoesNotFit { trace },
            "key_null" => Error::PrimaryKeyNull { trace },
            "key_required" => Error::PrimaryKeyRequired { trace },
            "key_partial" => Error::PartialKey { trace },
            "file" => Error::FilesUnsupported { trace },
            "too_many" => Error::TooManyNames { trace },
            "file_size" => Error::FileTooLarge { trace },
            "file_refused" => Error::FileRefused { trace },
            "form" => Error::FormWrong { trace },
            "internal" => Error::FrameViolated { what: trace },
            _ => Error::Raised { trace },
        }
    }
}
