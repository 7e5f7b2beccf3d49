//! Log lines as entries of the system's journal, where systemd started this process: the message, a priority, and fields
//! that `journalctl` can select by (`SYNC_ID=`, `CONNECTION_ID=`, `TABLE=`, `AGENT_ID=`, `ERROR_CODE=`, `MESSAGE_ID=`).
//!
//! The protocol is one datagram per entry. What cannot be sent goes to stderr, which the same journal reads.

use std::fmt::Debug;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;

use rustix::fs::fstat;
use sha2::{Digest, Sha256};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::log_fields;

const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut: a datagram has room for a few of them.
const VALUE_BYTES_MAX: usize = 32 << 10;

/// Sends every line to the journal.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    address: String,
}

impl Journald {
    /// `None` unless stderr is the journal's own stream, as `JOURNAL_STREAM` says.
    pub(super) fn here(stream: Option<&str>) -> Option<Journald> {
        let stderr = fstat(std::io::stderr()).ok()?;
        let (device, inode) = stream?.split_once(':')?;
        let same = device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino);
        if same { Self::to(SOCKET).ok() } else { None }
    }

    fn to(address: &str) -> std::io::Result<Journald> {
        Ok(Journald { socket: UnixDatagram::unbound()?, address: address.to_owned() })
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(*event.metadata().level());
        event.record(&mut entry);
        let bytes = entry.finish();
        if self.socket.send_to(&bytes, &self.address).is_err() {
            let mut text = entry.message;
            text.push('\n');
            drop(std::io::stderr().write_all(text.as_bytes()));
        }
    }
}

/// One line on its way.
struct Entry {
    message: String,
    rest: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    fn new(level: Level) -> Entry {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let fields = [("PRIORITY", priority), ("SYSLOG_IDENTIFIER", "inshore")];
        let own = log_fields::get().iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Entry { message: String::new(), rest: String::new(), fields: fields.into_iter().chain(own).collect() }
    }

    fn take(&mut self, name: &str, value: String) {
        if name == "message" {
            self.message = value;
            return;
        }
        self.rest.push_str(&format!(" {name}={value}"));
        // An attempt is the sync and its generation.
        let sync = value.split('/').next().unwrap_or_default().to_owned();
        let (name, value) = match name {
            "attempt" => ("SYNC_ID".to_owned(), sync),
            "connection" => ("CONNECTION_ID".to_owned(), value),
            "agent" => ("AGENT_ID".to_owned(), value),
            "table" => ("TABLE".to_owned(), value),
            "code" => ("ERROR_CODE".to_owned(), value),
            other => (format!("INSHORE_{}", other.to_uppercase().replace('.', "_")), value),
        };
        self.fields.retain(|(known, _)| *known != name);
        self.fields.push((name, value));
    }

    /// The datagram; `message` has the fields behind it afterwards, as in the text format.
    fn finish(&mut self) -> Vec<u8> {
        // Messages are constants, so each has its own id for ever.
        let digest = Sha256::digest(format!("inshore {}", self.message));
        let id = hex::encode(digest.get(..16).unwrap_or_default());
        self.message.push_str(&std::mem::take(&mut self.rest));
        let mut bytes = Vec::new();
        append(&mut bytes, "MESSAGE", &self.message);
        append(&mut bytes, "MESSAGE_ID", &id);
        for (name, value) in &self.fields {
            append(&mut bytes, name, value);
        }
        bytes
    }
}

fn append(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or(value);
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field.name(), format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field.name(), crate::context::chain(value));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_entry_has_the_fields_that_journalctl_selects_by() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = folder.path().join("socket");
        let journal = UnixDatagram::bind(&address).expect("a socket");
        let layer = Journald::to(&address.display().to_string()).expect("a layer");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(
                attempt = "job_1/3",
                code = "SDK-001",
                table = "shop.a",
                error = "two\nlines",
                "job failed"
            );
        });
        let mut buffer = vec![0; 4096];
        let length = journal.recv(&mut buffer).expect("an entry");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        for wanted in
            ["PRIORITY=3\n", "SYNC_ID=job_1\n", "ERROR_CODE=SDK-001\n", "TABLE=shop.a\n", "SYSLOG_IDENTIFIER=inshore\n"]
        {
            assert!(text.contains(wanted), "{wanted:?} in {text:?}");
        }
        assert!(text.contains("INSHORE_ERROR\n\u{9}\0\0\0\0\0\0\0two\nlines\n"), "{text:?}");
        assert!(text.starts_with("MESSAGE\n"), "{text:?}");
        let id = text.split("MESSAGE_ID=").nth(1).and_then(|rest| rest.get(..32)).expect("an id");
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }

    #[test]
    fn only_a_stream_of_the_journal_counts() {
        for stream in [None, Some(""), Some("1"), Some("0:0"), Some("x:y")] {
            assert!(Journald::here(stream).is_none(), "{stream:?}");
        }
    }
}
