//! The first messages of a session and of an enrolment: certificates, versions, proof of the join token.
//!
//! Certificates travel as closed fields; the signed text is rebuilt from them (`inshore-trust` defines its one
//! spelling), so no free text rides inside a certificate that goes up.

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, Hex32, Hex64, SubjectId, TokenId};

/// What the control plane sends first, in clear: its Noise static key, certified from the root the agent pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlCertificate {
    /// The first certificate is signed by the pinned root, each next one by the key before it; the last is of kind
    /// `control` and holds the X25519 key of the Noise handshake.
    ControlCertificate { certificates: Vec<CertificateFields> },
    #[serde(other)]
    Unknown,
}

/// The fields of a certificate, without its signed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFields {
    pub key_kind: KeyKind,
    pub subject: SubjectId,
    pub key: Hex32,
    pub issued_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    pub signature: Hex64,
}

/// What a certified key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// A newer root, signed by the one before it.
    Root,
    Agent,
    Channel,
    Sealing,
    Job,
    Control,
    #[serde(other)]
    Unknown,
}

/// The protocol versions one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    pub min: u16,
    pub max: u16,
}

impl ProtocolRange {
    /// What this build speaks.
    pub const OURS: Self = Self { min: crate::PROTOCOL_MIN, max: crate::PROTOCOL_MAX };

    /// The newest version both sides speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The agent's own version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// Agent to control plane, inside the `Noise_NK` channel of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EnrolUp {
    Enrol(Enrol),
    /// After `Enrolled`: the identity certifies its other two keys under the id it was given.
    Certificates {
        channel: CertificateFields,
        sealing: CertificateFields,
    },
    #[serde(other)]
    Unknown,
}

/// The request. The token's secret is not in it: `proof` is a MAC under that secret over handshake hash and keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    pub token_id: TokenId,
    pub proof: Hex32,
    pub identity: Hex32,
    pub channel: Hex32,
    pub sealing: Hex32,
    pub protocol: ProtocolRange,
    pub version: Version,
}

/// Control plane to agent, inside the same channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EnrolDown {
    /// `certificate`: of kind `agent`, by the root, for the identity key.
    Enrolled {
        agent_id: AgentId,
        certificate: CertificateFields,
    },
    Refused {
        reason: EnrolRefusal,
    },
    /// The certificates are stored; the agent may go online.
    Done,
    #[serde(other)]
    Unknown,
}

/// Why a control plane does not enrol an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrolRefusal {
    TokenUnknown,
    TokenUsed,
    TokenExpired,
    ProofWrong,
    ProtocolVersion,
    CertificateWrong,
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins() {
        let range = |min, max| ProtocolRange { min, max };
        for (ours, theirs, common) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 5), Some(3)),
            (range(1, 2), range(3, 4), None),
            (range(3, 4), range(1, 2), None),
            (range(2, 1), range(1, 2), None),
        ] {
            assert_eq!(ours.common(theirs), common, "{ours:?} {theirs:?}");
        }
    }
}
