//! What a connector prints: lines of JSON from `Logging`, anything else from `print` and libraries. Lines are bounded
//! in length, and INFO lines in number: an excess is counted and told once a minute, warnings and worse always pass.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connector::{Error, Event, LogLevel, LogLine, LogOrigin};

const LINE_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 64 * 1024;
const INFO_LINES_MAX: u32 = 1500;
const MINUTE: Duration = Duration::from_secs(60);

/// Reads one stream to its end. A line that is too long is cut, its rest dropped.
pub(super) async fn capture(mut stream: impl AsyncRead + Unpin, events: mpsc::Sender<Result<Event, Error>>) {
    let mut gate = Gate::new(Instant::now());
    let mut line = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let read = buffer.get(..count).unwrap_or_default();
        for part in read.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n");
            let room = LINE_BYTES_MAX - line.len();
            line.extend(text.unwrap_or(part).iter().take(room));
            if text.is_some() {
                if !pass(&mut gate, &line, &events).await {
                    return;
                }
                line.clear();
            }
        }
    }
    if !line.is_empty() && !pass(&mut gate, &line, &events).await {
        return;
    }
    if let Some(summary) = gate.summary()
        && events.send(Ok(Event::Log(summary))).await.is_err()
    {
        tracing::debug!("nobody listens to the connector's log any more");
    }
}

async fn pass(gate: &mut Gate, line: &[u8], events: &mpsc::Sender<Result<Event, Error>>) -> bool {
    let Some(line) = parse(&String::from_utf8_lossy(line)) else { return true };
    for line in gate.pass(line, Instant::now()) {
        if events.send(Ok(Event::Log(line))).await.is_err() {
            return false;
        }
    }
    true
}

#[derive(Deserialize)]
struct Structured {
    level: String,
    message: String,
    #[serde(alias = "message-origin")]
    message_origin: Option<String>,
}

/// `None` for blank lines and for lines that only the runtime's developers want.
fn parse(text: &str) -> Option<LogLine> {
    let text = text.trim_end();
    if text.is_empty() {
        return None;
    }
    let Ok(structured) = serde_json::from_str::<Structured>(text) else {
        return Some(LogLine { level: LogLevel::Info, origin: LogOrigin::Output, message: text.to_owned() });
    };
    let origin = match structured.message_origin.as_deref() {
        Some("library_dev") => return None,
        Some("library") => LogOrigin::Library,
        _ => LogOrigin::Connector,
    };
    Some(LogLine { level: level(&structured.level), origin, message: structured.message })
}

pub(super) fn level(name: &str) -> LogLevel {
    match name.to_ascii_uppercase().as_str() {
        "DEBUG" | "FINE" => LogLevel::Debug,
        "WARNING" => LogLevel::Warning,
        "ERROR" => LogLevel::Error,
        "SEVERE" | "CRITICAL" => LogLevel::Severe,
        _ => LogLevel::Info,
    }
}

/// Counts lines per minute; time is given.
struct Gate {
    since: Instant,
    passed: u32,
    dropped: u64,
}

impl Gate {
    fn new(now: Instant) -> Gate {
        Gate { since: now, passed: 0, dropped: 0 }
    }

    /// The lines to show for this one: none, itself, or a summary of the last minute first.
    fn pass(&mut self, line: LogLine, now: Instant) -> Vec<LogLine> {
        let mut shown = Vec::new();
        if now.duration_since(self.since) >= MINUTE {
            shown.extend(self.summary());
            *self = Gate::new(now);
        }
        if line.level >= LogLevel::Warning {
            shown.push(line);
        } else if self.passed < INFO_LINES_MAX {
            self.passed += 1;
            shown.push(line);
        } else {
            self.dropped += 1;
        }
        shown
    }

    fn summary(&self) -> Option<LogLine> {
        (self.dropped > 0).then(|| LogLine {
            level: LogLevel::Warning,
            origin: LogOrigin::Library,
            message: format!("{} log lines were left out: the limit is {INFO_LINES_MAX} a minute", self.dropped),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: LogLevel, origin: LogOrigin, message: &str) -> LogLine {
        LogLine { level, origin, message: message.to_owned() }
    }

    #[test]
    fn both_spellings_and_plain_text_are_understood() {
        let structured = |text: &str| parse(text).unwrap();
        assert_eq!(
            structured(r#"{"level":"WARNING","message":"m","message_origin":"connector_sdk"}"#),
            line(LogLevel::Warning, LogOrigin::Connector, "m")
        );
        assert_eq!(
            structured(r#"{"level":"SEVERE","message":"m","message-origin":"sdk_connector"}"#),
            line(LogLevel::Severe, LogOrigin::Connector, "m")
        );
        assert_eq!(structured("{\"a\": 1}"), line(LogLevel::Info, LogOrigin::Output, "{\"a\": 1}"));
        assert_eq!(structured("progress 10 %\r"), line(LogLevel::Info, LogOrigin::Output, "progress 10 %"));
        assert_eq!(parse(r#"{"level":"INFO","message":"m","message_origin":"library_dev"}"#), None);
        assert_eq!(parse("  "), None);
    }

    #[tokio::test(start_paused = true)]
    async fn info_lines_are_bounded_and_warnings_pass() {
        let start = Instant::now();
        let mut gate = Gate::new(start);
        let info = || line(LogLevel::Info, LogOrigin::Output, "x");
        let shown: usize = (0..2000).map(|_| gate.pass(info(), start).len()).sum();
        assert_eq!(shown, 1500);
        assert_eq!(gate.pass(line(LogLevel::Warning, LogOrigin::Output, "w"), start).len(), 1);
        let next = gate.pass(info(), start + MINUTE);
        assert!(next.first().unwrap().message.starts_with("500 log lines"));
        assert_eq!(next.len(), 2);
    }

    #[tokio::test]
    async fn an_endless_line_is_cut() {
        let (events, mut received) = mpsc::channel(4);
        let text = format!("{}\nnext\n", "a".repeat(3 * LINE_BYTES_MAX));
        capture(text.as_bytes(), events).await;
        let Some(Ok(Event::Log(first))) = received.recv().await else { panic!("a line") };
        assert_eq!(first.message.len(), LINE_BYTES_MAX);
        assert_eq!(
            received.recv().await.unwrap().unwrap(),
            Event::Log(line(LogLevel::Info, LogOrigin::Output, "next"))
        );
    }
}
