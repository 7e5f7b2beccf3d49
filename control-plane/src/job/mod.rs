//! The syncs that are not over: asked for by REST or schedule, offered, held, ended. Every change of a lease goes through
//! one lock here, is stored, and only then told to an agent. The rules are in `lease` and `schedule`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use inshore_protocol::{Code, Progress};
use tokio::sync::{Mutex, Notify, watch};

use crate::channel::Registry;
use crate::lease::{Holder, Lease};
use crate::store::{self, Connection, NewSync, Store, Sync};
use crate::tasks::Tasks;
use crate::time::Timestamp;

mod checks;
mod dispatch;
mod hear;
mod spec;

pub(crate) use checks::{Checked, NotRun};
pub(crate) use hear::totals_of_progress;

/// How often leases and schedules are looked at without being woken.
const TICK: Duration = Duration::from_secs(1);
/// The window that rows per second are measured over.
const RATE_WINDOW: Duration = Duration::from_secs(10);
const RATE_SAMPLES_MAX: usize = 16;

/// All live syncs.
#[derive(Debug)]
pub(crate) struct Jobs {
    store: Store,
    sessions: Arc<Registry>,
    live: Mutex<HashMap<String, Live>>,
    checks: checks::Checks,
    wake: Notify,
    /// Counts ended syncs; long polls wait on it.
    ended: watch::Sender<u64>,
}

/// One sync that is not over.
#[derive(Debug)]
struct Live {
    sync: Sync,
    lease: Lease,
    cancel_at: Option<Timestamp>,
    cancel_sent_at: Option<Timestamp>,
    progress: Option<Progress>,
    samples: VecDeque<(Timestamp, u64)>,
    /// Agents that refused it.
    refused: HashMap<String, Refusal>,
}

/// An agent would not take a sync.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// It is not asked again before.
    until: Timestamp,
    /// Set where waiting does not help: how the sync fails if all refuse like this.
    last_word: Option<Code>,
}

/// What is only known while a sync runs.
#[derive(Debug, Clone)]
pub(crate) struct LiveView {
    pub(crate) progress: Option<Progress>,
    pub(crate) rows_per_s: u64,
    /// queued, offered, held or lapsed.
    pub(crate) lease: &'static str,
    pub(crate) cancelling: bool,
}

/// Why a sync is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Schedule,
    Request,
    Resync,
    Retry,
}

impl Cause {
    fn text(self) -> &'static str {
        match self {
            Cause::Schedule => "schedule",
            Cause::Request => "api",
            Cause::Resync => "resync",
            Cause::Retry => "retry",
        }
    }
}

impl Live {
    fn new(sync: Sync, lease: Lease) -> Self {
        let cancel_at = sync.cancel_at;
        Self {
            sync,
            lease,
            cancel_at,
            cancel_sent_at: None,
            progress: None,
            samples: VecDeque::new(),
            refused: HashMap::new(),
        }
    }

    fn rows_per_s(&self, now: Timestamp) -> u64 {
        let Some((first_at, first)) = self.samples.front() else { return 0 };
        let last = self.samples.back().map_or(*first, |(_, last)| *last);
        let millis = now.since(*first_at).as_millis().max(1000);
        let rate = u128::from(last.saturating_sub(*first)) * 1000 / millis;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn sample(&mut self, total: u64, now: Timestamp) {
        self.samples.push_back((now, total));
        while self.samples.len() > 2
            && (self.samples.len() > RATE_SAMPLES_MAX
                || self.samples.front().is_some_and(|(at, _)| now.since(*at) > RATE_WINDOW))
        {
            self.samples.pop_front();
        }
    }
}

impl Jobs {
    pub(crate) fn new(store: Store, sessions: Arc<Registry>) -> Self {
        Self {
            store,
            sessions,
            live: Mutex::new(HashMap::new()),
            checks: checks::Checks::default(),
            wake: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }

    /// Takes up what was not over when the process ended.
    pub(crate) async fn resume(&self, now: Timestamp) -> Result<(), store::Error> {
        let mut live = self.live.lock().await;
        for sync in self.store.live_syncs().await? {
            let lease = restored(&sync).resumed(now);
            live.insert(sync.id.clone(), Live::new(sync, lease));
        }
        Ok(())
    }

    /// Looks at schedules and leases until shutdown.
    pub(crate) async fn run(self: Arc<Self>, tasks: Tasks) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = tasks.stopped() => return,
                () = self.wake.notified() => {}
                _ = interval.tick() => {}
            }
            if let Err(error) = self.tick(Timestamp::now()).await {
                crate::log::failure("the scheduler could not use the store; it tries again", &error);
            }
        }
    }

    /// Something changed that may let a sync go on.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Queues a sync; where one is live already, that one is meant.
    pub(crate) async fn request(&self, connection: &Connection, cause: Cause) -> Result<String, store::Error> {
        let mut live = self.live.lock().await;
        self.request_locked(&mut live, connection, cause).await
    }

    /// Cancels what is live, then queues a new one behind it.
    pub(crate) async fn restart(&self, connection: &Connection, cause: Cause) -> Result<String, store::Error> {
        let mut live = self.live.lock().await;
        let now = Timestamp::now();
        for entry in live.values_mut().filter(|entry| entry.sync.connection_id == connection.id) {
            self.store.request_cancel(&entry.sync.id, now).await?;
            entry.cancel_at.get_or_insert(now);
        }
        self.add(&mut live, connection, cause, now).await
    }

    /// Queues a re-sync, behind whatever is live; where one of the same is queued or runs, that one is meant.
    pub(crate) async fn resync(&self, connection: &Connection) -> Result<String, store::Error> {
        let mut live = self.live.lock().await;
        let same = |entry: &&Live| {
            let sync = &entry.sync;
            sync.connection_id == connection.id && entry.cancel_at.is_none() && sync.resync == connection.resync
        };
        if let Some(entry) = live.values().find(same) {
            return Ok(entry.sync.id.clone());
        }
        self.add(&mut live, connection, Cause::Resync, Timestamp::now()).await
    }

    async fn request_locked(
        &self,
        live: &mut HashMap<String, Live>,
        connection: &Connection,
        cause: Cause,
    ) -> Result<String, store::Error> {
        let running = live
            .values()
            .filter(|entry| entry.sync.connection_id == connection.id && entry.cancel_at.is_none())
            .max_by_key(|entry| entry.sync.queued_at);
        match running {
            Some(entry) => Ok(entry.sync.id.clone()),
            None => self.add(live, connection, cause, Timestamp::now()).await,
        }
    }

    async fn add(
        &self,
        live: &mut HashMap<String, Live>,
        connection: &Connection,
        cause: Cause,
        now: Timestamp,
    ) -> Result<String, store::Error> {
        let id = uuid::Uuid::now_v7().to_string();
        let new = NewSync {
            id: &id,
            connection_id: &connection.id,
            group_id: &connection.group_id,
            trigger: cause.text(),
            historical: connection.historical,
            attempt: if cause == Cause::Retry { connection.attempt + 1 } else { 1 },
            package_id: connection.package_id.as_deref(),
            python_version: connection.python_version.as_deref(),
        };
        let floor = self.store.add_sync(&new, now).await?;
        if let Some(sync) = self.store.sync(&id).await? {
            live.insert(id.clone(), Live::new(sync, Lease::queued(floor, now)));
        }
        tracing::info!(sync_id = %id, connection_id = %connection.id, cause = cause.text(), "sync queued");
        self.wake();
        Ok(id)
    }

    /// Wants a sync cancelled; one that is over stays as it ended.
    pub(crate) async fn cancel(&self, sync_id: &str) -> Result<(), store::Error> {
        let mut live = self.live.lock().await;
        if let Some(entry) = live.get_mut(sync_id) {
            let now = Timestamp::now();
            self.store.request_cancel(sync_id, now).await?;
            entry.cancel_at.get_or_insert(now);
            self.wake();
        }
        Ok(())
    }

    /// Cancels every live sync of a connection.
    pub(crate) async fn cancel_connection(&self, connection_id: &str) -> Result<(), store::Error> {
        let ids: Vec<String> = {
            let live = self.live.lock().await;
            live.values()
                .filter(|entry| entry.sync.connection_id == connection_id)
                .map(|entry| entry.sync.id.clone())
                .collect()
        };
        for id in ids {
            self.cancel(&id).await?;
        }
        Ok(())
    }

    /// Whether a connection has a sync that is queued or running.
    pub(crate) async fn is_active(&self, connection_id: &str) -> bool {
        self.live.lock().await.values().any(|entry| entry.sync.connection_id == connection_id)
    }

    /// What is known of a live sync beyond its row.
    pub(crate) async fn view(&self, sync_id: &str) -> Option<LiveView> {
        let live = self.live.lock().await;
        live.get(sync_id).map(|entry| LiveView {
            progress: entry.progress.clone(),
            rows_per_s: entry.rows_per_s(Timestamp::now()),
            lease: lease_text(&entry.lease),
            cancelling: entry.cancel_at.is_some(),
        })
    }

    /// Waits until the sync is over or the time is; the caller reads it afterwards.
    pub(crate) async fn wait(&self, sync_id: &str, time: Duration) {
        let mut ended = self.ended.subscribe();
        let over = async {
            while self.live.lock().await.contains_key(sync_id) {
                if ended.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(time, over).await.is_err() {
            tracing::debug!(sync_id, "a long poll ended before its sync");
        }
    }

    fn note_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
        self.wake();
    }
}

fn lease_text(lease: &Lease) -> &'static str {
    match lease {
        Lease::Queued { .. } => "queued",
        Lease::Offered { .. } => "offered",
        Lease::Held { .. } => "held",
        Lease::Lapsed { .. } => "lapsed",
        Lease::Ended => "ended",
    }
}

/// The lease as it was stored.
fn restored(sync: &Sync) -> Lease {
    let since = sync.lease_at;
    let holder = sync.agent_id.clone().zip(u64::try_from(sync.generation).ok().filter(|generation| *generation > 0));
    let holder = holder.map(|(agent_id, generation)| Holder { agent_id, generation });
    match (sync.lease.as_str(), holder) {
        ("offered", Some(holder)) => Lease::Offered { holder, since, sent_at: Timestamp(0) },
        ("held", Some(holder)) => Lease::Held { holder, expires_at: since, absent: false },
        ("lapsed", Some(holder)) => Lease::Lapsed { holder, since },
        (_, last) => {
            let floor = u64::try_from(sync.generation).unwrap_or(0);
            Lease::Queued { last, floor, since, not_before: since }
        }
    }
}
