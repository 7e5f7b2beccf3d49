//! The wire spec of a sync, built for the one agent that is offered it: only its own sealed values go in.

use std::collections::HashMap;

use inshore_protocol::{
    AgentId, Base64Bytes, ConnectionId, DestinationId, DestinationKind, DestinationSpec, GroupId, Inference, InvalidId,
    JobId, JobKind, JobSpec, Naming, PackageDigest, PackageRef, Resources, SecretEntry, SecretValue, Trigger,
};

use crate::lease::Holder;
use crate::schema;
use crate::store::{self, Bounds, Connection, Destination, Package, Purpose, SettingKey, Store, Sync};

/// The settings that only an agent with a sealed copy can use.
pub(super) async fn sealed_keys(store: &Store, connection: &Connection) -> Result<Vec<SettingKey>, store::Error> {
    let settings = store.settings(&connection.id).await?;
    Ok(settings
        .into_iter()
        .filter(|setting| setting.reference.is_none())
        .map(|setting| (setting.purpose, setting.key))
        .collect())
}

/// Whether this agent has a copy of each, sealed to the key it has now.
pub(super) async fn has_all(
    store: &Store,
    connection: &Connection,
    agent_id: &str,
    keys: &[SettingKey],
) -> Result<bool, store::Error> {
    if keys.is_empty() {
        return Ok(true);
    }
    let sealed = store.sealed_for(&connection.id, agent_id).await?;
    Ok(keys.iter().all(|key| sealed.iter().any(|(sealed_key, _)| sealed_key == key)))
}

/// What an agent is asked to do for a connection.
pub(super) struct Asked<'a> {
    pub(super) job_id: &'a str,
    pub(super) kind: JobKind,
    pub(super) trigger: Trigger,
    pub(super) package_id: Option<&'a str>,
    pub(super) python_version: Option<&'a str>,
    pub(super) resync: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn sync(sync: &'a Sync, holder: &Holder) -> Self {
        let trigger = match sync.trigger.as_str() {
            _ if holder.generation > 1 => Trigger::Takeover,
            "schedule" => Trigger::Schedule,
            "retry" => Trigger::Retry,
            _ => Trigger::Request,
        };
        let (package_id, python_version) = (sync.package_id.as_deref(), sync.python_version.as_deref());
        let resync = sync.resync.as_deref();
        Self { job_id: &sync.id, kind: JobKind::Sync, trigger, package_id, python_version, resync }
    }
}

/// None where the package or the destination is gone.
pub(super) async fn build(
    store: &Store,
    asked: &Asked<'_>,
    connection: &Connection,
    holder: &Holder,
) -> Result<Option<JobSpec>, store::Error> {
    let package = match asked.package_id {
        Some(id) => store.package(id).await?,
        None => None,
    };
    let (Some(package), Some(destination)) = (package, store.destination(&connection.group_id).await?) else {
        return Ok(None);
    };
    let mut sealed: HashMap<_, _> = store.sealed_for(&connection.id, &holder.agent_id).await?.into_iter().collect();
    let (mut configuration, mut environment) = (Vec::new(), Vec::new());
    for setting in store.settings(&connection.id).await? {
        let key = (setting.purpose, setting.key);
        let value = match setting.reference {
            Some(reference) => SecretValue::Reference { reference },
            None => match (sealed.remove(&key), AgentId::new(holder.agent_id.as_str())) {
                (Some(data), Ok(to)) => SecretValue::Sealed { to, data: Base64Bytes(data) },
                _ => return Ok(None),
            },
        };
        let (purpose, key) = key;
        match purpose {
            Purpose::Configuration => configuration.push(SecretEntry { key, value }),
            Purpose::Environment => environment.push(SecretEntry { key, value }),
        }
    }
    let spec = assemble(asked, connection, holder, (&package, &destination), (configuration, environment)).ok();
    let known = store.schema(&connection.id).await?;
    let resync_scope = asked.resync.and_then(|scope| schema::resync_scope(&known, scope));
    let (schema, resync) = (schema::config(&known), asked.resync.is_some());
    Ok(spec.map(|spec| JobSpec { schema, resync, resync_scope, ..spec }))
}

fn resources(bounds: &Bounds) -> Resources {
    let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    Resources {
        memory_bytes: bytes(bounds.memory_bytes),
        cpu_percent: bounds.cpu_percent.and_then(|percent| u32::try_from(percent).ok()),
        scratch_bytes: bytes(bounds.scratch_bytes),
    }
}

fn assemble(
    asked: &Asked<'_>,
    connection: &Connection,
    holder: &Holder,
    (package, destination): (&Package, &Destination),
    (configuration, environment): (Vec<SecretEntry>, Vec<SecretEntry>),
) -> Result<JobSpec, InvalidId> {
    Ok(JobSpec {
        job_id: JobId::new(asked.job_id)?,
        generation: holder.generation,
        connection_id: ConnectionId::new(connection.id.as_str())?,
        group_id: GroupId::new(connection.group_id.as_str())?,
        kind: asked.kind,
        trigger: asked.trigger,
        connection_name: connection.schema_name.clone(),
        package: PackageRef {
            digest: PackageDigest::new(package.sha256.as_str())?,
            bytes: u64::try_from(package.bytes).unwrap_or(0),
        },
        python_version: asked.python_version.map(str::to_owned),
        naming: if connection.naming == "SOURCE_NAMING" { Naming::Source } else { Naming::Fivetran },
        inference: match connection.inference.as_str() {
            "strict" => Inference::Strict,
            "rich" => Inference::Rich,
            _ => Inference::Compatible,
        },
        egress: connection.bounds.egress.clone(),
        resources: resources(&connection.bounds),
        type_locked: connection.type_locked,
        schema: None,
        destination: DestinationSpec {
            kind: DestinationKind::InshoreFiles,
            destination_id: DestinationId::new(destination.id.as_str())?,
            uri: destination.uri.clone(),
            tables: destination.tables.clone(),
        },
        configuration,
        environment,
        resync: false,
        resync_scope: None,
        run_ms_max: None,
    })
}
