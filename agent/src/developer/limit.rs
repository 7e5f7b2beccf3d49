//! `--limit-rows`: a source that ends after so many rows. What it let through is committed with the state of the last
//! checkpoint before, so that the next run reads on from there and nothing is skipped. Lines that the connector printed
//! before the last row are heard out: they come by another pipe than rows.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::connector::{EndKind, Error, Event, LogLevel, LogLine, LogOrigin, Source};

/// The checkpoint that the limit itself asks for; the connector waits for none of that number.
const OWN_CHECKPOINT: u64 = u64::MAX;

/// How long lines are waited for that were printed before the last row; they are on their way when the row is here.
const LAST_LINES: Duration = Duration::from_millis(250);

/// A source with a limit on its rows; without one it is the source as it is.
pub(super) struct Limited<S> {
    source: S,
    rows_left: Option<u64>,
    /// Of the last checkpoint, else what the run started from.
    state: String,
    ending: Ending,
}

/// What follows once the limit is reached, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NotYet,
    /// Lines are heard until then, and nothing else.
    Lines(Instant),
    Checkpoint,
    End,
}

impl<S> Limited<S> {
    pub(super) fn new(source: S, rows_max: Option<u64>, state: String) -> Self {
        Self { source, rows_left: rows_max, state, ending: Ending::NotYet }
    }
}

impl<S: Source> Source for Limited<S> {
    async fn next(&mut self) -> Result<Event, Error> {
        match self.ending {
            Ending::NotYet => {
                let event = self.source.next().await?;
                Ok(self.counted(event))
            }
            Ending::Lines(until) => {
                if let Some(line) = last_line(&mut self.source, until).await {
                    return Ok(Event::Log(line));
                }
                self.ending = Ending::Checkpoint;
                Ok(Event::Log(note()))
            }
            Ending::Checkpoint => {
                self.ending = Ending::End;
                Ok(Event::Checkpoint { id: OWN_CHECKPOINT, state: self.state.clone() })
            }
            Ending::End => Ok(Event::End(EndKind::Finished)),
        }
    }

    async fn acknowledge(&mut self, checkpoint: u64) -> Result<(), Error> {
        if checkpoint == OWN_CHECKPOINT { Ok(()) } else { self.source.acknowledge(checkpoint).await }
    }

    async fn close(&mut self) {
        self.source.close().await;
    }
}

impl<S> Limited<S> {
    fn counted(&mut self, event: Event) -> Event {
        let Some(left) = self.rows_left else { return event };
        match event {
            Event::Rows(mut batch) => {
                let rows = batch.rows.num_rows() as u64;
                if rows >= left {
                    batch.rows = batch.rows.slice(0, usize::try_from(left).unwrap_or(usize::MAX));
                    self.ending = Ending::Lines(Instant::now() + LAST_LINES);
                }
                self.rows_left = Some(left.saturating_sub(rows));
                Event::Rows(batch)
            }
            Event::Checkpoint { id, state } => {
                self.state.clone_from(&state);
                Event::Checkpoint { id, state }
            }
            other => other,
        }
    }
}

/// The next line of the log before `until`; `None` when the time is up or the source has ended. Rows and the rest are
/// beyond the limit: they are dropped.
async fn last_line<S: Source>(source: &mut S, until: Instant) -> Option<LogLine> {
    loop {
        match timeout_at(until, source.next()).await {
            Ok(Ok(Event::Log(line))) => return Some(line),
            Ok(Ok(Event::End(_)) | Err(_)) | Err(_) => return None,
            Ok(Ok(_)) => {}
        }
    }
}

fn note() -> LogLine {
    let message = "stopped at --limit-rows; the state stays that of the last checkpoint before".to_owned();
    LogLine { level: LogLevel::Info, origin: LogOrigin::Library, message }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives its events, each after a wait, and then nothing for ever.
    struct Scripted(VecDeque<(u64, Event)>);

    impl Source for Scripted {
        async fn next(&mut self) -> Result<Event, Error> {
            let Some((wait_ms, _)) = self.0.front() else { return std::future::pending().await };
            tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
            Ok(self.0.pop_front().expect("an event").1)
        }

        async fn acknowledge(&mut self, _: u64) -> Result<(), Error> {
            Ok(())
        }

        async fn close(&mut self) {}
    }

    fn line(message: &str) -> Event {
        Event::Log(LogLine { level: LogLevel::Info, origin: LogOrigin::Output, message: message.to_owned() })
    }

    fn said(event: &Event) -> &str {
        match event {
            Event::Log(line) => &line.message,
            Event::Checkpoint { .. } => "a checkpoint",
            Event::End(_) => "the end",
            _ => "something else",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_were_printed_before_the_limit_are_heard() {
        let beyond = || Event::Checkpoint { id: 1, state: "{\"beyond\": 1}".to_owned() };
        let events = [(0, beyond()), (100, line("just before")), (0, beyond()), (10_000, line("much later"))];
        let mut source = Limited::new(Scripted(events.into()), Some(1), "{}".to_owned());
        source.ending = Ending::Lines(Instant::now() + LAST_LINES);
        for expected in ["just before", "stopped at --limit-rows", "a checkpoint", "the end"] {
            let event = source.next().await.expect("an event");
            assert!(said(&event).starts_with(expected), "{expected}: {event:?}");
            if let Event::Checkpoint { id, state } = event {
                assert_eq!((id, state.as_str()), (OWN_CHECKPOINT, "{}"));
            }
        }
    }
}
