//! Frames that are none: each closes its session with a reason, nothing panics, the control plane goes on serving.

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::agent::{Host, clear, control_key, dial};
use super::*;

/// The word in the close frame.
async fn closed(
    socket: &mut (impl futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> String {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
            Some(Ok(_)) => {}
            other => return format!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_closes_its_session_with_a_reason() {
    let plane = Plane::start().await;
    let group = plane.group().await;
    let mut host = Host::enrolled(&plane, &group).await;
    for (frame, reason) in [
        (Message::Binary(vec![7; 100].into()), "undecryptable"),
        (Message::Binary(Vec::new().into()), "undecryptable"),
        (Message::Binary(vec![0; 70_000].into()), "oversize"),
        (Message::Text("{\"kind\":\"heartbeat\"}".into()), "not_binary"),
    ] {
        let mut line = host.online(&plane, Vec::new()).await;
        line.socket.send(frame).await.expect("sends");
        assert_eq!(closed(&mut line.socket).await, reason);
    }
    for (message, reason) in [
        (json!(["no", "envelope"]), "malformed"),
        (json!({"kind": "renew", "jobs": 7}), "malformed"),
        (json!({"kind": "hello"}), "malformed"),
    ] {
        let mut line = host.online(&plane, Vec::new()).await;
        line.send(&message).await;
        assert_eq!(closed(&mut line.socket).await, reason, "{message}");
    }
    // An unknown kind is counted and has no effect.
    let mut line = host.online(&plane, Vec::new()).await;
    line.send(&json!({"kind": "of_the_future", "x": 1})).await;
    line.send(&json!({"kind": "package_wanted", "digest": "0".repeat(64), "offset": 0})).await;
    line.until(|down| matches!(down, inshore_protocol::Down::PackageChunk { total_bytes: 0, .. }).then_some(())).await;
    assert_eq!(plane.get("/readyz").await.data()["unknown_kinds"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_before_the_handshake_is_refused() {
    let plane = Plane::start().await;
    let mut random = fastrand::Rng::with_seed(11);
    for path in ["/v1/agent/channel", "/v1/agent/enrol"] {
        for _ in 0..20 {
            let mut socket = dial(&plane, path).await;
            control_key(&plane, &mut socket).await;
            let bytes: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            socket.send(Message::Binary(bytes.into())).await.expect("sends");
            let word = closed(&mut socket).await;
            assert!(word == "undecryptable" || word == "malformed", "{word}");
        }
    }
    let mut socket = dial(&plane, "/v1/agent/channel").await;
    assert!(!clear(&mut socket).await.is_empty(), "it still serves");
}
