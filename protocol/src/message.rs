//! One closed enum per direction, and the only functions that turn bytes into them. A message is one JSON object with a
//! `kind`; a kind this build does not know decodes as `Unknown` and has no effect.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::enrolment::{CertificateFields, ControlCertificate, EnrolDown, EnrolUp, ProtocolRange, Version};
use crate::id::{AgentId, Base64Bytes, Hex32, Hex64, JobId, PackageDigest, SessionId};
use crate::job::{JobRef, JobSpec};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::progress::{Outcome, Progress};

/// Agent to control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Up {
    Hello(Box<Hello>),
    FullState(FullState),
    Heartbeat {
        capacity: Capacity,
        /// SHA-256 over the job list of a full state; when it differs, the control plane asks for one.
        jobs_digest: Hex32,
    },
    Accepted {
        outbox_seq: u64,
        job_id: JobId,
        generation: u64,
    },
    Refused {
        outbox_seq: u64,
        job_id: JobId,
        generation: u64,
        reason: RefusalReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    Renew {
        jobs: Vec<JobRef>,
    },
    Progress(Progress),
    Outcome(Box<Outcome>),
    PackageWanted {
        digest: PackageDigest,
        offset: u64,
    },
    #[serde(other)]
    Unknown,
}

impl Up {
    /// The `kind` on the wire, for the ledger and for counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Up::Hello(_) => "hello",
            Up::FullState(_) => "full_state",
            Up::Heartbeat { .. } => "heartbeat",
            Up::Accepted { .. } => "accepted",
            Up::Refused { .. } => "refused",
            Up::Renew { .. } => "renew",
            Up::Progress(_) => "progress",
            Up::Outcome(_) => "outcome",
            Up::PackageWanted { .. } => "package_wanted",
            Up::Unknown => "unknown",
        }
    }

    /// The outbox position of a durable message.
    #[must_use]
    pub fn outbox_seq(&self) -> Option<u64> {
        match self {
            Up::Accepted { outbox_seq, .. } | Up::Refused { outbox_seq, .. } => Some(*outbox_seq),
            Up::Outcome(outcome) => Some(outcome.outbox_seq),
            _ => None,
        }
    }
}

/// The agent's answer to the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: ProtocolRange,
    pub agent_id: AgentId,
    pub version: Version,
    /// Reserved bits are zero; neither side uses what the other lacks.
    pub capabilities: u64,
    /// By the identity, over the transcript that `inshore-trust` defines.
    pub challenge_signature: Hex64,
    /// Rises with each session; two holders of one identity fork it.
    pub renewal_counter: u64,
    /// By the identity: the key of this Noise handshake.
    pub channel: CertificateFields,
    /// By the identity: the key secrets are sealed to.
    pub sealing: CertificateFields,
}

/// The agent's whole state, after each reconnect and when asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullState {
    pub mode: Mode,
    pub capacity: Capacity,
    pub jobs: Vec<JobState>,
    /// The newest outbox position that was ever used.
    pub outbox_seq: u64,
}

/// Who decides what may run: see SECURITY §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Managed,
    Locked,
    #[serde(other)]
    Unknown,
}

/// What the host has to give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    pub jobs_max: u32,
    pub jobs_running: u32,
    pub memory_bytes: u64,
    pub memory_available_bytes: u64,
    pub disk_available_bytes: u64,
    pub cpu_count: u32,
}

/// One attempt the agent knows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    pub job_id: JobId,
    pub generation: u64,
    pub phase: Phase,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Accepted,
    Running,
    /// Its outcome is in the outbox, not yet acknowledged.
    Finished,
    #[serde(other)]
    Unknown,
}

/// Why an offer is refused; one code, nothing about the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    Capacity,
    Memory,
    Disk,
    /// The host's policy file cannot be used.
    Policy,
    DestinationNotListed,
    ConnectorNotListed,
    Approval,
    Sandbox,
    Draining,
    /// The generation is not above the one the agent has, or jumps too far.
    Generation,
    /// The spec names something this version does not know.
    Unsupported,
    Store,
    #[serde(other)]
    Unknown,
}

/// Control plane to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Down {
    /// First message after the Noise handshake.
    Challenge {
        challenge: Hex32,
    },
    Welcome {
        protocol: u16,
        session_id: SessionId,
        heartbeat_ms: u64,
        server_time_ms: u64,
    },
    /// Instead of `Welcome`; the session ends.
    Rejected {
        reason: Rejection,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    Offer {
        job: Box<JobSpec>,
    },
    /// The lease of an accepted offer, and each renewal of it.
    Grant {
        job_id: JobId,
        generation: u64,
        lease_ms: u64,
    },
    LeaseLost {
        job_id: JobId,
        generation: u64,
    },
    Cancel {
        job_id: JobId,
    },
    DrainJob {
        job_id: JobId,
    },
    DrainAgent,
    /// Everything up to and including `seq` is stored by the control plane.
    OutboxAck {
        seq: u64,
    },
    WantFullState,
    PackageChunk {
        digest: PackageDigest,
        offset: u64,
        total_bytes: u64,
        data: Base64Bytes,
    },
    /// The identity is revoked; the session ends.
    Revoked,
    #[serde(other)]
    Unknown,
}

impl Down {
    /// The `kind` on the wire, for logs and counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Down::Challenge { .. } => "challenge",
            Down::Welcome { .. } => "welcome",
            Down::Rejected { .. } => "rejected",
            Down::Offer { .. } => "offer",
            Down::Grant { .. } => "grant",
            Down::LeaseLost { .. } => "lease_lost",
            Down::Cancel { .. } => "cancel",
            Down::DrainJob { .. } => "drain_job",
            Down::DrainAgent => "drain_agent",
            Down::OutboxAck { .. } => "outbox_ack",
            Down::WantFullState => "want_full_state",
            Down::PackageChunk { .. } => "package_chunk",
            Down::Revoked => "revoked",
            Down::Unknown => "unknown",
        }
    }
}

/// Why a control plane does not welcome an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// No such agent, or not its keys.
    Identity,
    Revoked,
    ProtocolVersion,
    /// Another session of this identity is live.
    SessionLive,
    /// The renewal counter forked.
    Cloned,
    Busy,
    #[serde(other)]
    Unknown,
}

/// Bytes that are not one message. The session that brought them ends.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Above the cap; not looked at.
    #[error("message of {bytes} bytes is above the cap of {MESSAGE_BYTES_MAX}")]
    Oversize { bytes: usize },
    /// Not a JSON object with a kind, or a known kind with fields that do not fit.
    #[error("not a message of this protocol (line {line}, column {column})")]
    Malformed { line: usize, column: usize },
}

/// Decodes an upward message.
pub fn decode_up(bytes: &[u8]) -> Result<Up, DecodeError> {
    decode(bytes)
}

/// Decodes a downward message.
pub fn decode_down(bytes: &[u8]) -> Result<Down, DecodeError> {
    decode(bytes)
}

/// Decodes an upward message of an enrolment.
pub fn decode_enrol_up(bytes: &[u8]) -> Result<EnrolUp, DecodeError> {
    decode(bytes)
}

/// Decodes a downward message of an enrolment.
pub fn decode_enrol_down(bytes: &[u8]) -> Result<EnrolDown, DecodeError> {
    decode(bytes)
}

/// Decodes the clear first message of a session.
pub fn decode_clear(bytes: &[u8]) -> Result<ControlCertificate, DecodeError> {
    decode(bytes)
}

/// The bytes of a message of either direction.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and no failing serialiser")
}

/// The error says where, never what: the bytes may be anyone's data.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::Oversize { bytes: bytes.len() });
    }
    // serde would read a tagged enum from an array too; an envelope is an object.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(DecodeError::Malformed { line: 1, column: 1 });
    }
    serde_json::from_slice(bytes).map_err(|error| DecodeError::Malformed { line: error.line(), column: error.column() })
}

#[cfg(test)]
mod tests;
