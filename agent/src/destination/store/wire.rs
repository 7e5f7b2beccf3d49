//! The HTTP client of the object stores: one TLS stack, the proxy and the authorities of this host, no retries and no
//! redirects. A refusal becomes [`Answered`] here, because what a store says beside its status tells a wrong bucket from a
//! wrong key, and because its text must not be logged as it comes.

use std::sync::Arc;
use std::time::Duration;

use inshore_config::{NetworkOptions, Secret, SecretError};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::header::HeaderMap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// How long a connection may take to come up, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a refusal's body, so much is looked at.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Of a store's sentence, so many letters are kept.
const MESSAGE_CHARS_MAX: usize = 200;
/// Machines' own services, never behind a proxy.
const NEVER_PROXIED: &str = "169.254.0.0/16,fd00:ec2::254,metadata.google.internal,localhost,127.0.0.0/8,::1";

/// A store's refusal, without anything of the request.
#[derive(Debug, thiserror::Error)]
#[error("{host} answered {status}{}{}", said(code), said(message))]
pub(super) struct Answered {
    pub(super) host: String,
    pub(super) status: u16,
    /// The store's own word: `NoSuchBucket`, `AuthenticationFailed`, `invalid_grant`.
    pub(super) code: String,
    pub(super) message: String,
    /// By how much the store's clock is ahead of ours.
    pub(super) skew_seconds: Option<i64>,
}

/// What the way to a store needs, read and resolved.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: rustls::ClientConfig,
    proxy: Option<reqwest::Proxy>,
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error("read the certificates in {path}")]
    CaFile { path: String, source: rustls::pki_types::pem::Error },
    #[error("trust the certificates in {path}: none is usable as an authority")]
    CaEmpty { path: String },
    #[error("set up TLS")]
    Tls { source: rustls::Error },
    #[error("use the proxy")]
    Proxy { source: reqwest::Error },
    #[error("use the proxy's credentials: they are not of the form user:password")]
    ProxyCredentials,
    #[error("resolve `{key}`")]
    Secret { key: &'static str, source: SecretError },
}

impl Connector {
    pub(super) fn new(options: &NetworkOptions) -> Result<Connector, SetupError> {
        let connector = Connector { tls: tls(options)?, proxy: proxy(options)? };
        Ok(connector)
    }

    /// A client of its own: the connections of one are never those of another.
    pub(super) fn client(&self, allow_http: bool) -> Result<HttpClient, reqwest::Error> {
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(!allow_http)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .user_agent(concat!("inshore/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if let Some(proxy) = &self.proxy {
            client = client.proxy(proxy.clone());
        }
        Ok(HttpClient::new(Wire { client: client.build()? }))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let failed = |source: reqwest::Error| object_store::Error::Generic { store: "client", source: source.into() };
        self.client(allow_http).map_err(failed)
    }
}

fn proxy(options: &NetworkOptions) -> Result<Option<reqwest::Proxy>, SetupError> {
    let environment = inshore_config::Environment::own();
    let given = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name)).map(str::to_owned);
    let (url, excepted) = match &options.proxy {
        Some(url) => (Some(url.as_str().to_owned()), options.no_proxy.join(",")),
        None => (given(["HTTPS_PROXY", "https_proxy"]), given(["NO_PROXY", "no_proxy"]).unwrap_or_default()),
    };
    let Some(url) = url else { return Ok(None) };
    let mut proxy = reqwest::Proxy::all(url).map_err(|source| SetupError::Proxy { source: source.without_url() })?;
    if let Some(held) = &options.proxy_credentials {
        let secret = resolve("proxy_credentials", held)?;
        let (user, password) = secret.expose().split_once(':').ok_or(SetupError::ProxyCredentials)?;
        proxy = proxy.basic_auth(user, password);
    }
    let excepted = format!("{NEVER_PROXIED},{excepted}");
    Ok(Some(proxy.no_proxy(reqwest::NoProxy::from_string(excepted.trim_end_matches(',')))))
}

pub(super) fn resolve(key: &'static str, held: &inshore_config::HeldSecret) -> Result<Secret, SetupError> {
    held.reference().resolve().map_err(|source| SetupError::Secret { key, source })
}

fn tls(options: &NetworkOptions) -> Result<rustls::ClientConfig, SetupError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = &options.ca_file {
        let path = || file.as_path().display().to_string();
        let read = CertificateDer::pem_file_iter(file.as_path()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = read.map_err(|source| SetupError::CaFile { path: path(), source })?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(SetupError::CaEmpty { path: path() });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| SetupError::Tls { source })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[derive(Debug)]
struct Wire {
    client: reqwest::Client,
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().authority().map_or_else(String::new, ToString::to_string);
        let response = self.client.call(request).await?;
        let status = response.status().as_u16();
        // What the store interface itself tells apart; a missing bucket is not a missing object.
        let known = matches!(status, ..300 | 304 | 404 | 409 | 412 | 416);
        if known && status != 404 {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await.unwrap_or_default();
        let (code, message) = explained(&parts.headers, &body);
        let is_missing_store = matches!(code.as_str(), "NoSuchBucket" | "ContainerNotFound" | "FilesystemNotFound")
            || message.contains("bucket does not exist");
        if known && !is_missing_store {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body)));
        }
        let skew_seconds = skew_seconds(&parts.headers);
        let answered = Answered { host, status, code, message, skew_seconds };
        // Of no kind that anybody repeats by himself.
        Err(HttpError::new(HttpErrorKind::Unknown, answered))
    }
}

/// The store's word and sentence: XML of S3 and Azure, JSON of Google's, a header where there is no body.
fn explained(headers: &HeaderMap, body: &[u8]) -> (String, String) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let text = String::from_utf8_lossy(body.get(..BODY_BYTES_MAX).unwrap_or(body));
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let (mut code, mut message) = (xml(&text, "Code"), xml(&text, "Message"));
    if let Some(json) = json {
        let of = |pointer: &str| json.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
        code = of("/error/errors/0/reason").or_else(|| of("/error")).or_else(|| of("/error/status"));
        message = of("/error/message").or_else(|| of("/error_description"));
    }
    let code = header("x-ms-error-code").or(code).or_else(|| {
        let region = header("x-amz-bucket-region");
        region.map(|region| format!("the bucket is in region {region}"))
    });
    let message: String = message.unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned();
    (bounded(&code.unwrap_or_default()), bounded(&message))
}

/// The first element of that name. Stores nest nothing in these two.
pub(super) fn xml(text: &str, element: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{element}>"))?;
    let (value, _) = rest.split_once(&format!("</{element}>"))?;
    Some(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

fn bounded(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

fn skew_seconds(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get("date")?.to_str().ok()?;
    let theirs = chrono::DateTime::parse_from_rfc2822(date).ok()?;
    Some((theirs.to_utc() - chrono::Utc::now()).num_seconds())
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
