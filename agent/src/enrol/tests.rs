//! Enrolment against a scripted control plane over a real socket, and every token that must be refused.

use inshore_protocol::decode_enrol_up;
use inshore_trust::{CertificateBody, DhPublic, KeyKind, PublicKey, SigningKey, issue, proof_holds};

use super::*;
use crate::channel::fixture::{Control, Peer};

const SECRET: [u8; 16] = [3; 16];
const NOW_MS: u64 = 1_000_000;

fn token(control: &Control) -> JoinToken {
    JoinToken {
        url: control.url(),
        root: control.root.public(),
        token_id: "tok_1".to_owned(),
        secret: Zeroizing::new(SECRET),
        expires_at_ms: NOW_MS + 1,
        agent_name: "warehouse".to_owned(),
    }
}

fn settings(control: &Control, state_dir: &Path, token: &JoinToken) -> EnrolSettings {
    EnrolSettings {
        token: TokenSource::Bytes(Zeroizing::new(token.to_text().as_bytes().to_vec())),
        state_dir: state_dir.to_owned(),
        url: None,
        tls_ca_file: Some(control.ca_file()),
        proxy: None,
        version: Version { major: 0, minor: 1, patch: 0 },
        now_ms: NOW_MS,
        timeout: Duration::from_secs(10),
    }
}

async fn requested(control: &Control) -> (Peer, Enrol) {
    let mut peer = control.accept_secured(true).await;
    let message = peer.next_bytes().await.expect("a request");
    let EnrolUp::Enrol(request) = decode_enrol_up(&message).expect("decodes") else { panic!("enrol first") };
    let transcript = transcript::Enrol {
        handshake_hash: peer.session.handshake_hash(),
        identity: &PublicKey(request.identity.0),
        channel: &DhPublic(request.channel.0),
        sealing: &DhPublic(request.sealing.0),
    };
    assert!(proof_holds(&SECRET, &transcript.to_bytes(), &request.proof.0));
    (peer, request)
}

fn enrolled(root: &SigningKey, request: &Enrol) -> EnrolDown {
    let certificate = issue(root, &CertificateBody::new(KeyKind::Agent, "agt_1", request.identity.0, 1));
    let certificate = secure::fields(&certificate).expect("fields");
    EnrolDown::Enrolled { agent_id: "agt_1".parse().expect("id"), certificate }
}

/// A control plane that enrols whoever proves the token; gives the request it saw.
async fn serve(control: &Control) -> Enrol {
    let (mut peer, request) = requested(control).await;
    peer.send_bytes(&encode(&enrolled(&control.root, &request))).await;
    let message = peer.next_bytes().await.expect("certificates");
    let EnrolUp::Certificates { channel, sealing } = decode_enrol_up(&message).expect("decodes") else {
        panic!("certificates second")
    };
    for (fields, kind, key) in
        [(channel, KeyKind::Channel, request.channel), (sealing, KeyKind::Sealing, request.sealing)]
    {
        let certificate = secure::certificate(&fields).expect("known kind");
        let subject = certificate.verify_kind(&PublicKey(request.identity.0), kind).expect("certified");
        assert_eq!((subject.subject.as_str(), subject.key.0), ("agt_1", key.0));
    }
    peer.send_bytes(&encode(&EnrolDown::Done)).await;
    request
}

#[tokio::test]
async fn a_token_becomes_an_identity_once() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let state_dir = folder.path().join("state");
    let token = token(&control);
    let (identity, request) = tokio::join!(enrol(settings(&control, &state_dir, &token)), serve(&control));
    let identity = identity.expect("enrolled");
    assert_eq!((identity.agent_id.as_str(), identity.public().0), ("agt_1", request.identity.0));
    assert_eq!(Identity::load(&state_dir).expect("on disk").public(), identity.public());
    let ledger = std::fs::read_to_string(state_dir.join("ledger/00000000000000000000.jsonl")).expect("ledger");
    assert_eq!(ledger.lines().count(), 2);
    assert!(!ledger.contains(&hex::encode(SECRET)), "the secret does not cross the wire");
    let again = enrol(settings(&control, &state_dir, &token)).await.expect_err("enrolled already");
    assert_eq!((again.failure(), again.exit_code()), (Code::AlreadyEnrolled, 3));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_keys() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let token = token(&control);
    let lost = async { requested(&control).await.1 };
    let (failed, first) = tokio::join!(enrol(settings(&control, folder.path(), &token)), lost);
    assert_eq!(failed.expect_err("the answer was lost").exit_code(), 5);
    let (identity, second) = tokio::join!(enrol(settings(&control, folder.path(), &token)), serve(&control));
    assert!(identity.is_ok());
    assert_eq!(first.identity, second.identity);
}

#[tokio::test]
async fn refusals_of_the_control_plane_have_their_codes() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let token = token(&control);
    for (reason, code) in [
        (EnrolRefusal::TokenUsed, Code::TokenUsed),
        (EnrolRefusal::TokenExpired, Code::TokenExpired),
        (EnrolRefusal::TokenUnknown, Code::TokenUsed),
        (EnrolRefusal::ProtocolVersion, Code::ProtocolVersion),
    ] {
        let refuse = async {
            let (mut peer, _) = requested(&control).await;
            peer.send_bytes(&encode(&EnrolDown::Refused { reason })).await;
            peer
        };
        let (refused, _peer) = tokio::join!(enrol(settings(&control, folder.path(), &token)), refuse);
        let error = refused.expect_err("refused");
        assert_eq!((error.failure(), error.exit_code()), (code, 4));
    }
}

#[tokio::test]
async fn another_root_is_never_trusted() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let token = JoinToken { root: SigningKey::generate().public(), ..token(&control) };
    let present = async { drop(control.accept_clear().await) };
    let (refused, ()) = tokio::join!(enrol(settings(&control, folder.path(), &token)), present);
    let error = refused.expect_err("wrong root");
    assert_eq!((error.failure(), error.exit_code()), (Code::RootWrong, 4));
    assert!(matches!(Identity::load(folder.path()), Err(identity::Error::NotEnrolled { .. })));
}

#[tokio::test]
async fn an_identity_certified_by_another_root_is_not_kept() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let token = token(&control);
    let forge = async {
        let (mut peer, request) = requested(&control).await;
        peer.send_bytes(&encode(&enrolled(&SigningKey::generate(), &request))).await;
        peer
    };
    let (refused, _peer) = tokio::join!(enrol(settings(&control, folder.path(), &token)), forge);
    assert_eq!(refused.expect_err("forged").failure(), Code::RootWrong);
    assert!(matches!(Identity::load(folder.path()), Err(identity::Error::NotEnrolled { .. })));
}

/// Nobody is dialled for these: the token alone is refused.
async fn check_token(source: TokenSource, code: Code, exit_code: u8) {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let token = token(&control);
    let refused = enrol(EnrolSettings { token: source, ..settings(&control, folder.path(), &token) }).await;
    let error = refused.expect_err("refused");
    assert_eq!((error.failure(), error.exit_code()), (code, exit_code), "{error}");
    assert!(!folder.path().join("ledger").exists(), "nothing was begun");
}

#[tokio::test]
async fn unreadable_exposed_truncated_and_expired_tokens_are_refused() {
    let control = Control::start().await;
    let text = token(&control).to_text();
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("token");
    std::fs::write(&path, text.as_bytes()).expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mode");
    check_token(TokenSource::File(path.clone()), Code::TokenUnreadable, 3).await;
    check_token(TokenSource::File(folder.path().join("absent")), Code::TokenUnreadable, 3).await;
    let bytes = |bytes: &[u8]| TokenSource::Bytes(Zeroizing::new(bytes.to_vec()));
    let half = text.as_bytes().get(..60).expect("longer");
    for malformed in [half, b"", b"\xff\xfe", &[b'x'; 20_000]] {
        check_token(bytes(malformed), Code::TokenMalformed, 3).await;
    }
    let expired = JoinToken { expires_at_ms: NOW_MS, ..token(&control) };
    check_token(bytes(expired.to_text().as_bytes()), Code::TokenExpired, 4).await;
}

#[tokio::test]
async fn the_settings_of_the_agent_decide_where_and_how() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("token");
    let token = JoinToken { url: "wss://localhost:1".to_owned(), expires_at_ms: u64::MAX, ..token(&control) };
    std::fs::write(&path, token.to_text().as_bytes()).expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let text = format!(
        "state_dir = {:?}\n[channel]\nurl = {:?}\ntls_ca_file = {:?}\n",
        folder.path().join("state"),
        control.url(),
        control.ca_file()
    );
    let config = AgentConfig::parse(Path::new("agent.toml"), &text).expect("config");
    let (identity, request) = tokio::join!(run(&config, Some(&path)), serve(&control));
    assert_eq!(identity.expect("enrolled").public().0, request.identity.0);
    let unresolved = format!("{text}proxy = \"http://localhost:1\"\nproxy_credentials = \"${{file:/no/such/file}}\"\n");
    let config = AgentConfig::parse(Path::new("agent.toml"), &unresolved).expect("config");
    assert_eq!(run(&config, Some(&path)).await.expect_err("no credentials").code(), "CFG-007");
}

#[tokio::test]
async fn nobody_there_and_untrusted_tls_have_their_exit_codes() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let nobody = JoinToken { url: "wss://localhost:1".to_owned(), ..token(&control) };
    let error = enrol(settings(&control, folder.path(), &nobody)).await.expect_err("nobody");
    assert_eq!((error.failure(), error.exit_code()), (Code::ControlPlaneUnreachable, 5));
    let token = token(&control);
    let untrusted = EnrolSettings { tls_ca_file: None, ..settings(&control, folder.path(), &token) };
    let (refused, _) = tokio::join!(enrol(untrusted), control.accept_tls());
    let error = refused.expect_err("untrusted");
    assert_eq!((error.failure(), error.exit_code()), (Code::TlsCertificateRefused, 4));
}
