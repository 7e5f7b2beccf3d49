//! Who calls: Basic or Bearer with `key:secret`. Only a salted hash is stored; comparison takes constant time. Requests
//! that a browser sends from another site are refused, because the browser would add the password by itself.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::ApiError;
use crate::app::App;
use crate::keys::ApiKey;

/// The id of the key that was used.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

/// Lets a request through if it carries a valid key.
pub(crate) async fn require_key(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match check(&app, request.headers(), request.method()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn check(app: &App, headers: &HeaderMap, method: &Method) -> Result<Caller, ApiError> {
    let pair = credentials(headers).ok_or_else(ApiError::unauthorized)?;
    let (id, secret) = pair.split_once(':').ok_or_else(ApiError::unauthorized)?;
    let (salt, hash) = app.store.api_key(id).await?.ok_or_else(ApiError::unauthorized)?;
    if !bool::from(ApiKey::hash(secret, &salt).as_slice().ct_eq(&hash)) {
        return Err(ApiError::unauthorized());
    }
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if cross_site && method != Method::GET && method != Method::HEAD {
        return Err(ApiError::forbidden("a browser sent this from another site"));
    }
    Ok(Caller(id.to_owned()))
}

/// `key:secret` of the header.
fn credentials(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = header.trim().split_once(' ')?;
    let value = value.trim();
    let decoded = || String::from_utf8(STANDARD.decode(value).ok()?).ok().map(Zeroizing::new);
    if scheme.eq_ignore_ascii_case("basic") {
        decoded()
    } else if scheme.eq_ignore_ascii_case("bearer") {
        if value.contains(':') { Some(Zeroizing::new(value.to_owned())) } else { decoded() }
    } else {
        None
    }
}
