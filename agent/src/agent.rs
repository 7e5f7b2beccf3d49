//! The agent process: joins the channel and the jobs, and decides in which order things stop. The top select stands
//! here; everything it reacts to is decided elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inshore_config::{AgentConfig, Policy};
use inshore_protocol::{Code, JobSpec, Outcome, OutcomeResult, RefusalReason};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::channel::{self, Acceptance, ChannelHandle, ChannelSettings, Command, Ledger, LinkState, Store, Timers};
use crate::connector::sdk::environment::{Credentials, Index};
use crate::context::{Stop, chain, now_ms};
use crate::failpoint;
use crate::health::Health;
use crate::identity::{self, Identity};
use crate::installation::{
    dial_settings, empty, is_our_own, job_arguments, scratch_name, sdk_dir, search_path, version,
};
use crate::job::{self, Admission, Dispatcher, JobEvent, Launch, Limits, Request, Reserved, Signer};
use crate::sandbox::{self, Layer, SelfTest, Tools};

/// Job events that may wait for the agent.
const EVENTS_MAX: usize = 256;
/// How often capacity is measured and the watchdog fed.
const TICK: Duration = Duration::from_secs(5);
/// From SIGTERM until whatever still runs is killed.
const DRAIN_GRACE: Duration = Duration::from_secs(30);
/// How long the last outcomes may take to leave.
const FLUSH_GRACE: Duration = Duration::from_secs(5);
/// Below this much free disk no job is accepted.
const DISK_BYTES_MIN: u64 = 512 << 20;

/// Why the agent does not run (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error("open the inbox and outbox")]
    Store(#[from] channel::store::Error),
    #[error("open the ledger")]
    Ledger(#[from] channel::ledger::Error),
    #[error("read the policy")]
    Policy(#[from] inshore_config::Error),
    #[error("resolve the proxy's credentials")]
    ProxyCredentials(#[from] inshore_config::SecretError),
    #[error("read {path}, which `channel.tls_ca_file` of agent.toml names: this user must be able to")]
    CaFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("use {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("the control plane has revoked this agent's identity")]
    Revoked,
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Identity(error) => error.code(),
            Self::Store(_) | Self::Ledger(_) | Self::Folder { .. } => Code::StoreBroken.text(),
            Self::Policy(error) => error.code(),
            Self::CaFile { .. } => Code::ConfigMalformed.text(),
            Self::ProxyCredentials(error) => error.code(),
            Self::Signals(_) => Code::Internal.text(),
            Self::Revoked => Code::IdentityRefused.text(),
        }
    }
}

/// What does not change while the agent runs.
struct Host {
    config: AgentConfig,
    policy_file: PathBuf,
    identity: Arc<Identity>,
    sdk_dir: PathBuf,
    search_path: String,
    tools: Tools,
    sandbox: SelfTest,
    label_key: [u8; 32],
}

/// Runs until a signal or the control plane ends it.
pub(crate) async fn run(config: AgentConfig, policy_file: PathBuf) -> Result<(), Error> {
    // Refuse a bad policy before anything is reachable.
    let policy = Policy::load(&policy_file)?;
    if is_our_own(&policy_file) {
        tracing::warn!(policy = %policy_file.display(), "this user can change the policy that binds it: let root own it");
    }
    check_ca_file(&config)?;
    let identity = Arc::new(Identity::load(config.state_dir.as_path())?);
    for folder in [&config.state_dir, &config.cache_dir, &config.spool_dir] {
        make(folder.as_path())?;
    }
    empty(config.spool_dir.as_path());
    let executable = executable()?;
    let store = Store::open(&config.state_dir.as_path().join("agent.db"))?;
    let ledger = Ledger::open(&config.state_dir.as_path().join("ledger"))?;
    let settings = channel_settings(&config, &identity)?;
    let label_key = Sha256::digest(identity.sign(b"inshore table labels v1").0).into();
    let tools =
        Tools { bubblewrap: config.bubblewrap.as_path().to_owned(), inside: executable.clone(), layer: Layer::find() };
    let tested = sandbox::test_host(&tools, config.state_dir.as_path()).await;
    let sandbox = tested.map_err(|(path, source)| Error::Folder { path, source })?;
    let host = Host {
        tools,
        sandbox,
        sdk_dir: sdk_dir(&executable),
        search_path: search_path(&config),
        config,
        policy_file,
        identity,
        label_key,
    };
    let (stop, identity) = (CancellationToken::new(), Arc::clone(&host.identity));
    let health = Health::new(host.config.spool_dir.as_path(), jobs_max(&host.config, &policy));
    let parts = (store.clone(), ledger, health.status(policy.mode, std::iter::empty(), &[]));
    let (channel, commands, task) = channel::start(settings, identity, parts, stop.clone());
    let (events, job_events) = mpsc::channel(EVENTS_MAX);
    let launch = Launch { executable, arguments: job_arguments(&host.config.log), cancel_grace: job::CANCEL_GRACE };
    let dispatcher = Dispatcher::new(launch, events);
    let mut agent =
        Agent { host: Arc::new(host), channel, store, dispatcher, health, offline_since: None, revoked: false };
    agent.resume()?;
    let ended = agent.serve(commands, job_events).await;
    // Whatever still runs, after an error or a grace that is over, is taken up again at the next start.
    agent.dispatcher.abort().await;
    stop.cancel();
    if let Err(error) = task.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the channel's task failed");
    }
    ended
}

struct Agent {
    host: Arc<Host>,
    channel: ChannelHandle,
    store: Store,
    dispatcher: Dispatcher,
    health: Health,
    offline_since: Option<Instant>,
    revoked: bool,
}

impl Agent {
    /// Jobs that were accepted and have no outcome are taken up again; the chain's head says from where.
    fn resume(&mut self) -> Result<(), Error> {
        for spec in self.store.unfinished()? {
            tracing::info!(attempt = %spec.job_ref(), "job taken up again");
            self.start(spec);
        }
        Ok(())
    }

    async fn serve(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<JobEvent>,
    ) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let mut ticks = tokio::time::interval(TICK);
        notify(&[sd_notify::NotifyState::Ready]);
        crate::log_fields::set(vec![("AGENT_ID", self.host.identity.agent_id.clone())]);
        tracing::info!(agent = self.host.identity.agent_id, "agent started");
        while !self.revoked {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.on_event(event).await?,
                () = either(&mut terminate, &mut interrupt) => break,
                Some(command) = commands.recv() => self.on_command(command)?,
                _ = ticks.tick() => self.tick(),
            }
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        if self.revoked {
            return Err(Error::Revoked);
        }
        self.drain(&mut events, &mut terminate, &mut interrupt).await
    }

    /// Each running job reaches its next durable checkpoint and reports; then the last outcomes leave. A second signal,
    /// or the end of the grace, kills what still runs: its recovery is that of a crash.
    async fn drain(
        &mut self,
        events: &mut mpsc::Receiver<JobEvent>,
        terminate: &mut Signal,
        interrupt: &mut Signal,
    ) -> Result<(), Error> {
        tracing::info!("draining");
        self.dispatcher.drain();
        self.publish();
        let deadline = Instant::now() + DRAIN_GRACE;
        while !self.dispatcher.is_idle() {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.on_event(event).await?,
                () = either(terminate, interrupt) => break,
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        if !self.dispatcher.is_idle() {
            tracing::warn!("jobs still run: killing them; they are taken up again at the next start");
            self.dispatcher.abort().await;
            // An outcome that was told before the kill counts.
            while let Ok(event) = events.try_recv() {
                self.on_event(event).await?;
            }
            return Ok(());
        }
        match tokio::time::timeout(FLUSH_GRACE, self.channel.flushed()).await {
            Ok(flushed) => flushed?,
            Err(_) => tracing::info!("the control plane is away: outcomes wait in the outbox"),
        }
        tracing::info!("drained");
        Ok(())
    }

    async fn on_event(&mut self, event: JobEvent) -> Result<(), Error> {
        match event {
            JobEvent::Progress(frame) => self.channel.progress(frame),
            JobEvent::Ended(attempt, outcome) => {
                failpoint::hit("P14");
                self.channel.finish(&outcome)?;
                self.dispatcher.ended(&attempt).await;
                tracing::info!(%attempt, result = %result_text(&outcome.result), "job ended");
                self.publish();
            }
        }
        Ok(())
    }

    fn on_command(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Offer(spec) => self.on_offer(*spec)?,
            Command::Granted { .. } => {}
            Command::LeaseLost(job) => {
                tracing::warn!(attempt = %job, "lease lost: the job has moved on");
                self.dispatcher.stop_attempt(&job, Stop::Cancel);
            }
            Command::Cancel(job) => self.dispatcher.stop(job.as_str(), Stop::Cancel),
            Command::DrainJob(job) => self.dispatcher.stop(job.as_str(), Stop::Drain),
            Command::DrainAgent => self.dispatcher.drain(),
            Command::Revoked => self.revoked = true,
        }
        Ok(())
    }

    fn on_offer(&mut self, spec: JobSpec) -> Result<(), Error> {
        let attempt = spec.job_ref();
        match self.admit(&spec) {
            Ok(()) => match self.channel.accept(&spec)? {
                Acceptance::New => {
                    tracing::info!(%attempt, connection = %spec.connection_id, "job accepted");
                    self.start(spec);
                }
                Acceptance::Repeated => {}
                Acceptance::WrongGeneration => self.channel.refuse(&attempt, RefusalReason::Generation, None)?,
            },
            Err(reason) => {
                tracing::info!(%attempt, ?reason, "job refused");
                self.channel.refuse(&attempt, reason, None)?;
            }
        }
        Ok(())
    }

    /// The policy is read anew for each offer, so that an edit counts from the next job on.
    fn admit(&self, spec: &JobSpec) -> Result<(), RefusalReason> {
        let policy = Policy::load(&self.host.policy_file).map_err(|error| {
            tracing::error!(code = error.code(), error = &error as &dyn std::error::Error, "the policy cannot be read");
            RefusalReason::Policy
        })?;
        let admission = Admission {
            jobs_max: jobs_max(&self.host.config, &policy),
            disk_available_bytes: self.health.disk_available_bytes(),
            disk_bytes_min: DISK_BYTES_MIN,
            memory_bytes: connectors_memory(&policy),
            sandbox: &self.host.sandbox,
        };
        self.dispatcher.admit(spec, &policy, admission)
    }

    fn start(&mut self, spec: JobSpec) {
        let prepare = prepare(Arc::clone(&self.host), self.channel.clone(), spec.clone());
        let reserved =
            Policy::load(&self.host.policy_file).map(|policy| Reserved::of(&spec, &policy, connectors_memory(&policy)));
        self.dispatcher.start(spec.job_ref(), reserved.unwrap_or_default(), prepare);
        self.publish();
    }

    fn tick(&mut self) {
        self.health.measure();
        self.host.tools.layer.sweep();
        self.publish();
        notify(&[sd_notify::NotifyState::Watchdog]);
        let offline = matches!(*self.channel.link().borrow(), LinkState::Offline { .. });
        let since = self.offline_since.take().unwrap_or_else(Instant::now);
        self.offline_since = offline.then_some(since);
        if offline && since.elapsed() > self.host.config.channel.offline_max.0 {
            tracing::warn!(
                "the control plane was away for longer than `offline_max`: jobs stop at their next checkpoint"
            );
            self.dispatcher.stop_all(Stop::Drain);
        }
    }

    fn publish(&mut self) {
        let finished = self.store.finished_unacknowledged().unwrap_or_default();
        let mode = Policy::load(&self.host.policy_file).map_or(inshore_config::Mode::Locked, |policy| policy.mode);
        let status = self.health.status(mode, self.dispatcher.running(), &finished);
        self.channel.set_status(status);
    }
}

/// Fetches the package and opens the secrets of one job, in its own task: neither may hold up a heartbeat.
async fn prepare(host: Arc<Host>, channel: ChannelHandle, spec: JobSpec) -> Result<Request, Box<Outcome>> {
    let attempt = spec.job_ref();
    let failed = |code: Code, error: &dyn std::error::Error| {
        tracing::error!(%attempt, %code, error = chain(error), "job could not be started");
        Box::new(job::not_started(&attempt, code, now_ms()))
    };
    let package_file = channel.package(&spec.package).await.map_err(|error| failed(error.code(), &error))?;
    // Files of references may lie on a mount that hangs.
    let opening = tokio::task::spawn_blocking(move || host.open(spec, package_file));
    let opened = opening.await.map_err(|error| failed(Code::Internal, &error))?;
    opened.map_err(|error| failed(error.code(), &error))
}

/// Why a job's request could not be put together on this host.
#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("read the policy")]
    Policy(#[source] inshore_config::Error),
    #[error("open the connector's configuration")]
    Configuration(#[source] job::SecretError),
    #[error("resolve the credentials of the package index")]
    Index(#[source] inshore_config::SecretError),
}

impl PrepareError {
    fn code(&self) -> Code {
        match self {
            Self::Policy(error) => Code::from_text(error.code()).unwrap_or(Code::PolicyMalformed),
            Self::Configuration(error) => error.code(),
            Self::Index(error) => Code::from_text(error.code()).unwrap_or(Code::Internal),
        }
    }
}

impl Host {
    fn open(&self, spec: JobSpec, package_file: PathBuf) -> Result<Request, PrepareError> {
        let policy = Policy::load(&self.policy_file).map_err(PrepareError::Policy)?;
        let sealing = self.identity.sealing_key();
        let opened = job::open_settings(&spec, &policy, &self.identity.agent_id, sealing)
            .map_err(PrepareError::Configuration)?;
        let index = self.index().map_err(PrepareError::Index)?;
        let hash_salt =
            job::open_salt(&spec, &policy, self.config.state_dir.as_path()).map_err(PrepareError::Configuration)?;
        Ok(Request { hash_salt, ..self.request(spec, &policy, (opened, index), package_file) })
    }

    /// Where packages come from, its secrets resolved.
    fn index(&self) -> Result<Index, inshore_config::SecretError> {
        let python = &self.config.python;
        let credentials = python.credentials.iter().map(|(host, reference)| {
            let user_password = reference.resolve()?.expose().to_owned();
            Ok(Credentials { host: host.clone(), user_password })
        });
        Ok(Index {
            url: python.index_url.as_ref().map(|url| url.as_str().to_owned()),
            extra_urls: python.extra_index_urls.iter().map(|url| url.as_str().to_owned()).collect(),
            wheel_house: python.wheel_house.as_ref().map(|path| path.as_path().to_owned()),
            credentials: credentials.collect::<Result<_, _>>()?,
        })
    }

    fn request(
        &self,
        spec: JobSpec,
        policy: &Policy,
        (opened, index): (job::Opened, Index),
        package_file: PathBuf,
    ) -> Request {
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let scratch = scratch_name(spec.job_id.as_str(), spec.generation);
        let jobs = u64::try_from(jobs_max(&self.config, policy)).unwrap_or(1).max(1);
        Request {
            agent_id: self.identity.agent_id.clone(),
            configuration: opened.configuration,
            environment: opened.environment,
            signer: Signer::new(&self.identity.job_signer(spec.job_id.as_str(), now)),
            root: self.identity.root,
            policy_file: self.policy_file.clone(),
            package_file,
            cache_dir: self.config.cache_dir.as_path().to_owned(),
            journal_file: self.config.state_dir.as_path().join("logs").join(format!("{}.jsonl", spec.connection_id)),
            scratch_dir: self.config.spool_dir.as_path().join(scratch),
            limits: Limits {
                batch_memory_bytes_max: policy.resources.memory_bytes_max.0 / 2,
                connector_memory_bytes_max: policy.resources.connector_memory_bytes_max.0,
                spool_bytes_max: policy.resources.spool_bytes_max.0 / jobs,
                environments_bytes_max: self.config.python.environments_bytes_max.0,
            },
            tools: self.tools.clone(),
            sdk_dir: self.sdk_dir.clone(),
            search_path: self.search_path.clone(),
            index,
            label_key: self.label_key,
            hash_salt: None,
            names_open: policy.telemetry.schema_names,
            spec,
        }
    }
}

fn channel_settings(config: &AgentConfig, identity: &Identity) -> Result<ChannelSettings, Error> {
    Ok(ChannelSettings {
        dial: dial_settings(config, &identity.url)?,
        version: version(),
        packages_dir: config.cache_dir.as_path().join("packages"),
        timers: Timers::default(),
        seed: fastrand::u64(..),
    })
}

/// What the policy gives to all connectors of this host together.
fn connectors_memory(policy: &Policy) -> u64 {
    let host = rustix::system::sysinfo();
    let bytes = u64::from(host.mem_unit).saturating_mul(host.totalram);
    bytes / 100 * u64::from(policy.resources.connectors_memory_percent)
}

fn jobs_max(config: &AgentConfig, policy: &Policy) -> usize {
    usize::try_from(config.jobs_max.min(policy.resources.jobs_max)).unwrap_or(1)
}

/// How a job ended, as the log says it.
fn result_text(result: &OutcomeResult) -> String {
    match result {
        OutcomeResult::Failed { failure } => format!("Failed {}", failure.code),
        other => format!("{other:?}"),
    }
}

/// A file that cannot be read is this host's fault, and no retry mends it.
fn check_ca_file(config: &AgentConfig) -> Result<(), Error> {
    let Some(path) = &config.channel.tls_ca_file else { return Ok(()) };
    let unusable = |source| Error::CaFile { path: path.as_path().to_owned(), source };
    std::fs::read(path.as_path()).map(drop).map_err(unusable)
}

pub(crate) fn executable() -> Result<PathBuf, Error> {
    let named = std::env::current_exe().and_then(|path| path.canonicalize());
    named.map_err(|source| Error::Folder { path: PathBuf::from("/proc/self/exe"), source })
}

fn make(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = &error as &dyn std::error::Error, "the service manager could not be told");
    }
}
