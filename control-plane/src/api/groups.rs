//! `/v1/groups`.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::body::Body;
use super::paging::Paging;
use super::reply::{Reply, created, done, ok};
use super::{ApiError, fresh_id};
use crate::app::App;
use crate::store::{self, Group};
use crate::time::Timestamp;

fn group_json(group: &Group) -> Value {
    json!({"id": group.id, "name": group.name, "created_at": group.created_at.text()})
}

/// The group, or the reply that it is not there.
pub(super) async fn find(app: &App, id: &str) -> Result<Group, ApiError> {
    let group = app.store.group(id).await?;
    group.ok_or_else(|| ApiError::not_found("NotFound_Group", "there is no such group"))
}

pub(super) async fn list(State(app): State<Arc<App>>, Query(paging): Query<Paging>) -> Reply {
    let groups = app.store.groups(&paging.page()?).await?;
    let items = groups.iter().map(group_json).collect();
    Ok(ok(paging.list(groups, |group| (group.created_at, &group.id), items)))
}

pub(super) async fn create(State(app): State<Arc<App>>, body: Body) -> Reply {
    let group = Group { id: fresh_id("group"), name: body.required("name")?, created_at: Timestamp::now() };
    app.store.add_group(&group).await.map_err(taken)?;
    Ok(created("Group has been created", group_json(&group)))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    Ok(ok(group_json(&find(&app, &id).await?)))
}

pub(super) async fn update(State(app): State<Arc<App>>, Path(id): Path<String>, body: Body) -> Reply {
    let mut group = find(&app, &id).await?;
    if body.has("name") {
        group.name = body.required("name")?;
        app.store.rename_group(&group.id, &group.name).await.map_err(taken)?;
    }
    Ok(ok(group_json(&group)))
}

pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    find(&app, &id).await?;
    if !app.store.delete_group(&id).await? {
        return Err(ApiError::conflict("the group still has a destination, a connection or an agent"));
    }
    Ok(done("Group has been deleted"))
}

fn taken(error: store::Error) -> ApiError {
    if error.is_taken() { ApiError::conflict("a group of this `name` exists") } else { error.into() }
}
