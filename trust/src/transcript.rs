//! The exact bytes that are signed or MACed during a handshake: label, then fixed-width fields, then ids behind their
//! length. Both binaries build them here, so they cannot differ.

use crate::key::{DhPublic, PublicKey};

/// What the agent signs with its identity in the hello. The handshake hash binds the answer to this channel.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub handshake_hash: &'a [u8; 32],
    pub challenge: &'a [u8; 32],
    pub agent_id: &'a str,
    pub renewal_counter: u64,
    pub protocol_min: u16,
    pub protocol_max: u16,
}

impl Hello<'_> {
    /// `"inshore hello v1\0" ‖ handshake hash ‖ challenge ‖ counter u64 ‖ min u16 ‖ max u16 ‖ id length u32 ‖ id`, numbers
    /// big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.agent_id.len()).expect("ids are at most 64 bytes");
        let mut bytes = b"inshore hello v1\0".to_vec();
        bytes.extend_from_slice(self.handshake_hash);
        bytes.extend_from_slice(self.challenge);
        bytes.extend_from_slice(&self.renewal_counter.to_be_bytes());
        bytes.extend_from_slice(&self.protocol_min.to_be_bytes());
        bytes.extend_from_slice(&self.protocol_max.to_be_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(self.agent_id.as_bytes());
        bytes
    }
}

/// What the join token's secret authenticates at enrolment.
#[derive(Debug, Clone, Copy)]
pub struct Enrol<'a> {
    pub handshake_hash: &'a [u8; 32],
    pub identity: &'a PublicKey,
    pub channel: &'a DhPublic,
    pub sealing: &'a DhPublic,
}

impl Enrol<'_> {
    /// `"inshore enrol v1\0" ‖ handshake hash ‖ identity ‖ channel ‖ sealing`, 32 bytes each.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&b"inshore enrol v1\0"[..], self.handshake_hash, &self.identity.0, &self.channel.0, &self.sealing.0].concat()
    }
}
