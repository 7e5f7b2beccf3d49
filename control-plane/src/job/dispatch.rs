//! One pass over schedules and leases: what is due is queued, what is queued is offered, what ran out moves on.

use std::collections::HashMap;

use inshore_protocol::{Code, Down, JobId};

use super::{Cause, Jobs, Live, lease_text, spec};
use crate::channel::Online;
use crate::lease::{Action, Holder, Lease, Presence, World};
use crate::schedule::{self, Due, Plan};
use crate::store::{self, Agent, Connection, ConnectionFilter, Finish, LeaseRow, Page};
use crate::time::Timestamp;

/// A cancellation is repeated this often until it is answered.
const CANCEL_AGAIN_S: u64 = 5;

/// The agents at one moment.
struct Agents {
    known: HashMap<String, Agent>,
    online: HashMap<String, Online>,
    /// Live syncs held, by agent.
    load: HashMap<String, u32>,
}

impl Jobs {
    /// Everything that time alone brings about.
    pub(super) async fn tick(&self, now: Timestamp) -> Result<(), store::Error> {
        let mut live = self.live.lock().await;
        let mut connections = HashMap::new();
        for connection in self.store.connections(&ConnectionFilter::default(), &Page::ALL).await? {
            self.queue_if_due(&mut live, &connection, now).await?;
            connections.insert(connection.id.clone(), connection);
        }
        if live.is_empty() {
            return Ok(());
        }
        let mut agents = self.agents(&live).await?;
        let mut order: Vec<_> = live.values().map(|entry| (entry.sync.queued_at, entry.sync.id.clone())).collect();
        order.sort();
        let mut busy = Vec::new();
        for (_, id) in order {
            let Some(entry) = live.get_mut(&id) else { continue };
            let connection = connections.get(&entry.sync.connection_id);
            // One at a time: a younger sync waits for the older one of its connection.
            let first = !busy.contains(&entry.sync.connection_id);
            busy.push(entry.sync.connection_id.clone());
            if first || entry.cancel_at.is_some() {
                self.advance(entry, connection, &mut agents, now).await?;
            }
        }
        live.retain(|_, entry| entry.lease != Lease::Ended);
        Ok(())
    }

    async fn queue_if_due(
        &self,
        live: &mut HashMap<String, Live>,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let mut plan = Plan {
            paused: connection.paused,
            manual: connection.manual,
            complete: connection.package_id.is_some(),
            active: live.values().any(|entry| entry.sync.connection_id == connection.id),
            frequency_minutes: connection.frequency,
            last_queued_at: None,
            rescheduled_for: connection.rescheduled_for,
        };
        // Only what is due anyway costs two more queries.
        if schedule::due(plan, now).is_none() {
            return Ok(());
        }
        plan.last_queued_at = self.store.newest_sync(&connection.id).await?.map(|sync| sync.queued_at);
        plan.complete = self.store.destination(&connection.group_id).await?.is_some();
        match schedule::due(plan, now) {
            Some(Due::Schedule) => drop(self.request_locked(live, connection, Cause::Schedule).await?),
            Some(Due::Retry) => drop(self.request_locked(live, connection, Cause::Retry).await?),
            None => {}
        }
        Ok(())
    }

    async fn agents(&self, live: &HashMap<String, Live>) -> Result<Agents, store::Error> {
        let known = self.store.agents(None, &Page::ALL).await?;
        let mut load = HashMap::new();
        for holder in live.values().filter(|entry| !entry.lease.is_queued()).filter_map(|entry| entry.lease.holder()) {
            *load.entry(holder.agent_id.clone()).or_insert(0) += 1;
        }
        let known = known.into_iter().map(|agent| (agent.id.clone(), agent)).collect();
        Ok(Agents { known, online: self.sessions.online(), load })
    }

    async fn advance(
        &self,
        entry: &mut Live,
        connection: Option<&Connection>,
        agents: &mut Agents,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        // A sync whose connection is gone has nothing left to do.
        let cancel_at = entry.cancel_at.or(connection.is_none().then_some(now));
        let (actions, next) = match (cancel_at, connection) {
            (Some(requested_at), _) => entry.lease.clone().tick_cancelled(requested_at, now),
            (None, Some(connection)) => {
                if entry.lease.is_queued() && !self.may_ever_run(connection, agents).await? {
                    (vec![Action::Fail(Code::SecretNotSealed)], Lease::Ended)
                } else {
                    let world = self.world(entry, connection, agents, now).await?;
                    match refused_by_all(entry, connection, agents) {
                        Some(code) if world.candidate.is_none() => (vec![Action::Fail(code)], Lease::Ended),
                        _ => entry.lease.clone().tick(&world, now),
                    }
                }
            }
            (None, None) => return Ok(()),
        };
        self.perform(entry, connection, (actions, next), now).await?;
        if let Lease::Offered { holder, .. } = &entry.lease {
            *agents.load.entry(holder.agent_id.clone()).or_insert(0) += 1;
        }
        Ok(())
    }

    /// False where no agent holds the connection's secrets: a person has to give them again.
    async fn may_ever_run(&self, connection: &Connection, agents: &Agents) -> Result<bool, store::Error> {
        let sealed = spec::sealed_keys(&self.store, connection).await?;
        if sealed.is_empty() {
            return Ok(true);
        }
        for agent in agents.known.values().filter(|agent| is_eligible(agent, connection)) {
            if spec::has_all(&self.store, connection, &agent.id, &sealed).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn world(
        &self,
        entry: &Live,
        connection: &Connection,
        agents: &Agents,
        now: Timestamp,
    ) -> Result<World, store::Error> {
        let held = if entry.lease.is_queued() { None } else { entry.lease.holder() };
        let holder = match held.map(|holder| &holder.agent_id) {
            None => Presence::Gone,
            Some(id) if !agents.known.get(id).is_some_and(|agent| is_eligible(agent, connection)) => Presence::Gone,
            Some(id) if agents.online.contains_key(id) => Presence::Online,
            Some(_) => Presence::Offline,
        };
        let sealed = spec::sealed_keys(&self.store, connection).await?;
        let mut candidates: Vec<_> = agents
            .known
            .values()
            .filter(|agent| is_eligible(agent, connection) && held.is_none_or(|holder| holder.agent_id != agent.id))
            .filter(|agent| entry.refused.get(&agent.id).is_none_or(|refusal| refusal.until <= now))
            .filter_map(|agent| {
                let online = agents.online.get(&agent.id)?;
                let load = agents.load.get(&agent.id).copied().unwrap_or(0);
                (load < online.capacity.jobs_max.max(1)).then(|| {
                    // Who ran it before has its environment.
                    let before = entry.lease.holder().is_some_and(|holder| holder.agent_id == agent.id);
                    (!before, load, agent.id.clone())
                })
            })
            .collect();
        candidates.sort();
        for (_, _, agent_id) in candidates {
            if spec::has_all(&self.store, connection, &agent_id, &sealed).await? {
                return Ok(World { candidate: Some(agent_id), holder });
            }
        }
        Ok(World { candidate: None, holder })
    }

    /// Stores the next lease, then does what follows from it. The lease in memory moves last.
    pub(super) async fn perform(
        &self,
        entry: &mut Live,
        connection: Option<&Connection>,
        (actions, next): (Vec<Action>, Lease),
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let row = lease_row(&next, now);
        if next != Lease::Ended && (row.lease, row.generation) != (lease_text(&entry.lease), generation(&entry.lease)) {
            let started_at = (row.lease == "held").then_some(now);
            self.store.set_lease(&entry.sync.id, &row, started_at).await?;
            tracing::info!(sync_id = %entry.sync.id, agent_id = row.agent_id, generation = row.generation, lease = row.lease, "lease moved");
        }
        for action in actions {
            self.act(entry, connection, action, now).await?;
        }
        entry.lease = next;
        Ok(())
    }

    async fn act(
        &self,
        entry: &mut Live,
        connection: Option<&Connection>,
        action: Action,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let sync_id = entry.sync.id.clone();
        match action {
            Action::Offer(holder) => {
                entry.progress = None;
                entry.samples.clear();
                let Some(connection) = connection else { return Ok(()) };
                match spec::build(&self.store, &spec::Asked::sync(&entry.sync, &holder), connection, &holder).await? {
                    Some(job) => self.tell(&holder, Down::Offer { job: Box::new(job) }),
                    None => tracing::warn!(sync_id, "an offer could not be built; its package or destination is gone"),
                }
            }
            Action::Grant(holder) => self.grant(&holder, &sync_id),
            Action::LeaseLost(holder) => {
                self.tell_job(&holder, &sync_id, |job_id| Down::LeaseLost { job_id, generation: holder.generation });
            }
            Action::Cancel(holder) => {
                if entry.cancel_sent_at.is_none_or(|sent_at| now.since(sent_at).as_secs() >= CANCEL_AGAIN_S) {
                    entry.cancel_sent_at = Some(now);
                    self.tell_job(&holder, &sync_id, |job_id| Down::Cancel { job_id });
                }
            }
            Action::Fail(code) => self.fail(entry, code, now).await?,
            Action::EndCancelled => {
                self.finish(&sync_id, &Finish { status: "cancelled", ..empty_finish(entry) }, now).await?;
            }
            // The outcome itself is stored by `hear`, which knows it.
            Action::Count => {}
        }
        Ok(())
    }

    /// Ends a sync that failed here, not on an agent.
    async fn fail(&self, entry: &Live, code: Code, now: Timestamp) -> Result<(), store::Error> {
        let (status, rescheduled_for) = super::hear::after_failure(code, code.class(), entry.sync.attempt, now);
        let finish = Finish { status, code: Some(code.text()), rescheduled_for, ..empty_finish(entry) };
        self.finish(&entry.sync.id, &finish, now).await
    }

    pub(super) async fn finish(&self, sync_id: &str, finish: &Finish<'_>, now: Timestamp) -> Result<(), store::Error> {
        self.store.finish_sync(sync_id, finish, now).await?;
        tracing::info!(sync_id, status = finish.status, code = finish.code, "sync ended");
        self.note_ended();
        Ok(())
    }

    /// An agent that cannot be told now is told again: offers are resent, grants follow renewals.
    pub(super) fn tell(&self, holder: &Holder, message: Down) {
        self.sessions.send(&holder.agent_id, message);
    }

    pub(super) fn grant(&self, holder: &Holder, job_id: &str) {
        let lease_ms = u64::try_from(inshore_protocol::limits::LEASE.as_millis()).unwrap_or(u64::MAX);
        self.tell_job(holder, job_id, |job_id| Down::Grant { job_id, generation: holder.generation, lease_ms });
    }

    pub(super) fn tell_job(&self, holder: &Holder, sync_id: &str, message: impl FnOnce(JobId) -> Down) {
        if let Ok(job_id) = JobId::new(sync_id) {
            self.tell(holder, message(job_id));
        }
    }
}

/// The reason, where every connected agent refused for one that waiting does not change.
fn refused_by_all(entry: &Live, connection: &Connection, agents: &Agents) -> Option<Code> {
    if !entry.lease.is_queued() {
        return None;
    }
    let mut code = None;
    for agent in agents.known.values().filter(|agent| is_eligible(agent, connection)) {
        if agents.online.contains_key(&agent.id) {
            code = Some(entry.refused.get(&agent.id)?.last_word?);
        }
    }
    code
}

fn is_eligible(agent: &Agent, connection: &Connection) -> bool {
    agent.is_eligible(&connection.group_id, connection.agent_id.as_deref())
}

fn generation(lease: &Lease) -> i64 {
    i64::try_from(lease.generation()).unwrap_or(i64::MAX)
}

fn lease_row(lease: &Lease, now: Timestamp) -> LeaseRow {
    let at = match lease {
        Lease::Queued { since, .. } | Lease::Offered { since, .. } | Lease::Lapsed { since, .. } => *since,
        Lease::Held { expires_at, .. } => *expires_at,
        Lease::Ended => now,
    };
    LeaseRow {
        lease: lease_text(lease),
        agent_id: lease.holder().map(|holder| holder.agent_id.clone()),
        generation: generation(lease),
        at,
    }
}

/// What was known of a sync that ends without an outcome.
fn empty_finish(entry: &Live) -> Finish<'static> {
    Finish {
        status: "failed",
        code: None,
        totals: entry.progress.as_ref().map(super::hear::totals_of_progress).unwrap_or_default(),
        started_at: None,
        state_bytes: None,
        delivery: None,
        nothing_moved: None,
        rescheduled_for: None,
        warnings: "[]".to_owned(),
        tables: "[]".to_owned(),
    }
}
