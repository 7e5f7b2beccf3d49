//! `/v1/destinations`. One per group, under the group's id. Whether an agent may write there is its own policy's decision.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use inshore_protocol::{MergeMode, SnapshotRetention, TableFormat, TableOptions, TableOptionsError};
use serde_json::{Value, json};

use super::body::Body;
use super::paging::Paging;
use super::reply::{Reply, created, done, ok};
use super::{ApiError, groups, place};
use crate::app::App;
use crate::store::Destination;
use crate::time::Timestamp;

fn destination_json(destination: &Destination) -> Value {
    json!({
        "id": destination.id, "group_id": destination.id, "service": destination.service, "region": destination.region,
        "time_zone_offset": destination.time_zone_offset, "setup_status": "CONNECTED",
        "config": config_json(destination), "hybrid_deployment_agent_id": destination.agent_id,
        "networking_method": "Directly", "setup_tests": [], "daylight_saving_time_enabled": false,
        "proxy_agent_id": null, "private_link_id": null,
    })
}

fn config_json(destination: &Destination) -> Value {
    let TableOptions { formats, merge, retention } = &destination.tables;
    let mut config = place::shown(&destination.service, &destination.uri);
    let tables = json!({"table_formats": formats, "merge": merge, "snapshot_retention_period": retention});
    config.extend(tables.as_object().cloned().unwrap_or_default());
    config.into()
}

/// The options with what the configuration names changed; together they must make sense.
fn changed_tables(mut tables: TableOptions, config: &Body) -> Result<TableOptions, ApiError> {
    let invalid = |name: &str, what: &str| ApiError::invalid(format!("`config.{name}`: {what}"));
    if let Some(formats) = config.0.get("table_formats").filter(|value| !value.is_null()) {
        let formats: Result<Vec<TableFormat>, _> = serde_json::from_value(formats.clone());
        tables.formats = formats.map_err(|_| invalid("table_formats", "must be a list of delta, iceberg"))?;
        let mut seen = Vec::new();
        tables.formats.retain(|format| {
            !seen.contains(format) && {
                seen.push(*format);
                true
            }
        });
    }
    if let Some(merge) = config.text("merge")? {
        tables.merge = serde_json::from_value(merge.into()).unwrap_or(MergeMode::Unknown);
    }
    if let Some(retention) = config.text("snapshot_retention_period")? {
        tables.retention = serde_json::from_value(retention.into()).unwrap_or(SnapshotRetention::Unknown);
    }
    let name = |error: &TableOptionsError| match error {
        TableOptionsError::NoFormat | TableOptionsError::UnknownFormat => "table_formats",
        TableOptionsError::UnknownMerge | TableOptionsError::MarksUnderDelta => "merge",
        TableOptionsError::UnknownRetention => "snapshot_retention_period",
    };
    tables.check().map_err(|error| invalid(name(&error), &error.to_string()))?;
    Ok(tables)
}

async fn find(app: &App, id: &str) -> Result<Destination, ApiError> {
    let destination = app.store.destination(id).await?;
    destination.ok_or_else(|| ApiError::not_found("NotFound_Destination", "there is no such destination"))
}

pub(super) async fn list(State(app): State<Arc<App>>, Query(paging): Query<Paging>) -> Reply {
    let destinations = app.store.destinations(&paging.page()?).await?;
    let items = destinations.iter().map(destination_json).collect();
    Ok(ok(paging.list(destinations, |destination| (destination.created_at, &destination.id), items)))
}

pub(super) async fn create(State(app): State<Arc<App>>, body: Body) -> Reply {
    let group_id = body.required("group_id")?;
    groups::find(&app, &group_id).await?;
    let service =
        body.choice("service", &place::SERVICES)?.ok_or_else(|| ApiError::invalid("`service` is required"))?;
    if app.store.destination(&group_id).await?.is_some() {
        return Err(ApiError::conflict("the group has a destination; change it with PATCH"));
    }
    let config = body.object("config")?;
    let destination = Destination {
        id: group_id,
        service: service.to_owned(),
        uri: place::address(service, &config)?,
        tables: changed_tables(TableOptions::default(), &config)?,
        region: body.text("region")?.unwrap_or_default(),
        time_zone_offset: body.text("time_zone_offset")?.unwrap_or_else(|| "0".to_owned()),
        agent_id: body.text("hybrid_deployment_agent_id")?,
        created_at: Timestamp::now(),
    };
    app.store.put_destination(&destination).await?;
    Ok(created("Destination has been created", destination_json(&destination)))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    Ok(ok(destination_json(&find(&app, &id).await?)))
}

pub(super) async fn update(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let mut destination = find(&app, &id).await?;
    let config = body.object("config")?;
    destination.uri = place::changed(&destination.service, &destination.uri, &config)?;
    destination.tables = changed_tables(destination.tables, &config)?;
    if let Some(region) = body.text("region")? {
        destination.region = region;
    }
    if let Some(offset) = body.text("time_zone_offset")? {
        destination.time_zone_offset = offset;
    }
    if body.has("hybrid_deployment_agent_id") {
        destination.agent_id = body.text("hybrid_deployment_agent_id")?;
    }
    app.store.put_destination(&destination).await?;
    Ok(ok(destination_json(&destination)))
}

pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    find(&app, &id).await?;
    if !app.store.delete_destination(&id).await? {
        return Err(ApiError::conflict("connections still write to this destination"));
    }
    Ok(done("Destination has been deleted"))
}
