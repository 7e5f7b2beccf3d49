//! One session: certificate, Noise handshake, challenge, hello, welcome; then messages both ways until one side ends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inshore_protocol::limits::{DEAD, HANDSHAKE, HEARTBEAT, JOBS_MAX, PING, PROGRESS_TABLES_MAX};
use inshore_protocol::{
    Capacity, ControlCertificate, Down, FullState, Hello, Hex32, JobRef, Mode, ProtocolRange, Rejection, SessionId, Up,
    decode_up, encode,
};
use inshore_trust::noise::Responder;
use inshore_trust::{KeyKind, PublicKey, Signature, random_bytes, transcript};
use tokio::sync::mpsc;

use super::relay::Relay;
use super::wire::{Closed, Incoming, Wire};
use super::{Ending, Live, Order, lock};
use crate::app::App;
use crate::keys::certified;
use crate::lease::Event;
use crate::log::{self, chain};
use crate::store::Agent;
use crate::time::Timestamp;

/// A rejected agent is asked to stay away this long.
const REJECTED_RETRY_MS: u64 = 5_000;

/// Runs a session to its end.
pub(crate) async fn serve(app: Arc<App>, upgrade: hyper::upgrade::OnUpgrade) {
    let mut wire = match Wire::open(upgrade).await {
        Ok(wire) => wire,
        Err(error) => return log_closed("", &error),
    };
    let admitted = match tokio::time::timeout(HANDSHAKE, handshake(&app, &mut wire)).await {
        Ok(admitted) => admitted,
        Err(_) => Err(Closed::HandshakeSlow),
    };
    let welcomed = match admitted {
        Ok(admitted) => welcome(&app, &mut wire, admitted).await,
        Err(error) => Err(error),
    };
    let (agent, live, orders) = match welcomed {
        Ok(welcomed) => welcomed,
        Err(error) => {
            log_closed("", &error);
            return wire.close(&error).await;
        }
    };
    tracing::info!(agent_id = %agent.id, session_id = %live.session_id, version = %live.version, "agent connected");
    app.jobs.wake();
    let mut session =
        Session { app: &app, agent_id: &agent.id, live: &live, wire, relay: Relay::default(), jobs_digest: None };
    let error = match session.run(orders).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    app.sessions.leave(&agent.id, &live);
    if let Err(error) = app.store.set_last_seen(&agent.id, Timestamp(live.last_frame_us.load(Ordering::Relaxed))).await
    {
        log::failure("the time of an agent's last frame could not be stored", &error);
    }
    log_closed(&agent.id, &error);
    session.wire.close(&error).await;
}

fn log_closed(agent_id: &str, error: &Closed) {
    tracing::info!(agent_id, reason = %chain(error), "agent session closed");
}

type Welcomed = (Agent, Arc<Live>, mpsc::Receiver<Order>);

/// An agent that has proved who it is.
struct Admitted {
    agent: Agent,
    protocol: u16,
    version: String,
}

async fn handshake(app: &App, wire: &mut Wire) -> Result<Admitted, Closed> {
    wire.send_clear(encode(&ControlCertificate::ControlCertificate {
        certificates: vec![app.keys.certificate.clone()],
    }))
    .await?;
    let first = wire.message().await?;
    let (noise, answer) = Responder::channel(&app.keys.control, &first)?;
    wire.send_clear(answer).await?;
    let (hash, remote) = (*noise.handshake_hash(), noise.remote_static().copied());
    wire.secure(noise);
    let challenge = random_bytes::<32>();
    wire.send(&encode(&Down::Challenge { challenge: Hex32(challenge) })).await?;
    let Up::Hello(hello) = decode_up(&wire.message().await?)? else { return Err(Closed::OutOfTurn) };
    let remote = remote.ok_or(Closed::OutOfTurn)?;
    match admit(app, &hello, &hash, &challenge, remote.0).await? {
        Err((reason, word)) => {
            let retry_after_ms = Some(REJECTED_RETRY_MS);
            tracing::warn!(agent_id = %hello.agent_id, ?reason, "agent rejected");
            wire.send(&encode(&Down::Rejected { reason, retry_after_ms })).await?;
            Err(Closed::Refused(word))
        }
        Ok(admitted) => Ok(admitted),
    }
}

/// Enters the session, then says so. Outside the time limit of the handshake: nothing may cut it off between the two, or
/// the registry would show an agent that is not there.
async fn welcome(app: &App, wire: &mut Wire, admitted: Admitted) -> Result<Welcomed, Closed> {
    let Admitted { agent, protocol, version } = admitted;
    let (live, orders) = app.sessions.enter(&agent.id, version);
    match greet(app, wire, &agent.id, &live, protocol).await {
        Ok(()) => Ok((agent, live, orders)),
        Err(error) => {
            app.sessions.leave(&agent.id, &live);
            Err(error)
        }
    }
}

async fn greet(app: &App, wire: &mut Wire, agent_id: &str, live: &Live, protocol: u16) -> Result<(), Closed> {
    // A revocation after the admission and before the registry knew the session has ended nothing: look again.
    if app.store.is_revoked(agent_id).await? {
        wire.send(&encode(&Down::Revoked)).await?;
        return Err(Closed::Refused("revoked"));
    }
    let welcome = Down::Welcome {
        protocol,
        session_id: SessionId::new(live.session_id.as_str()).map_err(|_| Closed::OutOfTurn)?,
        heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX),
        server_time_ms: Timestamp::now().ms(),
    };
    wire.send(&encode(&welcome)).await
}

/// Whether the agent is who it says, speaks our protocol and is the only one of its identity.
async fn admit(
    app: &App,
    hello: &Hello,
    hash: &[u8; 32],
    challenge: &[u8; 32],
    remote: [u8; 32],
) -> Result<Result<Admitted, (Rejection, &'static str)>, Closed> {
    let agent_id = hello.agent_id.as_str();
    let Some(agent) = app.store.agent(agent_id).await? else {
        let revoked = app.store.is_revoked(agent_id).await?;
        return Ok(Err(if revoked { (Rejection::Revoked, "revoked") } else { (Rejection::Identity, "identity") }));
    };
    let Some(sealing) = proven(&agent, hello, hash, challenge, remote) else {
        return Ok(Err((Rejection::Identity, "identity")));
    };
    let Some(protocol) = ProtocolRange::OURS.common(hello.protocol) else {
        return Ok(Err((Rejection::ProtocolVersion, "protocol_version")));
    };
    let counter = i64::try_from(hello.renewal_counter).unwrap_or(i64::MAX);
    if counter <= agent.renewal_counter {
        return Ok(Err((Rejection::Cloned, "cloned")));
    }
    if !app.sessions.make_room(agent_id).await {
        return Ok(Err((Rejection::SessionLive, "session_live")));
    }
    let version = hello.version;
    let version = format!("{}.{}.{}", version.major, version.minor, version.patch);
    if app.store.begin_session(agent_id, counter, &sealing.0, &version, Timestamp::now()).await? {
        Ok(Ok(Admitted { agent, protocol, version }))
    } else {
        Ok(Err((Rejection::Cloned, "cloned")))
    }
}

/// The certified sealing key, if every proof in the hello holds.
fn proven(agent: &Agent, hello: &Hello, hash: &[u8; 32], challenge: &[u8; 32], remote: [u8; 32]) -> Option<Hex32> {
    let identity = PublicKey(agent.identity?);
    let signed = transcript::Hello {
        handshake_hash: hash,
        challenge,
        agent_id: hello.agent_id.as_str(),
        renewal_counter: hello.renewal_counter,
        protocol_min: hello.protocol.min,
        protocol_max: hello.protocol.max,
    };
    identity.verify(&signed.to_bytes(), &Signature(hello.challenge_signature.0)).ok()?;
    let channel = certified(&hello.channel, KeyKind::Channel, &identity, &agent.id)?;
    (channel.0 == remote).then_some(())?;
    certified(&hello.sealing, KeyKind::Sealing, &identity, &agent.id)
}

/// A welcomed session.
struct Session<'a> {
    app: &'a App,
    agent_id: &'a str,
    live: &'a Live,
    wire: Wire,
    relay: Relay,
    jobs_digest: Option<Hex32>,
}

impl Session<'_> {
    /// Ends with the reason, always.
    async fn run(&mut self, mut orders: mpsc::Receiver<Order>) -> Result<std::convert::Infallible, Closed> {
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.live.closing.cancelled() => return Err(self.ended().await),
                () = self.app.tasks.stopped() => return Err(Closed::Ended("going_away")),
                order = orders.recv() => match order {
                    Some(Order::Send(message)) => self.wire.send(&encode(&*message)).await?,
                    Some(Order::Probe) => self.wire.ping().await?,
                    None => return Err(Closed::Ended("going_away")),
                },
                incoming = self.wire.next() => {
                    let now = Timestamp::now();
                    let incoming = incoming?;
                    self.live.last_frame_us.store(now.0, Ordering::Relaxed);
                    if let Incoming::Message(message) = incoming {
                        self.hear(decode_up(&message)?).await?;
                    }
                }
                _ = ping.tick() => {
                    let last = Timestamp(self.live.last_frame_us.load(Ordering::Relaxed));
                    if Timestamp::now().since(last) >= DEAD {
                        return Err(Closed::Dead);
                    }
                    self.wire.ping().await?;
                }
            }
        }
    }

    async fn ended(&mut self) -> Closed {
        match self.live.reason.get() {
            Some(Ending::Revoked) => match self.wire.send(&encode(&Down::Revoked)).await {
                Ok(()) => Closed::Ended("revoked"),
                Err(error) => error,
            },
            _ => Closed::Ended("replaced"),
        }
    }

    async fn hear(&mut self, message: Up) -> Result<(), Closed> {
        let outbox_seq = message.outbox_seq();
        let jobs = &self.app.jobs;
        match message {
            Up::Hello(_) => return Err(Closed::OutOfTurn),
            Up::FullState(state) => self.full_state(&state).await?,
            Up::Heartbeat { capacity, jobs_digest } => self.heartbeat(capacity, jobs_digest).await?,
            Up::Accepted { job_id, generation, .. } => {
                jobs.heard(self.agent_id, &JobRef { job_id, generation }, Event::Accepted).await?;
            }
            Up::Refused { job_id, generation, reason, retry_after_ms, .. } => {
                jobs.refused(self.agent_id, &JobRef { job_id, generation }, reason, retry_after_ms).await?;
            }
            Up::Renew { jobs: renewed } => {
                for job in renewed.iter().take(JOBS_MAX) {
                    jobs.heard(self.agent_id, job, Event::Alive).await?;
                }
            }
            Up::Progress(mut progress) => {
                progress.tables.truncate(PROGRESS_TABLES_MAX);
                jobs.progress(self.agent_id, progress).await;
            }
            Up::Outcome(outcome) => jobs.outcome(self.agent_id, &outcome).await?,
            Up::PackageWanted { digest, offset } => {
                let chunk = self.relay.chunk(self.app, self.agent_id, digest, offset).await?;
                self.wire.send(&encode(&chunk)).await?;
            }
            Up::Unknown => self.app.sessions.count_unknown(),
        }
        // Whatever has a place in the outbox is stored by now, and everything before it came before it.
        match outbox_seq {
            Some(seq) => self.wire.send(&encode(&Down::OutboxAck { seq })).await,
            None => Ok(()),
        }
    }

    async fn full_state(&mut self, state: &FullState) -> Result<(), Closed> {
        if state.jobs.len() > JOBS_MAX {
            return Err(Closed::OutOfTurn);
        }
        let mode = match state.mode {
            Mode::Managed => Some("managed"),
            Mode::Locked => Some("locked"),
            Mode::Unknown => None,
        };
        {
            let mut reported = lock(&self.live.state);
            reported.capacity = state.capacity;
            reported.mode = mode;
        }
        if let Some(mode) = mode {
            self.app.store.set_agent_mode(self.agent_id, mode).await?;
        }
        Ok(self.app.jobs.full_state(self.agent_id, state).await?)
    }

    async fn heartbeat(&mut self, capacity: Capacity, jobs_digest: Hex32) -> Result<(), Closed> {
        lock(&self.live.state).capacity = capacity;
        let changed = self.jobs_digest.replace(jobs_digest).is_some_and(|before| before != jobs_digest);
        if changed {
            self.wire.send(&encode(&Down::WantFullState)).await?;
        }
        Ok(self.app.store.set_last_seen(self.agent_id, Timestamp::now()).await?)
    }
}
