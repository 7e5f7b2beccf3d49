//! The Noise channel inside the WebSocket, as pure code over byte strings: handshakes of either side, and a [`Session`]
//! that cuts messages into Noise messages of at most 65,535 bytes and puts them together again.
//!
//! One transport message is one flag byte (bit 0: more follows; all other bits zero) and a part, encrypted together.
//! Any error is final: the session must be closed, its counters are spent.

use std::fmt;

use snow::{Builder, HandshakeState, TransportState};

use crate::key::{DhPublic, DhSecret};

/// One assembled message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// One Noise message on the wire.
pub const FRAME_BYTES_MAX: usize = 65_535;
const TAG_BYTES: usize = 16;
const PART_BYTES_MAX: usize = FRAME_BYTES_MAX - TAG_BYTES - 1;
const MORE: u8 = 1;

const CHANNEL: (&str, &[u8]) = ("Noise_IK_25519_ChaChaPoly_BLAKE2s", b"inshore channel v1");
const ENROLMENT: (&str, &[u8]) = ("Noise_NK_25519_ChaChaPoly_BLAKE2s", b"inshore enrolment v1");

/// Why a handshake or session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("complete the handshake: the peer holds another key or the message was altered")]
    Handshake,
    #[error("read a frame: it does not decrypt under this session")]
    Undecryptable,
    #[error("read a frame: its flags or length break the protocol")]
    Malformed,
    #[error("read a message: above {MESSAGE_BYTES_MAX} bytes")]
    Oversize,
    #[error("write a message: {bytes} bytes, at most {MESSAGE_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("write a message: the session's counter is spent")]
    Spent,
}

/// The agent's side of a handshake: send [`Initiator::first`], feed the answer to [`Initiator::finish`].
pub struct Initiator {
    state: HandshakeState,
    first: Vec<u8>,
}

impl Initiator {
    /// `Noise_IK`: the agent's channel key towards the control plane's certified key.
    pub fn channel(channel: &DhSecret, control: &DhPublic) -> Result<Self, Error> {
        Self::new(CHANNEL, Some(channel), control)
    }

    /// `Noise_NK`: an agent that has no identity yet.
    pub fn enrolment(control: &DhPublic) -> Result<Self, Error> {
        Self::new(ENROLMENT, None, control)
    }

    fn new(pattern: (&str, &[u8]), local: Option<&DhSecret>, remote: &DhPublic) -> Result<Self, Error> {
        let secret = local.map(DhSecret::to_secret_bytes);
        let mut builder = builder(pattern)?.remote_public_key(&remote.0).map_err(|_| Error::Handshake)?;
        if let Some(secret) = &secret {
            builder = builder.local_private_key(secret.as_slice()).map_err(|_| Error::Handshake)?;
        }
        let mut state = builder.build_initiator().map_err(|_| Error::Handshake)?;
        let first = write_handshake(&mut state)?;
        Ok(Self { state, first })
    }

    /// The bytes to send.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// The peer's answer makes the session.
    pub fn finish(mut self, answer: &[u8]) -> Result<Session, Error> {
        read_handshake(&mut self.state, answer)?;
        Session::new(self.state)
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Initiator").finish_non_exhaustive()
    }
}

/// The control plane's side: one message in, one answer out.
#[derive(Debug)]
pub struct Responder;

impl Responder {
    /// Answers a `Noise_IK` first message. [`Session::remote_static`] is the agent's channel key, still to be matched.
    pub fn channel(control: &DhSecret, first: &[u8]) -> Result<(Session, Vec<u8>), Error> {
        Self::answer(CHANNEL, control, first)
    }

    /// Answers a `Noise_NK` first message.
    pub fn enrolment(control: &DhSecret, first: &[u8]) -> Result<(Session, Vec<u8>), Error> {
        Self::answer(ENROLMENT, control, first)
    }

    fn answer(pattern: (&str, &[u8]), control: &DhSecret, first: &[u8]) -> Result<(Session, Vec<u8>), Error> {
        let secret = control.to_secret_bytes();
        let builder = builder(pattern)?.local_private_key(secret.as_slice()).map_err(|_| Error::Handshake)?;
        let mut state = builder.build_responder().map_err(|_| Error::Handshake)?;
        read_handshake(&mut state, first)?;
        let answer = write_handshake(&mut state)?;
        Ok((Session::new(state)?, answer))
    }
}

fn builder<'a>((pattern, prologue): (&str, &'a [u8])) -> Result<Builder<'a>, Error> {
    let params = pattern.parse().map_err(|_| Error::Handshake)?;
    Builder::new(params).prologue(prologue).map_err(|_| Error::Handshake)
}

fn write_handshake(state: &mut HandshakeState) -> Result<Vec<u8>, Error> {
    let mut message = vec![0; FRAME_BYTES_MAX];
    let len = state.write_message(&[], &mut message).map_err(|_| Error::Handshake)?;
    message.truncate(len);
    Ok(message)
}

/// Handshake payloads are empty by definition: data waits for the session.
fn read_handshake(state: &mut HandshakeState, message: &[u8]) -> Result<(), Error> {
    let mut payload = vec![0; FRAME_BYTES_MAX];
    match state.read_message(message, &mut payload) {
        Ok(0) => Ok(()),
        _ => Err(Error::Handshake),
    }
}

/// An established channel: encrypts whole messages into frames, assembles frames into messages.
pub struct Session {
    state: TransportState,
    handshake_hash: [u8; 32],
    remote_static: Option<DhPublic>,
    assembled: Vec<u8>,
}

impl Session {
    fn new(state: HandshakeState) -> Result<Self, Error> {
        let handshake_hash = state.get_handshake_hash().try_into().map_err(|_| Error::Handshake)?;
        let remote_static = match state.get_remote_static() {
            Some(key) => Some(DhPublic(key.try_into().map_err(|_| Error::Handshake)?)),
            None => None,
        };
        let state = state.into_transport_mode().map_err(|_| Error::Handshake)?;
        Ok(Self { state, handshake_hash, remote_static, assembled: Vec::new() })
    }

    /// Unique to this channel; what both sides sign about it.
    #[must_use]
    pub fn handshake_hash(&self) -> &[u8; 32] {
        &self.handshake_hash
    }

    /// The key the peer proved to hold; none for the initiator of an enrolment seen from the control plane.
    #[must_use]
    pub fn remote_static(&self) -> Option<&DhPublic> {
        self.remote_static.as_ref()
    }

    /// The frames of one message, to be sent in this order with nothing between them.
    pub fn encrypt(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLong { bytes: message.len() });
        }
        let mut parts: Vec<&[u8]> = message.chunks(PART_BYTES_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len().saturating_sub(1);
        parts.iter().enumerate().map(|(index, part)| self.frame(part, index < last)).collect()
    }

    fn frame(&mut self, part: &[u8], more: bool) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::with_capacity(part.len() + 1);
        plain.push(if more { MORE } else { 0 });
        plain.extend_from_slice(part);
        let mut frame = vec![0; plain.len() + TAG_BYTES];
        let len = self.state.write_message(&plain, &mut frame).map_err(|_| Error::Spent)?;
        frame.truncate(len);
        Ok(frame)
    }

    /// Takes one frame; gives the message it completes.
    pub fn decrypt(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(Error::Oversize);
        }
        let mut plain = vec![0; frame.len()];
        let len = self.state.read_message(frame, &mut plain).map_err(|_| Error::Undecryptable)?;
        plain.truncate(len);
        let (flags, part) = plain.split_first().ok_or(Error::Malformed)?;
        // An empty part that promises more would let a peer spin us for nothing.
        if *flags > MORE || (*flags == MORE && part.is_empty()) {
            return Err(Error::Malformed);
        }
        if self.assembled.len() + part.len() > MESSAGE_BYTES_MAX {
            return Err(Error::Oversize);
        }
        self.assembled.extend_from_slice(part);
        Ok((*flags == 0).then(|| std::mem::take(&mut self.assembled)))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("assembled_bytes", &self.assembled.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
