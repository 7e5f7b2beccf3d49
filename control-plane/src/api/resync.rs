//! Reading again what is there: a whole connection, or some of its tables. Old rows stay until the end, which marks those
//! that did not come again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::body::Body;
use super::reply::{Reply, done_with};
use super::{ApiError, connections, syncs};
use crate::app::App;
use crate::store::Connection;

/// Tables of one re-sync.
const TABLES_MAX: usize = 1_000;
/// Everything.
pub(super) const ALL: &str = "{}";

type Tables = BTreeMap<String, BTreeSet<String>>;

/// `{schema: [tables]}`, of which there is at least one.
fn tables(body: &Body) -> Result<Tables, ApiError> {
    let wrong = |what: String| ApiError::invalid(format!("{what} must be a list of at least one table's name"));
    let mut all = Tables::new();
    for (schema, tables) in &body.0 {
        let Value::Array(names) = tables else { return Err(wrong(format!("`{schema}`"))) };
        for name in names {
            let name = name.as_str().filter(|name| !name.is_empty()).ok_or_else(|| wrong(format!("`{schema}`")))?;
            all.entry(schema.clone()).or_default().insert(name.to_owned());
        }
        if names.is_empty() {
            return Err(wrong(format!("`{schema}`")));
        }
    }
    match all.values().map(BTreeSet::len).sum::<usize>() {
        0 => Err(ApiError::invalid("name the tables to re-sync: {\"schema\": [\"table\"]}")),
        TABLES_MAX.. => {
            Err(ApiError::invalid(format!("one re-sync names fewer than {TABLES_MAX} tables; re-sync the connection")))
        }
        _ => Ok(all),
    }
}

/// What is wanted joined with what already waits: of everything and some tables it is everything.
fn joined(waiting: Option<&str>, wanted: Option<&Tables>) -> String {
    let (Some(wanted), false) = (wanted, waiting == Some(ALL)) else { return ALL.to_owned() };
    let mut all: Tables = waiting.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    for (schema, tables) in wanted {
        all.entry(schema.clone()).or_default().extend(tables.iter().cloned());
    }
    json!(all).to_string()
}

/// Notes what is wanted, and queues it unless the connection is paused.
async fn begin(app: &App, mut connection: Connection, wanted: Option<&Tables>) -> Reply {
    syncs::complete(app, &connection).await?;
    connection.resync = Some(note(app, &connection, wanted).await?);
    if connection.paused {
        return Ok(done_with("Re-sync is noted; it begins when the connection is resumed", json!({"sync_id": null})));
    }
    let sync_id = app.jobs.resync(&connection).await?;
    Ok(done_with("Re-sync has been successfully triggered", json!({"sync_id": sync_id})))
}

async fn note(app: &App, connection: &Connection, wanted: Option<&Tables>) -> Result<String, ApiError> {
    let resync = joined(connection.resync.as_deref(), wanted);
    app.store.set_resync(&connection.id, &resync).await?;
    Ok(resync)
}

/// The next sync reads everything again.
pub(super) async fn note_all(app: &App, connection: &Connection) -> Result<(), ApiError> {
    note(app, connection, None).await.map(drop)
}

pub(super) async fn resync(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let connection = connections::find(&app, &id).await?;
    let wanted = if body.has("scope") { Some(tables(&body.object("scope")?)?) } else { None };
    begin(&app, connection, wanted.as_ref()).await
}

pub(super) async fn resync_tables(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let connection = connections::find(&app, &id).await?;
    begin(&app, connection, Some(&tables(&body)?)).await
}

pub(super) async fn resync_table(
    State(app): State<Arc<App>>,
    Path((id, schema, table)): Path<(String, String, String)>,
) -> Reply {
    let connection = connections::find(&app, &id).await?;
    begin(&app, connection, Some(&[(schema, [table].into())].into())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_wanted_become_one() {
        let one = Tables::from([("s".to_owned(), ["b".to_owned()].into())]);
        for (waiting, wanted, expected) in [
            (None, None, ALL),
            (None, Some(&one), r#"{"s":["b"]}"#),
            (Some(r#"{"s":["a"]}"#), Some(&one), r#"{"s":["a","b"]}"#),
            (Some(r#"{"s":["a"]}"#), None, ALL),
            (Some(ALL), Some(&one), ALL),
        ] {
            assert_eq!(joined(waiting, wanted), expected, "{waiting:?}");
        }
    }
}
