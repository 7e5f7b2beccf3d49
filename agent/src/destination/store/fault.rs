//! What an error of a store means: in the operator's words, and whether asking again can help.

use std::io::ErrorKind;
use std::path::Path as FilePath;

use object_store::path::Path;

use crate::destination::error::Error;

/// The same for a file of a local store that was written without the store's interface.
pub(crate) fn file_error(path: &FilePath, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    let source = object_store::Error::Generic { store: "file", source: Box::new(source) };
    let located = Path::from(path.as_str());
    match classify(&located, source) {
        Error::ReadOnly { source, .. } => Error::ReadOnly { path, source },
        Error::Full { source, .. } => Error::Full { path, source },
        Error::Unreachable { source, .. } => Error::Unreachable { path, source },
        other => other,
    }
}

/// A read or write that failed for good, in the operator's words.
pub(crate) fn classify(path: &Path, source: object_store::Error) -> Error {
    let path = path.to_string();
    match io_kind(&source) {
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Error::ReadOnly { path, source },
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            Error::Full { path, source }
        }
        _ => match source {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Error::ReadOnly { path, source }
            }
            source => Error::Unreachable { path, source },
        },
    }
}

/// The store will not take it however often it is asked.
pub(super) fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    let kind = io_kind(error);
    matches!(
        error,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotSupported { .. } | E::NotImplemented { .. }
    ) || matches!(
        kind,
        Some(
            ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::FileTooLarge
                | ErrorKind::NotADirectory
        )
    )
}

/// Asking again may be answered otherwise: a busy server, a lost connection, no answer in time.
pub(super) fn may_pass(error: &object_store::Error) -> bool {
    !is_refusal(error) && matches!(error, object_store::Error::Generic { .. })
}

fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
