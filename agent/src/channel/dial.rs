//! From an address to an open WebSocket over TLS: TCP, an HTTP CONNECT proxy where one is set, TLS 1.3 (1.2 with ECDHE
//! and AEAD only if the peer lacks 1.3), the WebSocket handshake with every limit set. Trusts whoever holds a
//! certificate to carry bytes, nothing more: authenticity is the Noise channel's.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use inshore_protocol::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, WRITE_BUFFER_BYTES_MAX};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::{Host, Url};
use zeroize::Zeroizing;

/// An open WebSocket.
pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// The head of a proxy's answer above this size is no answer.
const PROXY_HEAD_BYTES_MAX: usize = 8 << 10;
/// TLS closes with less than this unread; the library's default of 128 KiB would cost memory in every idle agent.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// How the control plane is reached.
#[derive(Debug, Clone)]
pub(crate) struct DialSettings {
    /// `wss://host:port`
    pub(crate) url: String,
    /// PEM certificates trusted beside the system's roots.
    pub(crate) tls_ca_file: Option<PathBuf>,
    pub(crate) proxy: Option<ProxySettings>,
}

/// An HTTP CONNECT proxy.
#[derive(Clone)]
pub(crate) struct ProxySettings {
    /// `http://host:port`
    pub(crate) url: String,
    /// `user:password`
    pub(crate) credentials: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // People put passwords into proxy addresses, so the address is not shown either.
        formatter.debug_struct("ProxySettings").finish_non_exhaustive()
    }
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reach the control plane: `{url}` is not of the form wss://host:port")]
    Url { url: String },
    #[error(
        "reach the proxy: channel.proxy is not of the form http://host:port; a password belongs into proxy_credentials"
    )]
    ProxyUrl,
    #[error("reach the control plane at {address}")]
    Tcp { address: String, source: std::io::Error },
    #[error("reach the control plane at {address}: the proxy answered {}", status.map_or("nonsense".to_owned(), |status| status.to_string()))]
    Proxy { address: String, status: Option<u16> },
    #[error("read the certificates in {path}")]
    CaFile { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("trust the certificates in {path}: none is usable as an authority")]
    CaEmpty { path: PathBuf },
    #[error(
        "trust the control plane at {address}: set channel.tls_ca_file if a private authority or an inspecting proxy signs it"
    )]
    Certificate { address: String, source: rustls::Error },
    #[error("open a TLS session with {address}")]
    Tls { address: String, source: std::io::Error },
    #[error("set up TLS")]
    TlsSetup { source: rustls::Error },
    #[error("open a WebSocket at {address}")]
    WebSocket { address: String, source: Box<tokio_tungstenite::tungstenite::Error> },
}

impl Error {
    /// The code of the error's page.
    pub(crate) fn code(&self) -> inshore_protocol::Code {
        use inshore_protocol::Code;
        match self {
            Error::Certificate { .. } | Error::CaFile { .. } | Error::CaEmpty { .. } => Code::TlsCertificateRefused,
            Error::Url { .. } | Error::ProxyUrl => Code::ConfigMalformed,
            _ => Code::ControlPlaneUnreachable,
        }
    }
}

/// Opens a WebSocket at `path` of the control plane. The caller bounds the time.
pub(crate) async fn dial(settings: &DialSettings, path: &str) -> Result<Socket, Error> {
    let target = Target::parse(&settings.url, "wss", 443).ok_or_else(|| Error::Url { url: settings.url.clone() })?;
    let connector = TlsConnector::from(Arc::new(tls_config(settings)?));
    let tcp = match &settings.proxy {
        Some(proxy) => through_proxy(proxy, &target).await?,
        None => connect(&target).await?,
    };
    let tls = connector.connect(target.server_name.clone(), tcp).await.map_err(|error| tls_error(&target, error))?;
    let uri = format!("wss://{}{path}", target.address);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    let (socket, _) = tokio_tungstenite::client_async_with_config(uri, tls, Some(config))
        .await
        .map_err(|source| Error::WebSocket { address: target.address, source: Box::new(source) })?;
    Ok(socket)
}

struct Target {
    /// `host:port`, brackets around IPv6.
    address: String,
    host: String,
    port: u16,
    server_name: ServerName<'static>,
}

impl Target {
    fn parse(url: &str, scheme: &str, default_port: u16) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if url.scheme() != scheme || !bare || !matches!(url.path(), "" | "/") {
            return None;
        }
        let port = url.port().unwrap_or(default_port);
        let (host, server_name) = match url.host()? {
            Host::Domain(name) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()?),
            Host::Ipv4(ip) => (ip.to_string(), ServerName::from(IpAddr::V4(ip))),
            Host::Ipv6(ip) => (ip.to_string(), ServerName::from(IpAddr::V6(ip))),
        };
        Some(Self { address: format!("{}:{port}", url.host_str()?), host, port, server_name })
    }
}

async fn connect(target: &Target) -> Result<TcpStream, Error> {
    let error = |source| Error::Tcp { address: target.address.clone(), source };
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(error)?;
    stream.set_nodelay(true).map_err(error)?;
    Ok(stream)
}

/// One CONNECT; the answer's head is read byte by byte, so nothing of the tunnel is taken with it.
async fn through_proxy(proxy: &ProxySettings, target: &Target) -> Result<TcpStream, Error> {
    let at = Target::parse(&proxy.url, "http", 80).ok_or(Error::ProxyUrl)?;
    let mut stream = connect(&at).await?;
    let address = &target.address;
    let mut request = Zeroizing::new(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"));
    if let Some(credentials) = &proxy.credentials {
        let basic = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(credentials.as_bytes()));
        request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", basic.as_str()));
    }
    request.push_str("\r\n");
    let error = |source| Error::Tcp { address: at.address.clone(), source };
    stream.write_all(request.as_bytes()).await.map_err(error)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < PROXY_HEAD_BYTES_MAX {
        head.push(stream.read_u8().await.map_err(error)?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    match head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")).and_then(|line| line.split(' ').nth(1)) {
        Some("200") => Ok(stream),
        // Whatever else stands there is a stranger's text: it reaches no log.
        status => {
            let status = status.and_then(|status| status.parse::<u16>().ok());
            Err(Error::Proxy { address: address.clone(), status })
        }
    }
}

fn tls_config(settings: &DialSettings) -> Result<rustls::ClientConfig, Error> {
    let mut roots = rustls::RootCertStore::empty();
    // An unreadable system store is no reason to stop while a file of our own is set: what is missing will show.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.tls_ca_file {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates = certificates.map_err(|source| Error::CaFile { path: path.clone(), source })?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(Error::CaEmpty { path: path.clone() });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| Error::TlsSetup { source })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn tls_error(target: &Target, error: std::io::Error) -> Error {
    let address = target.address.clone();
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match refused {
        Some(source @ rustls::Error::InvalidCertificate(_)) => Error::Certificate { address, source: source.clone() },
        _ => Error::Tls { address, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_in_a_proxy_address_is_not_repeated() {
        let proxy = ProxySettings { url: "http://user:hunter2@proxy.example:1".to_owned(), credentials: None };
        assert!(!format!("{proxy:?}").contains("hunter2"));
        let target = Target::parse("wss://localhost:1", "wss", 443).expect("an address");
        let error = through_proxy(&proxy, &target).await.expect_err("refused");
        assert!(matches!(error, Error::ProxyUrl) && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn only_plain_wss_addresses_are_dialled() {
        for good in ["wss://localhost:8443", "wss://control.example", "wss://127.0.0.1:1/", "wss://[::1]:9"] {
            assert!(Target::parse(good, "wss", 443).is_some(), "{good}");
        }
        for bad in ["ws://localhost", "https://localhost", "wss://", "wss://u:p@h", "wss://h/path", "wss://h?x=1", ""] {
            assert!(Target::parse(bad, "wss", 443).is_none(), "{bad}");
        }
        let target = Target::parse("wss://[::1]:9", "wss", 443).expect("IPv6");
        assert_eq!((target.address.as_str(), target.host.as_str()), ("[::1]:9", "::1"));
    }
}
