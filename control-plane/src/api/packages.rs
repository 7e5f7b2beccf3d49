//! `/v1/connector-sdk/packages`: multipart upload of a zip, kept by its SHA-256.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body as HttpBody;
use axum::extract::{Multipart, Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::paging::Paging;
use super::reply::{Reply, created, done, ok};
use super::{ApiError, Caller, fresh_id};
use crate::app::App;
use crate::package::{self, Stored};
use crate::store::Package;
use crate::time::Timestamp;

async fn package_json(app: &App, package: &Package) -> Result<Value, ApiError> {
    let connection_ids = app.store.package_connections(&package.id).await?;
    Ok(json!({
        "id": package.id, "connection_id": connection_ids.first(), "connection_ids": connection_ids,
        "created_by": package.created_by, "last_updated_by": package.created_by,
        "created_at": package.created_at.text(), "updated_at": package.updated_at.text(),
        "file_sha256_hash": package.sha256,
    }))
}

async fn find(app: &App, id: &str) -> Result<Package, ApiError> {
    let package = app.store.package(id).await?;
    package.ok_or_else(|| ApiError::not_found("NotFound_ConnectorSdkPackage", "there is no such package"))
}

pub(super) async fn list(State(app): State<Arc<App>>, Query(paging): Query<Paging>) -> Reply {
    let packages = app.store.packages(&paging.page()?).await?;
    let mut items = Vec::with_capacity(packages.len());
    for package in &packages {
        items.push(package_json(&app, package).await?);
    }
    Ok(ok(paging.list(packages, |package| (package.created_at, &package.id), items)))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(Caller(caller)): Extension<Caller>,
    multipart: Multipart,
) -> Reply {
    let stored = receive(&app, multipart).await?;
    let now = Timestamp::now();
    let package = Package {
        id: fresh_id("package"),
        sha256: stored.sha256,
        bytes: stored.bytes,
        created_by: caller,
        created_at: now,
        updated_at: now,
    };
    app.store.put_package(&package).await?;
    Ok(created("Package has been created", package_json(&app, &package).await?))
}

pub(super) async fn read(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let package = find(&app, &id).await?;
    Ok(ok(package_json(&app, &package).await?))
}

/// New content under the same id: it takes effect with the next sync.
pub(super) async fn update(State(app): State<Arc<App>>, Path(id): Path<String>, multipart: Multipart) -> Reply {
    let mut package = find(&app, &id).await?;
    let stored = receive(&app, multipart).await?;
    package.sha256 = stored.sha256;
    package.bytes = stored.bytes;
    package.updated_at = Timestamp::now();
    app.store.put_package(&package).await?;
    for connection_id in app.store.package_connections(&package.id).await? {
        app.setup_tests.outdate(&app.store, &connection_id).await?;
    }
    Ok(ok(package_json(&app, &package).await?))
}

pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let package = find(&app, &id).await?;
    if !app.store.delete_package(&id).await? {
        return Err(ApiError::forbidden("a connection uses this package"));
    }
    if app.store.is_content_unused(&package.sha256).await? {
        app.packages.remove(&package.sha256).await;
    }
    Ok(done("Package has been deleted"))
}

pub(super) async fn download(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let package = find(&app, &id).await?;
    let bytes = app.packages.read_all(&package.sha256).await.map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/zip")], HttpBody::from(bytes)).into_response())
}

/// Takes the part `file` to disk, checks it, names it by its digest.
async fn receive(app: &App, mut multipart: Multipart) -> Result<Stored, ApiError> {
    let unreadable = |_| ApiError::bad_request("the body is not a whole multipart/form-data upload");
    while let Some(mut field) = multipart.next_field().await.map_err(unreadable)? {
        if field.name() != Some("file") {
            continue;
        }
        let mut upload = app.packages.begin().map_err(upload_failed)?;
        while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
            upload.write(&chunk).await.map_err(upload_failed)?;
        }
        return upload.finish().await.map_err(upload_failed);
    }
    Err(ApiError::invalid("the multipart part `file` is required"))
}

fn upload_failed(error: package::Error) -> ApiError {
    match error {
        package::Error::TooLarge { code, .. } => ApiError::too_large(code, &error.to_string()),
        package::Error::Refused { code, .. } => ApiError::invalid_coded(code, &error.to_string()),
        error => ApiError::internal(&error),
    }
}
