//! `control.toml`: strict, every key documented, unknown keys refused. Nothing else reads settings.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The settings of one control plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Directory of the database, keys, certificate and packages; made with mode 0700 when absent.
    pub state_dir: PathBuf,
    /// Where the bound ports are written as `{"https":…,"http":…}` once both listen. Default: not written.
    #[serde(default)]
    pub port_file: Option<PathBuf>,
    /// The address agents dial, as it goes into join tokens: `wss://host:port`. Default: the bound https address.
    #[serde(default)]
    pub public_url: Option<String>,
    /// `text` (default) or `json`, to stderr.
    #[serde(default)]
    pub log_format: LogFormat,
    pub listen: Listen,
    #[serde(default)]
    pub tls: Tls,
}

/// Where it listens. Port 0 takes a free one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// REST, dashboard and the agents' channel, TLS.
    pub https: SocketAddr,
    /// REST and dashboard without TLS; loopback addresses only. Default: none.
    #[serde(default)]
    pub http: Option<SocketAddr>,
}

/// The server certificate. Default: a self-signed one, made on first start in `<state_dir>/tls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM certificate chain; needs `key_file` too.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// PEM private key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Host names and addresses of the self-signed certificate, besides `localhost`, `127.0.0.1` and `::1`.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("parse {path}")]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("listen.http is {address}: plain http is served on loopback addresses only; use listen.https")]
    PlainHttp { address: SocketAddr },
    #[error("tls.cert_file and tls.key_file go together: give both or neither")]
    HalfCertificate,
    #[error("public_url must begin with `wss://` and hold a host")]
    PublicUrl,
}

/// Reads and checks the settings.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let settings: Settings = toml::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    check(&settings)?;
    Ok(settings)
}

fn check(settings: &Settings) -> Result<(), Error> {
    match settings.listen.http {
        Some(address) if !address.ip().is_loopback() => return Err(Error::PlainHttp { address }),
        _ => {}
    }
    if settings.tls.cert_file.is_some() != settings.tls.key_file.is_some() {
        return Err(Error::HalfCertificate);
    }
    match &settings.public_url {
        Some(url) if url.strip_prefix("wss://").is_none_or(str::is_empty) => Err(Error::PublicUrl),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(), String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        check(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn good_settings_pass_and_bad_ones_say_what_is_wrong() {
        let good = "state_dir = '/s'\n[listen]\nhttps = '0.0.0.0:8443'\nhttp = '127.0.0.1:0'\n";
        assert_eq!(parse(good), Ok(()));
        for (text, part) in [
            ("state_dir = '/s'\n[listen]\nhttps = '0.0.0.0:1'\nhttp = '0.0.0.0:2'", "loopback"),
            ("state_dir = '/s'\nstatedir = 1\n[listen]\nhttps = '0.0.0.0:1'", "unknown field `statedir`"),
            ("[listen]\nhttps = '0.0.0.0:1'", "state_dir"),
            ("state_dir = '/s'\n[listen]\nhttps = '0.0.0.0:1'\n[tls]\ncert_file = '/c'", "both or neither"),
            ("state_dir = '/s'\npublic_url = 'https://x'\n[listen]\nhttps = '0.0.0.0:1'", "wss://"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}
