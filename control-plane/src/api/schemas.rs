//! The schema of a connection: which of its tables and columns arrive, and which arrive hashed. What is set here counts from
//! the next sync on. Names are those of the destination, or the hashes that an agent tells whose policy keeps names.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::body::Body;
use super::reply::{Reply, done_with, ok};
use super::{ApiError, connections};
use crate::app::App;
use crate::schema::{self, HANDLINGS, is_column_enabled, is_table_enabled};
use crate::store::{ItemChange, Schema, SchemaChange, SchemaItem};

const NAME_BYTES_MAX: usize = 255;
/// Names in one change.
const CHANGES_MAX: usize = 20_000;

/// The one sentence that every change is answered with where it lets something in.
pub(crate) const BACKFILL: &str = "Schema configuration is stored; it counts from the next sync on. What was blocked before is \
    only filled in by a re-sync";
const STORED: &str = "Schema configuration is stored; it counts from the next sync on";

/// What every reply shows: all tables, and of their columns those that somebody decided about.
fn schema_json(schema: &Schema) -> Value {
    let mut schemas = Map::new();
    for item in &schema.items {
        let entry = schemas
            .entry(item.schema.as_str())
            .or_insert_with(|| json!({"name_in_destination": item.schema, "enabled": true, "tables": {}}));
        if item.table.is_empty() {
            entry["enabled"] = json!(item.enabled != Some(false));
            continue;
        }
        let Some(tables) = entry["tables"].as_object_mut() else { continue };
        let own = item.column.is_empty().then_some(item);
        let table = tables.entry(item.table.as_str()).or_insert_with(|| {
            json!({
                "name_in_destination": item.table, "enabled": is_table_enabled(schema, own),
                "supports_columns_config": true, "supports_history_mode": false,
                "enabled_patch_settings": {"allowed": true}, "columns": {},
            })
        });
        if let (true, false, Some(columns)) = (item.touched, item.column.is_empty(), table["columns"].as_object_mut()) {
            columns.insert(item.column.clone(), column_json(schema, item));
        }
    }
    json!({
        "schema_change_handling": schema.handling, "enable_new_by_default": schema.handling == HANDLINGS[0],
        "is_type_locked": schema.type_locked, "schemas": schemas,
    })
}

fn column_json(schema: &Schema, item: &SchemaItem) -> Value {
    let settings = if item.is_key {
        json!({"allowed": false, "reason_code": "OTHER", "reason": "a key column cannot be blocked; it can be hashed"})
    } else {
        json!({"allowed": true})
    };
    json!({
        "name_in_destination": item.column, "enabled": is_column_enabled(schema, item), "hashed": item.hashed,
        "is_primary_key": item.is_key, "enabled_patch_settings": settings,
    })
}

fn not_captured() -> ApiError {
    ApiError::not_found(
        "NotFound_SchemaConfig",
        "no sync of this connection has told its tables yet; POST a configuration to have it count from the first sync on",
    )
}

/// The schema, once there is one.
async fn find(app: &App, id: &str) -> Result<Schema, ApiError> {
    connections::find(app, id).await?;
    let schema = app.store.schema(id).await?;
    if schema.configured || !schema.items.is_empty() { Ok(schema) } else { Err(not_captured()) }
}

/// Stores a change, all of it or nothing.
pub(crate) async fn change(app: &App, id: &str, change: &SchemaChange) -> Result<Schema, ApiError> {
    if change.items.len() > CHANGES_MAX {
        return Err(ApiError::invalid(format!("one change may name at most {CHANGES_MAX} tables and columns")));
    }
    let changed = app.store.change_schema(id, change, schema::check).await?;
    let changed = changed.map_err(|refused| ApiError::invalid(refused.to_string()))?;
    tracing::info!(connection_id = id, items = change.items.len(), "schema configuration changed");
    Ok(changed)
}

async fn changed(app: &App, id: &str, wanted: &SchemaChange) -> Reply {
    let schema = change(app, id, wanted).await?;
    let captured = schema.items.iter().filter(|item| item.captured);
    let captured: HashSet<_> = captured.map(|item| (&item.schema, &item.table, &item.column)).collect();
    let unseen = wanted.items.iter().filter(|item| !item.table.is_empty());
    let unseen = unseen.filter(|item| !captured.contains(&(&item.schema, &item.table, &item.column))).count();
    let lets_in =
        wanted.replace || wanted.rest == Some(true) || wanted.items.iter().any(|item| item.enabled == Some(true));
    let mut message = if lets_in { BACKFILL } else { STORED }.to_owned();
    if unseen > 0 {
        message += &format!(". No sync has told {unseen} of the names: they count once they appear");
    }
    Ok(done_with(&message, schema_json(&schema)))
}

/// One level of the body: a name, and the fields that every level has.
fn item(path: [&str; 3], body: &Body) -> Result<ItemChange, ApiError> {
    let is_name = |name: &&str| name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    let named = path.iter().take_while(|name| !name.is_empty()).count();
    if !path.iter().all(is_name) || path.iter().skip(named).any(|name| !name.is_empty()) || named == 0 {
        return Err(ApiError::invalid(
            "names of schemas, tables and columns have 1 to 255 bytes and no control characters",
        ));
    }
    if body.has("sync_mode") {
        return Err(ApiError::invalid(format!(
            "`sync_mode` of `{}` cannot be set: connections of this service have one",
            path[1]
        )));
    }
    let hashed = body.flag("hashed")?;
    if hashed.is_some() && path[2].is_empty() {
        return Err(ApiError::invalid(format!("`hashed` of `{}`: only columns are hashed", path[named - 1])));
    }
    let [schema, table, column] = path.map(str::to_owned);
    Ok(ItemChange { schema, table, column, enabled: body.flag("enabled")?, hashed })
}

/// The named objects under `field`.
fn named(body: &Body, field: &str) -> Result<Vec<(String, Body)>, ApiError> {
    let object = |(name, value): (String, Value)| match value {
        Value::Object(fields) if !name.is_empty() => Ok((name, Body(fields))),
        _ => Err(ApiError::invalid(format!("`{field}.{name}` must be an object with a name"))),
    };
    body.object(field)?.0.into_iter().map(object).collect()
}

fn of_table(items: &mut Vec<ItemChange>, schema: &str, table: &str, body: &Body) -> Result<(), ApiError> {
    items.push(item([schema, table, ""], body)?);
    for (column, body) in named(body, "columns")? {
        items.push(item([schema, table, &column], &body)?);
    }
    Ok(())
}

fn of_schema(items: &mut Vec<ItemChange>, schema: &str, body: &Body) -> Result<(), ApiError> {
    items.push(item([schema, "", ""], body)?);
    for (table, body) in named(body, "tables")? {
        of_table(items, schema, &table, &body)?;
    }
    Ok(())
}

fn wanted(body: &Body) -> Result<SchemaChange, ApiError> {
    let mut wanted = SchemaChange {
        handling: body.choice("schema_change_handling", &HANDLINGS)?,
        type_locked: body.flag("is_type_locked")?,
        ..SchemaChange::default()
    };
    for (schema, body) in named(body, "schemas")? {
        of_schema(&mut wanted.items, &schema, &body)?;
    }
    Ok(with_decisions(wanted))
}

/// A level that only leads to others decides nothing.
fn with_decisions(mut wanted: SchemaChange) -> SchemaChange {
    wanted.items.retain(|item| item.enabled.is_some() || item.hashed.is_some());
    wanted
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    Ok(ok(schema_json(&find(&app, &id).await?)))
}

/// Takes the place of all that was decided before.
pub(super) async fn create(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    connections::find(&app, &id).await?;
    changed(&app, &id, &SchemaChange { replace: true, ..wanted(&body)? }).await
}

pub(super) async fn update(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    find(&app, &id).await?;
    changed(&app, &id, &wanted(&body)?).await
}

/// Every sync tells the schema anew, so there is nothing to fetch; what is left is a word about all that nobody decided.
pub(super) async fn reload(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let schema = find(&app, &id).await?;
    let rest = match body.choice("exclude_mode", &["PRESERVE", "EXCLUDE", "INCLUDE"])? {
        None | Some("PRESERVE") => return Ok(ok(schema_json(&schema))),
        mode => mode == Some("INCLUDE"),
    };
    changed(&app, &id, &SchemaChange { rest: Some(rest), ..SchemaChange::default() }).await
}

pub(super) async fn update_schema(
    State(app): State<Arc<App>>,
    Path((id, schema)): Path<(String, String)>,
    body: Body,
) -> Reply {
    find(&app, &id).await?;
    let mut wanted = SchemaChange::default();
    of_schema(&mut wanted.items, &schema, &body)?;
    changed(&app, &id, &with_decisions(wanted)).await
}

pub(super) async fn update_table(
    State(app): State<Arc<App>>,
    Path((id, schema, table)): Path<(String, String, String)>,
    body: Body,
) -> Reply {
    find(&app, &id).await?;
    let mut wanted = SchemaChange::default();
    of_table(&mut wanted.items, &schema, &table, &body)?;
    changed(&app, &id, &with_decisions(wanted)).await
}

pub(super) async fn update_column(
    State(app): State<Arc<App>>,
    Path((id, schema, table, column)): Path<(String, String, String, String)>,
    body: Body,
) -> Reply {
    find(&app, &id).await?;
    let items = vec![item([&schema, &table, &column], &body)?];
    changed(&app, &id, &with_decisions(SchemaChange { items, ..SchemaChange::default() })).await
}

/// All columns of one table.
pub(super) async fn columns(
    State(app): State<Arc<App>>,
    Path((id, schema_name, table)): Path<(String, String, String)>,
) -> Reply {
    let schema = find(&app, &id).await?;
    let of_table = |item: &&SchemaItem| item.schema == schema_name && item.table == table;
    if !schema.items.iter().any(|item| of_table(&item)) {
        return Err(ApiError::not_found("NotFound_Table", "no sync of this connection has named such a table"));
    }
    let columns = schema.items.iter().filter(of_table).filter(|item| !item.column.is_empty());
    let columns: Map<_, _> = columns.map(|item| (item.column.clone(), column_json(&schema, item))).collect();
    Ok(ok(json!({"columns": columns})))
}
