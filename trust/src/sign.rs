//! What a job signs chain entries with, and the second line of a chain object: `{"key", "certificate", "sig"}`. The
//! agent's identity never enters a job: it certifies a key made for that job alone.

use serde::{Deserialize, Serialize};

use crate::certificate::{CertificateBody, CertificateChain, CertificateError, KeyKind, Subject, issue};
use crate::key::{PublicKey, Signature, SigningKey};

/// A job's key with its certificates.
#[derive(Debug)]
pub struct JobSigner {
    key: SigningKey,
    chain: CertificateChain,
}

impl JobSigner {
    /// Makes a key for one job and certifies it by the agent's identity.
    #[must_use]
    pub fn certify(identity: &SigningKey, agent: &CertificateChain, job_id: &str, now_ms: u64) -> Self {
        let key = SigningKey::generate();
        let certificate = issue(identity, &CertificateBody::new(KeyKind::Job, job_id, key.public().0, now_ms));
        Self { key, chain: agent.with(certificate) }
    }

    /// A local run without an agent: the key is its own root.
    #[must_use]
    pub fn self_signed(key: SigningKey) -> Self {
        Self { key, chain: CertificateChain::default() }
    }

    /// The key and chain that reached a job by its socket.
    #[must_use]
    pub fn from_parts(key: SigningKey, chain: CertificateChain) -> Self {
        Self { key, chain }
    }

    /// The secret half, to be handed to the job process.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The certificates from below the root to this key.
    #[must_use]
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// Signs exactly these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> SignedLine {
        SignedLine { key: self.key.public(), certificate: self.chain.clone(), sig: self.key.sign(&labelled(bytes)) }
    }
}

fn labelled(bytes: &[u8]) -> Vec<u8> {
    [b"inshore chain entry v1\0", bytes].concat()
}

/// A signature that carries its own proof of authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedLine {
    pub key: PublicKey,
    pub certificate: CertificateChain,
    pub sig: Signature,
}

impl SignedLine {
    /// Verifies authority under `root`, then the signature over exactly these bytes. A line without certificates holds
    /// only where the signer is the root itself (local runs); then there is no subject.
    pub fn verify(&self, root: &PublicKey, bytes: &[u8]) -> Result<Option<Subject>, CertificateError> {
        let subject =
            if self.certificate.0.is_empty() { None } else { Some(self.certificate.verify_kind(root, KeyKind::Job)?) };
        let authorised = subject.as_ref().map_or(*root, |subject| subject.key);
        if self.key != authorised {
            return Err(CertificateError::SignatureWrong);
        }
        self.key.verify(&labelled(bytes), &self.sig).map_err(|_| CertificateError::SignatureWrong)?;
        Ok(subject)
    }

    /// The line as stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a signed line has string keys and plain values")
    }

    /// Reads a stored line.
    pub fn from_json(text: &str) -> Result<Self, CertificateError> {
        serde_json::from_str(text).map_err(|_| CertificateError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_under_its_root_for_its_bytes_only() {
        let (root, identity) = (SigningKey::generate(), SigningKey::generate());
        let agent = CertificateChain::default()
            .with(issue(&root, &CertificateBody::new(KeyKind::Agent, "agt_1", identity.public().0, 1)));
        let signer = JobSigner::certify(&identity, &agent, "job_1", 2);
        let line = SignedLine::from_json(&signer.sign(b"entry").to_json()).expect("stored line");
        let subject = line.verify(&root.public(), b"entry").expect("holds").expect("has a subject");
        assert_eq!((subject.kind, subject.subject.as_str()), (KeyKind::Job, "job_1"));
        assert!(line.verify(&root.public(), b"entry2").is_err());
        assert!(line.verify(&identity.public(), b"entry").is_err());
        let forged = SignedLine { key: SigningKey::generate().public(), ..line };
        assert!(forged.verify(&root.public(), b"entry").is_err());
    }

    #[test]
    fn a_self_signed_line_holds_only_under_itself() {
        let key = SigningKey::generate();
        let public = key.public();
        let line = JobSigner::self_signed(key).sign(b"entry");
        assert_eq!(line.verify(&public, b"entry"), Ok(None));
        assert!(line.verify(&SigningKey::generate().public(), b"entry").is_err());
    }
}
