//! `--limit-rows`: a source that ends after so many rows. What it let through is committed with the state of the last
//! checkpoint before, so that the next run reads on from there and nothing is skipped.

use crate::connector::{EndKind, Error, Event, LogLevel, LogLine, LogOrigin, Source};

/// The checkpoint that the limit itself asks for; the connector waits for none of that number.
const OWN_CHECKPOINT: u64 = u64::MAX;

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
    Note,
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
            Ending::NotYet => {}
            Ending::Note => {
                self.ending = Ending::Checkpoint;
                return Ok(Event::Log(note()));
            }
            Ending::Checkpoint => {
                self.ending = Ending::End;
                return Ok(Event::Checkpoint { id: OWN_CHECKPOINT, state: self.state.clone() });
            }
            Ending::End => return Ok(Event::End(EndKind::Finished)),
        }
        let event = self.source.next().await?;
        Ok(self.counted(event))
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
                    self.ending = Ending::Note;
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

fn note() -> LogLine {
    let message = "stopped at --limit-rows; the state stays that of the last checkpoint before".to_owned();
    LogLine { level: LogLevel::Info, origin: LogOrigin::Library, message }
}
