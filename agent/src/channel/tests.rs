//! The channel against a scripted control plane over a real socket: what it says, and how it behaves when the other end
//! drops, repeats, acknowledges late, or is not who it should be.

use std::path::Path;

use inshore_protocol::{Down, Phase, RowCounts, Stage, Up, encode};
use inshore_trust::{CertificateBody, DhSecret, KeyKind, SigningKey, issue};
use tokio_tungstenite::tungstenite::Message;

use super::fixture::{Control, Peer, SOON, outcome};
use super::*;
use crate::fixture::spec;
use crate::identity::Keys;

struct Agent {
    folder: tempfile::TempDir,
    identity: Arc<Identity>,
    handle: ChannelHandle,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn timers() -> Timers {
    let quick = Duration::from_millis(20);
    Timers { reconnect_step: quick, reconnect_max: quick, progress: Duration::from_millis(200), ..Timers::default() }
}

fn identity(control: &Control) -> Arc<Identity> {
    let keys = Keys::generate();
    let body = CertificateBody::new(KeyKind::Agent, "agt_1", keys.identity.public().0, 1);
    let certificate = issue(&control.root, &body);
    Arc::new(Identity::new(keys, control.url(), control.root.public(), certificate, 1).expect("identity"))
}

fn begin(control: &Control, folder: tempfile::TempDir, identity: Arc<Identity>, timers: Timers) -> Agent {
    let settings = ChannelSettings {
        dial: control.dial(),
        version: Version { major: 0, minor: 1, patch: 0 },
        packages_dir: folder.path().join("packages"),
        timers,
        seed: 1,
    };
    let store = Store::open(&folder.path().join("channel.db")).expect("store");
    let ledger = Ledger::open(&folder.path().join("ledger")).expect("ledger");
    let stop = CancellationToken::new();
    let parts = (store, ledger, Status::default());
    let (handle, commands, task) = start(settings, Arc::clone(&identity), parts, stop.clone());
    Agent { folder, identity, handle, commands, stop, task }
}

fn agent(control: &Control, timers: Timers) -> Agent {
    begin(control, tempfile::tempdir().expect("folder"), identity(control), timers)
}

impl Agent {
    async fn command(&mut self) -> Command {
        tokio::time::timeout(SOON, self.commands.recv()).await.expect("in time").expect("a command")
    }

    /// As after a crash: a new process over the same files.
    async fn restart(self, control: &Control) -> Agent {
        self.stop.cancel();
        self.task.await.expect("channel ends");
        begin(control, self.folder, self.identity, timers())
    }

    async fn offline(&self, code: Code) {
        let mut link = self.handle.link();
        let wanted = LinkState::Offline { code: Some(code) };
        tokio::time::timeout(SOON, link.wait_for(|state| *state == wanted)).await.expect("in time").expect("link");
    }
}

fn ledger_kinds(folder: &Path) -> Vec<String> {
    let mut head = inshore_trust::hash_chain::Head::default();
    let text = std::fs::read_to_string(folder.join("ledger/00000000000000000000.jsonl")).expect("ledger");
    let kinds = text.lines().map(|line| {
        head.verify(line.as_bytes()).expect("chain holds");
        let record: serde_json::Value = serde_json::from_str(line).expect("record");
        record.get("kind").and_then(serde_json::Value::as_str).expect("kind").to_owned()
    });
    kinds.collect()
}

#[tokio::test]
async fn an_offer_is_accepted_finished_acknowledged_and_all_of_it_is_in_the_ledger() {
    let control = Control::start().await;
    let mut agent = agent(&control, timers());
    let (mut peer, hello) = control.accept(&agent.identity.public()).await;
    assert_eq!((hello.agent_id.as_str(), hello.renewal_counter), ("agt_1", 1));
    peer.send(&Down::Offer { job: Box::new(spec("job_1", 1)) }).await;
    assert_eq!(agent.command().await, Command::Offer(Box::new(spec("job_1", 1))));
    assert_eq!(agent.handle.accept(&spec("job_1", 1)).expect("accept"), Acceptance::New);
    let job = spec("job_1", 1).job_ref();
    let accepted = Up::Accepted { outbox_seq: 1, job_id: job.job_id.clone(), generation: 1 };
    assert_eq!(peer.next().await, accepted);
    peer.send(&Down::Grant { job_id: job.job_id.clone(), generation: 1, lease_ms: 30_000 }).await;
    assert_eq!(agent.command().await, Command::Granted { job, lease_ms: 30_000 });
    agent.handle.finish(&outcome("job_1", 1)).expect("finish");
    assert_eq!(peer.next().await.outbox_seq(), Some(2));
    peer.send(&Down::OutboxAck { seq: 2 }).await;
    tokio::time::timeout(SOON, agent.handle.flushed()).await.expect("in time").expect("flushed");
    agent.stop.cancel();
    agent.task.await.expect("channel ends");
    let mut kinds = ledger_kinds(agent.folder.path());
    kinds.retain(|kind| kind != "heartbeat");
    assert_eq!(kinds, ["hello", "full_state", "accepted", "outcome"]);
}

#[tokio::test]
async fn a_thousand_repeats_of_an_offer_give_one_execution() {
    let control = Control::start().await;
    let mut agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let offer = Down::Offer { job: Box::new(spec("job_1", 1)) };
    peer.send(&offer).await;
    assert!(matches!(agent.command().await, Command::Offer(_)));
    assert_eq!(agent.handle.accept(&spec("job_1", 1)).expect("accept"), Acceptance::New);
    let first = peer.next().await;
    for _ in 0..500 {
        peer.send(&offer).await;
        assert_eq!(peer.next().await, first);
    }
    agent.handle.finish(&outcome("job_1", 1)).expect("finish");
    let last = peer.next().await;
    assert!(matches!(last, Up::Outcome(_)));
    for _ in 0..500 {
        peer.send(&offer).await;
        assert_eq!(peer.next().await, last);
    }
    assert!(agent.commands.try_recv().is_err(), "no repeat reached the dispatcher");
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_after_reconnect_and_restart() {
    let control = Control::start().await;
    let mut agent = agent(&control, timers());
    let public = agent.identity.public();
    let (mut peer, _) = control.accept(&public).await;
    peer.send(&Down::Offer { job: Box::new(spec("job_1", 1)) }).await;
    assert!(matches!(agent.command().await, Command::Offer(_)));
    agent.handle.accept(&spec("job_1", 1)).expect("accept");
    let accepted = peer.next().await;
    drop(peer);
    // While away: the outcome is recorded all the same.
    agent.handle.finish(&outcome("job_1", 1)).expect("finish");
    let (mut peer, hello) = control.accept(&public).await;
    assert_eq!(hello.renewal_counter, 2);
    assert_eq!(peer.next().await, accepted);
    let finished = peer.next().await;
    assert_eq!(finished.outbox_seq(), Some(2));
    peer.send(&Down::OutboxAck { seq: 1 }).await;
    peer.send(&Down::WantFullState).await;
    let Up::FullState(state) = peer.next().await else { panic!("full state") };
    assert_eq!((state.outbox_seq, state.jobs.first().map(|job| job.phase)), (2, Some(Phase::Finished)));
    drop(peer);
    let agent = agent.restart(&control).await;
    let (mut peer, _) = loop {
        // The old process may have come back once more before it was stopped.
        let (peer, hello) = control.accept(&public).await;
        if hello.renewal_counter > 2 {
            break (peer, hello);
        }
    };
    let again = peer.next().await;
    assert_eq!(again, finished, "the acceptance was acknowledged, the outcome was not");
    peer.send(&Down::OutboxAck { seq: 900 }).await;
    tokio::time::timeout(SOON, agent.handle.flushed()).await.expect("in time").expect("flushed");
}

#[tokio::test]
async fn a_peer_without_the_pinned_root_or_its_certified_key_is_left() {
    let mut control = Control::start().await;
    let agent = agent(&control, timers());
    let other_root = SigningKey::generate();
    let good = control.certificates.clone();
    control.certificates =
        vec![issue(&other_root, &CertificateBody::new(KeyKind::Control, "ctl_1", control.noise.public().0, 1))];
    drop(control.accept_clear().await);
    agent.offline(Code::ChannelKeyMismatch).await;
    // The right root, for a key this peer does not hold: it cannot read the first message.
    control.certificates = good;
    control.noise = DhSecret::generate();
    let mut socket = control.accept_clear().await;
    let first = tokio::time::timeout(SOON, futures::StreamExt::next(&mut socket)).await.expect("in time");
    let Some(Ok(Message::Binary(first))) = first else { panic!("first handshake message") };
    assert!(inshore_trust::noise::Responder::channel(&control.noise, &first).is_err());
}

#[tokio::test]
async fn an_expired_certificate_and_a_wrong_kind_are_refused() {
    let mut control = Control::start().await;
    let agent = agent(&control, timers());
    let key = control.noise.public().0;
    for body in [
        CertificateBody::new(KeyKind::Control, "ctl_1", key, 1).expiring_at(2),
        CertificateBody::new(KeyKind::Agent, "agt_2", key, 1),
    ] {
        control.certificates = vec![issue(&control.root, &body)];
        drop(control.accept_clear().await);
        agent.offline(Code::ChannelKeyMismatch).await;
    }
}

/// One broken session: what the peer does, and what the agent says when it closes.
async fn check_closed(breaks: impl AsyncFnOnce(&mut Peer), reason: &str) {
    let control = Control::start().await;
    let agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    breaks(&mut peer).await;
    assert_eq!(peer.closed().await.as_deref(), Some(reason));
    agent.offline(Code::BadFrame).await;
    // And it comes back.
    control.accept(&agent.identity.public()).await;
}

async fn raw(peer: &mut Peer, message: Message) {
    futures::SinkExt::send(&mut peer.socket, message).await.expect("send");
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_the_session_with_a_reason() {
    let frame = |len| Message::binary(vec![7; len]);
    Box::pin(check_closed(async |peer| raw(peer, frame(100)).await, "undecryptable frame")).await;
    Box::pin(check_closed(async |peer| raw(peer, frame(65_536)).await, "undecryptable frame")).await;
    Box::pin(check_closed(async |peer| raw(peer, frame((1 << 20) + 1)).await, "frame too large")).await;
    Box::pin(check_closed(async |peer| raw(peer, Message::text("{}")).await, "not a binary message")).await;
    for message in [&b"[1,2,3]"[..], br#"{"kind":"grant","generation":"x"}"#, b"\xff"] {
        Box::pin(check_closed(async |peer| peer.send_bytes(message).await, "not a message")).await;
    }
}

#[tokio::test]
async fn unknown_kinds_are_ignored_and_unsupported_jobs_refused() {
    let control = Control::start().await;
    let mut agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    peer.send_bytes(br#"{"kind":"run_shell","command":"id"}"#).await;
    let mut later = serde_json::to_value(Down::Offer { job: Box::new(spec("job_1", 1)) }).expect("JSON");
    *later.pointer_mut("/job/kind").expect("kind") = "replicate_everything".into();
    peer.send_bytes(&encode(&later)).await;
    let refused = peer.next().await;
    assert!(matches!(refused, Up::Refused { reason: RefusalReason::Unsupported, .. }), "{refused:?}");
    assert!(agent.commands.try_recv().is_err());
    peer.send(&Down::Cancel { job_id: "job_9".parse().expect("id") }).await;
    assert_eq!(agent.command().await, Command::Cancel("job_9".parse().expect("id")));
}

#[tokio::test]
async fn a_frame_cut_in_the_middle_ends_the_session_and_a_new_one_begins() {
    let control = Control::start().await;
    let agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let frame = peer.session.encrypt(&encode(&Down::WantFullState)).expect("encrypt").remove(0);
    // The head of a WebSocket frame that promises more bytes than ever come.
    let stream = peer.socket.get_mut();
    let mut partial = vec![0x82, 126, 0x10, 0x00];
    partial.extend_from_slice(&frame);
    tokio::io::AsyncWriteExt::write_all(stream, &partial).await.expect("half a frame");
    tokio::io::AsyncWriteExt::flush(stream).await.expect("flush");
    drop(peer);
    control.accept(&agent.identity.public()).await;
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_running_jobs_are_renewed_meanwhile() {
    let control = Control::start().await;
    let quick = Timers { dead: Duration::from_secs(1), renew: Duration::from_millis(100), ..timers() };
    let agent = agent(&control, quick);
    let job = JobState { job_id: "job_1".parse().expect("id"), generation: 2, phase: Phase::Running };
    agent.handle.set_status(Status { jobs: vec![job.clone()], ..Status::default() });
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let renewed = Up::Renew { jobs: vec![JobRef { job_id: job.job_id, generation: 2 }] };
    assert_eq!(peer.next().await, renewed);
    assert_eq!(peer.next().await, renewed);
    agent.offline(Code::ControlPlaneUnreachable).await;
    control.accept(&agent.identity.public()).await;
}

#[tokio::test]
async fn progress_is_one_frame_per_interval_and_void_after_the_outcome() {
    let control = Control::start().await;
    let agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let progress = |upserts| Progress {
        job_id: "job_1".parse().expect("id"),
        generation: 1,
        stage: Stage::Extract,
        rows: RowCounts { upserts, ..RowCounts::default() },
        bytes: 0,
        checkpoints: 0,
        last_checkpoint_at_ms: None,
        tables: Vec::new(),
    };
    agent.handle.progress(progress(1));
    assert_eq!(peer.next().await, Up::Progress(progress(1)));
    for upserts in 2..=1_000 {
        agent.handle.progress(progress(upserts));
    }
    assert_eq!(peer.next().await, Up::Progress(progress(1_000)), "only the latest");
    agent.handle.accept(&spec("job_1", 1)).expect("accept");
    agent.handle.progress(progress(1_001));
    agent.handle.finish(&outcome("job_1", 1)).expect("finish");
    assert!(matches!(peer.next().await, Up::Accepted { .. }));
    assert!(matches!(peer.next().await, Up::Outcome(_)));
    peer.send(&Down::WantFullState).await;
    assert!(matches!(peer.next().await, Up::FullState(_)), "no stale progress after the outcome");
}

#[tokio::test]
async fn a_package_is_fetched_in_chunks_over_a_reconnect() {
    let control = Control::start().await;
    let agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let content = vec![5; limits::PACKAGE_CHUNK_BYTES + 100];
    let digest = inshore_protocol::PackageDigest::from_sha256(&Sha256::digest(&content).into());
    let package = PackageRef { digest: digest.clone(), bytes: content.len() as u64 };
    let handle = agent.handle.clone();
    let wanted = package.clone();
    let fetched = crate::tasks::spawn("fetch", async move { handle.package(&wanted).await });
    assert_eq!(peer.next().await, Up::PackageWanted { digest: digest.clone(), offset: 0 });
    let (head, tail) = content.split_at(limits::PACKAGE_CHUNK_BYTES);
    let chunk = |offset: usize, data: &[u8]| Down::PackageChunk {
        digest: digest.clone(),
        offset: offset as u64,
        total_bytes: package.bytes,
        data: inshore_protocol::Base64Bytes(data.to_vec()),
    };
    peer.send(&chunk(0, head)).await;
    let rest = Up::PackageWanted { digest: digest.clone(), offset: head.len() as u64 };
    assert_eq!(peer.next().await, rest);
    drop(peer);
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    assert_eq!(peer.next().await, rest);
    peer.send(&chunk(head.len(), tail)).await;
    let path = tokio::time::timeout(SOON, fetched).await.expect("in time").expect("task").expect("package");
    assert_eq!(std::fs::read(path).expect("file"), content);
}

#[tokio::test]
async fn without_a_ledger_nothing_is_sent() {
    let control = Control::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let ledger_dir = folder.path().join("ledger");
    let agent = begin(&control, folder, identity(&control), timers());
    // The segment that is open stays writable, so the agent is started on a folder that cannot hold one.
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    agent.stop.cancel();
    agent.task.await.expect("channel ends");
    peer.closed().await;
    let store = Store::open(&agent.folder.path().join("channel.db")).expect("store");
    let mut ledger = Ledger::open(&ledger_dir).expect("ledger");
    ledger.forget_for_test();
    std::fs::remove_dir_all(&ledger_dir).expect("remove");
    std::fs::write(&ledger_dir, "a file where the folder should be").expect("write");
    let settings = ChannelSettings {
        dial: control.dial(),
        version: Version { major: 0, minor: 1, patch: 0 },
        packages_dir: agent.folder.path().join("packages"),
        timers: timers(),
        seed: 1,
    };
    let stop = CancellationToken::new();
    let parts = (store, ledger, Status::default());
    let (handle, _commands, task) = start(settings, Arc::clone(&agent.identity), parts, stop.clone());
    let mut peer = control.accept_secured(false).await;
    peer.send(&Down::Challenge { challenge: Hex32([1; 32]) }).await;
    assert_eq!(peer.next_bytes().await, None, "no hello");
    let mut link = handle.link();
    let broken = LinkState::Offline { code: Some(Code::StoreBroken) };
    tokio::time::timeout(SOON, link.wait_for(|state| *state == broken)).await.expect("in time").expect("link");
    stop.cancel();
    task.await.expect("channel ends");
}

#[tokio::test]
async fn heartbeats_say_what_the_status_says() {
    let control = Control::start().await;
    let heartbeat = Some(Duration::from_millis(50));
    let agent = agent(&control, Timers { heartbeat, ..timers() });
    let capacity = Capacity { jobs_max: 4, jobs_running: 1, cpu_count: 2, ..Capacity::default() };
    let job = JobState { job_id: "job_1".parse().expect("id"), generation: 2, phase: Phase::Running };
    let status = Status { mode: Mode::Managed, capacity, jobs: vec![job] };
    agent.handle.set_status(status.clone());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    let started = tokio::time::Instant::now();
    for _ in 0..5 {
        let message = peer.next_bytes().await.expect("a heartbeat");
        let expected = Up::Heartbeat { capacity, jobs_digest: status.jobs_digest() };
        assert_eq!(inshore_protocol::decode_up(&message).expect("upward"), expected);
    }
    // The first is at once; four intervals of at least 45 ms follow.
    assert!(started.elapsed() >= Duration::from_millis(150));
}

/// A proxy of one connection: takes the CONNECT it expects, then carries bytes.
async fn proxy(listener: tokio::net::TcpListener, to: String, answer: &'static str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut client, _) = listener.accept().await.expect("accept");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("head"));
    }
    client.write_all(answer.as_bytes()).await.expect("answer");
    if answer.contains(" 200 ") {
        let mut server = tokio::net::TcpStream::connect(to).await.expect("connect");
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    }
    String::from_utf8(head).expect("text")
}

#[tokio::test]
async fn a_proxy_is_asked_with_its_credentials_and_carries_the_session() {
    let control = Control::start().await;
    let to = control.url().replace("wss://", "");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let credentials = Some(zeroize::Zeroizing::new("user:pass".to_owned()));
    let dial = DialSettings { proxy: Some(ProxySettings { url, credentials }), ..control.dial() };
    assert!(!format!("{dial:?}").contains("pass"));
    let proxied = crate::tasks::spawn("proxy", proxy(listener, to.clone(), "HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"));
    let (opened, socket) = tokio::join!(dial::dial(&dial, "/v1/agent/channel"), control.accept_clear());
    assert!(opened.is_ok());
    drop((opened, socket));
    let head = proxied.await.expect("proxy");
    assert!(head.starts_with(&format!("CONNECT {to} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_error_with_its_status() {
    let control = Control::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let dial = DialSettings { proxy: Some(ProxySettings { url, credentials: None }), ..control.dial() };
    let answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    let proxied = crate::tasks::spawn("proxy", proxy(listener, String::new(), answer));
    let error = dial::dial(&dial, "/v1/agent/channel").await.expect_err("refused");
    assert_eq!(error.code(), Code::ControlPlaneUnreachable);
    assert!(error.to_string().ends_with("the proxy answered 407"), "{error}");
    assert!(!proxied.await.expect("proxy").contains("Proxy-Authorization"));
}

#[tokio::test]
async fn a_revoked_agent_is_told_and_stops() {
    let control = Control::start().await;
    let mut agent = agent(&control, timers());
    let (mut peer, _) = control.accept(&agent.identity.public()).await;
    peer.send(&Down::Revoked).await;
    assert_eq!(agent.command().await, Command::Revoked);
    tokio::time::timeout(SOON, agent.task).await.expect("in time").expect("channel ends");
}

#[tokio::test]
async fn an_unreachable_or_untrusted_end_has_its_own_code() {
    let control = Control::start().await;
    let mut dial = control.dial();
    dial.tls_ca_file = None;
    let (tried, _) = tokio::join!(dial::dial(&dial, "/v1/agent/channel"), control.accept_tls());
    assert_eq!(tried.expect_err("no trust").code(), Code::TlsCertificateRefused);
    dial.url = "wss://localhost:1".to_owned();
    let refused = dial::dial(&dial, "/v1/agent/channel").await.expect_err("nobody there");
    assert_eq!(refused.code(), Code::ControlPlaneUnreachable);
    dial.tls_ca_file = Some("/no/such/file.pem".into());
    let missing = dial::dial(&dial, "/v1/agent/channel").await.expect_err("no file");
    assert_eq!(missing.code(), Code::TlsCertificateRefused);
}
