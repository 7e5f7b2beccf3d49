//! `/v1/account/info`, `/livez`, `/readyz`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::Caller;
use super::reply::{Reply, done, done_with, ok};
use crate::app::App;

pub(super) async fn info(Extension(Caller(key_id)): Extension<Caller>) -> Response {
    ok(json!({"account_id": "inshore", "account_name": "Inshore", "system_key_id": key_id}))
}

/// The process answers.
pub(super) async fn live() -> Response {
    done("live")
}

/// The store answers too.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Reply {
    app.store.ping().await?;
    Ok(done_with("ready", json!({"unknown_kinds": app.sessions.unknown_kinds()})))
}
