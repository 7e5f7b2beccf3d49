//! Leniency of the wire.

use super::*;

#[test]
fn unknown_kinds_and_fields_have_no_effect() {
    assert_eq!(decode_down(br#"{"kind":"shutdown_host","command":"rm"}"#).expect("lenient"), Down::Unknown);
    assert_eq!(decode_up(br#"{"kind":"later","x":[1,{"y":2}]}"#).expect("lenient"), Up::Unknown);
    let ack = decode_down(br#"{"kind":"outbox_ack","seq":7,"later":true}"#).expect("unknown field");
    assert_eq!(ack, Down::OutboxAck { seq: 7 });
    let state = br#"{"job_id":"j","generation":1,"phase":"hibernating"}"#;
    let state: JobState = serde_json::from_slice(state).expect("unknown enum value");
    assert_eq!(state.phase, Phase::Unknown);
}

#[test]
fn what_is_not_an_envelope_is_an_error_without_its_content() {
    let deep = format!("{{\"kind\":\"later\",\"x\":{}", "[".repeat(100_000));
    for bytes in [
        &b""[..],
        b"null",
        b"[]",
        b"{}",
        b"[\"later\"]",
        b"[\"outbox_ack\",7]",
        b"{\"kind\":7}",
        b"\xff\xfe",
        b"{\"kind\":\"grant\"}",
        deep.as_bytes(),
    ] {
        assert!(matches!(decode_down(bytes), Err(DecodeError::Malformed { .. })));
    }
    let secret = br#"{"kind":"outbox_ack","seq":"hunter2"}"#;
    assert!(!format!("{:?}", decode_down(secret).expect_err("wrong type")).contains("hunter2"));
    let big = vec![b' '; MESSAGE_BYTES_MAX + 1];
    assert!(matches!(decode_up(&big), Err(DecodeError::Oversize { .. })));
}
