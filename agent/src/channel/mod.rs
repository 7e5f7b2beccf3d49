//! The lasting link to the control plane. One task owns it: it dials, runs one session after another, and reconnects for
//! ever with full jitter. Losing it stops no job: what must not be lost is in the [`Store`] before anybody is told.
//!
//! Downward, messages become [`Command`]s for the dispatcher, who alone decides on admission; repeats are answered from
//! the inbox and never reach it. Upward, everything passes [`secure::Secured::send`], and so the ledger.

pub(crate) mod dial;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod ledger;
pub(crate) mod package;
mod reconnect;
pub(crate) mod secure;
mod session;
pub(crate) mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inshore_protocol::{
    Capacity, Code, Hex32, JobId, JobRef, JobSpec, JobState, Mode, Outcome, PackageRef, Progress, RefusalReason,
    SessionId, TableProgress, Version, limits,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use dial::{DialSettings, ProxySettings};
pub(crate) use ledger::Ledger;
pub(crate) use session::now_ms;
pub(crate) use store::{Acceptance, Store};

use crate::identity::Identity;

/// Commands waiting for the dispatcher; past it the session waits with reading.
const COMMANDS_MAX: usize = 64;
/// Package requests waiting for the channel.
const PACKAGE_REQUESTS_MAX: usize = 64;

/// What the channel needs to know.
#[derive(Debug, Clone)]
pub(crate) struct ChannelSettings {
    pub(crate) dial: DialSettings,
    pub(crate) version: Version,
    /// Verified packages, by digest.
    pub(crate) packages_dir: PathBuf,
    pub(crate) timers: Timers,
    /// Of the jitter.
    pub(crate) seed: u64,
}

/// The timers of SECURITY §3.4; tests shorten them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) handshake: Duration,
    /// Absent: what the control plane says, within its bounds.
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) ping: Duration,
    pub(crate) dead: Duration,
    pub(crate) renew: Duration,
    pub(crate) progress: Duration,
    pub(crate) package_retry: Duration,
    pub(crate) reconnect_step: Duration,
    pub(crate) reconnect_max: Duration,
    pub(crate) reconnect_reset: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake: limits::HANDSHAKE,
            heartbeat: None,
            ping: limits::PING,
            dead: limits::DEAD,
            renew: limits::RENEW,
            progress: limits::PROGRESS,
            package_retry: limits::DEAD,
            reconnect_step: limits::RECONNECT_STEP,
            reconnect_max: limits::RECONNECT_MAX,
            reconnect_reset: limits::RECONNECT_RESET,
        }
    }
}

/// What the control plane wants, for the dispatcher.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Never seen before. Answer with [`ChannelHandle::accept`] or [`ChannelHandle::refuse`].
    Offer(Box<JobSpec>),
    /// The lease of an accepted job, and each renewal of it.
    Granted {
        job: JobRef,
        lease_ms: u64,
    },
    LeaseLost(JobRef),
    Cancel(JobId),
    DrainJob(JobId),
    DrainAgent,
    /// The identity is revoked; the channel has ended.
    Revoked,
}

/// What heartbeats, full states and renewals say. Jobs that are accepted or running are renewed.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) mode: Mode,
    pub(crate) capacity: Capacity,
    pub(crate) jobs: Vec<JobState>,
}

impl Default for Status {
    fn default() -> Self {
        Self { mode: Mode::Managed, capacity: Capacity::default(), jobs: Vec::new() }
    }
}

impl Status {
    /// What a heartbeat says about the jobs; when it differs from what the control plane has, it asks for all.
    fn jobs_digest(&self) -> Hex32 {
        Hex32(Sha256::digest(inshore_protocol::encode(&self.jobs)).into())
    }
}

/// Whether the control plane is there, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    Offline { code: Option<Code> },
    Online { session_id: SessionId },
}

/// A cheap clone to talk to the channel.
#[derive(Debug, Clone)]
pub(crate) struct ChannelHandle {
    store: Store,
    shared: Arc<Shared>,
    packages: mpsc::Sender<PackageRequest>,
    packages_dir: Arc<PathBuf>,
    status: watch::Sender<Status>,
    link: watch::Receiver<LinkState>,
}

/// What handles and the channel's task both touch.
#[derive(Debug, Default)]
struct Shared {
    /// Rung when the outbox grew or progress came.
    wake: Notify,
    /// Rung when the control plane acknowledged something.
    acknowledged: Notify,
    /// The latest progress of each job that was not sent yet.
    progress: Mutex<HashMap<JobId, Progress>>,
}

#[derive(Debug)]
struct PackageRequest {
    package: PackageRef,
    reply: oneshot::Sender<Result<PathBuf, package::Error>>,
}

/// Starts the channel. It ends when `stop` is cancelled or the identity is revoked; await the handle.
pub(crate) fn start(
    settings: ChannelSettings,
    identity: Arc<Identity>,
    parts: (Store, Ledger, Status),
    stop: CancellationToken,
) -> (ChannelHandle, mpsc::Receiver<Command>, JoinHandle<()>) {
    let (store, ledger, status) = parts;
    let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
    let (packages, package_requests) = mpsc::channel(PACKAGE_REQUESTS_MAX);
    let (status, status_rx) = watch::channel(status);
    let (link_tx, link) = watch::channel(LinkState::Offline { code: None });
    let shared = Arc::new(Shared::default());
    let handle = ChannelHandle {
        store: store.clone(),
        shared: Arc::clone(&shared),
        packages,
        packages_dir: Arc::new(settings.packages_dir.clone()),
        status,
        link,
    };
    let downloads = package::Downloads::new(settings.packages_dir.clone());
    let channel = session::Channel {
        random: fastrand::Rng::with_seed(settings.seed),
        settings,
        identity,
        store,
        ledger,
        shared,
        commands,
        status: status_rx,
        package_requests,
        downloads,
    };
    let task = crate::tasks::spawn("channel", reconnect::run(channel, link_tx, stop));
    (handle, commands_rx, task)
}

impl ChannelHandle {
    /// Records an acceptance; durable when it returns. The job may start if it is new.
    pub(crate) fn accept(&self, spec: &JobSpec) -> Result<Acceptance, store::Error> {
        let acceptance = self.store.accept(spec)?;
        self.shared.wake.notify_one();
        Ok(acceptance)
    }

    /// Records a refusal; durable when it returns.
    pub(crate) fn refuse(
        &self,
        job: &JobRef,
        reason: RefusalReason,
        retry_after_ms: Option<u64>,
    ) -> Result<(), store::Error> {
        self.store.refuse(job, reason, retry_after_ms)?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Records the single outcome of an attempt; durable when it returns. Progress that was not sent is void.
    pub(crate) fn finish(&self, outcome: &Outcome) -> Result<(), store::Error> {
        let tables = largest(outcome.tables.clone());
        self.store.finish(&Outcome { tables, ..outcome.clone() })?;
        self.shared.progress().remove(&outcome.job_id);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Says where a job stands. The latest wins; at most one frame per job and second goes up.
    pub(crate) fn progress(&self, progress: Progress) {
        let progress = Progress { tables: largest(progress.tables), ..progress };
        self.shared.progress().insert(progress.job_id.clone(), progress);
        self.shared.wake.notify_one();
    }

    /// Says what heartbeats, full states and renewals should say from now on.
    pub(crate) fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }

    /// The verified package on local disk, fetched if it is not there.
    pub(crate) async fn package(&self, package: &PackageRef) -> Result<PathBuf, package::Error> {
        if let Some(path) = package::cached(&self.packages_dir, package)? {
            return Ok(path);
        }
        let (reply, answer) = oneshot::channel();
        let request = PackageRequest { package: package.clone(), reply };
        self.packages.send(request).await.map_err(|_| package::Error::ChannelClosed)?;
        answer.await.map_err(|_| package::Error::ChannelClosed)?
    }

    /// Whether the control plane is there.
    pub(crate) fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// Returns when the control plane has acknowledged everything. The caller bounds the time.
    pub(crate) async fn flushed(&self) -> Result<(), store::Error> {
        loop {
            let acknowledged = self.shared.acknowledged.notified();
            if self.store.outbox_is_empty()? {
                return Ok(());
            }
            acknowledged.await;
        }
    }
}

/// As many tables as one frame may name: those with the most rows.
fn largest(mut tables: Vec<TableProgress>) -> Vec<TableProgress> {
    if tables.len() > limits::PROGRESS_TABLES_MAX {
        tables.sort_by_key(|table| std::cmp::Reverse(table.rows.total()));
        tables.truncate(limits::PROGRESS_TABLES_MAX);
    }
    tables
}

impl Shared {
    fn progress(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
