//! What every log line of this process belongs to: set once, added to each line that goes to the system's journal. Ids
//! only.

use std::sync::OnceLock;

/// The variable by which systemd says that stderr is the journal's stream.
pub(crate) const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

static FIELDS: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();

/// Names the agent, or the connection and the sync, that this process works for. The first call counts.
pub(crate) fn set(fields: Vec<(&'static str, String)>) {
    drop(FIELDS.set(fields));
}

pub(crate) fn get() -> &'static [(&'static str, String)] {
    FIELDS.get().map_or(&[], Vec::as_slice)
}
