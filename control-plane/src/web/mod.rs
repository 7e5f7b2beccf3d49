//! The dashboard: server-rendered pages that read without JavaScript, no external assets, a strict content policy. askama
//! escapes every text. The pages show only what REST shows.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;

use crate::api::{ApiError, require_key};
use crate::app::App;

mod view;

const STYLE: &str = include_str!("../../assets/inshore.css");
const OVERVIEW_SCRIPT: &str = include_str!("../../assets/overview.js");
const SYNC_SCRIPT: &str = include_str!("../../assets/sync.js");
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Pages and their assets, behind the same key as REST.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/", get(overview))
        .route("/syncs/{sync_id}", get(sync))
        .layer(middleware::from_fn_with_state(Arc::clone(app), require_key))
        .route("/assets/inshore.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/overview.js", get(|| async { asset("text/javascript; charset=utf-8", OVERVIEW_SCRIPT) }))
        .route("/assets/sync.js", get(|| async { asset("text/javascript; charset=utf-8", SYNC_SCRIPT) }))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    guarded(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response())
}

/// Adds the headers that keep a page to itself.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

fn page(status: StatusCode, template: &impl Template) -> Result<Response, ApiError> {
    let html = template.render().map_err(|error| ApiError::internal(&error))?;
    let mut response = guarded((status, Html(html)).into_response());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn overview(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    page(StatusCode::OK, &view::overview(&app).await?)
}

async fn sync(State(app): State<Arc<App>>, Path(sync_id): Path<String>) -> Result<Response, ApiError> {
    match view::sync(&app, &sync_id).await? {
        Some(template) => page(StatusCode::OK, &template),
        None => page(StatusCode::NOT_FOUND, &view::Missing),
    }
}
