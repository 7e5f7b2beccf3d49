//! Certificates: one key vouches for another in one fixed spelling of JSON. The signature covers the exact text; a
//! certificate rebuilt from its fields ([`CertificateBody::render`]) has the same text, so it can travel as fields.
//!
//! What surprises: expiry is not checked here. Chain entries must stay verifiable for ever, so only callers with a
//! reason to look at the clock ask [`Subject::is_expired`].

use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, Signature, SigningKey};

/// A certificate that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("verify a certificate: its signature is not by the expected issuer")]
    SignatureWrong,
    #[error("verify a certificate: its text is not in the one accepted form")]
    Malformed,
    #[error("verify a certificate chain: a {found:?} key does not follow a {issuer:?} key")]
    PathWrong { issuer: KeyKind, found: KeyKind },
    #[error("verify a certificate chain: {len} certificates, at most {max}")]
    TooLong { len: usize, max: usize },
    #[error("verify a certificate chain: it is empty")]
    Empty,
}

/// What a certified key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// A newer root, signed by the one before it.
    Root,
    /// An agent's Ed25519 identity, signed by the root.
    Agent,
    /// An agent's X25519 Noise key, signed by its identity.
    Channel,
    /// An agent's X25519 sealing key, signed by its identity.
    Sealing,
    /// One job's Ed25519 key, signed by the agent's identity.
    Job,
    /// The control plane's X25519 Noise key, signed by the root.
    Control,
}

impl KeyKind {
    /// A kind may only be vouched for by one other kind; no other path through a chain exists.
    const fn may_follow(self, issuer: KeyKind) -> bool {
        matches!(
            (issuer, self),
            (KeyKind::Root, KeyKind::Root | KeyKind::Agent | KeyKind::Control)
                | (KeyKind::Agent, KeyKind::Channel | KeyKind::Sealing | KeyKind::Job)
        )
    }
}

/// What a certificate says, and whom it says it of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateBody {
    pub v: u16,
    pub kind: KeyKind,
    /// An id of 1 to 64 characters of `[A-Za-z0-9_-]`.
    pub subject: String,
    /// Ed25519 or X25519, as `kind` says.
    pub key: PublicKey,
    pub issued_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// The format version of certificates.
const VERSION: u16 = 1;
/// Certificates in one chain.
const CHAIN_MAX: usize = 8;

/// A verified body.
pub type Subject = CertificateBody;

impl CertificateBody {
    /// A body of the current version.
    #[must_use]
    pub fn new(kind: KeyKind, subject: &str, key: [u8; 32], issued_at_ms: u64) -> Self {
        Self { v: VERSION, kind, subject: subject.to_owned(), key: PublicKey(key), issued_at_ms, expires_at_ms: None }
    }

    /// The same with an end.
    #[must_use]
    pub fn expiring_at(self, expires_at_ms: u64) -> Self {
        Self { expires_at_ms: Some(expires_at_ms), ..self }
    }

    /// Whether its end lies before `now_ms`.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms <= now_ms)
    }

    /// The one spelling that is signed: compact JSON, fields in declaration order.
    fn render(&self) -> String {
        serde_json::to_string(self).expect("a body has string keys and plain values")
    }

    fn is_well_formed(&self) -> bool {
        let subject = &self.subject;
        self.v == VERSION
            && (1..=64).contains(&subject.len())
            && subject.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    }
}

/// A signed body. `body` is the exact signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    body: String,
    sig: Signature,
}

/// Signs a body.
#[must_use]
pub fn issue(issuer: &SigningKey, body: &CertificateBody) -> Certificate {
    let text = body.render();
    let sig = issuer.sign(&signed_bytes(&text));
    Certificate { body: text, sig }
}

/// A label keeps a certificate from being taken for any other signed thing, and the reverse.
fn signed_bytes(body: &str) -> Vec<u8> {
    [b"inshore certificate v1\0", body.as_bytes()].concat()
}

impl Certificate {
    /// Rebuilds a certificate that travelled as fields. It holds only if [`Certificate::verify`] says so.
    #[must_use]
    pub fn from_fields(body: &CertificateBody, sig: Signature) -> Self {
        Self { body: body.render(), sig }
    }

    /// The fields and the signature, unverified: for transport and display only.
    pub fn to_fields(&self) -> Result<(CertificateBody, Signature), CertificateError> {
        Ok((self.parse()?, self.sig))
    }

    /// Verifies the signature first, then reads the text.
    pub fn verify(&self, issuer: &PublicKey) -> Result<Subject, CertificateError> {
        issuer.verify(&signed_bytes(&self.body), &self.sig).map_err(|_| CertificateError::SignatureWrong)?;
        self.parse()
    }

    /// Verifies, and insists on kind: a channel key is no sealing key.
    pub fn verify_kind(&self, issuer: &PublicKey, kind: KeyKind) -> Result<Subject, CertificateError> {
        let subject = self.verify(issuer)?;
        if subject.kind == kind { Ok(subject) } else { Err(CertificateError::Malformed) }
    }

    fn parse(&self) -> Result<CertificateBody, CertificateError> {
        let body: CertificateBody = serde_json::from_str(&self.body).map_err(|_| CertificateError::Malformed)?;
        // Only the one spelling: the same certificate has one text, so fields and text cannot disagree.
        if body.is_well_formed() && body.render() == self.body { Ok(body) } else { Err(CertificateError::Malformed) }
    }
}

/// Certificates from just below a pinned root to a leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateChain(pub Vec<Certificate>);

impl CertificateChain {
    /// The chain with one more certificate below.
    #[must_use]
    pub fn with(&self, certificate: Certificate) -> Self {
        let mut certificates = self.0.clone();
        certificates.push(certificate);
        Self(certificates)
    }

    /// Verifies from the root down and returns the leaf. Roles only follow in the one allowed order.
    pub fn verify(&self, root: &PublicKey) -> Result<Subject, CertificateError> {
        if self.0.len() > CHAIN_MAX {
            return Err(CertificateError::TooLong { len: self.0.len(), max: CHAIN_MAX });
        }
        let mut issuer = (KeyKind::Root, *root);
        let mut leaf = None;
        for certificate in &self.0 {
            let subject = certificate.verify(&issuer.1)?;
            if !subject.kind.may_follow(issuer.0) {
                return Err(CertificateError::PathWrong { issuer: issuer.0, found: subject.kind });
            }
            issuer = (subject.kind, subject.key);
            leaf = Some(subject);
        }
        leaf.ok_or(CertificateError::Empty)
    }

    /// Verifies, and insists on the leaf's kind.
    pub fn verify_kind(&self, root: &PublicKey, kind: KeyKind) -> Result<Subject, CertificateError> {
        let subject = self.verify(root)?;
        if subject.kind == kind { Ok(subject) } else { Err(CertificateError::Malformed) }
    }
}

#[cfg(test)]
mod tests;
