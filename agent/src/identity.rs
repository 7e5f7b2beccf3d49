//! Who this agent is: its Ed25519 identity, the two X25519 keys it certifies, and the control-plane root it pinned. One
//! file in the state directory, 0600, replaced as a whole; loaded strictly, because a half-read identity is none.
//!
//! Before enrolment the keys are a candidate beside it: a lost answer of the control plane is asked for again with the
//! same keys, so that a token is never spent on an identity nobody has.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use inshore_trust::{
    Certificate, CertificateBody, CertificateChain, CertificateError, DhSecret, JobSigner, KeyKind, PublicKey,
    Signature, SigningKey, issue,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

const FILE: &str = "identity.json";
const CANDIDATE: &str = "identity.candidate.json";
const FILE_BYTES_MAX: u64 = 64 << 10;
const VERSION: u16 = 1;

/// An identity that cannot be used, or is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "load the identity: this agent is not enrolled ({path} does not exist); run `inshore enrol --token-file F`"
    )]
    NotEnrolled { path: PathBuf },
    #[error("load the identity: {path} can be read by others (mode {mode:o}); make it 0600 or enrol again")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("load the identity: {path} is not what this agent wrote; restore it or enrol again")]
    Malformed { path: PathBuf },
    #[error("load the identity: the certificates in {path} do not hold")]
    Certificate { path: PathBuf, source: CertificateError },
    #[error("use the identity file {path}")]
    File { path: PathBuf, source: std::io::Error },
}

impl Error {
    /// The code of the error's page.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::NotEnrolled { .. } => "ENR-006",
            _ => "ENR-007",
        }
    }
}

/// The three secret keys of an agent.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) identity: SigningKey,
    pub(crate) channel: DhSecret,
    pub(crate) sealing: DhSecret,
}

/// An enrolled agent's identity.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) agent_id: String,
    /// Where the join token said the control plane is.
    pub(crate) url: String,
    /// The control-plane root this agent pinned.
    pub(crate) root: PublicKey,
    keys: Keys,
    certificate: Certificate,
    channel_certificate: Certificate,
    sealing_certificate: Certificate,
}

impl Keys {
    /// Fresh keys.
    pub(crate) fn generate() -> Self {
        Self { identity: SigningKey::generate(), channel: DhSecret::generate(), sealing: DhSecret::generate() }
    }
}

impl Identity {
    /// What enrolment ends with: the identity certifies the other two keys under the id it was given.
    pub(crate) fn new(
        keys: Keys,
        url: String,
        root: PublicKey,
        certificate: Certificate,
        now_ms: u64,
    ) -> Result<Self, CertificateError> {
        let subject = certificate.verify_kind(&root, KeyKind::Agent)?;
        if subject.key != keys.identity.public() {
            return Err(CertificateError::Malformed);
        }
        let certify =
            |kind, key: [u8; 32]| issue(&keys.identity, &CertificateBody::new(kind, &subject.subject, key, now_ms));
        let channel_certificate = certify(KeyKind::Channel, keys.channel.public().0);
        let sealing_certificate = certify(KeyKind::Sealing, keys.sealing.public().0);
        Ok(Self { agent_id: subject.subject, url, root, keys, certificate, channel_certificate, sealing_certificate })
    }

    /// Loads the identity of this state directory; everything in it is verified again.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        let file: IdentityFile = match read(&path)? {
            Some(file) => file,
            None => return Err(Error::NotEnrolled { path }),
        };
        let certificate_error = |source| Error::Certificate { path: path.clone(), source };
        let keys = file.keys.to_keys().ok_or_else(|| Error::Malformed { path: path.clone() })?;
        let identity = Self {
            agent_id: file.agent_id,
            url: file.url,
            root: file.root,
            certificate: file.certificate,
            channel_certificate: file.channel_certificate,
            sealing_certificate: file.sealing_certificate,
            keys,
        };
        identity.check().map_err(certificate_error)?;
        Ok(identity)
    }

    fn check(&self) -> Result<(), CertificateError> {
        let public = self.keys.identity.public();
        let agent = self.certificate.verify_kind(&self.root, KeyKind::Agent)?;
        let channel = self.channel_certificate.verify_kind(&public, KeyKind::Channel)?;
        let sealing = self.sealing_certificate.verify_kind(&public, KeyKind::Sealing)?;
        let subjects = [&agent.subject, &channel.subject, &sealing.subject].into_iter();
        let ours = agent.key == public
            && channel.key.0 == self.keys.channel.public().0
            && sealing.key.0 == self.keys.sealing.public().0
            && subjects.into_iter().all(|subject| *subject == self.agent_id);
        if ours { Ok(()) } else { Err(CertificateError::Malformed) }
    }

    /// Makes this the identity of the state directory. After it the candidate is gone.
    pub(crate) fn save(&self, state_dir: &Path) -> Result<(), Error> {
        let file = IdentityFile {
            v: VERSION,
            agent_id: self.agent_id.clone(),
            url: self.url.clone(),
            root: self.root,
            keys: KeysFile::of(&self.keys),
            certificate: self.certificate.clone(),
            channel_certificate: self.channel_certificate.clone(),
            sealing_certificate: self.sealing_certificate.clone(),
        };
        write(state_dir, FILE, &file)?;
        let candidate = state_dir.join(CANDIDATE);
        match std::fs::remove_file(&candidate) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { path: candidate, source })
            }
            _ => Ok(()),
        }
    }

    /// Signs with the identity.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Signature {
        self.keys.identity.sign(bytes)
    }

    /// The identity's public half.
    pub(crate) fn public(&self) -> PublicKey {
        self.keys.identity.public()
    }

    /// The Noise static key.
    pub(crate) fn channel_key(&self) -> &DhSecret {
        &self.keys.channel
    }

    /// The key that secrets are sealed to.
    pub(crate) fn sealing_key(&self) -> &DhSecret {
        &self.keys.sealing
    }

    pub(crate) fn channel_certificate(&self) -> &Certificate {
        &self.channel_certificate
    }

    pub(crate) fn sealing_certificate(&self) -> &Certificate {
        &self.sealing_certificate
    }

    /// A key for one job, certified by this identity; the identity itself never enters a job.
    pub(crate) fn job_signer(&self, job_id: &str, now_ms: u64) -> JobSigner {
        let chain = CertificateChain(vec![self.certificate.clone()]);
        JobSigner::certify(&self.keys.identity, &chain, job_id, now_ms)
    }
}

/// The keys to enrol with: those of an earlier try, or fresh ones that are on disk before they are used.
pub(crate) fn candidate(state_dir: &Path) -> Result<Keys, Error> {
    let path = state_dir.join(CANDIDATE);
    if let Some(file) = read::<CandidateFile>(&path)? {
        return file.keys.to_keys().ok_or(Error::Malformed { path });
    }
    let keys = Keys::generate();
    write(state_dir, CANDIDATE, &CandidateFile { v: VERSION, keys: KeysFile::of(&keys) })?;
    Ok(keys)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    v: u16,
    agent_id: String,
    url: String,
    root: PublicKey,
    keys: KeysFile,
    certificate: Certificate,
    channel_certificate: Certificate,
    sealing_certificate: Certificate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateFile {
    v: u16,
    keys: KeysFile,
}

trait Versioned {
    fn version(&self) -> u16;
}

impl Versioned for IdentityFile {
    fn version(&self) -> u16 {
        self.v
    }
}

impl Versioned for CandidateFile {
    fn version(&self) -> u16 {
        self.v
    }
}

/// Seeds as hexadecimal text, wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    identity: String,
    channel: String,
    sealing: String,
}

impl KeysFile {
    fn of(keys: &Keys) -> Self {
        let text = |seed: Zeroizing<[u8; 32]>| hex::encode(seed.as_slice());
        Self {
            identity: text(keys.identity.to_secret_bytes()),
            channel: text(keys.channel.to_secret_bytes()),
            sealing: text(keys.sealing.to_secret_bytes()),
        }
    }

    fn to_keys(&self) -> Option<Keys> {
        let seed = |text: &str| {
            let mut seed = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text, seed.as_mut_slice()).ok().map(|()| seed)
        };
        Some(Keys {
            identity: SigningKey::from_bytes(&*seed(&self.identity)?),
            channel: DhSecret::from_bytes(&*seed(&self.channel)?),
            sealing: DhSecret::from_bytes(&*seed(&self.sealing)?),
        })
    }
}

impl Drop for KeysFile {
    fn drop(&mut self) {
        self.identity.zeroize();
        self.channel.zeroize();
        self.sealing.zeroize();
    }
}

fn read<T: for<'de> Deserialize<'de> + Versioned>(path: &Path) -> Result<Option<T>, Error> {
    let error = |source| Error::File { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    let mode = file.metadata().map_err(error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(error)?;
    match serde_json::from_slice::<T>(&bytes) {
        Ok(content) if content.version() == VERSION => Ok(Some(content)),
        _ => Err(Error::Malformed { path: path.to_owned() }),
    }
}

/// Written beside, synced, renamed, folder synced: a crash leaves the old file or the new one, both whole.
fn write<T: Serialize>(state_dir: &Path, name: &str, content: &T) -> Result<(), Error> {
    let path = state_dir.join(name);
    let error = |source| Error::File { path: path.clone(), source };
    let text = serde_json::to_vec(content).map_err(|source| error(source.into()))?;
    let bytes = Zeroizing::new(text);
    // A named temporary file is created 0600.
    let mut file = tempfile::NamedTempFile::new_in(state_dir).map_err(error)?;
    file.write_all(&bytes).map_err(error)?;
    file.as_file().sync_all().map_err(error)?;
    file.persist(&path).map_err(|failed| error(failed.error))?;
    std::fs::File::open(state_dir).and_then(|folder| folder.sync_all()).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolled(state_dir: &Path) -> (SigningKey, Identity) {
        let root = SigningKey::generate();
        let keys = candidate(state_dir).expect("candidate");
        let body = CertificateBody::new(KeyKind::Agent, "agt_1", keys.identity.public().0, 1);
        let certificate = issue(&root, &body);
        let url = "wss://localhost:1".to_owned();
        let identity = Identity::new(keys, url, root.public(), certificate, 2).expect("identity");
        (root, identity)
    }

    #[test]
    fn an_identity_survives_a_restart_and_stays_private() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(Identity::load(folder.path()).expect_err("not enrolled").code(), "ENR-006");
        let (root, identity) = enrolled(folder.path());
        identity.save(folder.path()).expect("save");
        let again = Identity::load(folder.path()).expect("load");
        assert_eq!((again.agent_id.as_str(), again.public()), ("agt_1", identity.public()));
        assert!(!folder.path().join(CANDIDATE).exists());
        let mode = std::fs::metadata(folder.path().join(FILE)).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let line = again.job_signer("job_1", 3).sign(b"entry");
        assert!(line.verify(&root.public(), b"entry").is_ok());
        let seed = hex::encode(identity.keys.identity.to_secret_bytes().as_slice());
        assert!(!format!("{again:?}").contains(&seed));
    }

    #[test]
    fn candidate_keys_are_the_same_until_enrolled() {
        let folder = tempfile::tempdir().expect("folder");
        let first = candidate(folder.path()).expect("candidate");
        assert_eq!(candidate(folder.path()).expect("again").identity.public(), first.identity.public());
    }

    #[test]
    fn exposed_truncated_and_altered_files_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE);
        let (_, identity) = enrolled(folder.path());
        identity.save(folder.path()).expect("save");
        let text = std::fs::read_to_string(&path).expect("file");
        let refused = |text: &str| {
            std::fs::write(&path, text).expect("write");
            Identity::load(folder.path()).expect_err("refused")
        };
        let half = text.get(..text.len() / 2).expect("ASCII");
        assert!(matches!(refused(half), Error::Malformed { .. }));
        assert!(matches!(refused(&text.replacen('{', "{\"x\":1,", 1)), Error::Malformed { .. }));
        assert!(matches!(refused(&text.replacen("agt_1", "agt_2", 1)), Error::Certificate { .. }));
        let other_root = text.replace(&identity.root.to_hex(), &SigningKey::generate().public().to_hex());
        assert!(matches!(refused(&other_root), Error::Certificate { .. }));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(matches!(Identity::load(folder.path()), Err(Error::Exposed { mode: 0o644, .. })));
    }
}
