//! The control plane's REST API, as `deploy` and `download` call it. Blocking: these verbs do one thing after the other.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use inshore_config::Environment;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, http};
use zeroize::Zeroizing;

/// One call; setup tests that a create runs may take their time.
const CALL_TIME_MAX: Duration = Duration::from_secs(150);
/// What a reply may be, a downloaded package included.
const REPLY_BYTES_MAX: u64 = 128 << 20;
/// Names of a file with certificates to trust instead of the host's, in the order they are looked at.
const CA_VARIABLES: [&str; 3] = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"];
const BOUNDARY: &str = "inshore-package-7d1f0c";

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reach the control plane at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: ureq::Error,
    },
    #[error("the control plane refuses the API key")]
    KeyRefused,
    #[error("the control plane answered {status} to {call}: {message}")]
    Refused { call: String, status: u16, message: String },
    #[error("what answers at {url} is not a control plane: {what}")]
    NotOurs { url: String, what: String },
    #[error("{url} is no https address: the API key travels encrypted, except to this machine itself")]
    NotEncrypted { url: String },
    #[error("read certificates from {path}")]
    Certificates {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Unreachable { .. }
            | Error::NotOurs { .. }
            | Error::NotEncrypted { .. }
            | Error::Certificates { .. } => "DEV-007",
            Error::KeyRefused => "DEV-008",
            Error::Refused { .. } => "DEV-009",
        }
    }

    /// Whether the reply's `code` says that the thing is not there.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Error::Refused { status: 404, .. })
    }
}

/// A control plane and the key to it.
pub(crate) struct Api {
    agent: Agent,
    base: String,
    authorization: Zeroizing<String>,
}

impl Api {
    /// `key` is `key:secret`, or its base64 as the variable FIVETRAN_API_KEY has it.
    pub(crate) fn new(url: &str, key: &str, environment: &Environment) -> Result<Self, Error> {
        use base64::Engine as _;
        if !is_private(url) {
            return Err(Error::NotEncrypted { url: url.to_owned() });
        }
        let key = key.trim();
        let pair =
            if key.contains(':') { base64::engine::general_purpose::STANDARD.encode(key) } else { key.to_owned() };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(certificates(environment)?)))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIME_MAX))
            .user_agent(concat!("inshore/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Ok(Self { agent: Agent::new_with_config(config), base, authorization: Zeroizing::new(format!("Basic {pair}")) })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Error> {
        let request = self.agent.get(self.url(path)).header("authorization", self.authorization.as_str());
        self.data("GET", path, request.call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self.agent.post(self.url(path)).header("authorization", self.authorization.as_str());
        self.data("POST", path, request.send_json(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self.agent.patch(self.url(path)).header("authorization", self.authorization.as_str());
        self.data("PATCH", path, request.send_json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Error> {
        let request = self.agent.delete(self.url(path)).header("authorization", self.authorization.as_str());
        self.data("DELETE", path, request.call())
    }

    /// Uploads a package as the part `file`.
    pub(crate) fn upload(&self, zip: &[u8]) -> Result<Value, Error> {
        let path = "/v1/connector-sdk/packages";
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"package.zip\"\r\n\
             Content-Type: application/zip\r\n\r\n"
        );
        let body = [head.as_bytes(), zip, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
        let request = self
            .agent
            .post(self.url(path))
            .header("authorization", self.authorization.as_str())
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        self.data("POST", path, request.send(&body[..]))
    }

    /// The zip of a package.
    pub(crate) fn download(&self, id: &str) -> Result<Vec<u8>, Error> {
        let path = format!("/v1/connector-sdk/packages/{id}/download");
        let request = self.agent.get(self.url(&path)).header("authorization", self.authorization.as_str());
        let (status, bytes) = self.reply(request.call())?;
        if status == 200 { Ok(bytes) } else { Err(self.refusal("GET", &path, status, &bytes)) }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn data(
        &self,
        method: &str,
        path: &str,
        result: Result<http::Response<Body>, ureq::Error>,
    ) -> Result<Value, Error> {
        let (status, bytes) = self.reply(result)?;
        if !(200..300).contains(&status) {
            return Err(self.refusal(method, path, status, &bytes));
        }
        let mut body: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::NotOurs { url: self.base.clone(), what: error.to_string() })?;
        Ok(body["data"].take())
    }

    fn reply(&self, result: Result<http::Response<Body>, ureq::Error>) -> Result<(u16, Vec<u8>), Error> {
        let unreachable = |source| Error::Unreachable { url: self.base.clone(), source };
        let mut response = result.map_err(unreachable)?;
        let mut bytes = Vec::new();
        let mut reader = response.body_mut().as_reader().take(REPLY_BYTES_MAX);
        reader.read_to_end(&mut bytes).map_err(|error| unreachable(error.into()))?;
        Ok((response.status().as_u16(), bytes))
    }

    fn refusal(&self, method: &str, path: &str, status: u16, bytes: &[u8]) -> Error {
        if status == 401 {
            return Error::KeyRefused;
        }
        let body: Option<Value> = serde_json::from_slice(bytes).ok();
        let message = body.as_ref().and_then(|body| body["message"].as_str());
        match message {
            Some(message) => Error::Refused { call: format!("{method} {path}"), status, message: message.to_owned() },
            None => Error::NotOurs { url: self.base.clone(), what: format!("it answered {status} without a message") },
        }
    }
}

/// Nobody between here and there can read along.
fn is_private(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

/// Those of the file that the environment names, else the host's.
fn certificates(environment: &Environment) -> Result<Vec<Certificate<'static>>, Error> {
    let Some(path) = CA_VARIABLES.iter().find_map(|name| environment.get(name)) else {
        let host = rustls_native_certs::load_native_certs().certs;
        return Ok(host.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect());
    };
    let failed = |source| Error::Certificates { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(failed)?;
    let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(failed(std::io::Error::other(error)))),
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_travels_encrypted() {
        for url in ["https://control.example.com", "http://127.0.0.1:8080", "http://[::1]:1/v1", "http://localhost"] {
            assert!(is_private(url), "{url}");
        }
        for url in [
            "http://control.example.com",
            "http://10.0.0.1",
            "control",
            "file:///etc/passwd",
            "http://localhost.example.com",
        ] {
            assert!(!is_private(url), "{url}");
        }
    }
}
