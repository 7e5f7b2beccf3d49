//! From the wire's spec to what a job may really do. The host's policy is applied here, in the lowest process, and wins;
//! nothing below this file sees a wire type.

use std::path::Path;
use std::time::Duration;

use inshore_columnar::name::rename_table;
use inshore_columnar::{Inference, Naming, TableName};
use inshore_config::{Egress, Policy, SandboxPolicy, SecretRef, StoreOptions};
use inshore_protocol::{
    ChangeHandling, DestinationKind, Inference as WireInference, JobKind, MergeMode, Naming as WireNaming,
    SchemaConfig, SecretEntry, SecretValue, TableFormat, TableOptions, TableOptionsError, TableRef, is_variable,
};
pub(crate) use inshore_protocol::{Code, JobId, JobRef, JobSpec, Progress as ProgressFrame, RefusalReason};
use inshore_trust::{DhSecret, SealContext};
use url::Url;

use crate::destination::{Formats, Merge};
use crate::report;
use crate::sandbox::{SelfTest, Wanted};
use crate::sync::{ColumnRule, Handling, Rules, Salt, SchemaRule, Scope, Selection, SelectionError, Spell, TableRule};

/// For the tests of this folder, which compare what leaves it.
#[cfg(test)]
pub(super) use inshore_protocol as wire;

/// The kind of destination that this version writes to, as the policy spells it.
const KIND: &str = "inshore_files";
/// The stores behind it.
const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "abfss"];

/// What a job does, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) destination: Url,
    pub(crate) tables: Tables,
    /// How this host reaches it.
    pub(crate) options: StoreOptions,
    pub(crate) naming: Naming,
    pub(crate) inference: Inference,
    pub(crate) python_version: Option<String>,
    /// What the connector may do in its sandbox; `None` runs it without.
    pub(crate) sandbox: Option<SandboxPolicy>,
    /// What the connection asks for, within the policy.
    pub(crate) wanted: Wanted,
    /// Whether packages of the connector may be built from source here.
    pub(crate) allow_source_builds: bool,
    /// Whether the connector's lines go to a table of the destination.
    pub(crate) log_table: bool,
}

/// How the destination's tables are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) formats: Formats,
    pub(crate) merge: Merge,
    /// How long what was removed stays for readers of earlier versions.
    pub(crate) retention: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Moves rows.
    Sync,
    /// Runs the setup tests of the connector, and moves nothing.
    Check,
}

/// Why a spec is not run on this host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read the policy {file}")]
    Policy {
        file: String,
        #[source]
        source: inshore_config::Error,
    },
    #[error("the policy does not list the destination {uri}; add it to `destinations` to allow it")]
    DestinationNotListed { uri: String },
    #[error("the policy does not list the connector {digest}; add it to `connector_digests` to allow it")]
    ConnectorNotListed { digest: String },
    #[error(
        "this host cannot make the sandbox for connectors ({reason}) and the policy does not say `allow_unsandboxed = true`"
    )]
    UnsandboxedRefused { reason: String },
    #[error("the policy's mode `locked` asks for signed approval, which this version does not have")]
    ModeRefused,
    #[error("the destination's tables cannot be kept as the job asks")]
    Tables(#[source] TableOptionsError),
    #[error("the job asks for {what}, which this version does not know")]
    Unsupported { what: &'static str },
    #[error(
        "the schema configuration names tables by hashes that another agent told: it can run there only, or with `telemetry.schema_names = true` on all"
    )]
    SchemaForeign,
    #[error("read the schema configuration")]
    Selection(#[source] SelectionError),
}

impl Error {
    /// What the control plane is told when an offer is refused for this.
    pub(crate) fn reason(&self) -> RefusalReason {
        match self {
            Self::Policy { .. } => RefusalReason::Policy,
            Self::DestinationNotListed { .. } => RefusalReason::DestinationNotListed,
            Self::ConnectorNotListed { .. } => RefusalReason::ConnectorNotListed,
            Self::UnsandboxedRefused { .. } => RefusalReason::Sandbox,
            Self::ModeRefused => RefusalReason::Approval,
            Self::Unsupported { .. } | Self::Tables(_) | Self::SchemaForeign | Self::Selection(_) => {
                RefusalReason::Unsupported
            }
        }
    }
}

/// The options of the wire as the lake takes them.
fn tables(options: &TableOptions) -> Result<Tables, Error> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    options.check().map_err(Error::Tables)?;
    let formats = match (options.exposes(TableFormat::Delta), options.exposes(TableFormat::Iceberg)) {
        (true, true) => Formats::Both,
        (false, true) => Formats::Iceberg,
        (_, false) => Formats::Delta,
    };
    let merge = match options.merge {
        MergeMode::CopyOnWrite => Merge::CopyOnWrite,
        MergeMode::PositionDeletes => Merge::PositionDeletes,
        MergeMode::Auto | MergeMode::Unknown => Merge::Auto,
    };
    let retention = options.retention.days().map_or(Duration::MAX, |days| DAY * days);
    Ok(Tables { formats, merge, retention })
}

/// Reads the policy and checks the spec against it.
pub(crate) fn check_with_file(spec: &JobSpec, policy_file: &Path) -> Result<Plan, Error> {
    let policy = Policy::load(policy_file)
        .map_err(|source| Error::Policy { file: policy_file.display().to_string(), source })?;
    // The agent has tried the sandbox; one that cannot be made all the same fails when the connector starts.
    check(spec, &policy, &SelfTest::Passed)
}

/// Checks the spec against the policy and what this host can do.
pub(crate) fn check(spec: &JobSpec, policy: &Policy, sandbox: &SelfTest) -> Result<Plan, Error> {
    if !policy.allows_unapproved_jobs() {
        return Err(Error::ModeRefused);
    }
    if let (false, SelfTest::Failed { reason }) = (policy.allow_unsandboxed, sandbox) {
        return Err(Error::UnsandboxedRefused { reason: reason.clone() });
    }
    let digest = spec.package.digest.to_string();
    if !policy.allows_connector(&digest) {
        return Err(Error::ConnectorNotListed { digest });
    }
    if spec.destination.kind != DestinationKind::InshoreFiles {
        return Err(Error::Unsupported { what: "a kind of destination" });
    }
    let destination = Url::parse(&spec.destination.uri)
        .ok()
        .filter(|url| SCHEMES.contains(&url.scheme()))
        .ok_or(Error::Unsupported { what: "a destination address of no store that is known" })?;
    let listed = policy
        .destination(KIND, &spec.destination.uri)
        .ok_or_else(|| Error::DestinationNotListed { uri: spec.destination.uri.clone() })?;
    let kind = match spec.kind {
        JobKind::Sync => Kind::Sync,
        JobKind::Check => Kind::Check,
        JobKind::Unknown => return Err(Error::Unsupported { what: "a kind of job" }),
    };
    let naming = match spec.naming {
        WireNaming::Fivetran => Naming::Fivetran,
        WireNaming::Source => Naming::Source,
        WireNaming::Unknown => return Err(Error::Unsupported { what: "a naming rule" }),
    };
    let inference = match spec.inference {
        WireInference::Compatible => Inference::Compatible,
        WireInference::Strict => Inference::Strict,
        WireInference::Rich => Inference::Rich,
        WireInference::Unknown => return Err(Error::Unsupported { what: "an inference mode" }),
    };
    if !spec.python_version.as_deref().is_none_or(is_version) {
        return Err(Error::Unsupported { what: "a Python version that is not two numbers" });
    }
    if spec.schema.as_ref().is_some_and(|schema| schema.handling == ChangeHandling::Unknown) {
        return Err(Error::Unsupported { what: "a handling of schema changes" });
    }
    Ok(Plan {
        kind,
        destination,
        tables: tables(&spec.destination.tables)?,
        options: listed.options.clone(),
        naming,
        inference,
        python_version: spec.python_version.clone(),
        wanted: wanted(spec)?,
        sandbox: (!policy.allow_unsandboxed).then(|| policy.sandbox.clone()),
        allow_source_builds: policy.allow_source_builds,
        log_table: policy.logs.connector_sdk_log,
    })
}

fn wanted(spec: &JobSpec) -> Result<Wanted, Error> {
    let rules = spec.egress.as_ref().map(|rules| Egress::parse(rules.iter().map(String::as_str)));
    Ok(Wanted {
        egress: rules.transpose().map_err(|_| Error::Unsupported { what: "an egress rule of another form" })?,
        memory_bytes: spec.resources.memory_bytes,
        cpu_percent: spec.resources.cpu_percent,
        scratch_bytes: spec.resources.scratch_bytes,
    })
}

/// Which tables and columns arrive. `label_key` is that of this host's hashes.
pub(crate) fn selection(
    spec: &JobSpec,
    naming: Naming,
    label_key: [u8; 32],
    salt: Option<[u8; 32]>,
) -> Result<Selection, Error> {
    let Some(config) = &spec.schema else { return Ok(Selection::default()) };
    let handling = match config.handling {
        ChangeHandling::AllowAll => Handling::AllowAll,
        ChangeHandling::AllowColumns => Handling::AllowColumns,
        ChangeHandling::BlockAll => Handling::BlockAll,
        ChangeHandling::Unknown => return Err(Error::Unsupported { what: "a handling of schema changes" }),
    };
    let own = report::key_id(&label_key);
    if config.label_keys.iter().any(|key| key.0 != own) {
        return Err(Error::SchemaForeign);
    }
    let spell: Spell =
        std::sync::Arc::new(move |schema, table, column| report::spelled(&label_key, schema, table, column));
    let spell = (!config.label_keys.is_empty()).then_some(spell);
    let rules = rules(config).renamed(naming);
    Selection::new(handling, rules, spell, salt.map(Salt::new)).map_err(Error::Selection)
}

/// The tables that are to be read again, of those that the destination has and those that are named.
pub(crate) fn resync(
    spec: &JobSpec,
    naming: Naming,
    label_key: [u8; 32],
    at_destination: Vec<TableName>,
) -> Result<Option<Scope>, Error> {
    let Some(scope) = &spec.resync_scope else { return Ok(spec.resync.then_some(None)) };
    let own = report::key_id(&label_key);
    if scope.label_keys.iter().any(|key| key.0 != own) {
        return Err(Error::SchemaForeign);
    }
    let is_hash = |name: &TableName, table: &TableRef| {
        !scope.label_keys.is_empty()
            && report::spelled(&label_key, &name.schema, Some(&name.table), None) == table.table
    };
    let named = |table: &TableRef| TableName::new(&table.schema, rename_table(&table.table, naming));
    let mut tables = at_destination;
    tables.retain(|name| scope.tables.iter().any(|table| is_hash(name, table)));
    // A hash is no table's name; as one it matches nothing.
    tables.extend(scope.tables.iter().map(named));
    Ok(spec.resync.then_some(Some(tables)))
}

fn rules(config: &SchemaConfig) -> Rules {
    let mut rules = Rules::default();
    for schema in &config.schemas {
        let mut rule = SchemaRule { enabled: schema.enabled, ..SchemaRule::default() };
        for table in &schema.tables {
            let columns = table.columns.iter();
            let columns =
                columns.map(|rule| (rule.column.clone(), ColumnRule { enabled: rule.enabled, hashed: rule.hashed }));
            rule.tables.insert(table.table.clone(), TableRule { enabled: table.enabled, columns: columns.collect() });
        }
        rules.0.insert(schema.schema.clone(), rule);
    }
    rules
}

/// Two numbers with a dot. It becomes part of a program's name: nothing from the wire may lead to another folder.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// Why a configuration value could not be had on this host. The key is named, never the value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("open the sealed value of `{key}`: it was sealed to another agent, connection or key")]
    Unopenable { key: String },
    #[error("the policy does not list the secret reference of `{key}`; add it to `secret_references` to allow it")]
    NotListed { key: String },
    #[error("resolve the secret reference of `{key}`")]
    Unresolved {
        key: String,
        #[source]
        source: inshore_config::SecretError,
    },
    #[error("the value of `{key}` has a form that this version does not know")]
    Unsupported { key: String },
    #[error("the policy does not list the variable `{name}`; add it to `environment_variables` to allow it")]
    VariableNotListed { name: String },
    #[error(
        "the connection hashes columns, and the policy names no salt for {uri}: add `hash_salt` to its listing in `destinations`"
    )]
    NoSalt { uri: String },
    #[error("read the salt of hashed columns")]
    SaltUnresolved(#[source] inshore_config::SecretError),
    #[error("the salt of hashed columns is not 64 hexadecimal digits: make one with `openssl rand -hex 32`")]
    SaltMalformed,
    #[error(
        "the salt of hashed columns lies in the agent's state directory: an agent that loses it must hash alike, keep it elsewhere"
    )]
    SaltInState,
}

impl SecretError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unopenable { .. } => Code::SecretUnopenable,
            Self::NotListed { .. } | Self::Unresolved { .. } => Code::SecretUnresolved,
            Self::Unsupported { .. } => Code::ProtocolVersion,
            Self::VariableNotListed { .. } => Code::VariableNotListed,
            Self::NoSalt { .. } | Self::SaltUnresolved(_) | Self::SaltMalformed | Self::SaltInState => {
                Code::HashSaltUnavailable
            }
        }
    }
}

/// What a connector is given, in clear.
pub(crate) struct Opened {
    pub(crate) configuration: Vec<(String, String)>,
    /// Variables of its environment that the policy allows.
    pub(crate) environment: Vec<(String, String)>,
}

/// The connector's configuration and variables in clear: sealed values opened with this host's key, references resolved here where the
/// policy lists them. A value sealed for another agent is passed over: each is sealed once per eligible agent.
pub(crate) fn open_settings(
    spec: &JobSpec,
    policy: &Policy,
    agent_id: &str,
    sealing: &DhSecret,
) -> Result<Opened, SecretError> {
    let allowed = |entry: &&SecretEntry| !is_variable(&entry.key) || !policy.allows_variable(&entry.key);
    if let Some(entry) = spec.environment.iter().find(allowed) {
        return Err(SecretError::VariableNotListed { name: entry.key.clone() });
    }
    let open = |entries, purpose| open_entries(spec, policy, (agent_id, sealing), (entries, purpose));
    Ok(Opened {
        configuration: open(&spec.configuration, "configuration")?,
        environment: open(&spec.environment, "environment")?,
    })
}

/// The salt of hashed columns, where the connection hashes any.
pub(crate) fn open_salt(spec: &JobSpec, policy: &Policy, state_dir: &Path) -> Result<Option<[u8; 32]>, SecretError> {
    let uri = &spec.destination.uri;
    if !spec.schema.as_ref().is_some_and(SchemaConfig::hashes) {
        return Ok(None);
    }
    let reference = policy.hash_salt(KIND, uri).ok_or_else(|| SecretError::NoSalt { uri: uri.clone() })?;
    if let SecretRef::File(path) = reference {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(path).starts_with(real(state_dir)) {
            return Err(SecretError::SaltInState);
        }
    }
    let secret = reference.resolve().map_err(SecretError::SaltUnresolved)?;
    let mut salt = [0; 32];
    hex::decode_to_slice(secret.expose(), &mut salt).map_err(|_| SecretError::SaltMalformed)?;
    Ok(Some(salt))
}

fn open_entries(
    spec: &JobSpec,
    policy: &Policy,
    (agent_id, sealing): (&str, &DhSecret),
    (entries, purpose): (&[SecretEntry], &str),
) -> Result<Vec<(String, String)>, SecretError> {
    let mut opened = Vec::new();
    for entry in entries {
        let key = entry.key.clone();
        let value = match &entry.value {
            SecretValue::Sealed { to, .. } if to.as_str() != agent_id => continue,
            SecretValue::Sealed { data, .. } => {
                let connection_id = spec.connection_id.as_str();
                open_sealed(&SealContext { agent_id, connection_id, purpose, endpoint: &key }, sealing, &data.0)?
            }
            SecretValue::Reference { reference } => resolve(policy, &key, reference)?,
            SecretValue::Unknown => return Err(SecretError::Unsupported { key }),
        };
        opened.push((key, value));
    }
    let missing = entries.iter().find(|entry| !opened.iter().any(|(key, _)| *key == entry.key));
    match missing {
        Some(entry) => Err(SecretError::Unopenable { key: entry.key.clone() }),
        None => Ok(opened),
    }
}

fn open_sealed(context: &SealContext<'_>, sealing: &DhSecret, data: &[u8]) -> Result<String, SecretError> {
    let unopenable = || SecretError::Unopenable { key: context.endpoint.to_owned() };
    let plain = inshore_trust::open(sealing, &context.to_bytes(), data).map_err(|_| unopenable())?;
    String::from_utf8(plain.to_vec()).map_err(|_| unopenable())
}

fn resolve(policy: &Policy, key: &str, reference: &str) -> Result<String, SecretError> {
    let unresolved = |source| SecretError::Unresolved { key: key.to_owned(), source };
    let reference = SecretRef::parse(reference).map_err(unresolved)?;
    if !policy.allows_secret(&reference) {
        return Err(SecretError::NotListed { key: key.to_owned() });
    }
    Ok(reference.resolve().map_err(unresolved)?.expose().to_owned())
}

#[cfg(test)]
mod tests;
