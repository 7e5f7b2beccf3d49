//! The dashboard: server-rendered pages that read, and forms that work, without JavaScript, no external assets, a strict content policy. askama
//! escapes every text. The pages show only what REST shows.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use inshore_protocol::Code;

use crate::api::{ApiError, require_key};
use crate::app::App;
use crate::catalogue;

mod live;
mod overview;
mod runbook;
mod schema;
mod text;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Debug, Template)]
#[template(path = "missing.html")]
struct Missing;

/// Pages and their assets, behind the same key as REST.
pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", get(overview_page))
        .route("/syncs/{sync_id}", get(sync_page))
        .route("/errors/{code}", get(runbook_page))
        .route("/connections/{id}/schema", get(schema_page).post(schema_change))
        .layer(middleware::from_fn_with_state(Arc::clone(app), require_key))
        .route("/assets/inshore.css", asset("text/css; charset=utf-8", include_str!("../../assets/inshore.css")))
        .route("/assets/mark.svg", asset("image/svg+xml", include_str!("../../assets/mark.svg")))
        .route("/assets/page.js", asset(SCRIPT, include_str!("../../assets/page.js")))
        .route("/assets/overview.js", asset(SCRIPT, include_str!("../../assets/overview.js")))
        .route("/assets/sync.js", asset(SCRIPT, include_str!("../../assets/sync.js")))
}

/// Asked for again with every page, so that a page never meets the script of another version.
fn asset(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Arc<App>> {
    get(move || async move {
        guarded(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response())
    })
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

async fn overview_page(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    page(StatusCode::OK, &overview::overview(&app).await?)
}

async fn sync_page(State(app): State<Arc<App>>, Path(sync_id): Path<String>) -> Result<Response, ApiError> {
    match live::sync(&app, &sync_id).await? {
        Some(template) => page(StatusCode::OK, &template),
        None => page(StatusCode::NOT_FOUND, &Missing),
    }
}

async fn schema_page(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(asked): Query<schema::Asked>,
) -> Result<Response, ApiError> {
    match schema::page(&app, &id, &asked).await? {
        Some(template) => page(StatusCode::OK, &template),
        None => page(StatusCode::NOT_FOUND, &Missing),
    }
}

async fn schema_change(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    match schema::post(&app, &id, &form).await? {
        Some(schema::Posted::Preview(template)) => page(StatusCode::OK, &template),
        Some(schema::Posted::Page(template)) => page(StatusCode::OK, &template),
        Some(schema::Posted::Stored) => {
            let saved = format!("/connections/{id}/schema?saved=1");
            Ok(guarded(Redirect::to(&saved).into_response()))
        }
        None => page(StatusCode::NOT_FOUND, &Missing),
    }
}

async fn runbook_page(Path(code): Path<String>) -> Result<Response, ApiError> {
    match runbook::runbook(&code) {
        Some(template) => page(StatusCode::OK, &template),
        None => page(StatusCode::NOT_FOUND, &Missing),
    }
}

/// Our own sentence for a code; nothing a connector said.
fn words(code: &str) -> &'static str {
    catalogue::message(Code::from_text(code).unwrap_or(Code::Unknown))
}
