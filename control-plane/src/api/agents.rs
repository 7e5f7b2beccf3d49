//! `/v1/hybrid-deployment-agents`. Creating one gives a join token, once; deleting one revokes its identity.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use inshore_protocol::limits::JOIN_TOKEN;
use inshore_trust::JoinToken;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::paging::Paging;
use super::reply::{Reply, created, done, ok};
use super::{ApiError, Caller, fresh_id, groups};
use crate::app::App;
use crate::store::{Agent, Connection, ConnectionFilter, NewAgent, Page};
use crate::time::Timestamp;

const DEPLOYMENTS: [&str; 5] = ["STANDALONE", "DOCKER", "PODMAN", "KUBERNETES", "SNOWPARK"];

#[derive(Debug, Deserialize)]
pub(super) struct OfGroup {
    #[serde(rename = "groupId", alias = "group_id")]
    group_id: Option<String>,
}

fn agent_json(app: &App, agent: &Agent, connections: &[Connection]) -> Value {
    let online = app.sessions.get(&agent.id);
    let usage: Vec<_> = connections
        .iter()
        .filter(|connection| agent.is_eligible(&connection.group_id, connection.agent_id.as_deref()))
        .map(|connection| json!({"connection_id": connection.id, "schema": connection.schema_name, "service": connection.service}))
        .collect();
    let last_used_at = online.as_ref().map(|online| online.last_frame_at).or(agent.last_seen_at);
    json!({
        "id": agent.id, "display_name": agent.name, "group_id": agent.group_id,
        "registered_at": agent.created_at.text(), "enrolled_at": agent.enrolled_at.map(Timestamp::text),
        "deployment_type": agent.deployment, "version": agent.version, "enabled": true, "online": online.is_some(),
        "online_since": online.as_ref().map(|online| online.since.text()),
        "mode": agent.mode, "created_by": agent.created_by, "updated_at": agent.updated_at.text(),
        "last_used_at": last_used_at.map(Timestamp::text), "usage": usage,
    })
}

async fn find(app: &App, id: &str) -> Result<Agent, ApiError> {
    let agent = app.store.agent(id).await?;
    agent.ok_or_else(|| ApiError::not_found("NotFound_RemoteExecutionAgent", "there is no such agent"))
}

async fn connections(app: &App) -> Result<Vec<Connection>, ApiError> {
    Ok(app.store.connections(&ConnectionFilter::default(), &Page::ALL).await?)
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(paging): Query<Paging>,
    Query(filter): Query<OfGroup>,
) -> Reply {
    let agents = app.store.agents(filter.group_id.as_deref(), &paging.page()?).await?;
    let connections = connections(&app).await?;
    let items = agents.iter().map(|agent| agent_json(&app, agent, &connections)).collect();
    Ok(ok(paging.list(agents, |agent| (agent.created_at, &agent.id), items)))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(caller)): Extension<Caller>,
    body: Body,
) -> Reply {
    let name = body.required("display_name")?;
    let group_id = body.text("group_id")?;
    if let Some(group_id) = &group_id {
        groups::find(&app, group_id).await?;
    }
    let deployment = body.choice("env_type", &DEPLOYMENTS)?.unwrap_or("STANDALONE");
    // Ours: a shorter life of the token, in seconds.
    let seconds = body.number("token_ttl_seconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let life = seconds.map_or(JOIN_TOKEN, Duration::from_secs).min(JOIN_TOKEN);
    let now = Timestamp::now();
    let id = fresh_id("agent");
    let new = NewAgent { id: &id, name: &name, group_id: group_id.as_deref(), deployment, created_by: &caller };
    app.store.add_agent(&new, now).await?;
    let token_id = fresh_id("token");
    let expires_at = now.plus(life);
    app.store.add_token(&token_id, &id, expires_at).await?;
    let token = JoinToken {
        url: app.public_url.clone(),
        root: app.keys.root.public(),
        secret: app.keys.token_secret(&token_id),
        token_id,
        expires_at_ms: expires_at.ms(),
        agent_name: name.clone(),
    };
    let agent = find(&app, &id).await?;
    let mut data = agent_json(&app, &agent, &connections(&app).await?);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("token".to_owned(), token.to_text().as_str().into());
        fields.insert("token_expires_at".to_owned(), expires_at.text().into());
    }
    Ok(created("Agent has been created; the token is shown once", data))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let agent = find(&app, &id).await?;
    Ok(ok(agent_json(&app, &agent, &connections(&app).await?)))
}

pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    find(&app, &id).await?;
    app.store.revoke_agent(&id, Timestamp::now()).await?;
    app.sessions.revoke(&id);
    app.jobs.wake();
    tracing::info!(agent_id = %id, "agent revoked");
    Ok(done("Agent has been deleted and its identity is revoked"))
}
