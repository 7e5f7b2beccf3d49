//! Request bodies, read leniently: any content type, an absent body is `{}`, unknown fields have no effect. Messages name
//! the field and never repeat its value, which may be a secret.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use super::ApiError;

/// A JSON object.
#[derive(Debug, Default)]
pub(crate) struct Body(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| ApiError::bad_request("the body cannot be read or is above 2 MiB"))?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::bad_request("the body is not a JSON object")),
            Err(error) => Err(ApiError::bad_request(format!(
                "the body is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))),
        }
    }
}

impl Body {
    /// The fields of a nested object; empty where it is absent.
    pub(crate) fn object(&self, name: &str) -> Result<Body, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Body::default()),
            Some(Value::Object(fields)) => Ok(Body(fields.clone())),
            Some(_) => Err(ApiError::invalid(format!("`{name}` must be an object"))),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text; null and absent are none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(ApiError::invalid(format!("`{name}` must be a string"))),
        }
    }

    /// A text that has to be there.
    pub(crate) fn required(&self, name: &str) -> Result<String, ApiError> {
        match self.text(name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(ApiError::invalid(format!("`{name}` is required"))),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(ApiError::invalid(format!("`{name}` must be true or false"))),
        }
    }

    /// A whole number, as a number or as text: clients send both.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| ApiError::invalid(format!("`{name}` must be a whole number")))
    }

    /// One of a closed list.
    pub(crate) fn choice(&self, name: &str, choices: &[&'static str]) -> Result<Option<&'static str>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match choices.iter().find(|choice| **choice == text) {
            Some(choice) => Ok(Some(choice)),
            None => Err(ApiError::invalid(format!("`{name}` must be one of {}", choices.join(", ")))),
        }
    }
}
