//! `/v1/connections`, alias `/v1/connectors`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::paging::Paging;
use super::reply::{Reply, created, done, ok};
use super::secrets::{self, secrets_json};
use super::{ApiError, Caller, bounds, fresh_id, groups, resync, setup_tests};
use crate::app::App;
use crate::schedule::FREQUENCIES;
use crate::store::{self, Bounds, Connection, ConnectionFilter, Purpose};
use crate::time::Timestamp;

/// What is read of `config`.
const CONFIG_KEYS: [&str; 9] = [
    "schema",
    "package_id",
    "python_version",
    "secrets_list",
    "environment_variables",
    "inference",
    "egress",
    "resources",
    "is_type_locked",
];
/// A key of at most so many edits from one of ours is a typing error.
const SPELLING_DISTANCE: usize = 2;
const SERVICES: [&str; 1] = ["connector_sdk"];
const NAMINGS: [&str; 2] = ["FIVETRAN_NAMING", "SOURCE_NAMING"];
/// How the types of undeclared columns follow from the connector's values; the first is the default.
const INFERENCES: [&str; 3] = ["compatible", "strict", "rich"];
const NETWORKING: [&str; 4] = ["Directly", "SshTunnel", "PrivateLink", "ProxyAgent"];
const FREQUENCY_DEFAULT: i64 = 360;
const SCHEMA_BYTES_MAX: usize = 255;

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    group_id: Option<String>,
    schema: Option<String>,
}

/// A connection as every reply shows it. Its secrets are masked.
pub(super) async fn connection_json(app: &App, connection: &Connection) -> Result<Value, ApiError> {
    let settings = app.store.settings(&connection.id).await?;
    let active = app.jobs.is_active(&connection.id).await;
    let text = |at: Option<Timestamp>| at.map(Timestamp::text);
    let sync_state = match connection.rescheduled_for {
        _ if active => "syncing",
        _ if connection.paused => "paused",
        Some(_) => "rescheduled",
        None => "scheduled",
    };
    Ok(json!({
        "id": connection.id, "group_id": connection.group_id, "service": connection.service, "service_version": 0,
        "schema": connection.schema_name, "connected_by": connection.connected_by,
        "created_at": connection.created_at.text(), "succeeded_at": text(connection.succeeded_at),
        "failed_at": text(connection.failed_at), "paused": connection.paused, "pause_after_trial": false,
        "sync_frequency": connection.frequency, "schedule_type": if connection.manual { "manual" } else { "auto" },
        "daily_sync_time": null, "data_delay_sensitivity": "NORMAL", "data_delay_threshold": 0,
        "networking_method": connection.networking, "proxy_agent_id": null, "private_link_id": null,
        "hybrid_deployment_agent_id": connection.agent_id, "destination_schema_names": connection.naming,
        "schedule": schedule_json(connection),
        "config": {
            "schema": connection.schema_name, "package_id": connection.package_id,
            "python_version": connection.python_version, "inference": connection.inference,
            "egress": connection.bounds.egress, "resources": bounds::resources_json(&connection.bounds),
            "is_type_locked": connection.type_locked,
            "secrets_list": secrets_json(&settings, Purpose::Configuration),
            "environment_variables": secrets_json(&settings, Purpose::Environment),
        },
        "setup_tests": serde_json::from_str::<Value>(&connection.setup_tests).unwrap_or_else(|_| json!([])),
        "status": {
            "setup_state": if connection.package_id.is_some() { "connected" } else { "incomplete" },
            "sync_state": sync_state, "update_state": "on_schedule", "is_historical_sync": connection.historical || connection.resync.as_deref() == Some(resync::ALL),
            "rescheduled_for": text(connection.rescheduled_for), "tasks": [], "warnings": [],
        },
    }))
}

/// When syncs begin by themselves; a connection that only runs on request has no schedule.
fn schedule_json(connection: &Connection) -> Value {
    if connection.manual {
        return Value::Null;
    }
    json!({"schedule_type": "INTERVAL", "interval": connection.frequency})
}

/// The connection, or the reply that both spellings of the route give.
pub(super) async fn find(app: &App, id: &str) -> Result<Connection, ApiError> {
    let connection = app.store.connection(id).await?;
    connection.ok_or_else(|| ApiError::not_found("NotFound_Connector", "there is no such connection"))
}

async fn list_filtered(app: &App, filter: ConnectionFilter, paging: &Paging) -> Reply {
    let connections = app.store.connections(&filter, &paging.page()?).await?;
    let mut items = Vec::with_capacity(connections.len());
    for connection in &connections {
        items.push(connection_json(app, connection).await?);
    }
    Ok(ok(paging.list(connections, |connection| (connection.created_at, &connection.id), items)))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> Reply {
    list_filtered(&app, ConnectionFilter { group_id: filter.group_id, schema_name: filter.schema }, &paging).await
}

pub(super) async fn list_of_group(
    State(app): State<Arc<App>>,
    Path(group_id): Path<String>,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> Reply {
    groups::find(&app, &group_id).await?;
    list_filtered(&app, ConnectionFilter { group_id: Some(group_id), schema_name: filter.schema }, &paging).await
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Body,
) -> Reply {
    let group_id = body.required("group_id")?;
    groups::find(&app, &group_id).await?;
    let tested = setup_tests::asked(&body)?;
    let service = body.choice("service", &SERVICES)?.ok_or_else(|| ApiError::invalid("`service` is required"))?;
    let config = body.object("config")?;
    let mut connection = Connection {
        id: fresh_id("connection"),
        group_id,
        service: service.to_owned(),
        schema_name: schema_name(&body, &config)?,
        naming: body.choice("destination_schema_names", &NAMINGS)?.unwrap_or("FIVETRAN_NAMING").to_owned(),
        inference: INFERENCES[0].to_owned(),
        bounds: Bounds::default(),
        type_locked: false,
        package_id: None,
        python_version: None,
        agent_id: None,
        paused: false,
        frequency: FREQUENCY_DEFAULT,
        manual: false,
        networking: "Directly".to_owned(),
        connected_by: caller,
        created_at: Timestamp::now(),
        succeeded_at: None,
        failed_at: None,
        rescheduled_for: None,
        attempt: 0,
        historical: true,
        setup_tests: "[]".to_owned(),
        resync: None,
    };
    apply(&app, &mut connection, &body, &config).await?;
    let settings = secrets::take(&app, &connection, &config).await?;
    app.store.add_connection(&connection, &settings).await.map_err(taken)?;
    app.jobs.wake();
    setup_tests::run_if(tested, &app, &connection).await?;
    let connection = find(&app, &connection.id).await?;
    Ok(created("Connection has been created", connection_json(&app, &connection).await?))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let connection = find(&app, &id).await?;
    Ok(ok(connection_json(&app, &connection).await?))
}

/// Merges: what is absent keeps its value.
pub(super) async fn update(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let mut connection = find(&app, &id).await?;
    let tested = setup_tests::asked(&body)?;
    let config = body.object("config")?;
    let before = connection.clone();
    apply(&app, &mut connection, &body, &config).await?;
    let everything = body.flag("is_historical_sync")? == Some(true);
    let settings = secrets::take(&app, &connection, &config).await?;
    app.store.update_connection(&connection, &settings).await?;
    if everything {
        resync::note_all(&app, &connection).await?;
    }
    if !settings.is_empty() || setup_tests::is_outdated(&before, &connection) {
        app.setup_tests.outdate(&app.store, &id).await?;
    }
    app.jobs.wake();
    setup_tests::run_if(tested, &app, &connection).await?;
    let connection = find(&app, &id).await?;
    Ok(ok(connection_json(&app, &connection).await?))
}

/// Its run is cancelled; what it wrote stays.
pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    find(&app, &id).await?;
    app.jobs.cancel_connection(&id).await?;
    app.store.delete_connection(&id).await?;
    app.setup_tests.outdate(&app.store, &id).await?;
    app.jobs.wake();
    Ok(done("Connection has been deleted"))
}

/// Clients send fields that mean nothing here; one that is nearly ours was meant to be ours.
fn check_spelling(config: &Body) -> Result<(), ApiError> {
    for key in config.0.keys().filter(|key| !CONFIG_KEYS.contains(&key.as_str())) {
        if let Some(meant) =
            CONFIG_KEYS.iter().find(|known| strsim::damerau_levenshtein(known, key) <= SPELLING_DISTANCE)
        {
            return Err(ApiError::invalid(format!("`config.{key}` is not known; did you mean `config.{meant}`?")));
        }
    }
    Ok(())
}

/// The fields that create and PATCH share.
async fn apply(app: &App, connection: &mut Connection, body: &Body, config: &Body) -> Result<(), ApiError> {
    check_spelling(config)?;
    if let Some(paused) = body.flag("paused")? {
        connection.paused = paused;
    }
    if let Some(frequency) = frequency(body)? {
        connection.frequency = frequency;
    }
    if let Some(kind) = body.choice("schedule_type", &["auto", "manual"])? {
        connection.manual = kind == "manual";
    }
    if let Some(networking) = body.choice("networking_method", &NETWORKING)? {
        connection.networking = networking.to_owned();
    }
    if body.has("hybrid_deployment_agent_id") {
        connection.agent_id = body.text("hybrid_deployment_agent_id")?;
        if let Some(agent_id) = &connection.agent_id {
            let agent = app.store.agent(agent_id).await?;
            let agent =
                agent.ok_or_else(|| ApiError::not_found("NotFound_RemoteExecutionAgent", "there is no such agent"))?;
            if !agent.serves(&connection.group_id) {
                return Err(ApiError::invalid("the agent of `hybrid_deployment_agent_id` serves another group"));
            }
        }
    }
    if let Some(package_id) = config.text("package_id")? {
        let package = app.store.package(&package_id).await?;
        package.ok_or_else(|| ApiError::not_found("NotFound_ConnectorSdkPackage", "there is no such package"))?;
        connection.package_id = Some(package_id);
    }
    if let Some(inference) = config.choice("inference", &INFERENCES)? {
        connection.inference = inference.to_owned();
    }
    bounds::apply(&mut connection.bounds, config)?;
    if let Some(locked) = config.flag("is_type_locked")? {
        connection.type_locked = locked;
    }
    if config.has("python_version") {
        connection.python_version = config.text("python_version")?;
        if connection.python_version.as_deref().is_some_and(|version| !is_python_version(version)) {
            return Err(ApiError::invalid("`config.python_version` must look like 3.13"));
        }
    }
    Ok(())
}

fn frequency(body: &Body) -> Result<Option<i64>, ApiError> {
    let asked = match body.number("sync_frequency")? {
        Some(minutes) => Some(minutes),
        None => body.object("schedule")?.number("interval")?,
    };
    match asked {
        Some(minutes) if !FREQUENCIES.contains(&minutes) => {
            Err(ApiError::invalid(format!("`sync_frequency` must be one of {FREQUENCIES:?} minutes")))
        }
        asked => Ok(asked),
    }
}

fn schema_name(body: &Body, config: &Body) -> Result<String, ApiError> {
    let name = match config.text("schema")? {
        Some(name) => name,
        None => body.required("schema").map_err(|_| ApiError::invalid("`config.schema` is required"))?,
    };
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte == b'_' || byte.is_ascii_lowercase());
    let rest = bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if first && rest && name.len() <= SCHEMA_BYTES_MAX {
        Ok(name)
    } else {
        Err(ApiError::invalid("`config.schema` must match ^[_a-z][_a-z0-9]*$"))
    }
}

fn is_python_version(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| {
        major == "3" && !minor.is_empty() && minor.len() <= 2 && minor.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn taken(error: store::Error) -> ApiError {
    if error.is_taken() { ApiError::conflict("the group has a connection of this `schema`") } else { error.into() }
}
