//! An agent's end over a real TLS socket, built from `protocol` and `trust` only; and enrolment.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use inshore_protocol::{
    AgentId, Capacity, ControlCertificate, Down, Enrol, EnrolDown, EnrolRefusal, EnrolUp, FullState, Hello, Hex32,
    Hex64, JobState, KeyKind as WireKind, Mode, ProtocolRange, Rejection, SubjectId, TokenId, Up, Version,
    decode_clear, decode_down, decode_enrol_down, encode,
};
use inshore_trust::noise::{Initiator, Session};
use inshore_trust::{CertificateBody, DhPublic, DhSecret, JoinToken, KeyKind, SigningKey, issue, transcript};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;

type Socket = WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// What a host keeps.
pub(super) struct Host {
    identity: SigningKey,
    channel: DhSecret,
    pub(super) sealing: DhSecret,
    pub(super) agent_id: String,
    counter: u64,
}

/// One session of a host.
pub(super) struct Line {
    pub(super) socket: Socket,
    noise: Session,
}

impl Line {
    pub(super) async fn send<T: serde::Serialize>(&mut self, message: &T) {
        for frame in self.noise.encrypt(&encode(message)).expect("encrypts") {
            self.socket.send(Message::Binary(frame.into())).await.expect("sends");
        }
    }

    /// The next message; none once the control plane closed.
    pub(super) async fn bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            match tokio::time::timeout(Duration::from_secs(20), self.socket.next()).await.expect("something comes")? {
                Ok(Message::Binary(frame)) => {
                    if let Some(message) = self.noise.decrypt(&frame).expect("decrypts") {
                        return Some(message);
                    }
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(super) async fn next(&mut self) -> Option<Down> {
        Some(decode_down(&self.bytes().await?).expect("a message"))
    }

    /// The next message this picks; others are passed over.
    pub(super) async fn until<T>(&mut self, pick: impl Fn(Down) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await.expect("the session lives")) {
                return found;
            }
        }
    }
}

pub(super) async fn dial(plane: &Plane, path: &str) -> Socket {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(plane.dir.join("state/tls/cert.pem")).expect("the certificate") {
        roots.add(certificate.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(plane.running.https).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let tls = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, tcp).await.expect("TLS");
    let (socket, _) = tokio_tungstenite::client_async(format!("wss://127.0.0.1{path}"), tls).await.expect("upgrades");
    socket
}

pub(super) async fn clear(socket: &mut Socket) -> Vec<u8> {
    match socket.next().await.expect("a frame").expect("whole") {
        Message::Binary(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn control_key(plane: &Plane, socket: &mut Socket) -> DhPublic {
    let ControlCertificate::ControlCertificate { certificates } =
        decode_clear(&clear(socket).await).expect("a certificate")
    else {
        panic!("no certificate")
    };
    let root = plane.running.app.keys.root.public();
    let key = crate::keys::certified(&certificates[0], KeyKind::Control, &root, "control").expect("by the root");
    DhPublic(key.0)
}

impl Host {
    fn new() -> Self {
        let identity = SigningKey::generate();
        Self {
            identity,
            channel: DhSecret::generate(),
            sealing: DhSecret::generate(),
            agent_id: String::new(),
            counter: 0,
        }
    }

    /// Creates an agent by REST and enrols it.
    pub(super) async fn enrolled(plane: &Plane, group: &str) -> Self {
        let mut host = Self::new();
        let token = token(plane, group, json!({})).await;
        assert_eq!(host.enrol(plane, &token).await, Ok(()));
        host
    }

    fn certified(&self, kind: KeyKind, wire: WireKind, key: [u8; 32]) -> inshore_protocol::CertificateFields {
        let body = CertificateBody::new(kind, &self.agent_id, key, 1);
        let (_, signature) = issue(&self.identity, &body).to_fields().expect("fields");
        inshore_protocol::CertificateFields {
            key_kind: wire,
            subject: SubjectId::new(self.agent_id.as_str()).expect("an id"),
            key: Hex32(key),
            issued_at_ms: 1,
            expires_at_ms: None,
            signature: Hex64(signature.0),
        }
    }

    async fn enrol(&mut self, plane: &Plane, token: &JoinToken) -> Result<(), EnrolRefusal> {
        let mut socket = dial(plane, "/v1/agent/enrol").await;
        let control = control_key(plane, &mut socket).await;
        let initiator = Initiator::enrolment(&control).expect("a handshake");
        socket.send(Message::Binary(initiator.first().to_vec().into())).await.expect("sends");
        let noise = initiator.finish(&clear(&mut socket).await).expect("a session");
        let signed = transcript::Enrol {
            handshake_hash: noise.handshake_hash(),
            identity: &self.identity.public(),
            channel: &self.channel.public(),
            sealing: &self.sealing.public(),
        };
        let enrol = Enrol {
            token_id: TokenId::new(token.token_id.as_str()).expect("an id"),
            proof: Hex32(token.proof(&signed.to_bytes())),
            identity: Hex32(self.identity.public().0),
            channel: Hex32(self.channel.public().0),
            sealing: Hex32(self.sealing.public().0),
            protocol: ProtocolRange::OURS,
            version: Version { major: 0, minor: 1, patch: 2 },
        };
        let mut line = Line { socket, noise };
        line.send(&EnrolUp::Enrol(enrol)).await;
        match decode_enrol_down(&line.bytes().await.expect("an answer")).expect("a message") {
            EnrolDown::Enrolled { agent_id, certificate } => {
                let root = plane.running.app.keys.root.public();
                crate::keys::certified(&certificate, KeyKind::Agent, &root, agent_id.as_str()).expect("by the root");
                self.agent_id = agent_id.as_str().to_owned();
            }
            EnrolDown::Refused { reason } => return Err(reason),
            other => panic!("{other:?}"),
        }
        let channel = self.certified(KeyKind::Channel, WireKind::Channel, self.channel.public().0);
        let sealing = self.certified(KeyKind::Sealing, WireKind::Sealing, self.sealing.public().0);
        line.send(&EnrolUp::Certificates { channel, sealing }).await;
        let done = decode_enrol_down(&line.bytes().await.expect("an answer")).expect("a message");
        assert_eq!(done, EnrolDown::Done);
        Ok(())
    }

    /// Dials and says hello; the answer is `Welcome` or why not.
    pub(super) async fn hello(&mut self, plane: &Plane) -> Result<Line, Rejection> {
        self.counter += 1;
        let mut socket = dial(plane, "/v1/agent/channel").await;
        let control = control_key(plane, &mut socket).await;
        let initiator = Initiator::channel(&self.channel, &control).expect("a handshake");
        socket.send(Message::Binary(initiator.first().to_vec().into())).await.expect("sends");
        let noise = initiator.finish(&clear(&mut socket).await).expect("a session");
        let hash = *noise.handshake_hash();
        let mut line = Line { socket, noise };
        let Some(Down::Challenge { challenge }) = line.next().await else { panic!("no challenge") };
        let signed = transcript::Hello {
            handshake_hash: &hash,
            challenge: &challenge.0,
            agent_id: &self.agent_id,
            renewal_counter: self.counter,
            protocol_min: 1,
            protocol_max: 1,
        };
        let hello = Hello {
            protocol: ProtocolRange::OURS,
            agent_id: AgentId::new(self.agent_id.as_str()).expect("an id"),
            version: Version { major: 0, minor: 1, patch: 2 },
            capabilities: 0,
            challenge_signature: Hex64(self.identity.sign(&signed.to_bytes()).0),
            renewal_counter: self.counter,
            channel: self.certified(KeyKind::Channel, WireKind::Channel, self.channel.public().0),
            sealing: self.certified(KeyKind::Sealing, WireKind::Sealing, self.sealing.public().0),
        };
        line.send(&Up::Hello(Box::new(hello))).await;
        match line.next().await.expect("an answer") {
            Down::Welcome { protocol: 1, .. } => Ok(line),
            Down::Rejected { reason, .. } => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// A session after its full state.
    pub(super) async fn online(&mut self, plane: &Plane, jobs: Vec<JobState>) -> Line {
        let mut line = self.hello(plane).await.expect("welcome");
        line.send(&Up::FullState(full_state(jobs))).await;
        line
    }
}

pub(super) fn full_state(jobs: Vec<JobState>) -> FullState {
    let capacity = Capacity { jobs_max: 4, cpu_count: 2, ..Capacity::default() };
    FullState { mode: Mode::Managed, capacity, jobs, outbox_seq: 0 }
}

async fn token(plane: &Plane, group: &str, extra: Value) -> JoinToken {
    let mut body =
        json!({"display_name": "host <b>1</b>", "group_id": group, "env_type": "STANDALONE", "accept_terms": true});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    let created = plane.post("/v1/hybrid-deployment-agents", body).await;
    assert_eq!(created.status, 201, "{}", created.json());
    JoinToken::from_text(created.data()["token"].as_str().expect("a token")).expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_works_once_for_one_identity() {
    let plane = Plane::start().await;
    let group = plane.group().await;
    let join = token(&plane, &group, json!({})).await;
    assert_eq!(join.url, format!("wss://{}", plane.running.https));
    assert_eq!(join.root, plane.running.app.keys.root.public());
    let forged = JoinToken { secret: Default::default(), ..JoinToken::from_text(&join.to_text()).expect("reads") };
    assert_eq!(Host::new().enrol(&plane, &forged).await, Err(EnrolRefusal::ProofWrong));
    let mut host = Host::new();
    assert_eq!(host.enrol(&plane, &join).await, Ok(()));
    let first = host.agent_id.clone();
    assert_eq!(host.enrol(&plane, &join).await, Ok(()), "its answer may have been lost");
    assert_eq!(host.agent_id, first);
    assert_eq!(Host::new().enrol(&plane, &join).await, Err(EnrolRefusal::TokenUsed));
    let expired = token(&plane, &group, json!({"token_ttl_seconds": 0})).await;
    assert_eq!(Host::new().enrol(&plane, &expired).await, Err(EnrolRefusal::TokenExpired));
    assert!(!plane.state_holds(hex::encode(join.secret.as_slice()).as_bytes()));
    assert!(!plane.state_holds(join.secret.as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_need_the_identity_and_end_with_it() {
    let plane = Plane::start().await;
    let group = plane.group().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let path = format!("/v1/hybrid-deployment-agents/{}", host.agent_id);
    assert_eq!(plane.get(&path).await.data()["online"], false);

    let mut line = host.online(&plane, Vec::new()).await;
    let agent = plane.get(&path).await.data();
    assert_eq!((&agent["online"], &agent["version"]), (&json!(true), &json!("0.1.2")));
    let page = plane.get("/").await;
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(html.contains("host &#60;b&#62;1&#60;/b&#62;") && !html.contains("<b>1</b>"), "names are escaped");

    // Another identity under this id, and a copy of the state that is behind.
    let mut thief = Host { agent_id: host.agent_id.clone(), ..Host::new() };
    assert_eq!(thief.hello(&plane).await.err(), Some(Rejection::Identity));
    host.counter = 0;
    assert_eq!(host.hello(&plane).await.err(), Some(Rejection::Cloned));
    // While a live session answers pings, a second one waits.
    host.counter = 10;
    let (rejected, _) = tokio::join!(host.hello(&plane), async {
        tokio::time::timeout(Duration::from_secs(2), async { while line.socket.next().await.is_some() {} }).await
    });
    assert_eq!(rejected.err(), Some(Rejection::SessionLive));

    plane.call("DELETE", &path, None).await.check(200, "Success");
    let asked = tokio::time::Instant::now();
    line.until(|down| (down == Down::Revoked).then_some(())).await;
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(line.next().await, None);
    assert_eq!(host.hello(&plane).await.err(), Some(Rejection::Revoked));
    plane.get(&path).await.check(404, "NotFound_RemoteExecutionAgent");
}
