//! REST: the routes and what all of them share. One file per resource; shapes and codes follow the design's API page.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::middleware;
use axum::routing::{get, patch, post};

use crate::app::App;

mod account;
mod agents;
mod auth;
mod body;
mod bounds;
mod connections;
mod destinations;
mod events;
mod groups;
mod packages;
mod paging;
mod place;
mod reply;
mod resync;
mod schemas;
mod secrets;
mod setup_tests;
mod syncs;

pub(crate) use auth::{Caller, require_key};
pub(crate) use reply::ApiError;
pub(crate) use schemas::{BACKFILL, change as change_schema};
pub(crate) use setup_tests::{Running as SetupTests, resume as resume_setup_tests};
pub(crate) use syncs::{sync_json, totals_now, waiting_for};

/// Everything below `/v1` but the agents' own sockets.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let mut v1 = Router::new()
        .route("/groups", get(groups::list).post(groups::create))
        .route("/groups/{id}", get(groups::read).patch(groups::update).delete(groups::delete))
        .route("/groups/{id}/connections", get(connections::list_of_group))
        .route("/groups/{id}/connectors", get(connections::list_of_group))
        .route("/destinations", get(destinations::list).post(destinations::create))
        .route("/destinations/{id}", get(destinations::read).patch(destinations::update).delete(destinations::delete))
        .route("/connector-sdk/packages/{id}/download", get(packages::download))
        .route("/hybrid-deployment-agents", get(agents::list).post(agents::create))
        .route("/hybrid-deployment-agents/{id}", get(agents::read).delete(agents::delete))
        .route("/account/info", get(account::info))
        .route("/syncs/{sync_id}", get(syncs::read))
        .route("/syncs/{sync_id}/events", get(events::stream));
    // An upload is bounded where it is read, not by the limit for JSON bodies.
    let packages = Router::new()
        .route("/connector-sdk/packages", get(packages::list).post(packages::create))
        .route("/connector-sdk/packages/{id}", get(packages::read).patch(packages::update).delete(packages::delete))
        .layer(DefaultBodyLimit::disable());
    v1 = v1.merge(packages);
    // Clients call the same thing by its old and its new name.
    for name in ["connections", "connectors"] {
        v1 = v1.nest(
            &format!("/{name}"),
            Router::new()
                .route("/", get(connections::list).post(connections::create))
                .route("/{id}", get(connections::read).patch(connections::update).delete(connections::delete))
                .route("/{id}/test", post(setup_tests::test))
                .route("/{id}/sync", post(syncs::start))
                .route("/{id}/force", post(syncs::start_legacy))
                .route("/{id}/resync", post(resync::resync))
                .nest("/{id}/schemas", schema_routes())
                .route("/{id}/syncs", get(syncs::list))
                .route("/{id}/syncs/{sync_id}", get(syncs::read_of_connection))
                .route("/{id}/syncs/{sync_id}/tables", get(syncs::tables))
                .route("/{id}/syncs/{sync_id}/cancel", post(syncs::cancel)),
        );
    }
    Router::new()
        .nest("/v1", v1)
        .layer(middleware::from_fn_with_state(Arc::clone(app), require_key))
        .route("/livez", get(account::live))
        .route("/readyz", get(account::ready))
}

/// Below a connection's `schemas`.
fn schema_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(schemas::read).post(schemas::create).patch(schemas::update))
        .route("/reload", post(schemas::reload))
        .route("/tables/resync", post(resync::resync_tables))
        .route("/{schema}/tables/{table}/resync", post(resync::resync_table))
        .route("/{schema}", patch(schemas::update_schema))
        .route("/{schema}/tables/{table}", patch(schemas::update_table))
        .route("/{schema}/tables/{table}/columns", get(schemas::columns))
        .route("/{schema}/tables/{table}/columns/{column}", patch(schemas::update_column))
}

/// The answer to a path nobody serves.
pub(crate) async fn not_found() -> ApiError {
    ApiError::not_found("NotFound", "there is no such route")
}

/// The answer to a method a route does not have.
pub(crate) async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::method_not_allowed(&method)
}

/// A fresh id with a readable beginning.
pub(crate) fn fresh_id(prefix: &str) -> String {
    format!("{prefix}_{}", hex::encode(inshore_trust::random_bytes::<8>()))
}
