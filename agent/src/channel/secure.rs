//! The Noise channel over an open WebSocket: certificate of the control plane under the pinned root, handshake, then
//! whole messages in and out. [`Secured::send`] is the one function through which anything goes up: ledger first.
//!
//! Any error here ends the session: after a frame that does not decrypt, nothing that follows can be trusted.

use futures::{SinkExt as _, StreamExt as _};
use inshore_protocol::limits::{CONTROL_CERTIFICATES_MAX, WRITE};
use inshore_protocol::{CertificateFields, Code, ControlCertificate, DecodeError, KeyKind, decode_clear};
use inshore_trust::noise::{self, Initiator, Session};
use inshore_trust::{Certificate, CertificateBody, CertificateChain, CertificateError, DhPublic, PublicKey, Signature};
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame, protocol::frame::coding::CloseCode};

use super::dial::{self, Socket};
use super::ledger::{self, Frame, FrameClass, Ledger};
use super::store;

/// Why a session could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Dial(#[from] dial::Error),
    #[error("open the channel: no answer in time")]
    HandshakeTimeout,
    #[error("trust the control plane: its key is not certified by the root this agent pinned")]
    Root { source: CertificateError },
    #[error(
        "trust the control plane: the certificate of its key expired at {expired_at_ms} ms; check this host's clock"
    )]
    CertificateExpired { expired_at_ms: u64 },
    #[error("open the channel")]
    Handshake { source: noise::Error },
    #[error("go on with the session: the peer broke the protocol ({what})")]
    Protocol { what: &'static str },
    #[error("go on with the session")]
    Frame { source: noise::Error },
    #[error("go on with the session")]
    Decode { source: DecodeError },
    #[error("go on with the session: the WebSocket failed")]
    Socket { source: Box<tungstenite::Error> },
    #[error("go on with the session: the control plane closed it")]
    Closed,
    #[error("go on with the session: nothing was heard for too long")]
    Silent,
    #[error("go on with the session: the control plane does not read")]
    WriteTimeout,
    #[error("send a frame: nothing is sent that is not in the ledger")]
    Ledger(#[from] ledger::Error),
    #[error("go on with the session: the inbox and outbox failed")]
    Store(#[from] store::Error),
}

impl Error {
    /// The code of the error's page.
    pub(crate) fn code(&self) -> Code {
        match self {
            Error::Dial(error) => error.code(),
            Error::Root { .. } | Error::CertificateExpired { .. } | Error::Handshake { .. } => Code::ChannelKeyMismatch,
            Error::Protocol { .. } | Error::Frame { .. } | Error::Decode { .. } => Code::BadFrame,
            Error::Socket { source } if matches!(**source, tungstenite::Error::Capacity(_)) => Code::BadFrame,
            Error::Ledger(_) | Error::Store(_) => Code::StoreBroken,
            _ => Code::ControlPlaneUnreachable,
        }
    }

    /// What the peer is told when we close on it: a short constant, nothing of ours.
    fn close_reason(&self) -> Option<(CloseCode, &'static str)> {
        match self {
            Error::Frame { .. } => Some((CloseCode::Policy, "undecryptable frame")),
            Error::Decode { .. } => Some((CloseCode::Policy, "not a message")),
            Error::Protocol { what } => Some((CloseCode::Policy, what)),
            Error::Socket { source } if matches!(**source, tungstenite::Error::Capacity(_)) => {
                Some((CloseCode::Size, "frame too large"))
            }
            _ => None,
        }
    }
}

/// An encrypted session with the control plane whose key is certified by the pinned root.
#[derive(Debug)]
pub(crate) struct Secured {
    socket: Socket,
    session: Session,
    /// Empty until the control plane names the session.
    pub(crate) session_id: String,
    sent: u64,
}

impl Secured {
    /// Reads and verifies the control plane's key, then runs the handshake that `initiator` begins.
    pub(crate) async fn open(
        mut socket: Socket,
        root: &PublicKey,
        now_ms: u64,
        initiator: impl FnOnce(&DhPublic) -> Result<Initiator, noise::Error>,
    ) -> Result<Self, Error> {
        let clear = next_binary(&mut socket).await?;
        let control = control_key(&clear, root, now_ms)?;
        let handshake = |source| Error::Handshake { source };
        let initiator = initiator(&control).map_err(handshake)?;
        write(&mut socket, Message::binary(initiator.first().to_vec())).await?;
        // A peer that holds another key cannot read our first message; it can only close or answer nonsense.
        let answer = match next_binary(&mut socket).await {
            Err(Error::Closed) => return Err(handshake(noise::Error::Handshake)),
            answer => answer?,
        };
        let session = initiator.finish(&answer).map_err(handshake)?;
        Ok(Self { socket, session, session_id: String::new(), sent: 0 })
    }

    /// Unique to this session.
    pub(crate) fn handshake_hash(&self) -> &[u8; 32] {
        self.session.handshake_hash()
    }

    /// The one way up: ledger, then encryption, then socket. If the ledger fails nothing is sent.
    pub(crate) async fn send(
        &mut self,
        ledger: &mut Ledger,
        kind: &str,
        class: FrameClass,
        body: &[u8],
    ) -> Result<(), Error> {
        ledger.append(Frame { session: &self.session_id, seq: self.sent, kind, class, body })?;
        self.sent += 1;
        for frame in self.session.encrypt(body).map_err(|source| Error::Frame { source })? {
            write(&mut self.socket, Message::binary(frame)).await?;
        }
        Ok(())
    }

    /// A transport ping. It carries nothing, so the ledger does not list it.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        write(&mut self.socket, Message::Ping(bytes::Bytes::new())).await
    }

    /// One frame of the transport. Cancel-safe: a message is assembled inside the session. `Ok(None)` is a sign of life
    /// without a message.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match read(&mut self.socket).await? {
            Message::Binary(frame) => self.session.decrypt(&frame).map_err(|source| Error::Frame { source }),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
            _ => Err(Error::Protocol { what: "not a binary message" }),
        }
    }

    /// The next whole message, signs of life skipped.
    pub(crate) async fn next_message(&mut self) -> Result<Vec<u8>, Error> {
        loop {
            if let Some(message) = self.next().await? {
                return Ok(message);
            }
        }
    }

    /// Says goodbye, with a reason if the peer is at fault. Best effort: the peer may be gone.
    pub(crate) async fn close(mut self, cause: Option<&Error>) {
        let frame =
            cause.and_then(Error::close_reason).map(|(code, reason)| CloseFrame { code, reason: reason.into() });
        let closed = tokio::time::timeout(std::time::Duration::from_secs(1), self.socket.close(frame)).await;
        tracing::debug!(clean = closed.is_ok_and(|closed| closed.is_ok()), "session closed");
    }
}

fn control_key(clear: &[u8], root: &PublicKey, now_ms: u64) -> Result<DhPublic, Error> {
    let malformed = || Error::Root { source: CertificateError::Malformed };
    let ControlCertificate::ControlCertificate { certificates } =
        decode_clear(clear).map_err(|source| Error::Decode { source })?
    else {
        return Err(Error::Protocol { what: "no certificate first" });
    };
    if certificates.len() > CONTROL_CERTIFICATES_MAX {
        return Err(malformed());
    }
    let certificates: Option<Vec<_>> = certificates.iter().map(certificate).collect();
    let chain = CertificateChain(certificates.ok_or_else(malformed)?);
    let subject = chain.verify_kind(root, inshore_trust::KeyKind::Control).map_err(|source| Error::Root { source })?;
    match subject.expires_at_ms {
        Some(expired_at_ms) if subject.is_expired(now_ms) => Err(Error::CertificateExpired { expired_at_ms }),
        _ => Ok(DhPublic(subject.key.0)),
    }
}

/// The certificate that travelled as these fields; none where its kind is not of this version.
pub(crate) fn certificate(fields: &CertificateFields) -> Option<Certificate> {
    let kind = match fields.key_kind {
        KeyKind::Root => inshore_trust::KeyKind::Root,
        KeyKind::Agent => inshore_trust::KeyKind::Agent,
        KeyKind::Channel => inshore_trust::KeyKind::Channel,
        KeyKind::Sealing => inshore_trust::KeyKind::Sealing,
        KeyKind::Job => inshore_trust::KeyKind::Job,
        KeyKind::Control => inshore_trust::KeyKind::Control,
        KeyKind::Unknown => return None,
    };
    let body = CertificateBody::new(kind, fields.subject.as_str(), fields.key.0, fields.issued_at_ms);
    let body = CertificateBody { expires_at_ms: fields.expires_at_ms, ..body };
    Some(Certificate::from_fields(&body, Signature(fields.signature.0)))
}

/// The fields a certificate of ours travels as.
pub(crate) fn fields(certificate: &Certificate) -> Result<CertificateFields, CertificateError> {
    let (body, signature) = certificate.to_fields()?;
    let key_kind = match body.kind {
        inshore_trust::KeyKind::Root => KeyKind::Root,
        inshore_trust::KeyKind::Agent => KeyKind::Agent,
        inshore_trust::KeyKind::Channel => KeyKind::Channel,
        inshore_trust::KeyKind::Sealing => KeyKind::Sealing,
        inshore_trust::KeyKind::Job => KeyKind::Job,
        inshore_trust::KeyKind::Control => KeyKind::Control,
    };
    Ok(CertificateFields {
        key_kind,
        subject: body.subject.parse().map_err(|_| CertificateError::Malformed)?,
        key: inshore_protocol::Hex32(body.key.0),
        issued_at_ms: body.issued_at_ms,
        expires_at_ms: body.expires_at_ms,
        signature: inshore_protocol::Hex64(signature.0),
    })
}

async fn next_binary(socket: &mut Socket) -> Result<Vec<u8>, Error> {
    loop {
        match read(socket).await? {
            Message::Binary(bytes) => return Ok(bytes.into()),
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return Err(Error::Protocol { what: "not a binary message" }),
        }
    }
}

async fn read(socket: &mut Socket) -> Result<Message, Error> {
    match socket.next().await {
        None | Some(Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)) => Err(Error::Closed),
        Some(Ok(message)) => Ok(message),
        Some(Err(source)) => Err(Error::Socket { source: Box::new(source) }),
    }
}

/// A peer that does not read is given up: waiting for it would also stop us from hearing it.
async fn write(socket: &mut Socket, message: Message) -> Result<(), Error> {
    match tokio::time::timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => Err(Error::Closed),
        Ok(Err(source)) => Err(Error::Socket { source: Box::new(source) }),
        Err(_) => Err(Error::WriteTimeout),
    }
}
