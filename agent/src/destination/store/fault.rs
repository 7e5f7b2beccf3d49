//! What an error of a store means: in the operator's words, and whether asking again can help.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::path::Path as FilePath;

use object_store::path::Path;

use super::wire::Answered;
use crate::destination::error::Error;

/// Stores refuse signed requests whose clock is further off than this.
const SKEW_SECONDS_MAX: u64 = 5 * 60;

/// What a refusal of a store is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Another answer may follow: a busy or broken server.
    Passing,
    Credentials,
    Clock,
    /// The bucket or container is not there, or in another region.
    Missing,
    Access,
    Full,
    /// The certificate is signed by nobody this host trusts.
    Untrusted,
    /// The request itself; asking again changes nothing.
    Refused,
}

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
    match meaning(&source) {
        Some(Meaning::Access) => Error::ReadOnly { path, source },
        Some(Meaning::Full) => Error::Full { path, source },
        Some(Meaning::Credentials) => Error::Credentials { path, source },
        Some(Meaning::Clock) => {
            let skew_seconds = answered(&source).and_then(|answered| answered.skew_seconds).unwrap_or_default();
            Error::Clock { skew_seconds, source }
        }
        Some(Meaning::Missing) => Error::StoreMissing { path, source },
        Some(Meaning::Untrusted) => Error::Untrusted { path, source },
        Some(Meaning::Passing | Meaning::Refused) | None => Error::Unreachable { path, source },
    }
}

/// The store will not take it however often it is asked.
pub(super) fn is_refusal(error: &object_store::Error) -> bool {
    !matches!(meaning(error), Some(Meaning::Passing) | None)
}

/// Asking again may be answered otherwise: a busy server, a lost connection, no answer in time. Only for requests without
/// a condition: there a 409 or 412 says that another request was on its way.
pub(super) fn may_pass(error: &object_store::Error) -> bool {
    match meaning(error) {
        Some(meaning) => meaning == Meaning::Passing,
        None => matches!(
            error,
            object_store::Error::Generic { .. }
                | object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
        ),
    }
}

fn meaning(error: &object_store::Error) -> Option<Meaning> {
    use object_store::Error as E;
    let is_login = || causes(error).any(|cause| matches!(cause.downcast_ref::<E>(), Some(E::Unauthenticated { .. })));
    if let Some(answered) = answered(error) {
        // Whoever hands out credentials refuses some: the login is at fault, not the place.
        return Some(match of_answer(answered) {
            Meaning::Access | Meaning::Missing | Meaning::Refused if is_login() => Meaning::Credentials,
            meaning => meaning,
        });
    }
    if causes(error).any(is_certificate) {
        return Some(Meaning::Untrusted);
    }
    match io_kind(error) {
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => return Some(Meaning::Access),
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            return Some(Meaning::Full);
        }
        Some(ErrorKind::NotADirectory) => return Some(Meaning::Refused),
        _ => {}
    }
    match error {
        E::PermissionDenied { .. } => Some(Meaning::Access),
        E::Unauthenticated { .. } => Some(Meaning::Credentials),
        E::NotSupported { .. } | E::NotImplemented { .. } => Some(Meaning::Refused),
        _ => None,
    }
}

fn of_answer(answered: &Answered) -> Meaning {
    let is_skewed = answered.skew_seconds.is_some_and(|skew| skew.unsigned_abs() > SKEW_SECONDS_MAX);
    match (answered.status, answered.code.as_str()) {
        (_, "RequestTimeTooSkewed" | "RequestExpired") => Meaning::Clock,
        (400 | 401 | 403, _) if is_skewed => Meaning::Clock,
        (_, "NoSuchBucket" | "ContainerNotFound" | "FilesystemNotFound" | "InvalidBucketName" | "AccountNotFound")
        | (301 | 307 | 308 | 404, _)
        | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "PermanentRedirect") => {
            Meaning::Missing
        }
        (401, _)
        | (
            _,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "InvalidIdentityToken"
            | "invalid_grant"
            | "invalid_client",
        ) => Meaning::Credentials,
        // Whoever hands out tokens refuses one: the login is at fault, not the place.
        (400 | 403, _) if answered.host.starts_with("sts.") || answered.host.contains("login.") => Meaning::Credentials,
        (403, _) => Meaning::Access,
        (507, _) | (_, "QuotaExceeded" | "XMinioStorageFull") => Meaning::Full,
        (408 | 429 | 500 | 502..=504, _) | (_, "RequestTimeout" | "SlowDown" | "ServerBusy") => Meaning::Passing,
        (400..=499 | 501, _) => Meaning::Refused,
        _ => Meaning::Passing,
    }
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error| cause(*error))
}

/// An input/output error keeps its cause apart.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn answered(error: &object_store::Error) -> Option<&Answered> {
    causes(error).find_map(|cause| cause.downcast_ref::<Answered>())
}

fn is_certificate(cause: &(dyn StdError + 'static)) -> bool {
    matches!(cause.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
}

fn io_kind(error: &object_store::Error) -> Option<ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_answer_says_who_has_to_do_what() {
        use Meaning::{Access, Clock, Credentials, Full, Missing, Passing, Refused};
        let cases = [
            (403, "AccessDenied", 0, Access),
            (403, "AuthorizationPermissionMismatch", 0, Access),
            (403, "InvalidAccessKeyId", 0, Credentials),
            (403, "SignatureDoesNotMatch", 0, Credentials),
            (403, "SignatureDoesNotMatch", 900, Clock),
            (403, "RequestTimeTooSkewed", 0, Clock),
            (403, "AuthenticationFailed", -86_400, Clock),
            (400, "ExpiredToken", 0, Credentials),
            (401, "", 0, Credentials),
            (400, "invalid_grant", 0, Credentials),
            (404, "NoSuchBucket", 0, Missing),
            (301, "PermanentRedirect", 0, Missing),
            (400, "AuthorizationHeaderMalformed", 0, Missing),
            (507, "XMinioStorageFull", 0, Full),
            (400, "InvalidArgument", 0, Refused),
            (501, "NotImplemented", 0, Refused),
            (429, "TooManyRequests", 0, Passing),
            (503, "SlowDown", 86_400, Passing),
            (500, "InternalError", 0, Passing),
            (502, "", 0, Passing),
        ];
        for (status, code, skew_seconds, want) in cases {
            let answered = Answered {
                host: "s3.example".to_owned(),
                status,
                code: code.to_owned(),
                message: String::new(),
                skew_seconds: Some(skew_seconds),
            };
            assert_eq!(of_answer(&answered), want, "{status} {code}");
        }
    }
}
