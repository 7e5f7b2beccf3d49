//! The agents' sessions. The registry knows who is connected; `session` runs one connection from handshake to close;
//! `wire` is the socket below it; `relay` hands packages over. Nothing here decides about syncs: `job` does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use inshore_protocol::{Capacity, Down};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::time::Timestamp;

mod relay;
mod session;
mod wire;

pub(crate) use session::serve;
pub(crate) use wire::{Closed, Wire, upgrade};

/// Messages waiting for one agent. Past it a message is dropped: offers, grants and cancellations are repeated anyway.
const QUEUE_MAX: usize = 256;
/// How long an older session of the same identity has to answer a ping before the newer one takes its place.
const REPLACE_AFTER: Duration = Duration::from_secs(3);
const REPLACE_POLL: Duration = Duration::from_millis(50);

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: Mutex<HashMap<String, Arc<Live>>>,
    unknown_kinds: AtomicU64,
}

/// One connected agent.
#[derive(Debug)]
pub(crate) struct Live {
    session_id: String,
    sender: mpsc::Sender<Order>,
    closing: CancellationToken,
    reason: OnceLock<Ending>,
    last_frame_us: AtomicI64,
    since: Timestamp,
    version: String,
    state: Mutex<Reported>,
}

#[derive(Debug, Clone, Default)]
struct Reported {
    capacity: Capacity,
    mode: Option<&'static str>,
}

/// What a session is told to do.
#[derive(Debug)]
enum Order {
    Send(Box<Down>),
    /// Ping, so that silence means something.
    Probe,
}

/// Why the control plane ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Revoked,
    Replaced,
}

/// What others may know of a connected agent.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    pub(crate) capacity: Capacity,
    pub(crate) mode: Option<&'static str>,
    pub(crate) version: String,
    pub(crate) last_frame_at: Timestamp,
    pub(crate) since: Timestamp,
}

impl Live {
    fn online(&self) -> Online {
        let state = lock(&self.state).clone();
        Online {
            capacity: state.capacity,
            mode: state.mode,
            version: self.version.clone(),
            last_frame_at: Timestamp(self.last_frame_us.load(Ordering::Relaxed)),
            since: self.since,
        }
    }

    fn end(&self, ending: Ending) {
        // The first reason stays.
        self.reason.get_or_init(|| ending);
        self.closing.cancel();
    }
}

impl Registry {
    fn live(&self) -> MutexGuard<'_, HashMap<String, Arc<Live>>> {
        lock(&self.live)
    }

    /// All connected agents.
    pub(crate) fn online(&self) -> HashMap<String, Online> {
        self.live().iter().map(|(id, live)| (id.clone(), live.online())).collect()
    }

    pub(crate) fn get(&self, agent_id: &str) -> Option<Online> {
        self.live().get(agent_id).map(|live| live.online())
    }

    /// Queues a message; nothing happens where the agent is not connected.
    pub(crate) fn send(&self, agent_id: &str, message: Down) {
        let Some(live) = self.live().get(agent_id).cloned() else { return };
        let kind = message.kind();
        if live.sender.try_send(Order::Send(Box::new(message))).is_err() {
            tracing::warn!(agent_id, kind, "an agent does not take its messages; one is dropped");
        }
    }

    /// Ends the session of an identity that is no longer valid.
    pub(crate) fn revoke(&self, agent_id: &str) {
        if let Some(live) = self.live().remove(agent_id) {
            live.end(Ending::Revoked);
        }
    }

    /// Messages of kinds this version does not know, over all sessions.
    pub(crate) fn unknown_kinds(&self) -> u64 {
        self.unknown_kinds.load(Ordering::Relaxed)
    }

    fn count_unknown(&self) {
        self.unknown_kinds.fetch_add(1, Ordering::Relaxed);
    }

    /// False where an older session of this identity is live and answers. A silent one is replaced.
    async fn make_room(&self, agent_id: &str) -> bool {
        let Some(old) = self.live().get(agent_id).cloned() else { return true };
        let asked_at = Timestamp::now();
        if old.sender.try_send(Order::Probe).is_err() {
            tracing::debug!(agent_id, "the older session takes no orders");
        }
        while Timestamp::now().since(asked_at) < REPLACE_AFTER {
            tokio::time::sleep(REPLACE_POLL).await;
            match self.live().get(agent_id) {
                Some(live) if live.session_id == old.session_id => {}
                _ => return true,
            }
            if old.last_frame_us.load(Ordering::Relaxed) > asked_at.0 {
                return false;
            }
        }
        tracing::info!(agent_id, "a silent session is replaced by a newer one");
        old.end(Ending::Replaced);
        true
    }

    fn enter(&self, agent_id: &str, version: String) -> (Arc<Live>, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let now = Timestamp::now();
        let live = Arc::new(Live {
            session_id: uuid::Uuid::now_v7().simple().to_string(),
            sender,
            closing: CancellationToken::new(),
            reason: OnceLock::new(),
            last_frame_us: AtomicI64::new(now.0),
            since: now,
            version,
            state: Mutex::default(),
        });
        if let Some(old) = self.live().insert(agent_id.to_owned(), Arc::clone(&live)) {
            old.end(Ending::Replaced);
        }
        (live, receiver)
    }

    /// Forgets this session, not a newer one of the same agent.
    fn leave(&self, agent_id: &str, live: &Live) {
        let mut all = self.live();
        if all.get(agent_id).is_some_and(|current| current.session_id == live.session_id) {
            all.remove(agent_id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain values behind, which stay valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
