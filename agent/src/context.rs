//! What every part of a job shares: how far it is (published) and whether it should stop (observed).

use std::collections::BTreeMap;

use inshore_columnar::TableName;
use tokio::sync::watch;

/// What was asked of a running job, weakest first. Abort has no spelling here: it is a kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    #[default]
    No,
    /// Finish to the next durable checkpoint.
    Drain,
    /// Stop soon; the open window is dropped.
    Cancel,
}

/// How far a job is: plain values, for whoever reports them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) tables: BTreeMap<TableName, Counts>,
    /// Bytes of Parquet that the destination accepted.
    pub(crate) bytes: u64,
    pub(crate) checkpoints: u64,
    pub(crate) last_checkpoint_at_ms: Option<i64>,
    pub(crate) state_bytes: u64,
}

impl Progress {
    /// The operations of all tables together.
    pub(crate) fn totals(&self) -> Counts {
        self.tables.values().fold(Counts::default(), |mut total, counts| {
            total.add(*counts);
            total
        })
    }
}

/// Operations as received from the connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) upserts: u64,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
    pub(crate) truncates: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.upserts += other.upserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.truncates += other.truncates;
    }
}

/// What a job is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Fetching the package, building the environment, opening the destination.
    #[default]
    Prepare,
    Extract,
    Seal,
    Commit,
    Done,
}

/// The job's end of both lines.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) stop: watch::Receiver<Stop>,
}

impl Context {
    /// Waits until more is asked for than `known`. Cancel-safe. Never returns once nobody can ask any more.
    pub(crate) async fn stop_beyond(&mut self, known: Stop) -> Stop {
        match self.stop.wait_for(|stop| *stop > known).await {
            Ok(stop) => *stop,
            Err(_) => std::future::pending().await,
        }
    }

    /// Performs `work`, which may be dropped at any await, unless a cancel comes first.
    pub(crate) async fn unless_cancelled<F: Future>(&mut self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            _ = self.stop_beyond(Stop::Drain) => None,
            output = work => Some(output),
        }
    }
}

/// Milliseconds since the epoch, for labels that people read: safety never reads the wall clock.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
