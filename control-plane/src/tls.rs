//! The server's TLS: the certificate of the settings, or a self-signed one made on first start as
//! `<state_dir>/tls/cert.pem`, which an agent's `tls.ca_file` can name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config;
use crate::keys;

/// No usable server certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    #[error(transparent)]
    Write(#[from] keys::Error),
    #[error("read {path}")]
    Read { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("use the server certificate {path}")]
    Unusable { path: PathBuf, source: rustls::Error },
}

/// The acceptor of the https listener.
pub(crate) fn acceptor(settings: &config::Tls, state_dir: &Path) -> Result<TlsAcceptor, Error> {
    let (cert_file, key_file) = match (&settings.cert_file, &settings.key_file) {
        (Some(cert_file), Some(key_file)) => (cert_file.clone(), key_file.clone()),
        _ => self_signed(&settings.names, &state_dir.join("tls"))?,
    };
    let read = |source| Error::Read { path: cert_file.clone(), source };
    let chain =
        CertificateDer::pem_file_iter(&cert_file).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|source| Error::Read { path: key_file, source })?;
    let unusable = |source| Error::Unusable { path: cert_file.clone(), source };
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn self_signed(names: &[String], dir: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    // The key is written first: a certificate without its key would be taken for complete.
    if !cert_file.exists() || !key_file.exists() {
        keys::create_dir(dir)?;
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        all.extend(names.iter().cloned());
        let certified = rcgen::generate_simple_self_signed(all).map_err(Error::SelfSigned)?;
        keys::write_private(&key_file, certified.signing_key.serialize_pem().as_bytes())?;
        keys::write_private(&cert_file, certified.cert.pem().as_bytes())?;
    }
    Ok((cert_file, key_file))
}
