//! The work of one job, from its request to its end. Every path ends in exactly one outcome, so `run` cannot fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inshore_columnar::TableName;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::checks;
use super::journal::Journal;
use super::link::{PASSED_ON, Request};
use super::outcome::{self, Ended, Outcome};
use super::package;
use super::spec::{self, Code, Kind, Plan, Tables};
use crate::batch::{BatchSettings, FILE_BYTES_TARGET, ROW_GROUP_ROWS, Window};
use crate::connector::sdk::question::Outcome as TestOutcome;
use crate::connector::{LogLine, WarningKind, sdk};
use crate::context::{Context, Stop, now_ms};
use crate::destination::{self, Destination, Label, LakeSettings, Writer};
use crate::sandbox::Sandbox;
use crate::sync::{self, LogTable, Seen, Selection, Verdict};

/// What the file of a remembered probe says.
const PROBE_PASSED: &str = "exactly-once";

/// What the agent's own environment says about reaching the network; connectors' HTTP libraries read the same names.
const CONNECTOR_VARIABLES: [&str; 11] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "TZ",
];

/// What a job came to when it could be run at all.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) failure: Option<sync::Error>,
    pub(crate) head_seq: Option<u64>,
    pub(crate) warnings: BTreeMap<WarningKind, u64>,
    pub(crate) label: Label,
    /// Of a check alone.
    pub(crate) setup_tests: Option<Vec<TestOutcome>>,
    /// The tables that the connector named.
    pub(crate) seen: BTreeMap<TableName, Seen>,
    /// Rows of tables that are blocked.
    pub(crate) blocked_rows: u64,
}

/// Why a job could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("accept the job on this host")]
    Spec(#[source] spec::Error),
    #[error("unpack the connector")]
    Package(#[source] package::Error),
    #[error("move rows")]
    Sync(#[source] sync::Error),
    #[error("prepare the scratch folder")]
    Scratch(#[source] std::io::Error),
    #[error("read the state of the last commit")]
    State,
    #[error("wait for a worker thread")]
    Worker,
    #[error("stop before the connector started")]
    Stopped(Stop),
}

impl From<destination::Error> for Error {
    fn from(error: destination::Error) -> Self {
        Self::Sync(error.into())
    }
}

impl From<crate::connector::Error> for Error {
    fn from(error: crate::connector::Error) -> Self {
        Self::Sync(error.into())
    }
}

/// Runs the job and classifies its end.
pub(crate) async fn run(mut context: Context, request: Request) -> Outcome {
    let started_at_ms = now_ms();
    let attempt = request.spec.job_ref();
    let labels = request.labels();
    let journal = Journal::open(&request.journal_file, request.spec.job_id.as_str());
    let result = Box::pin(try_run(&mut context, request, &journal)).await;
    let progress = context.progress.borrow().clone();
    let ended = Ended { started_at_ms, finished_at_ms: now_ms(), result, progress };
    outcome::classify(&attempt, &labels, &journal, &ended)
}

async fn try_run(context: &mut Context, request: Request, journal: &Journal) -> Result<Report, Error> {
    let tell = |line: LogLine| journal.line(&line);
    // Nothing has moved yet, and everything here may be dropped at any await: drain and cancel are the same.
    let opened = tokio::select! {
        biased;
        stop = context.stop_beyond(Stop::No) => return Err(Error::Stopped(stop)),
        opened = open(&request, &tell) => opened?,
    };
    let mut ends = match opened {
        Opened::Ends(ends) => ends,
        Opened::Checked(results) => return Ok(checked(results)),
    };
    let window = Window::new(batch_settings(&request));
    let (connection, sync) = (request.spec.connection_id.as_str(), request.spec.job_id.as_str());
    let table = ends.log_table.then(|| LogTable::new(connection, sync, now_ms(), fastrand::u32(..)));
    let secrets = sync::Secrets::of(request.configuration.iter().map(|(name, value)| (name, value)));
    let log = sync::Log { tell: &tell, table, secrets };
    let selection = std::mem::take(&mut ends.selection);
    let intake = sync::Intake { window, selection, anew: ends.anew };
    let summary = sync::drive(context, &mut ends.source, &mut ends.lake, intake, log).await;
    let sync::Summary { verdict, failure, head_seq, warnings, seen, blocked_rows } = summary;
    Ok(Report { failure, head_seq, warnings, seen, blocked_rows, ..ends.report(verdict) })
}

/// What a job is after its preparation.
enum Opened {
    Ends(Box<Ends>),
    /// A check, and with that over.
    Checked(Vec<TestOutcome>),
}

fn checked(results: Vec<TestOutcome>) -> Report {
    Report {
        verdict: Verdict::Succeeded,
        failure: None,
        head_seq: None,
        warnings: BTreeMap::new(),
        label: Label::ExactlyOnce,
        setup_tests: Some(results),
        seen: BTreeMap::new(),
        blocked_rows: 0,
    }
}

/// Both ends of a connection, open.
struct Ends {
    source: sdk::SdkSource,
    lake: destination::Lake,
    label: Label,
    log_table: bool,
    selection: Selection,
    /// A re-sync begins.
    anew: bool,
}

impl Ends {
    fn report(&self, verdict: Verdict) -> Report {
        Report { verdict, label: self.label.clone(), setup_tests: None, ..checked(Vec::new()) }
    }
}

async fn open(request: &Request, tell: &(dyn Fn(LogLine) + Sync)) -> Result<Opened, Error> {
    let plan = spec::check_with_file(&request.spec, &request.policy_file).map_err(Error::Spec)?;
    let project = unpack(request).await?;
    if plan.kind == Kind::Check {
        let settings = connector_settings(&plan, request, project, None)?;
        return Ok(Opened::Checked(checks::run(settings, tell).await?));
    }
    let selection =
        spec::selection(&request.spec, plan.naming, request.label_key, request.hash_salt).map_err(Error::Spec)?;
    let Tables { formats, merge, retention } = plan.tables;
    let settings = LakeSettings {
        options: plan.options.clone(),
        formats,
        merge,
        retention,
        ..LakeSettings::new(plan.destination.clone())
    };
    let label = label(&settings, &request.cache_dir).await?;
    let mut lake = destination::open(&settings, writer(request)).await?;
    let resync = spec::resync(&request.spec, plan.naming, request.label_key, lake.tables()).map_err(Error::Spec)?;
    let begun = sync::begin(&mut lake, resync);
    let start = Some((begun.state.as_str(), lake.takes_files()));
    let source = sdk::open(connector_settings(&plan, request, project, start)?, tell).await?;
    Ok(Opened::Ends(Box::new(Ends { source, lake, label, log_table: plan.log_table, selection, anew: begun.anew })))
}

async fn unpack(request: &Request) -> Result<PathBuf, Error> {
    let project = request.scratch_dir.join("project");
    for folder in [&project, &request.scratch_dir.join("home"), &request.scratch_dir.join("spool")] {
        std::fs::create_dir_all(folder).map_err(Error::Scratch)?;
    }
    let (archive, target) = (request.package_file.clone(), project.clone());
    let digest = request.spec.package.digest.to_string();
    let unpacked = tokio::task::spawn_blocking(move || package::unpack(&archive, &digest, &target));
    unpacked.await.map_err(|_| Error::Worker)?.map_err(Error::Package)?;
    Ok(project)
}

fn writer(request: &Request) -> Writer {
    Writer {
        connection_id: request.spec.connection_id.to_string(),
        agent_id: request.agent_id.clone(),
        job_id: request.spec.job_id.to_string(),
        generation: request.spec.generation,
        signer: request.signer.signer(),
        trusted_root: request.root,
    }
}

/// What this destination promises, probed once per root and way to it, and remembered beside the caches.
async fn label(settings: &LakeSettings, cache_dir: &Path) -> Result<Label, Error> {
    let name = hex::encode(Sha256::digest(format!("{} {:?}", settings.root, settings.options)));
    let remembered = cache_dir.join("probes").join(name);
    if std::fs::read_to_string(&remembered).is_ok_and(|text| text == PROBE_PASSED) {
        return Ok(Label::ExactlyOnce);
    }
    let label = destination::probe(settings).await?;
    if let Label::AtLeastOnce { failed_check } = &label {
        tracing::warn!(code = %Code::ProbeFailed, failed_check, "the destination failed a check: batches may arrive twice");
    }
    if label == Label::ExactlyOnce {
        let stored =
            std::fs::create_dir_all(cache_dir.join("probes")).and_then(|()| std::fs::write(&remembered, PROBE_PASSED));
        if let Err(error) = stored {
            tracing::warn!(error = &error as &dyn std::error::Error, "the probe's result could not be remembered");
        }
    }
    Ok(label)
}

/// What installers and connectors see of this host's settings: proxies, certificates, package indices.
fn passed_on() -> Vec<(String, String)> {
    let passed = std::env::vars_os().filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed));
    passed.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn batch_settings(request: &Request) -> BatchSettings {
    BatchSettings {
        type_locked: request.spec.type_locked,
        memory_bytes_max: request.limits.batch_memory_bytes_max,
        file_bytes_target: FILE_BYTES_TARGET,
        row_group_rows: ROW_GROUP_ROWS,
        spool_dir: request.scratch_dir.join("spool"),
        spool_bytes_max: request.limits.spool_bytes_max,
    }
}

/// `start` is the state to go on from, and whether there is a place for files; without a destination there is neither.
fn connector_settings(
    plan: &Plan,
    request: &Request,
    project: PathBuf,
    start: Option<(&str, bool)>,
) -> Result<sdk::Settings, Error> {
    let spec = &request.spec;
    let memory_bytes_max = plan.wanted.memory_bytes_max(request.limits.connector_memory_bytes_max);
    Ok(sdk::Settings {
        sdk_dir: request.sdk_dir.clone(),
        project_dir: project.clone(),
        scratch_dir: request.scratch_dir.join("home"),
        environment: sdk::environment::Settings {
            cache_dir: request.cache_dir.join("environments"),
            cache_bytes_max: request.limits.environments_bytes_max,
            search_path: request.search_path.clone().into(),
            python: plan.python_version.clone(),
            variables: passed_on(),
            index: request.index.clone(),
            allow_source_builds: plan.allow_source_builds,
            place: sdk::environment::Place::Agent,
        },
        variables: passed_on().into_iter().filter(|(name, _)| CONNECTOR_VARIABLES.contains(&name.as_str())).collect(),
        declared: request.environment.clone(),
        memory_bytes_max,
        sandbox: plan.sandbox.as_ref().map(|policy| Sandbox {
            memory_bytes_max: Some(memory_bytes_max),
            ..Sandbox::new(policy, &plan.wanted, &request.tools)
        }),
        exclusive: true,
        connection: sdk::Connection {
            id: spec.connection_id.to_string(),
            name: spec.connection_name.clone(),
            group_id: spec.group_id.to_string(),
            deployment_model: "hybrid_cloud".to_owned(),
        },
        start: sdk::Start {
            project,
            schema: spec.connection_name.clone(),
            naming: plan.naming,
            inference: plan.inference,
            debug: false,
            files: start.is_some_and(|(_, files)| files),
            checkpoint_timeout_ms: None,
            configuration: request.configuration.iter().cloned().collect(),
            state: RawValue::from_string(start.map_or("{}", |(state, _)| state).to_owned())
                .map_err(|_| Error::State)?,
        },
    })
}
