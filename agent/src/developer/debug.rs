//! One local run: the project's connector into the lake under `files/tables`, then into `files/warehouse.db`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use inshore_columnar::{Inference, Naming};
use inshore_config::Environment;
use inshore_trust::{JobSigner, SigningKey};
use serde_json::value::RawValue;
use url::Url;

use super::check;
use super::happening::{Happening, Tell};
use super::history;
use super::limit::Limited;
use super::local::Local;
use super::project::{self, Project};
use super::target::Target;
use super::timing::{self, Timing};
use super::tool::Tools;
use super::uploads;
use super::walled::{self, Walled};
use super::warehouse::{self, Warehouse};
use crate::batch::{BatchSettings, FILE_BYTES_TARGET, ROW_GROUP_ROWS, Window};
use crate::connector::{LogLine, Source as _, sdk};
use crate::context::{Context, Stop};
use crate::destination::{self, Destination as _, Formats, LakeSettings, Writer};
use crate::sync::{self, Summary};

/// The destination schema of local runs.
pub(super) const SCHEMA: &str = "tester";
/// The name of the connection in the chain of a project's own lake.
pub(super) const CONNECTION: &str = "local";
/// What connector code reads as the connection's name.
pub(crate) const CONNECTION_NAME: &str = "test_connection_name";
const BATCH_MEMORY_BYTES_MAX: u64 = 128 << 20;
const SPOOL_BYTES_MAX: u64 = 20 << 30;

/// Environments of a developer's projects together.
const ENVIRONMENTS_BYTES_MAX: u64 = 20 << 30;

/// What a local run is given.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) sources: project::Sources,
    pub(crate) naming: Naming,
    pub(crate) inference: Inference,
    /// "3.12", when the developer asks for a version.
    pub(crate) python: Option<String>,
    pub(crate) sdk_dir: PathBuf,
    pub(crate) memory_bytes_max: u64,
    /// The run ends after so many rows.
    pub(crate) rows_max: Option<u64>,
    /// Checkpoints that take longer raise in the connector.
    pub(crate) checkpoint_timeout_ms: Option<u64>,
    /// Note where the time goes.
    pub(crate) profile: bool,
    /// Start from the state that the commit in this slot stored.
    pub(crate) since: Option<u64>,
    /// Rows go there; without it into the project's own lake.
    pub(crate) target: Option<Target>,
    /// The connector runs in a sandbox, as on an agent; without it with the rights of its author.
    pub(crate) walled: Option<Walled>,
    /// As an agent runs it: the deployment model is `hybrid_cloud`, and debug lines of the log are not shown.
    pub(crate) as_on_an_agent: bool,
    /// The developer's own: connector and installers see it, and the caches of this user lie where it says.
    pub(crate) environment: Environment,
}

impl Settings {
    pub(crate) fn tools(&self) -> Tools<'_> {
        Tools { sdk_dir: &self.sdk_dir, environment: &self.environment }
    }
}

/// Why a run did not even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Project(#[from] project::Error),
    #[error("prepare {}", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("start the connector")]
    Connector(#[from] crate::connector::Error),
    #[error(transparent)]
    Walled(#[from] walled::Error),
    #[error("open the project's tables")]
    Destination(#[from] destination::Error),
    #[error(transparent)]
    Earlier(#[from] Box<history::Error>),
    #[error("stopped before the connector started")]
    Stopped,
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Project(error) => error.code(),
            Error::Prepare { .. } => "PKG-010",
            Error::Connector(error) => error.code(),
            Error::Walled(error) => error.code(),
            Error::Destination(error) => error.code(),
            Error::Earlier(error) => error.code(),
            Error::Stopped => "AGT-003",
        }
    }
}

/// What a run came to, and where its rows can be looked at.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) summary: Summary,
    pub(crate) warehouse: Warehouse,
    /// Where the time went, when that was asked for.
    pub(crate) timing: Option<Timing>,
}

/// Runs the project once. `tell` hears the connector's lines and those of the preparation, and what becomes durable.
pub(crate) async fn debug(
    context: &mut Context,
    project: &Project,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<Finished, Error> {
    let say = |line: LogLine| tell(Happening::Line(line));
    let _occupied = project.occupy()?;
    let scratch = tempfile::Builder::new().prefix("inshore-debug-").tempdir();
    let scratch = scratch.map_err(|source| Error::Prepare { path: std::env::temp_dir(), source })?;
    let configuration = project.configuration(&settings.sources, &settings.environment)?;
    let secrets = sync::Secrets::of(&configuration);
    let home = scratch.path().join("home");
    std::fs::create_dir(&home).map_err(|source| Error::Prepare { path: home.clone(), source })?;
    let opening = async {
        let earlier = earlier_state(project, settings).await?;
        if let Some(walled) = &settings.walled {
            walled.test().await?;
        }
        let lake = open_destination(project, settings).await?;
        let state = earlier.map_or_else(|| starting_state(project, settings, &lake), Ok)?;
        let state_text = state.get().to_owned();
        let mut connector = connector_settings(project, settings, home, state, configuration);
        connector.start.files = lake.takes_files();
        check::warn_of_exits(project, settings, &connector.environment, tell).await?;
        tell(Happening::Start { state_bytes: state_text.len() });
        let source = sdk::open(connector, &say).await?;
        let state_file = settings.target.is_none().then(|| project.state_file());
        Ok::<_, Error>((Local::new(lake, state_file, tell), source, state_text))
    };
    let (mut local, source, state_text) = tokio::select! {
        biased;
        _ = context.stop_beyond(Stop::No) => return Err(Error::Stopped),
        opened = opening => opened?,
    };
    let window = Window::new(BatchSettings {
        type_locked: false,
        memory_bytes_max: BATCH_MEMORY_BYTES_MAX,
        file_bytes_target: FILE_BYTES_TARGET,
        row_group_rows: ROW_GROUP_ROWS,
        spool_dir: scratch.path().join("spool"),
        spool_bytes_max: SPOOL_BYTES_MAX,
    });
    let mut source = Limited::new(source, settings.rows_max, state_text);
    let synced_before_ms = local.last_synced_ms();
    let log = sync::Log { tell: &say, table: None, secrets };
    let summary = sync::drive(
        context,
        &mut source,
        &mut local,
        sync::Intake { window, selection: sync::Selection::default(), anew: false },
        log,
    )
    .await;
    source.close().await;
    let warehouse = match &settings.target {
        Some(target) => Warehouse::Elsewhere { root: target.root.to_string() },
        None => {
            uploads::show(project, &local.lake, &say);
            warehouse::refresh(project, settings.tools(), &local.lake, synced_before_ms, &say).await
        }
    };
    Ok(Finished { summary, warehouse, timing: timing::noted(&scratch.path().join("home")) })
}

/// The state of an earlier commit, where one is asked for.
async fn earlier_state(project: &Project, settings: &Settings) -> Result<Option<Box<RawValue>>, Error> {
    let Some(commit) = settings.since else { return Ok(None) };
    let state = history::state_of_commit(project, commit).await.map_err(Box::new)?;
    Ok(Some(project::parse_state(Path::new("the state of the commit"), &state)?))
}

/// A state that was named wins; else the project's own, or that of the lake which is not the project's.
fn starting_state(project: &Project, settings: &Settings, lake: &destination::Lake) -> Result<Box<RawValue>, Error> {
    match project.named_state(&settings.sources, &settings.environment)? {
        Some(state) => Ok(state),
        None if settings.target.is_some() => {
            Ok(project::parse_state(Path::new("the state at the destination"), lake.state())?)
        }
        None => Ok(project.own_state()?),
    }
}

async fn open_destination(project: &Project, settings: &Settings) -> Result<destination::Lake, Error> {
    let Some(target) = &settings.target else { return open_lake(project).await };
    let settings = LakeSettings::new(target.root.clone());
    let name = format!("run-{}", target.schema);
    Ok(destination::open(&settings, writer(&name, SigningKey::from_bytes(&target.key.to_secret_bytes()))).await?)
}

pub(super) async fn open_lake(project: &Project) -> Result<destination::Lake, Error> {
    let folder = project.tables();
    std::fs::create_dir_all(&folder).map_err(|source| Error::Prepare { path: folder.clone(), source })?;
    let (settings, key) = lake_settings(project)?;
    Ok(destination::open(&settings, writer(CONNECTION, key)).await?)
}

fn writer(connection: &str, key: SigningKey) -> Writer {
    Writer {
        connection_id: connection.to_owned(),
        agent_id: CONNECTION.to_owned(),
        job_id: CONNECTION.to_owned(),
        generation: 1,
        trusted_root: key.public(),
        signer: JobSigner::self_signed(key),
    }
}

/// Where the project's own lake is, and the key that everything in it is signed with.
pub(super) fn lake_settings(project: &Project) -> Result<(LakeSettings, SigningKey), Error> {
    let root = Url::from_directory_path(project.tables()).expect("the project's folder is absolute");
    // A crash of the whole machine costs a developer one run: waiting for the disk at every checkpoint costs more.
    let (retention, formats) = (std::time::Duration::ZERO, Formats::Delta);
    let settings = LakeSettings { fsync: false, retention, formats, ..LakeSettings::new(root) };
    Ok((settings, own_key(project)?))
}

/// The key that signs the project's own chain: made by the first run, of no worth elsewhere.
fn own_key(project: &Project) -> Result<SigningKey, Error> {
    let path = project.files().join("signing.key");
    let failed = |source| Error::Prepare { path: path.clone(), source };
    if let Ok(text) = std::fs::read_to_string(&path) {
        let malformed = || failed(std::io::Error::other("it is not a key; `inshore reset` starts the project anew"));
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| malformed())?;
        return Ok(SigningKey::from_bytes(&seed));
    }
    let key = SigningKey::generate();
    std::fs::write(&path, hex::encode(key.to_secret_bytes().as_slice())).map_err(failed)?;
    Ok(key)
}

pub(super) fn connector_settings(
    project: &Project,
    settings: &Settings,
    scratch_dir: PathBuf,
    state: Box<RawValue>,
    configuration: BTreeMap<String, String>,
) -> sdk::Settings {
    let mut variables = settings.environment.variables();
    variables.extend(settings.profile.then(|| timing::variable(&scratch_dir)));
    sdk::Settings {
        sdk_dir: settings.sdk_dir.clone(),
        project_dir: project.folder().to_owned(),
        scratch_dir,
        environment: environment_settings(settings),
        variables,
        declared: Vec::new(),
        memory_bytes_max: settings.memory_bytes_max,
        sandbox: settings.walled.as_ref().map(Walled::sandbox),
        exclusive: true,
        connection: sdk::Connection {
            id: "test_connection_id".to_owned(),
            name: settings.target.as_ref().map_or(CONNECTION_NAME, |target| target.schema.as_str()).to_owned(),
            group_id: "test_group_id".to_owned(),
            deployment_model: deployment_model(settings),
        },
        start: sdk::Start {
            project: project.folder().to_owned(),
            schema: settings.target.as_ref().map_or(SCHEMA, |target| target.schema.as_str()).to_owned(),
            naming: settings.naming,
            inference: settings.inference,
            debug: !settings.as_on_an_agent,
            files: false,
            checkpoint_timeout_ms: settings.checkpoint_timeout_ms,
            configuration,
            state,
        },
    }
}

/// Environments of this user's projects, with the package indexes that this user has set up.
pub(super) fn environment_settings(settings: &Settings) -> sdk::environment::Settings {
    sdk::environment::Settings {
        cache_dir: settings.environment.cache_dir().join("environments"),
        cache_bytes_max: ENVIRONMENTS_BYTES_MAX,
        search_path: settings.environment.search_path().into(),
        python: settings.python.clone(),
        variables: settings.environment.variables(),
        index: sdk::environment::Index::default(),
        allow_source_builds: true,
        place: sdk::environment::Place::Developer,
    }
}

/// Where the connector believes it runs. A developer's own variable wins, to try what it would do elsewhere.
fn deployment_model(settings: &Settings) -> String {
    let usual = if settings.as_on_an_agent { "hybrid_cloud" } else { "local_debug" };
    settings.environment.get("FIVETRAN_DEPLOYMENT_MODEL").unwrap_or(usual).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developers_own_deployment_model_wins() {
        let model = |value: &str, as_on_an_agent| {
            let environment = [("FIVETRAN_DEPLOYMENT_MODEL".to_owned(), value.to_owned())].into_iter().collect();
            let settings = Settings {
                sources: project::Sources::default(),
                naming: Naming::Fivetran,
                inference: Inference::default(),
                python: None,
                sdk_dir: PathBuf::new(),
                memory_bytes_max: 0,
                rows_max: None,
                checkpoint_timeout_ms: None,
                profile: false,
                since: None,
                target: None,
                walled: None,
                as_on_an_agent,
                environment,
            };
            deployment_model(&settings)
        };
        assert_eq!(model("", false), "local_debug");
        assert_eq!(model("", true), "hybrid_cloud");
        assert_eq!(model("hybrid_deployment", false), "hybrid_deployment");
    }
}
