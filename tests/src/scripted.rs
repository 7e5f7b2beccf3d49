//! A control plane that does what its test says: it speaks the real protocol to a real agent over TLS, and repeats,
//! reorders or breaks frames as no good one would. It shares handshake and message types with the product, no more.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inshore_protocol::{
    CertificateFields, ControlCertificate, Down, EnrolDown, EnrolUp, Hex32, Hex64, KeyKind as WireKind, Up,
    decode_enrol_up, decode_up, encode,
};
use inshore_trust::noise::{Responder, Session};
use inshore_trust::{CertificateBody, DhSecret, JoinToken, KeyKind, PublicKey, SigningKey, issue, transcript};
use rustls::{ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::wait;

/// One wait on a socket.
const STEP: Duration = Duration::from_millis(5);
/// What should come soon comes in this time, on a busy machine too.
const SOON: Duration = Duration::from_secs(60);
/// The id of the one agent.
pub const AGENT: &str = "agt_1";

type Socket = WebSocket<StreamOwned<ServerConnection, TcpStream>>;

/// Keys and a listening port.
#[derive(Debug)]
pub struct Scripted {
    root: SigningKey,
    noise: DhSecret,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    ca_file: PathBuf,
}

impl Scripted {
    /// Listens on a free port; its certificate lies in `dir`.
    pub fn start(dir: &Path) -> Self {
        let tls = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let ca_file = dir.join("ca.pem");
        std::fs::write(&ca_file, tls.cert.pem()).expect("the certificate is written");
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(tls.signing_key.serialize_der().into());
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![tls.cert.der().clone()], key)
            .expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        Self { root: SigningKey::generate(), noise: DhSecret::generate(), listener, tls: Arc::new(tls), ca_file }
    }

    /// What agents trust.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A token to enrol with.
    pub fn token(&self) -> String {
        let port = self.listener.local_addr().expect("an address").port();
        let token = JoinToken {
            url: format!("wss://localhost:{port}"),
            root: self.root.public(),
            token_id: "tok_1".to_owned(),
            secret: [7; 16].into(),
            expires_at_ms: u64::MAX,
            agent_name: "scripted".to_owned(),
        };
        token.to_text().to_string()
    }

    /// Serves one enrolment; the agent's identity.
    pub fn enrol(&self) -> PublicKey {
        let mut peer = self.secured(Responder::enrolment);
        let request = match decode_enrol_up(&peer.next_bytes()).expect("an enrolment") {
            EnrolUp::Enrol(request) => request,
            other => panic!("{other:?}"),
        };
        let body = CertificateBody::new(KeyKind::Agent, AGENT, request.identity.0, 1);
        let certificate = self.fields(WireKind::Agent, &body);
        peer.write(&EnrolDown::Enrolled { agent_id: AGENT.parse().expect("an id"), certificate });
        let certificates = decode_enrol_up(&peer.next_bytes()).expect("certificates");
        assert!(matches!(certificates, EnrolUp::Certificates { .. }), "{certificates:?}");
        peer.write(&EnrolDown::Done);
        // The agent says goodbye first.
        wait::until("the enrolment to close", SOON, || matches!(peer.poll(), Heard::Closed(_)).then_some(()));
        PublicKey(request.identity.0)
    }

    /// Welcomes the agent of this identity; its full state has been read.
    pub fn accept(&self, identity: &PublicKey) -> Peer {
        let mut peer = self.secured(Responder::channel);
        let challenge = Hex32([9; 32]);
        peer.write(&Down::Challenge { challenge });
        let Up::Hello(hello) = peer.next_message() else { panic!("no hello") };
        let signed = transcript::Hello {
            handshake_hash: peer.session.handshake_hash(),
            challenge: &challenge.0,
            agent_id: AGENT,
            renewal_counter: hello.renewal_counter,
            protocol_min: hello.protocol.min,
            protocol_max: hello.protocol.max,
        };
        let signature = inshore_trust::Signature(hello.challenge_signature.0);
        identity.verify(&signed.to_bytes(), &signature).expect("the agent's own signature");
        let session_id = "ses_1".parse().expect("an id");
        peer.write(&Down::Welcome { protocol: 1, session_id, heartbeat_ms: 15_000, server_time_ms: 1 });
        assert!(matches!(peer.next_message(), Up::FullState(_)), "full state after welcome");
        peer
    }

    fn secured<F>(&self, answer: F) -> Peer
    where
        F: Fn(&DhSecret, &[u8]) -> Result<(Session, Vec<u8>), inshore_trust::noise::Error>,
    {
        let mut socket = self.socket();
        let body = CertificateBody::new(KeyKind::Control, "ctl_1", self.noise.public().0, 1);
        let certificates = vec![self.fields(WireKind::Control, &body)];
        let clear = encode(&ControlCertificate::ControlCertificate { certificates });
        send(&mut socket, Message::binary(clear)).expect("the certificate goes out");
        let first = wait::until("the handshake", SOON, || match read(&mut socket) {
            Some(Ok(Message::Binary(first))) => Some(first),
            Some(other) => panic!("no handshake: {other:?}"),
            None => None,
        });
        let (session, answer) = answer(&self.noise, &first).expect("a handshake");
        send(&mut socket, Message::binary(answer)).expect("the answer goes out");
        Peer { socket, session }
    }

    fn socket(&self) -> Socket {
        let tcp = wait::until("the agent to dial", SOON, || self.listener.accept().ok()).0;
        tcp.set_nonblocking(false).expect("a stream");
        tcp.set_read_timeout(Some(SOON)).expect("a stream");
        let tls = ServerConnection::new(Arc::clone(&self.tls)).expect("TLS");
        let socket = tungstenite::accept(StreamOwned::new(tls, tcp)).expect("a WebSocket");
        socket.get_ref().sock.set_read_timeout(Some(STEP)).expect("a stream");
        socket
    }

    fn fields(&self, key_kind: WireKind, body: &CertificateBody) -> CertificateFields {
        let (body, signature) = issue(&self.root, body).to_fields().expect("fields");
        CertificateFields {
            key_kind,
            subject: body.subject.parse().expect("an id"),
            key: Hex32(body.key.0),
            issued_at_ms: body.issued_at_ms,
            expires_at_ms: body.expires_at_ms,
            signature: Hex64(signature.0),
        }
    }
}

/// What one look at the socket brought.
#[derive(Debug)]
pub enum Heard {
    Message(Vec<u8>),
    /// Nothing, or a sign of life.
    Nothing,
    /// The agent is gone; the reason it gave.
    Closed(Option<String>),
}

/// One session.
#[derive(Debug)]
pub struct Peer {
    socket: Socket,
    session: Session,
}

impl Peer {
    /// A message as it should be.
    pub fn send(&mut self, message: &Down) {
        self.write(message);
    }

    /// Any bytes, encrypted like a message.
    pub fn send_bytes(&mut self, message: &[u8]) {
        for frame in self.session.encrypt(message).expect("it fits") {
            send(&mut self.socket, Message::binary(frame)).expect("the agent takes it");
        }
    }

    /// Any WebSocket message, past the encryption. The agent may be gone before all of it is out.
    pub fn send_raw(&mut self, message: Message) {
        drop(send(&mut self.socket, message));
    }

    /// Looks once.
    pub fn poll(&mut self) -> Heard {
        match read(&mut self.socket) {
            None => Heard::Nothing,
            Some(Ok(Message::Binary(frame))) => {
                self.session.decrypt(&frame).expect("the agent's frames decrypt").map_or(Heard::Nothing, Heard::Message)
            }
            Some(Ok(Message::Close(frame))) => Heard::Closed(frame.map(|frame| frame.reason.to_string())),
            Some(Ok(_)) => Heard::Nothing,
            Some(Err(_)) => Heard::Closed(None),
        }
    }

    /// What came, if it is a message; a session that ends here is a failure.
    pub fn heard(&mut self) -> Option<Up> {
        match self.poll() {
            Heard::Message(message) => Some(decode_up(&message).expect("an upward message")),
            Heard::Nothing => None,
            Heard::Closed(reason) => panic!("the agent closed the session: {reason:?}"),
        }
    }

    /// The next message that is no heartbeat.
    pub fn next_message(&mut self) -> Up {
        wait::until("a message of the agent", SOON, || {
            self.heard().filter(|message| !matches!(message, Up::Heartbeat { .. }))
        })
    }

    /// Waits until the agent ends the session; the reason it gave.
    pub fn closed(&mut self) -> Option<String> {
        wait::until("the agent to close the session", SOON, || match self.poll() {
            Heard::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    fn next_bytes(&mut self) -> Vec<u8> {
        wait::until("a message of the agent", SOON, || match self.poll() {
            Heard::Message(message) => Some(message),
            Heard::Nothing => None,
            Heard::Closed(reason) => panic!("the agent closed the session: {reason:?}"),
        })
    }

    fn write<T: serde::Serialize>(&mut self, message: &T) {
        self.send_bytes(&encode(message));
    }
}

fn send(socket: &mut Socket, message: Message) -> Result<(), tungstenite::Error> {
    socket.send(message)
}

/// Nothing within one step is no error; what was read so far stays.
fn read(socket: &mut Socket) -> Option<Result<Message, tungstenite::Error>> {
    match socket.read() {
        Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            None
        }
        read => Some(read),
    }
}
