//! Starting, reading, awaiting and cancelling syncs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use inshore_protocol::{Blame, Class, Code, Stage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::paging::Paging;
use super::reply::{Reply, done_with, ok};
use super::{ApiError, connections};
use crate::app::App;
use crate::catalogue;
use crate::job::{Cause, LiveView};
use crate::store::{Connection, Page, Sync, SyncFilter, Totals};
use crate::time::Timestamp;

const WAIT_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
pub(super) struct Wait {
    wait: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    status: Option<String>,
}

/// The rows and stage of a sync: of its newest progress while it runs, of its outcome afterwards.
pub(crate) fn totals_now(sync: &Sync, live: Option<&LiveView>) -> (Totals, Option<&'static str>) {
    match live.and_then(|live| live.progress.as_ref()) {
        Some(progress) => (crate::job::totals_of_progress(progress), stage_text(progress.stage)),
        None if sync.status == "succeeded" => (sync.totals, Some("done")),
        None => (sync.totals, None),
    }
}

fn stage_text(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Prepare => Some("prepare"),
        Stage::Extract => Some("extract"),
        Stage::Stage => Some("stage"),
        Stage::Commit => Some("commit"),
        Stage::Done => Some("done"),
        Stage::Unknown => None,
    }
}

/// A sync as every reply shows it.
pub(crate) fn sync_json(sync: &Sync, live: Option<&LiveView>) -> Value {
    let text = |at: Option<Timestamp>| at.map(Timestamp::text);
    let (totals, stage) = totals_now(sync, live);
    json!({
        "id": sync.id, "connection_id": sync.connection_id, "trigger": sync.trigger,
        "type": if sync.historical { "historical" } else { "incremental" }, "status": sync.status,
        "attempt": sync.attempt, "generation": sync.generation, "queued_at": sync.queued_at.text(),
        "started_at": text(sync.started_at), "finished_at": text(sync.finished_at), "agent_id": sync.agent_id,
        "package_id": sync.package_id, "python_version": sync.python_version, "stage": stage,
        "rows": {
            "upserts": totals.upserts, "updates": totals.updates, "deletes": totals.deletes,
            "truncates": totals.truncates,
        },
        "rows_per_s": live.map(|live| live.rows_per_s), "lease": live.map(|live| live.lease),
        "cancelling": live.is_some_and(|live| live.cancelling),
        "bytes": totals.bytes, "checkpoints": totals.checkpoints,
        "last_checkpoint_at": text(totals.last_checkpoint_at), "state_bytes": sync.state_bytes,
        "delivery": sync.delivery, "warnings": parsed(&sync.warnings), "error": error_json(sync.code.as_deref()),
        "rescheduled_for": text(sync.rescheduled_for), "nothing_moved_reason": sync.nothing_moved,
    })
}

/// Why a queued sync does not start.
pub(crate) async fn waiting_for(app: &App, connection: &Connection) -> Result<&'static str, ApiError> {
    let agents = app.store.agents(None, &Page::ALL).await?;
    let eligible: Vec<_> =
        agents.iter().filter(|agent| agent.is_eligible(&connection.group_id, connection.agent_id.as_deref())).collect();
    Ok(if eligible.is_empty() {
        "No agent may run this connection yet: enrol one in its group."
    } else if eligible.iter().all(|agent| app.sessions.get(&agent.id).is_none()) {
        "Waiting: no agent of this connection is online. Start the agent on its host."
    } else {
        "Waiting for an agent to take it."
    })
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json!([]))
}

/// Class, blame and words by code, from our own tables: nothing a connector said.
fn error_json(code: Option<&str>) -> Value {
    let Some(text) = code else { return Value::Null };
    let code = Code::from_text(text).unwrap_or(Code::Unknown);
    let class = match code.class() {
        Class::Retry => "Retry",
        Class::Fix => "Fix",
        Class::Bug | Class::Unknown => "Bug",
    };
    let blame = match code.blame() {
        Blame::Source => "Source",
        Blame::Destination => "Destination",
        Blame::Tunnel => "Tunnel",
        Blame::ControlPlane => "ControlPlane",
        Blame::Agent | Blame::Unknown => "Agent",
    };
    json!({
        "code": text, "slug": code.slug(), "class": class, "blame": blame, "message": catalogue::message(code),
        "hint": format!("docs/errors/{text}.md"), "schema": null, "table": null, "column": null, "log_ref": null,
    })
}

async fn find(app: &App, sync_id: &str) -> Result<Sync, ApiError> {
    let sync = app.store.sync(sync_id).await?;
    sync.ok_or_else(|| ApiError::not_found("NotFound_Sync", "there is no such sync"))
}

async fn find_of(app: &App, connection_id: &str, sync_id: &str) -> Result<Sync, ApiError> {
    connections::find(app, connection_id).await?;
    let sync = find(app, sync_id).await?;
    if sync.connection_id == connection_id {
        Ok(sync)
    } else {
        Err(ApiError::not_found("NotFound_Sync", "the connection has no such sync"))
    }
}

/// Refuses what could never start.
pub(super) async fn runnable(app: &App, connection: &Connection) -> Result<(), ApiError> {
    if connection.paused {
        return Err(ApiError::conflict("the connection is paused"));
    }
    complete(app, connection).await
}

/// Refuses what no agent could be given.
pub(super) async fn complete(app: &App, connection: &Connection) -> Result<(), ApiError> {
    if connection.package_id.is_none() {
        return Err(ApiError::conflict("the connection has no package: set `config.package_id`"));
    }
    if app.store.destination(&connection.group_id).await?.is_none() {
        return Err(ApiError::conflict("the group has no destination"));
    }
    Ok(())
}

async fn begin(app: &App, id: &str, cause: Cause, force: bool) -> Reply {
    let connection = connections::find(app, id).await?;
    runnable(app, &connection).await?;
    let sync_id =
        if force { app.jobs.restart(&connection, cause).await? } else { app.jobs.request(&connection, cause).await? };
    Ok(done_with("Sync has been successfully triggered for connection", json!({"sync_id": sync_id})))
}

pub(super) async fn start(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    begin(&app, &id, Cause::Request, body.flag("force")?.unwrap_or(false)).await
}

/// The old name: starts one unless one runs.
pub(super) async fn start_legacy(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    begin(&app, &id, Cause::Request, false).await
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
    Query(filter): Query<Filter>,
) -> Reply {
    connections::find(&app, &id).await?;
    let filter = SyncFilter { connection_id: Some(id), status: filter.status };
    let syncs = app.store.syncs(&filter, &paging.page()?).await?;
    let mut items = Vec::with_capacity(syncs.len());
    for sync in &syncs {
        items.push(sync_json(sync, app.jobs.view(&sync.id).await.as_ref()));
    }
    Ok(ok(paging.list(syncs, |sync| (sync.queued_at, &sync.id), items)))
}

async fn awaited(app: &App, sync: Sync, wait: &Wait) -> Reply {
    let time = match wait.wait.as_deref() {
        None => None,
        Some(text) => Some(seconds(text).ok_or_else(|| ApiError::invalid("`wait` must look like 60s"))?),
    };
    let sync = match time {
        Some(time) if !sync.ended => {
            tokio::select! {
                biased;
                () = app.jobs.wait(&sync.id, time) => {}
                // Shutdown does not wait for those who wait.
                () = app.tasks.stopped() => {}
            }
            find(app, &sync.id).await?
        }
        _ => sync,
    };
    let live = app.jobs.view(&sync.id).await;
    let mut reply = sync_json(&sync, live.as_ref());
    if sync.status == "queued"
        && let Some(connection) = app.store.connection(&sync.connection_id).await?
    {
        reply["waiting_for"] = json!(waiting_for(app, &connection).await?);
    }
    Ok(ok(reply))
}

fn seconds(text: &str) -> Option<Duration> {
    let number: u64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    Some(Duration::from_secs(number).min(WAIT_MAX))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(sync_id): Path<String>, Query(wait): Query<Wait>) -> Reply {
    let sync = find(&app, &sync_id).await?;
    awaited(&app, sync, &wait).await
}

pub(super) async fn read_of_connection(
    State(app): State<Arc<App>>,
    Path((id, sync_id)): Path<(String, String)>,
    Query(wait): Query<Wait>,
) -> Reply {
    let sync = find_of(&app, &id, &sync_id).await?;
    awaited(&app, sync, &wait).await
}

/// Per table: what the newest progress or the outcome said.
pub(super) async fn tables(State(app): State<Arc<App>>, Path((id, sync_id)): Path<(String, String)>) -> Reply {
    let sync = find_of(&app, &id, &sync_id).await?;
    let live = app.jobs.view(&sync.id).await;
    let tables = match live.and_then(|live| live.progress) {
        Some(progress) => json!(progress.tables),
        None => parsed(&sync.tables),
    };
    Ok(ok(json!({"items": tables, "next_cursor": null})))
}

pub(super) async fn cancel(State(app): State<Arc<App>>, Path((id, sync_id)): Path<(String, String)>) -> Reply {
    let sync = find_of(&app, &id, &sync_id).await?;
    app.jobs.cancel(&sync.id).await?;
    let sync = find(&app, &sync_id).await?;
    Ok(done_with("Sync is being cancelled", sync_json(&sync, app.jobs.view(&sync_id).await.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_and_capped() {
        for (text, expected) in [("60s", Some(60)), ("5", Some(5)), ("999s", Some(120)), ("soon", None), ("", None)] {
            assert_eq!(seconds(text).map(|time| time.as_secs()), expected, "{text}");
        }
    }
}
