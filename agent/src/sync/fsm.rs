//! The state machine of one sync: when may a checkpoint be committed, acknowledged, applied; when does the sync end,
//! and how. Pure: no async, no IO, no clock. The driver performs each [`Action`] and answers with an [`Event`].
//!
//! The invariant that would surprise a reader: a stop request never interrupts a commit in flight. Once
//! [`Action::Commit`] was asked for, only its answer moves the machine, so the outcome is always known.

/// What the driver observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The connector asks for everything before this to be made durable.
    Checkpoint { id: u64 },
    /// The connector ended by itself, all rows handed over.
    Ended,
    /// The connector ended in a way that voids the rows since the last checkpoint.
    SourceFailed,
    /// Every file of the window is accepted by the destination.
    Sealed,
    /// The chain entry is durable.
    Committed,
    /// The connector knows that its checkpoint is durable.
    Acknowledged,
    /// Tables are at the head.
    Applied,
    /// Unnamed files of older writers are gone.
    Collected,
    /// Another writer owns the chain.
    Fenced,
    /// The step that was asked for failed.
    StepFailed,
    /// Stop at the next durable checkpoint.
    Drain,
    /// Stop soon; the open window is dropped.
    Cancel,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take the next thing from the connector into the open window.
    Pull,
    /// Close the window's files and write them to the destination.
    Seal,
    /// Put the chain entry: data and state in one step.
    Commit,
    /// Release the connector's blocked caller.
    Acknowledge { id: u64 },
    /// Roll every table forward to the head.
    Apply,
    /// Stop the connector and drop the open window.
    StopSource,
    /// Delete what no entry can name any more.
    Collect,
    /// The sync is over.
    Finish(Verdict),
}

/// How the sync ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Succeeded,
    /// Stopped at a durable checkpoint because it was asked to.
    Drained,
    Cancelled,
    /// The connector failed; everything up to its last checkpoint is durable and applied.
    SourceFailed,
    /// Another writer owns the chain.
    Fenced,
    /// A step of ours failed; the driver holds the error.
    StepFailed,
}

/// Where the sync stands. `stop` is what was asked for meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    phase: Phase,
    stop: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Extracting,
    Sealing(Close),
    Committing(Close),
    Acknowledging { id: u64 },
    Applying(Next),
    Stopping(Verdict),
    Collecting(Verdict),
    Done(Verdict),
}

/// Why a window is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    Checkpoint { id: u64 },
    End,
}

/// What follows once the tables are at the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Extract,
    Stop(Verdict),
}

/// The strongest stop that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    None,
    Drain,
    Cancel,
}

impl Machine {
    /// A sync whose destination is open, claimed and rolled forward.
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Extracting, stop: Stop::None }
    }

    /// One observation in, one action out. Events that a phase does not expect leave it where it is and repeat its
    /// action: a late checkpoint of a stopped connector is not an error.
    pub(crate) fn step(mut self, event: Event) -> (Action, Self) {
        match event {
            Event::Drain => self.stop = self.stop.max(Stop::Drain),
            Event::Cancel => self.stop = self.stop.max(Stop::Cancel),
            _ => {}
        }
        self.phase = self.next(event);
        (self.action(), self)
    }

    fn next(self, event: Event) -> Phase {
        match (self.phase, event) {
            (Phase::Done(verdict), _) => Phase::Done(verdict),
            (_, Event::Fenced) => Phase::Stopping(Verdict::Fenced),
            (Phase::Collecting(verdict), Event::Collected | Event::StepFailed | Event::Cancel) => Phase::Done(verdict),
            (Phase::Stopping(verdict), Event::StepFailed) => after_stop(verdict),
            (_, Event::StepFailed) => Phase::Stopping(Verdict::StepFailed),
            (Phase::Extracting, event) => self.extracting(event),
            (Phase::Sealing(_), Event::Cancel) => Phase::Stopping(Verdict::Cancelled),
            (Phase::Sealing(close), Event::Sealed) => match self.stop {
                Stop::Cancel => Phase::Stopping(Verdict::Cancelled),
                Stop::None | Stop::Drain => Phase::Committing(close),
            },
            (Phase::Committing(Close::Checkpoint { id }), Event::Committed) if self.stop == Stop::None => {
                Phase::Acknowledging { id }
            }
            (Phase::Committing(Close::Checkpoint { .. }), Event::Committed) => {
                Phase::Applying(Next::Stop(self.stop_verdict()))
            }
            (Phase::Committing(Close::End), Event::Committed) => Phase::Applying(Next::Stop(Verdict::Succeeded)),
            (Phase::Acknowledging { .. }, Event::Acknowledged) => Phase::Applying(Next::Extract),
            // The connector died between its checkpoint and our answer: what it checkpointed is durable.
            (Phase::Acknowledging { .. }, Event::SourceFailed) => Phase::Applying(Next::Stop(Verdict::SourceFailed)),
            (Phase::Acknowledging { .. } | Phase::Applying(Next::Extract), Event::Cancel) => {
                Phase::Stopping(Verdict::Cancelled)
            }
            (Phase::Applying(Next::Stop(verdict)), Event::Cancel) => Phase::Stopping(match verdict {
                Verdict::SourceFailed => Verdict::SourceFailed,
                _ => Verdict::Cancelled,
            }),
            // Nothing was taken since the checkpoint: a drain need not wait for another one.
            (Phase::Applying(Next::Extract), Event::Applied) => match self.stop {
                Stop::None => Phase::Extracting,
                Stop::Drain | Stop::Cancel => Phase::Stopping(self.stop_verdict()),
            },
            (Phase::Applying(Next::Stop(verdict)), Event::Applied) => Phase::Stopping(verdict),
            (Phase::Stopping(verdict), Event::Ended | Event::SourceFailed) => after_stop(verdict),
            (phase, _) => phase,
        }
    }

    fn extracting(self, event: Event) -> Phase {
        match event {
            Event::Checkpoint { id } => Phase::Sealing(Close::Checkpoint { id }),
            Event::Ended => Phase::Sealing(Close::End),
            Event::SourceFailed => Phase::Applying(Next::Stop(Verdict::SourceFailed)),
            Event::Cancel => Phase::Stopping(Verdict::Cancelled),
            _ => Phase::Extracting,
        }
    }

    fn stop_verdict(self) -> Verdict {
        match self.stop {
            Stop::Cancel => Verdict::Cancelled,
            Stop::None | Stop::Drain => Verdict::Drained,
        }
    }

    fn action(self) -> Action {
        match self.phase {
            Phase::Extracting => Action::Pull,
            Phase::Sealing(_) => Action::Seal,
            Phase::Committing(_) => Action::Commit,
            Phase::Acknowledging { id } => Action::Acknowledge { id },
            Phase::Applying(_) => Action::Apply,
            Phase::Stopping(_) => Action::StopSource,
            Phase::Collecting(_) => Action::Collect,
            Phase::Done(verdict) => Action::Finish(verdict),
        }
    }
}

/// Only a sync that ended well leaves time for collecting garbage.
fn after_stop(verdict: Verdict) -> Phase {
    match verdict {
        Verdict::Succeeded | Verdict::Drained | Verdict::SourceFailed => Phase::Collecting(verdict),
        Verdict::Cancelled | Verdict::Fenced | Verdict::StepFailed => Phase::Done(verdict),
    }
}

#[cfg(test)]
mod tests;
