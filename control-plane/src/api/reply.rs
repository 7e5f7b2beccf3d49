//! The envelope. Every reply is JSON: `{"code":"Success","message":…,"data":…}` or `{"code":…,"message":…}`. Clients compare
//! codes as text and statuses exactly. No message holds a value that came in a request's secret fields.

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::log::chain;
use crate::store;

/// An error reply.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: String,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidInput", message)
    }

    /// A failed validation that has a code of ours and a page.
    pub(crate) fn invalid_coded(code: inshore_protocol::Code, message: &str) -> Self {
        let page = format!("{}: {message} (docs/errors/{}.md)", code.text(), code.text());
        Self::new(
            StatusCode::BAD_REQUEST,
            if code == inshore_protocol::Code::SecretNotSealed { code.slug() } else { "InvalidInput" },
            page,
        )
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "give a valid API key: Authorization: Basic base64(key:secret)",
        )
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", format!("this route has no {method}"))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", message)
    }

    pub(crate) fn too_large(code: inshore_protocol::Code, message: &str) -> Self {
        let message = format!("{}: {message} (docs/errors/{}.md)", code.text(), code.text());
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "InvalidInput", message)
    }

    /// What it says, for a page that says it too.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The caller sees an id; the cause is in our log under it.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        let request_id = super::fresh_id("req");
        tracing::error!(request_id, error = %chain(error), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("something went wrong here; request id {request_id}"),
        )
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"code": self.code, "message": self.message}))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let realm = axum::http::HeaderValue::from_static("Basic realm=\"inshore\", charset=\"UTF-8\"");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

/// What handlers return.
pub(crate) type Reply = Result<Response, ApiError>;

fn enveloped(status: StatusCode, message: &str, data: Option<Value>) -> Response {
    let mut body = json!({"code": "Success", "message": message});
    if let (Some(data), Some(fields)) = (data, body.as_object_mut()) {
        fields.insert("data".to_owned(), data);
    }
    (status, Json(body)).into_response()
}

/// 200 with data.
pub(crate) fn ok(data: Value) -> Response {
    enveloped(StatusCode::OK, "ok", Some(data))
}

/// 201 with data.
pub(crate) fn created(message: &str, data: Value) -> Response {
    enveloped(StatusCode::CREATED, message, Some(data))
}

/// 200 with a message only.
pub(crate) fn done(message: &str) -> Response {
    enveloped(StatusCode::OK, message, None)
}

/// 200 with a message and data.
pub(crate) fn done_with(message: &str, data: Value) -> Response {
    enveloped(StatusCode::OK, message, Some(data))
}
