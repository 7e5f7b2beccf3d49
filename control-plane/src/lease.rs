//! Pure: who holds a sync. Offer → accepted and granted → outcome; or the lease runs out, and then the sync is kept for its
//! agent or offered elsewhere under the next generation. Time and what is known of the agents arrive as arguments.
//!
//! What surprises: a generation is never used twice, and only a message of the current one has an effect. That is why
//! late, repeated and reordered messages need no case of their own.

use std::time::Duration;

use inshore_protocol::Code;
use inshore_protocol::limits::{LEASE, OFFLINE_MAX};

use crate::time::Timestamp;

/// An offer without an answer is sent again after this time.
const RESEND: Duration = Duration::from_secs(5);
/// An offer without an answer for this long goes to another agent, if there is one.
const OFFER_PATIENCE: Duration = Duration::from_secs(30);
/// A cancelled sync whose agent says nothing for this long is declared cancelled.
const CANCEL_BACKSTOP: Duration = Duration::from_secs(60);

/// One grant: an agent under a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) agent_id: String,
    pub(crate) generation: u64,
}

/// Where a sync stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lease {
    /// Nobody runs it. `last` had it before; no newer generation exists, so its outcome would still count. Generations
    /// up to `floor` were used by the connection before: a writer never claims over a higher one (DELIVERY §5).
    Queued {
        last: Option<Holder>,
        floor: u64,
        since: Timestamp,
        not_before: Timestamp,
    },
    Offered {
        holder: Holder,
        since: Timestamp,
        sent_at: Timestamp,
    },
    /// Accepted and granted. `absent`: the agent's own list does not name it.
    Held {
        holder: Holder,
        expires_at: Timestamp,
        absent: bool,
    },
    /// The lease ran out and nobody else can run it: it stays with its agent.
    Lapsed {
        holder: Holder,
        since: Timestamp,
    },
    Ended,
}

/// What is known of the agents at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct World {
    /// The best connected agent that may run this sync, other than the holder (for a queued sync: any).
    pub(crate) candidate: Option<String>,
    pub(crate) holder: Presence,
}

/// The holder's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Online,
    Offline,
    /// Revoked, or no longer allowed to run it.
    Gone,
}

/// What an agent says about a sync, and for which grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Accepted,
    Refused {
        retry_after: Duration,
    },
    /// By a renewal or by its list of jobs.
    Alive,
    /// Its list of jobs does not name it.
    Absent,
    Outcome,
}

/// What has to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Offer(Holder),
    Grant(Holder),
    LeaseLost(Holder),
    Cancel(Holder),
    /// The outcome is of the current generation: it decides how the sync ended.
    Count,
    Fail(Code),
    /// The sync is cancelled without an outcome.
    EndCancelled,
}

impl Lease {
    pub(crate) fn queued(floor: u64, now: Timestamp) -> Self {
        Lease::Queued { last: None, floor, since: now, not_before: now }
    }

    /// The newest grant, also where it is over.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        match self {
            Lease::Queued { last, .. } => last.as_ref(),
            Lease::Offered { holder, .. } | Lease::Held { holder, .. } | Lease::Lapsed { holder, .. } => Some(holder),
            Lease::Ended => None,
        }
    }

    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Lease::Queued { .. })
    }

    /// The newest generation that was used so far.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Lease::Queued { last, floor, .. } => last.as_ref().map_or(0, |last| last.generation).max(*floor),
            lease => lease.holder().map_or(0, |holder| holder.generation),
        }
    }

    /// One message of an agent.
    pub(crate) fn hear(self, from: &Holder, event: Event, now: Timestamp) -> (Vec<Action>, Self) {
        if self.holder() != Some(from) {
            let stale = matches!(event, Event::Accepted | Event::Alive);
            return (if stale { vec![Action::LeaseLost(from.clone())] } else { Vec::new() }, self);
        }
        match (event, self) {
            (Event::Outcome, _) => (vec![Action::Count], Lease::Ended),
            (Event::Accepted | Event::Alive, _) => held(from.clone(), now),
            (Event::Refused { retry_after }, Lease::Offered { holder, .. }) => {
                let floor = holder.generation;
                (Vec::new(), Lease::Queued { last: Some(holder), floor, since: now, not_before: now.plus(retry_after) })
            }
            (Event::Absent, Lease::Held { holder, expires_at, .. }) => {
                (Vec::new(), Lease::Held { holder, expires_at, absent: true })
            }
            // The second of the two signals: it ran out, and its agent does not know it.
            (Event::Absent, Lease::Lapsed { holder, .. }) => (Vec::new(), requeued(holder, now)),
            (Event::Absent | Event::Refused { .. }, lease) => (Vec::new(), lease),
        }
    }

    /// Time passed, or the agents changed.
    pub(crate) fn tick(self, world: &World, now: Timestamp) -> (Vec<Action>, Self) {
        let next = self.generation() + 1;
        match self {
            Lease::Queued { since, .. } if now.since(since) >= OFFLINE_MAX => {
                (vec![Action::Fail(Code::NoEligibleAgent)], Lease::Ended)
            }
            Lease::Queued { ref last, not_before, .. } if not_before <= now => match &world.candidate {
                Some(agent_id) => offered(last.clone(), agent_id, next, now),
                None => (Vec::new(), self),
            },
            Lease::Offered { holder, since, sent_at } => tick_offered(holder, (since, sent_at), world, now),
            Lease::Held { holder, expires_at, absent } => {
                if world.holder == Presence::Gone {
                    (Vec::new(), requeued(holder, now))
                } else if now < expires_at {
                    (Vec::new(), Lease::Held { holder, expires_at, absent })
                } else if absent && world.holder == Presence::Online {
                    (Vec::new(), requeued(holder, now))
                } else if let Some(agent_id) = &world.candidate {
                    moved(holder, agent_id, now)
                } else {
                    (Vec::new(), Lease::Lapsed { holder, since: now })
                }
            }
            Lease::Lapsed { holder, since } => match &world.candidate {
                _ if world.holder == Presence::Gone => (Vec::new(), requeued(holder, now)),
                Some(agent_id) => moved(holder, agent_id, now),
                None if now.since(since) >= OFFLINE_MAX => {
                    (vec![Action::LeaseLost(holder), Action::Fail(Code::LeaseLost)], Lease::Ended)
                }
                None => (Vec::new(), Lease::Lapsed { holder, since }),
            },
            lease @ (Lease::Queued { .. } | Lease::Ended) => (Vec::new(), lease),
        }
    }

    /// In place of [`Lease::tick`] while a cancellation is wanted.
    pub(crate) fn tick_cancelled(self, requested_at: Timestamp, now: Timestamp) -> (Vec<Action>, Self) {
        match self {
            Lease::Queued { .. } => (vec![Action::EndCancelled], Lease::Ended),
            Lease::Offered { holder, .. } => (vec![Action::LeaseLost(holder), Action::EndCancelled], Lease::Ended),
            Lease::Held { holder, .. } | Lease::Lapsed { holder, .. } if now.since(requested_at) >= CANCEL_BACKSTOP => {
                (vec![Action::LeaseLost(holder), Action::EndCancelled], Lease::Ended)
            }
            Lease::Held { ref holder, .. } | Lease::Lapsed { ref holder, .. } => {
                (vec![Action::Cancel(holder.clone())], self)
            }
            Lease::Ended => (Vec::new(), Lease::Ended),
        }
    }

    /// After a restart of the control plane: agents get the time of a whole lease to come back.
    pub(crate) fn resumed(self, now: Timestamp) -> Self {
        match self {
            Lease::Held { holder, .. } => {
                Lease::Held { holder, expires_at: now.plus(LEASE + OFFER_PATIENCE / 2), absent: false }
            }
            lease => lease,
        }
    }
}

fn held(holder: Holder, now: Timestamp) -> (Vec<Action>, Lease) {
    (vec![Action::Grant(holder.clone())], Lease::Held { holder, expires_at: now.plus(LEASE), absent: false })
}

fn requeued(last: Holder, now: Timestamp) -> Lease {
    let floor = last.generation;
    Lease::Queued { last: Some(last), floor, since: now, not_before: now }
}

fn offered(old: Option<Holder>, agent_id: &str, generation: u64, now: Timestamp) -> (Vec<Action>, Lease) {
    let holder = Holder { agent_id: agent_id.to_owned(), generation };
    let mut actions: Vec<_> = old.map(Action::LeaseLost).into_iter().collect();
    actions.push(Action::Offer(holder.clone()));
    (actions, Lease::Offered { holder, since: now, sent_at: now })
}

fn moved(old: Holder, agent_id: &str, now: Timestamp) -> (Vec<Action>, Lease) {
    let generation = old.generation + 1;
    offered(Some(old), agent_id, generation, now)
}

fn tick_offered(
    holder: Holder,
    (since, sent_at): (Timestamp, Timestamp),
    world: &World,
    now: Timestamp,
) -> (Vec<Action>, Lease) {
    match &world.candidate {
        _ if world.holder == Presence::Gone => (Vec::new(), requeued(holder, now)),
        Some(agent_id) if now.since(since) >= OFFER_PATIENCE => moved(holder, agent_id, now),
        None if now.since(since) >= OFFLINE_MAX => {
            (vec![Action::LeaseLost(holder), Action::Fail(Code::NoEligibleAgent)], Lease::Ended)
        }
        _ if world.holder == Presence::Online && now.since(sent_at) >= RESEND => {
            (vec![Action::Offer(holder.clone())], Lease::Offered { holder, since, sent_at: now })
        }
        _ => (Vec::new(), Lease::Offered { holder, since, sent_at }),
    }
}

#[cfg(test)]
mod tests;
