//! One WebSocket, from the HTTP upgrade to the last frame: limits, time-outs, and the Noise session inside. Whatever is not
//! a whole, decryptable message of the protocol ends it with a reason.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use inshore_protocol::limits::{FRAME_BYTES_MAX, HANDSHAKE, MESSAGE_BYTES_MAX, WRITE, WRITE_BUFFER_BYTES_MAX};
use inshore_trust::noise::{self, Session};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::api::ApiError;

/// Why a socket is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the peer closed the connection")]
    ByPeer,
    #[error("the connection failed")]
    Transport(#[source] tungstenite::Error),
    #[error("the upgrade failed")]
    Upgrade(#[source] hyper::Error),
    #[error("a message did not leave in {}s", WRITE.as_secs())]
    Slow,
    #[error("the handshake took more than {}s", HANDSHAKE.as_secs())]
    HandshakeSlow,
    #[error("a text message came; only binary ones are part of the protocol")]
    Text,
    #[error(transparent)]
    Noise(#[from] noise::Error),
    #[error(transparent)]
    Decode(#[from] inshore_protocol::DecodeError),
    #[error("a message came that is not allowed at this point")]
    OutOfTurn,
    #[error("no frame came for {}s", inshore_protocol::limits::DEAD.as_secs())]
    Dead,
    #[error("the peer was not let in: {0}")]
    Refused(&'static str),
    #[error("the store failed")]
    Store(#[from] crate::store::Error),
    #[error("the session was ended: {0}")]
    Ended(&'static str),
}

impl Closed {
    /// What the peer is told: a code and a word, nothing of ours.
    fn frame(&self) -> CloseFrame {
        let (code, reason) = match self {
            Closed::Noise(noise::Error::Oversize) | Closed::Decode(inshore_protocol::DecodeError::Oversize { .. }) => {
                (CloseCode::Size, "oversize")
            }
            Closed::Transport(tungstenite::Error::Capacity(_)) => (CloseCode::Size, "oversize"),
            Closed::Noise(noise::Error::Undecryptable | noise::Error::Handshake) => {
                (CloseCode::Policy, "undecryptable")
            }
            Closed::Text => (CloseCode::Unsupported, "not_binary"),
            Closed::Noise(_) | Closed::Decode(_) | Closed::Transport(_) | Closed::Upgrade(_) => {
                (CloseCode::Protocol, "malformed")
            }
            Closed::OutOfTurn => (CloseCode::Protocol, "out_of_turn"),
            Closed::Dead | Closed::Slow | Closed::HandshakeSlow => (CloseCode::Policy, "too_slow"),
            Closed::Refused(word) => (CloseCode::Policy, *word),
            Closed::Store(_) => (CloseCode::Again, "try_again"),
            Closed::Ended(word) => (CloseCode::Away, *word),
            Closed::ByPeer => (CloseCode::Normal, "bye"),
        };
        CloseFrame { code, reason: reason.into() }
    }
}

/// A socket: clear until [`Wire::secure`].
#[derive(Debug)]
pub(crate) struct Wire {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    noise: Option<Session>,
}

/// What one frame came to.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole message.
    Message(Vec<u8>),
    /// A part of one, a ping or a pong: the peer lives.
    Alive,
}

/// Answers the upgrade; the socket comes from [`Wire::open`] once the answer is out.
pub(crate) fn upgrade(request: &mut Request) -> Result<(Response, OnUpgrade), ApiError> {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let asked = has_token(headers, header::CONNECTION, "upgrade") && has_token(headers, header::UPGRADE, "websocket");
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = key
        .filter(|_| asked && version)
        .ok_or_else(|| ApiError::bad_request("this route is a WebSocket for agents"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(&key)).map_err(|error| ApiError::internal(&error))?;
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, hyper::upgrade::on(request)))
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut values = values.iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

impl Wire {
    pub(crate) async fn open(upgrade: OnUpgrade) -> Result<Self, Closed> {
        let upgraded = upgrade.await.map_err(Closed::Upgrade)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX))
            .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        Ok(Self { socket, noise: None })
    }

    /// Everything from here on is encrypted.
    pub(crate) fn secure(&mut self, noise: Session) {
        self.noise = Some(noise);
    }

    /// One WebSocket message as it is.
    pub(crate) async fn send_clear(&mut self, bytes: Vec<u8>) -> Result<(), Closed> {
        self.write(Message::Binary(bytes.into())).await
    }

    /// One protocol message, encrypted.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), Closed> {
        let frames = self.noise.as_mut().ok_or(Closed::OutOfTurn)?.encrypt(message)?;
        for frame in frames {
            self.write(Message::Binary(frame.into())).await?;
        }
        Ok(())
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Closed> {
        self.write(Message::Ping(Vec::new().into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Closed> {
        match tokio::time::timeout(WRITE, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(Closed::Transport),
            Err(_) => Err(Closed::Slow),
        }
    }

    /// The next frame. Cancel-safe: a frame is read whole or stays in the socket.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Closed> {
        let frame = match self.socket.next().await {
            None | Some(Ok(Message::Close(_))) => return Err(Closed::ByPeer),
            Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)) => {
                return Err(Closed::ByPeer);
            }
            Some(Err(error)) => return Err(Closed::Transport(error)),
            Some(Ok(Message::Binary(frame))) => frame,
            Some(Ok(Message::Text(_))) => return Err(Closed::Text),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(Incoming::Alive),
        };
        match &mut self.noise {
            None => Ok(Incoming::Message(frame.to_vec())),
            Some(noise) => Ok(noise.decrypt(&frame)?.map_or(Incoming::Alive, Incoming::Message)),
        }
    }

    /// The next whole message.
    pub(crate) async fn message(&mut self) -> Result<Vec<u8>, Closed> {
        loop {
            if let Incoming::Message(message) = self.next().await? {
                return Ok(message);
            }
        }
    }

    /// Says why, then closes. The peer may be gone already.
    pub(crate) async fn close(mut self, reason: &Closed) {
        let closing = tokio::time::timeout(WRITE, self.socket.close(Some(reason.frame())));
        if !matches!(closing.await, Ok(Ok(()))) {
            tracing::debug!("the peer was gone before the close frame");
        }
    }
}
