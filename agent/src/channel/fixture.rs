//! The other end of the wire, for tests: a control plane that speaks the real protocol over a real loopback socket and
//! misbehaves as its test says. It shares the handshake code of `inshore-trust`, never the code under test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use inshore_protocol::{
    CertificateFields, ControlCertificate, Delivery, Down, Hello, Hex32, Hex64, Outcome, OutcomeResult, RowCounts, Up,
    decode_up, encode,
};
use inshore_trust::noise::{Responder, Session};
use inshore_trust::{Certificate, CertificateBody, DhSecret, KeyKind, PublicKey, SigningKey, issue, transcript};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::dial::DialSettings;
use super::secure;

/// A wait in a test that should be over at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn outcome(job_id: &str, generation: u64) -> Outcome {
    Outcome {
        outbox_seq: 0,
        job_id: job_id.parse().expect("id"),
        generation,
        head_seq: Some(4),
        head_generation: None,
        result: OutcomeResult::Succeeded,
        rows: RowCounts { upserts: 10, ..RowCounts::default() },
        bytes: 100,
        checkpoints: 1,
        state_bytes: 2,
        last_checkpoint_at_ms: None,
        started_at_ms: 1,
        finished_at_ms: 2,
        delivery: Delivery::ExactlyOnce,
        warnings: Vec::new(),
        tables: Vec::new(),
        nothing_moved: None,
        setup_tests: Vec::new(),
        schema: None,
    }
}

/// A control plane on a loopback port.
pub(crate) struct Control {
    pub(crate) root: SigningKey,
    pub(crate) noise: DhSecret,
    /// What the first message presents; tests replace it.
    pub(crate) certificates: Vec<Certificate>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    folder: tempfile::TempDir,
}

impl Control {
    pub(crate) async fn start() -> Self {
        let (root, noise) = (SigningKey::generate(), DhSecret::generate());
        let certificate = issue(&root, &CertificateBody::new(KeyKind::Control, "ctl_1", noise.public().0, 1));
        let folder = tempfile::tempdir().expect("folder");
        let tls = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
        std::fs::write(folder.path().join("ca.pem"), tls.cert.pem()).expect("write");
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(tls.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![tls.cert.der().clone()], key)
            .expect("server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self { root, noise, certificates: vec![certificate], listener, acceptor, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("wss://localhost:{}", self.listener.local_addr().expect("address").port())
    }

    pub(crate) fn dial(&self) -> DialSettings {
        DialSettings { url: self.url(), tls_ca_file: Some(self.ca_file()), proxy: None }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// One TCP connection, whatever becomes of it.
    pub(crate) async fn accept_tcp(&self) -> TcpStream {
        tokio::time::timeout(SOON, self.listener.accept()).await.expect("in time").expect("accept").0
    }

    /// One TLS handshake, whatever becomes of it.
    pub(crate) async fn accept_tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(self.accept_tcp().await).await
    }

    /// One WebSocket with the certificate sent.
    pub(crate) async fn accept_clear(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        let tls = self.accept_tls().await.expect("TLS");
        let mut socket = tokio_tungstenite::accept_async(tls).await.expect("WebSocket");
        let certificates: Vec<CertificateFields> =
            self.certificates.iter().map(|certificate| secure::fields(certificate).expect("fields")).collect();
        let clear = ControlCertificate::ControlCertificate { certificates };
        socket.send(Message::binary(encode(&clear))).await.expect("certificate");
        socket
    }

    /// One Noise session; `enrolment` picks the pattern.
    pub(crate) async fn accept_secured(&self, enrolment: bool) -> Peer {
        let mut socket = self.accept_clear().await;
        let first = binary(&mut socket).await.expect("first handshake message");
        let answer = if enrolment { Responder::enrolment } else { Responder::channel };
        let (session, answer) = answer(&self.noise, &first).expect("handshake");
        socket.send(Message::binary(answer)).await.expect("answer");
        Peer { socket, session }
    }

    /// One welcomed session of the agent whose identity is `public`; everything in its hello is checked.
    pub(crate) async fn accept(&self, public: &PublicKey) -> (Peer, Hello) {
        let mut peer = self.accept_secured(false).await;
        let challenge = Hex32([9; 32]);
        peer.send(&Down::Challenge { challenge }).await;
        let Up::Hello(hello) = peer.next().await else { panic!("hello first") };
        peer.check_hello(public, &hello, challenge);
        peer.send(&Down::Welcome {
            protocol: 1,
            session_id: "ses_1".parse().expect("id"),
            heartbeat_ms: 15_000,
            server_time_ms: 1,
        })
        .await;
        assert!(matches!(peer.next().await, Up::FullState(_)), "full state after welcome");
        (peer, *hello)
    }
}

/// The control plane's end of one session.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<TlsStream<TcpStream>>,
    pub(crate) session: Session,
}

impl Peer {
    pub(crate) async fn send(&mut self, message: &Down) {
        self.send_bytes(&encode(message)).await;
    }

    pub(crate) async fn send_bytes(&mut self, message: &[u8]) {
        for frame in self.session.encrypt(message).expect("encrypt") {
            self.socket.send(Message::binary(frame)).await.expect("send");
        }
    }

    pub(crate) async fn next_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            let frame = binary(&mut self.socket).await?;
            if let Some(message) = self.session.decrypt(&frame).expect("decrypt") {
                return Some(message);
            }
        }
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Up {
        loop {
            let message = self.next_bytes().await.expect("a message");
            match decode_up(&message).expect("an upward message") {
                Up::Heartbeat { .. } => {}
                message => return message,
            }
        }
    }

    /// Reads to the end of the session; the reason it was closed with.
    pub(crate) async fn closed(&mut self) -> Option<String> {
        loop {
            match tokio::time::timeout(SOON, self.socket.next()).await.expect("in time") {
                None | Some(Err(_)) => return None,
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.reason.to_string()),
                Some(Ok(_)) => {}
            }
        }
    }

    fn check_hello(&self, public: &PublicKey, hello: &Hello, challenge: Hex32) {
        let transcript = transcript::Hello {
            handshake_hash: self.session.handshake_hash(),
            challenge: &challenge.0,
            agent_id: hello.agent_id.as_str(),
            renewal_counter: hello.renewal_counter,
            protocol_min: hello.protocol.min,
            protocol_max: hello.protocol.max,
        };
        let Hex64(signature) = hello.challenge_signature;
        public.verify(&transcript.to_bytes(), &inshore_trust::Signature(signature)).expect("challenge signature");
        let certified = |fields, kind| {
            secure::certificate(fields).expect("known kind").verify_kind(public, kind).expect("certified").key.0
        };
        let channel = certified(&hello.channel, KeyKind::Channel);
        assert_eq!(Some(channel), self.session.remote_static().map(|key| key.0));
        certified(&hello.sealing, KeyKind::Sealing);
    }
}

async fn binary(socket: &mut WebSocketStream<TlsStream<TcpStream>>) -> Option<Vec<u8>> {
    loop {
        match tokio::time::timeout(SOON, socket.next()).await.expect("in time") {
            Some(Ok(Message::Binary(bytes))) => return Some(bytes.into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}
