//! Logs to stderr, as text or JSON lines. Never a secret, never row data: facts are fields, messages are constant.

use std::error::Error;
use std::fmt::Write as _;

use tracing::Level;

use crate::config::LogFormat;

/// Starts logging for the whole process; a second call changes nothing.
pub fn start(format: LogFormat) {
    let builder = tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Logs an error once, with its whole chain of causes.
pub fn failure(message: &'static str, error: &dyn Error) {
    tracing::error!(error = %chain(error), "{message}");
}

/// An error and its causes, `: ` between them.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").expect("writing to a String cannot fail");
        source = cause.source();
    }
    text
}
