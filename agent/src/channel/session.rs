//! One session, from dialling to its end: hello, full state, the outbox replayed, then one loop that sends on timers and
//! wake-ups and handles what comes. It owns no truth: that is in the store, so a session may end at any line.

use std::sync::Arc;
use std::time::Duration;

use inshore_protocol::limits::{HEARTBEAT_JITTER_PERCENT, HEARTBEAT_MAX, HEARTBEAT_MIN, JOBS_MAX};
use inshore_protocol::{
    AgentId, Code, DestinationKind, Down, FullState, Hello, Hex32, Hex64, Inference, JobKind, JobRef, JobSpec, Naming,
    Phase, ProtocolRange, RefusalReason, Rejection, SecretValue, Up, decode_down, encode, limits,
};
use inshore_trust::CertificateError;
use inshore_trust::noise::Initiator;
use inshore_trust::transcript;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::{FrameClass, Ledger};
use super::package::Downloads;
use super::secure::{self, Error, Secured};
use super::store::{Known, Store};
use super::{ChannelSettings, Command, LinkState, PackageRequest, Shared, Status, Timers, dial};
use crate::identity::Identity;

const PATH: &str = "/v1/agent/channel";

/// What lives longer than one session.
pub(super) struct Channel {
    pub(super) settings: ChannelSettings,
    pub(super) identity: Arc<Identity>,
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) package_requests: mpsc::Receiver<PackageRequest>,
    pub(super) downloads: Downloads,
    pub(super) random: fastrand::Rng,
}

/// How a session ended.
pub(super) enum End {
    Stopped,
    Revoked,
    Rejected { code: Code, retry_after: Option<Duration> },
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(error)
    }
}

impl Channel {
    /// Runs one session to its end.
    pub(super) async fn session(&mut self, link: &watch::Sender<LinkState>, stop: &CancellationToken) -> End {
        let handshake = self.settings.timers.handshake;
        let opened = stop.run_until_cancelled(tokio::time::timeout(handshake, Box::pin(self.open()))).await;
        let live = match opened {
            None => return End::Stopped,
            Some(Err(_)) => return Error::HandshakeTimeout.into(),
            Some(Ok(Err(end))) => return end,
            Some(Ok(Ok(live))) => live,
        };
        let (mut secured, session_id, heartbeat) = live;
        tracing::info!(session = %session_id, "session opened");
        link.send_replace(LinkState::Online { session_id });
        let schedule = Schedule::new(&self.settings.timers, heartbeat);
        let mut live = Live { channel: self, secured: &mut secured, schedule, sent_seq: 0, ignored: 0 };
        let end = live.run(stop).await;
        let cause = if let End::Failed(error) = &end { Some(error) } else { None };
        secured.close(cause).await;
        end
    }

    /// Dial, Noise, challenge, hello, welcome.
    async fn open(&mut self) -> Result<(Secured, inshore_protocol::SessionId, Duration), End> {
        let socket = dial::dial(&self.settings.dial, PATH).await.map_err(Error::Dial)?;
        let identity = Arc::clone(&self.identity);
        let initiate = |control: &_| Initiator::channel(identity.channel_key(), control);
        let mut secured = Secured::open(socket, &identity.root, now_ms(), initiate).await?;
        let Down::Challenge { challenge } = decode(&secured.next_message().await?)? else {
            return Err(Error::Protocol { what: "no challenge first" }.into());
        };
        let hello = self.hello(secured.handshake_hash(), challenge)?;
        secured.send(&mut self.ledger, hello.kind(), FrameClass::Session, &encode(&hello)).await?;
        match decode(&secured.next_message().await?)? {
            Down::Welcome { session_id, heartbeat_ms, protocol, .. } => {
                if ProtocolRange::OURS.common(ProtocolRange { min: protocol, max: protocol }).is_none() {
                    return Err(End::Rejected { code: Code::ProtocolVersion, retry_after: None });
                }
                secured.session_id = session_id.to_string();
                let heartbeat = Duration::from_millis(heartbeat_ms).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
                Ok((secured, session_id, heartbeat))
            }
            Down::Rejected { reason: Rejection::Revoked, .. } | Down::Revoked => Err(End::Revoked),
            Down::Rejected { reason, retry_after_ms } => Err(rejected(reason, retry_after_ms)),
            _ => Err(Error::Protocol { what: "no welcome" }.into()),
        }
    }

    fn hello(&self, handshake_hash: &[u8; 32], challenge: Hex32) -> Result<Up, Error> {
        let identity = &self.identity;
        let root = |source| Error::Root { source };
        let agent_id: AgentId = identity.agent_id.parse().map_err(|_| root(CertificateError::Malformed))?;
        let renewal_counter = self.store.next_renewal_counter()?;
        let protocol = ProtocolRange::OURS;
        let transcript = transcript::Hello {
            handshake_hash,
            challenge: &challenge.0,
            agent_id: agent_id.as_str(),
            renewal_counter,
            protocol_min: protocol.min,
            protocol_max: protocol.max,
        };
        let challenge_signature = Hex64(identity.sign(&transcript.to_bytes()).0);
        Ok(Up::Hello(Box::new(Hello {
            protocol,
            agent_id,
            version: self.settings.version,
            capabilities: 0,
            challenge_signature,
            renewal_counter,
            channel: secure::fields(identity.channel_certificate()).map_err(root)?,
            sealing: secure::fields(identity.sealing_certificate()).map_err(root)?,
        })))
    }
}

fn rejected(reason: Rejection, retry_after_ms: Option<u64>) -> End {
    let code = match reason {
        Rejection::ProtocolVersion => Code::ProtocolVersion,
        Rejection::Busy => Code::ControlPlaneUnreachable,
        _ => Code::IdentityRefused,
    };
    End::Rejected { code, retry_after: retry_after_ms.map(Duration::from_millis) }
}

/// One welcomed session.
struct Live<'a> {
    channel: &'a mut Channel,
    secured: &'a mut Secured,
    schedule: Schedule,
    /// The newest outbox message sent in this session.
    sent_seq: u64,
    /// Messages of kinds this version does not know.
    ignored: u64,
}

impl Live<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> End {
        match self.serve(stop).await {
            Ok(never) => never,
            Err(end) => end,
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<End, End> {
        self.send_full_state().await?;
        self.send_outbox().await?;
        self.send_wanted().await?;
        let commands = self.channel.commands.clone();
        loop {
            let due = self.schedule.next();
            // The only sender of commands is this loop, so room that was seen stays.
            let has_room = commands.capacity() > 0;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                () = tokio::time::sleep_until(due) => self.tick().await?,
                () = self.channel.shared.wake.notified() => {
                    self.send_outbox().await?;
                    self.schedule.progress_came(&self.channel.shared);
                }
                Some(request) = self.channel.package_requests.recv() => {
                    if let Some(wanted) = self.channel.downloads.begin(request.package, request.reply) {
                        self.send(&wanted).await?;
                    }
                }
                has_dispatcher = async { commands.reserve().await.is_ok() }, if !has_room => {
                    if !has_dispatcher {
                        return Ok(End::Stopped);
                    }
                }
                frame = self.secured.next(), if has_room => {
                    self.schedule.heard();
                    if let Some(message) = frame? {
                        self.receive(&message).await?;
                    }
                }
            }
        }
    }

    async fn send(&mut self, message: &Up) -> Result<(), Error> {
        let class = match message {
            Up::Hello(_) | Up::Unknown => FrameClass::Session,
            Up::FullState(_) | Up::Heartbeat { .. } | Up::Renew { .. } => FrameClass::State,
            Up::Accepted { .. } | Up::Refused { .. } | Up::Progress(_) | Up::Outcome(_) => FrameClass::Report,
            Up::PackageWanted { .. } => FrameClass::Package,
        };
        self.secured.send(&mut self.channel.ledger, message.kind(), class, &encode(message)).await
    }

    async fn send_full_state(&mut self) -> Result<(), Error> {
        let Status { mode, capacity, mut jobs } = self.channel.status.borrow().clone();
        jobs.extend(self.channel.store.finished_unacknowledged()?);
        jobs.truncate(JOBS_MAX);
        let outbox_seq = self.channel.store.newest_seq()?;
        self.send(&Up::FullState(FullState { mode, capacity, jobs, outbox_seq })).await
    }

    /// What was never sent in this session, in order. The rows stay until acknowledged.
    async fn send_outbox(&mut self) -> Result<(), Error> {
        while let Some((seq, message)) = self.channel.store.next_after(self.sent_seq)? {
            self.send(&message).await?;
            self.sent_seq = seq;
            if matches!(message, Up::Outcome(_)) {
                crate::failpoint::hit("P15");
            }
        }
        Ok(())
    }

    async fn send_wanted(&mut self) -> Result<(), Error> {
        for wanted in self.channel.downloads.wanted() {
            self.send(&wanted).await?;
        }
        Ok(())
    }

    /// Does whatever is due now.
    async fn tick(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.schedule.dead_at() {
            return Err(Error::Silent);
        }
        if self.schedule.ping.is_due(now) {
            self.secured.ping().await?;
        }
        if self.schedule.heartbeat_due(now, &mut self.channel.random) {
            let status = self.channel.status.borrow().clone();
            self.send(&Up::Heartbeat { capacity: status.capacity, jobs_digest: status.jobs_digest() }).await?;
        }
        if self.schedule.renew.is_due(now) {
            self.renew().await?;
        }
        if self.schedule.progress_due(now) {
            let pending: Vec<_> = self.channel.shared.progress().drain().map(|(_, progress)| progress).collect();
            for progress in pending {
                self.send(&Up::Progress(progress)).await?;
            }
        }
        if self.schedule.package.is_due(now) {
            self.send_wanted().await?;
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let mut jobs: Vec<JobRef> = Vec::new();
        for job in &self.channel.status.borrow().jobs {
            if matches!(job.phase, Phase::Accepted | Phase::Running) && jobs.len() < JOBS_MAX {
                jobs.push(JobRef { job_id: job.job_id.clone(), generation: job.generation });
            }
        }
        if jobs.is_empty() { Ok(()) } else { self.send(&Up::Renew { jobs }).await }
    }

    async fn receive(&mut self, message: &[u8]) -> Result<(), End> {
        match decode(message)? {
            Down::Offer { job } => self.offer(job).await?,
            Down::Grant { job_id, generation, lease_ms } => {
                self.tell(Command::Granted { job: JobRef { job_id, generation }, lease_ms });
            }
            Down::LeaseLost { job_id, generation } => self.tell(Command::LeaseLost(JobRef { job_id, generation })),
            Down::Cancel { job_id } => self.tell(Command::Cancel(job_id)),
            Down::DrainJob { job_id } => self.tell(Command::DrainJob(job_id)),
            Down::DrainAgent => self.tell(Command::DrainAgent),
            Down::OutboxAck { seq } => {
                // Never beyond what this session sent: nothing can be acknowledged unseen.
                self.channel.store.acknowledge(seq.min(self.sent_seq)).map_err(Error::Store)?;
                self.channel.shared.acknowledged.notify_waiters();
            }
            Down::WantFullState => self.send_full_state().await?,
            Down::PackageChunk { digest, offset, total_bytes, data } => {
                if let Some(wanted) = self.channel.downloads.chunk(&digest, offset, total_bytes, &data.0) {
                    self.send(&wanted).await?;
                }
            }
            Down::Revoked => return Err(End::Revoked),
            unexpected @ (Down::Challenge { .. } | Down::Welcome { .. } | Down::Rejected { .. } | Down::Unknown) => {
                self.ignored += 1;
                tracing::debug!(kind = unexpected.kind(), ignored = self.ignored, "message ignored");
            }
        }
        Ok(())
    }

    /// A repeat is answered from the inbox; only what was never seen reaches the dispatcher.
    async fn offer(&mut self, job: Box<JobSpec>) -> Result<(), Error> {
        let job_ref = job.job_ref();
        match self.channel.store.lookup(&job_ref)? {
            Known::Answered(answer) => self.send(&answer).await,
            Known::WrongGeneration => self.refuse(&job_ref, RefusalReason::Generation).await,
            Known::New if !is_supported(&job) => self.refuse(&job_ref, RefusalReason::Unsupported).await,
            Known::New => {
                self.tell(Command::Offer(job));
                Ok(())
            }
        }
    }

    async fn refuse(&mut self, job: &JobRef, reason: RefusalReason) -> Result<(), Error> {
        self.channel.store.refuse(job, reason, None)?;
        self.send_outbox().await
    }

    /// The caller saw room; a dispatcher that is gone means the agent is stopping.
    fn tell(&mut self, command: Command) {
        if self.channel.commands.try_send(command).is_err() {
            tracing::debug!("dispatcher gone; command dropped");
        }
    }
}

/// Whether this version understands everything the job asks for.
fn is_supported(job: &JobSpec) -> bool {
    job.kind != JobKind::Unknown
        && job.naming != Naming::Unknown
        && job.inference != Inference::Unknown
        && job.destination.kind != DestinationKind::Unknown
        && job.configuration.len() <= limits::CONFIGURATION_ENTRIES_MAX
        && job.configuration.iter().all(|entry| entry.value != SecretValue::Unknown)
}

fn decode(message: &[u8]) -> Result<Down, Error> {
    decode_down(message).map_err(|source| Error::Decode { source })
}

/// Milliseconds since 1970. Only for hints and certificates' ends; safety never reads this clock.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// When to do what next. Pure but for reading the runtime's clock.
struct Schedule {
    heard_at: Instant,
    dead: Duration,
    heartbeat_at: Instant,
    heartbeat: Duration,
    ping: Every,
    renew: Every,
    package: Every,
    progress_at: Option<Instant>,
    progress_sent_at: Option<Instant>,
    progress: Duration,
}

struct Every {
    at: Instant,
    interval: Duration,
}

impl Every {
    fn new(interval: Duration) -> Self {
        Self { at: Instant::now() + interval, interval }
    }

    /// Whether it is time; if so, the next time is set.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.at;
        if due {
            self.at = now + self.interval;
        }
        due
    }
}

impl Schedule {
    fn new(timers: &Timers, heartbeat: Duration) -> Self {
        let now = Instant::now();
        Self {
            heard_at: now,
            dead: timers.dead,
            heartbeat_at: now,
            heartbeat: timers.heartbeat.unwrap_or(heartbeat),
            ping: Every::new(timers.ping),
            renew: Every::new(timers.renew),
            package: Every::new(timers.package_retry),
            progress_at: None,
            progress_sent_at: None,
            progress: timers.progress,
        }
    }

    fn next(&self) -> Instant {
        let fixed = [self.dead_at(), self.heartbeat_at, self.ping.at, self.renew.at, self.package.at];
        fixed.into_iter().chain(self.progress_at).min().unwrap_or(self.heartbeat_at)
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
    }

    fn dead_at(&self) -> Instant {
        self.heard_at + self.dead
    }

    fn heartbeat_due(&mut self, now: Instant, random: &mut fastrand::Rng) -> bool {
        let due = now >= self.heartbeat_at;
        if due {
            let spread = f64::from(HEARTBEAT_JITTER_PERCENT) / 100.0;
            self.heartbeat_at = now + self.heartbeat.mul_f64(1.0 - spread + 2.0 * spread * random.f64());
        }
        due
    }

    /// Progress waits until a full interval has passed since the last was sent.
    fn progress_came(&mut self, shared: &Shared) {
        if self.progress_at.is_none() && !shared.progress().is_empty() {
            let now = Instant::now();
            self.progress_at = Some(self.progress_sent_at.map_or(now, |sent_at| (sent_at + self.progress).max(now)));
        }
    }

    fn progress_due(&mut self, now: Instant) -> bool {
        let due = self.progress_at.is_some_and(|at| now >= at);
        if due {
            self.progress_at = None;
            self.progress_sent_at = Some(now);
        }
        due
    }
}
