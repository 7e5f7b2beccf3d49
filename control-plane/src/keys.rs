//! What the control plane is known by, in files of its state directory with mode 0600: the root key that join tokens pin,
//! the Noise key it certifies, and the API key made on first start. Nothing of this is in the database but a salted hash.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use inshore_protocol::{CertificateFields, Hex32, Hex64, KeyKind as WireKind, SubjectId};
use inshore_trust::{
    Certificate, CertificateBody, DhSecret, KeyKind, PublicKey, Signature, SigningKey, issue, random_bytes,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("read {path}: others can read it (mode {mode:o}); make it 0600")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("read {path}: not {digits} hexadecimal digits")]
    Form { path: PathBuf, digits: usize },
}

/// The control plane's keys.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) root: SigningKey,
    pub(crate) control: DhSecret,
    /// Of the control key, by the root.
    pub(crate) certificate: CertificateFields,
}

impl Keys {
    /// Reads the keys, or makes them on first start.
    pub(crate) fn open(state_dir: &Path, now: Timestamp) -> Result<Self, Error> {
        let root = SigningKey::from_bytes(&*seed(&state_dir.join("root.key"))?);
        let control = DhSecret::from_bytes(&*seed(&state_dir.join("control.key"))?);
        let body = CertificateBody::new(KeyKind::Control, "control", control.public().0, now.ms());
        let certificate = to_fields(&issue(&root, &body));
        Ok(Self { root, control, certificate })
    }

    /// The secret of a join token. Derived, so that no store holds it.
    pub(crate) fn token_secret(&self, token_id: &str) -> Zeroizing<[u8; 16]> {
        let seed = self.root.to_secret_bytes();
        let label: &[u8] = b"inshore join token secret v1\0";
        let digest: [u8; 32] =
            Sha256::new().chain_update(label).chain_update(*seed).chain_update(token_id).finalize().into();
        let mut secret = Zeroizing::new([0; 16]);
        secret.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        secret
    }

    /// Certifies an agent's identity.
    pub(crate) fn certify_agent(&self, agent_id: &str, identity: Hex32, now: Timestamp) -> CertificateFields {
        to_fields(&issue(&self.root, &CertificateBody::new(KeyKind::Agent, agent_id, identity.0, now.ms())))
    }
}

fn to_fields(certificate: &Certificate) -> CertificateFields {
    let (body, signature) = certificate.to_fields().expect("a certificate just issued is well-formed");
    let key_kind = match body.kind {
        KeyKind::Root => WireKind::Root,
        KeyKind::Agent => WireKind::Agent,
        KeyKind::Channel => WireKind::Channel,
        KeyKind::Sealing => WireKind::Sealing,
        KeyKind::Job => WireKind::Job,
        KeyKind::Control => WireKind::Control,
    };
    CertificateFields {
        key_kind,
        subject: SubjectId::new(body.subject).expect("the subject is an id"),
        key: Hex32(body.key.0),
        issued_at_ms: body.issued_at_ms,
        expires_at_ms: body.expires_at_ms,
        signature: Hex64(signature.0),
    }
}

/// The key that `fields` certify, if `identity` signed them for `agent_id` as this kind.
pub(crate) fn certified(
    fields: &CertificateFields,
    kind: KeyKind,
    identity: &PublicKey,
    agent_id: &str,
) -> Option<Hex32> {
    let mut body = CertificateBody::new(kind, fields.subject.as_str(), fields.key.0, fields.issued_at_ms);
    body.expires_at_ms = fields.expires_at_ms;
    let certificate = Certificate::from_fields(&body, Signature(fields.signature.0));
    let subject = certificate.verify_kind(identity, kind).ok()?;
    (subject.subject == agent_id).then_some(Hex32(subject.key.0))
}

/// A fresh API key: id and secret. The text form is `key:secret`.
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret: Zeroizing<String>,
}

impl ApiKey {
    pub(crate) fn generate() -> Self {
        let secret = Zeroizing::new(random_bytes::<24>());
        Self { id: hex::encode(random_bytes::<8>()), secret: Zeroizing::new(hex::encode(secret.as_slice())) }
    }

    /// What the database keeps.
    pub(crate) fn hash(secret: &str, salt: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(b"inshore api key v1\0").chain_update(salt).chain_update(secret).finalize().into()
    }
}

/// Makes the state directory, for its owner only.
pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Create { path: path.to_owned(), source })
}

/// Only a key that is surely absent is made: a new root would cut off every enrolled agent.
fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    if !path.try_exists().map_err(read)? {
        let fresh = Zeroizing::new(random_bytes::<32>());
        let text = Zeroizing::new(hex::encode(fresh.as_slice()));
        write_private(path, text.as_bytes())?;
    }
    let mode = fs::metadata(path).map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(read)?);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), bytes.as_mut_slice())
        .map_err(|_| Error::Form { path: path.to_owned(), digits: 64 })?;
    Ok(bytes)
}

/// Writes a file of mode 0600 that is whole or absent, also after a crash.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Create { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    match path.parent() {
        Some(parent) => fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_the_same_and_private_or_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || Keys::open(folder.path(), Timestamp(0));
        let first = open().expect("made");
        assert_eq!(open().expect("read").root.public(), first.root.public());
        let path = folder.path().join("root.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        assert!(matches!(open(), Err(Error::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        fs::write(&path, "short").expect("write");
        assert!(matches!(open(), Err(Error::Form { .. })));
    }
}
