//! Both ends of a session in one process, and everything that must end it.

use super::*;

fn pair() -> (Session, Session) {
    let (agent, control) = (DhSecret::generate(), DhSecret::generate());
    let initiator = Initiator::channel(&agent, &control.public()).expect("initiator");
    let (responder, answer) = Responder::channel(&control, initiator.first()).expect("responder");
    assert_eq!(responder.remote_static(), Some(&agent.public()));
    (initiator.finish(&answer).expect("finish"), responder)
}

fn carry(from: &mut Session, to: &mut Session, message: &[u8]) -> Vec<u8> {
    let frames = from.encrypt(message).expect("encrypt");
    assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
    let mut got: Vec<_> = frames.iter().map(|frame| to.decrypt(frame).expect("decrypt")).collect();
    let last = got.pop().flatten().expect("the last frame completes the message");
    assert!(got.iter().all(Option::is_none));
    last
}

#[test]
fn messages_of_every_size_cross_both_ways() {
    let (mut agent, mut control) = pair();
    assert_eq!(agent.handshake_hash(), control.handshake_hash());
    for len in [0, 1, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 300_000, MESSAGE_BYTES_MAX] {
        let message: Vec<u8> = (0..len).map(|index| u8::try_from(index % 251).expect("below 256")).collect();
        assert_eq!(carry(&mut agent, &mut control, &message), message);
        assert_eq!(carry(&mut control, &mut agent, &message), message);
    }
    let big = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(agent.encrypt(&big), Err(Error::TooLong { bytes: big.len() }));
}

#[test]
fn a_handshake_with_the_wrong_key_or_purpose_fails() {
    let (agent, control, other) = (DhSecret::generate(), DhSecret::generate(), DhSecret::generate());
    let initiator = Initiator::channel(&agent, &other.public()).expect("initiator");
    assert_eq!(Responder::channel(&control, initiator.first()).err(), Some(Error::Handshake));
    let enrolment = Initiator::enrolment(&control.public()).expect("initiator");
    assert_eq!(Responder::channel(&control, enrolment.first()).err(), Some(Error::Handshake));
    let (session, answer) = Responder::enrolment(&control, enrolment.first()).expect("responder");
    assert_eq!(session.remote_static(), None);
    assert!(enrolment.finish(&answer).is_ok());
}

#[test]
fn replayed_reordered_and_altered_frames_end_the_session() {
    let (mut agent, mut control) = pair();
    let first = agent.encrypt(b"one").expect("encrypt").remove(0);
    let second = agent.encrypt(b"two").expect("encrypt").remove(0);
    assert_eq!(control.decrypt(&second), Err(Error::Undecryptable));
    assert_eq!(control.decrypt(&first), Ok(Some(b"one".to_vec())));
    assert_eq!(control.decrypt(&first), Err(Error::Undecryptable));
    let (mut agent, mut control) = pair();
    let mut frame = agent.encrypt(b"one").expect("encrypt").remove(0);
    frame[1] ^= 1;
    assert_eq!(control.decrypt(&frame), Err(Error::Undecryptable));
}

#[test]
fn a_message_that_grows_past_the_cap_ends_the_session() {
    let (mut agent, mut control) = pair();
    let part = vec![0; PART_BYTES_MAX];
    let ended = (0..20).find_map(|_| {
        let frame = agent.frame(&part, true).expect("frame");
        control.decrypt(&frame).err()
    });
    assert_eq!(ended, Some(Error::Oversize));
    let (mut agent, mut control) = pair();
    let empty = agent.frame(&[], true).expect("frame");
    assert_eq!(control.decrypt(&empty), Err(Error::Malformed));
    assert_eq!(control.decrypt(&vec![0; FRAME_BYTES_MAX + 1]), Err(Error::Oversize));
}

#[test]
fn no_bytes_make_a_session_panic() {
    let (mut agent, mut control) = pair();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..100_000_u32 {
        let len = usize::try_from(next() % 64).expect("below 64");
        let message: Vec<u8> = (0..len).map(|_| next().to_le_bytes()[0]).collect();
        if round % 2 == 0 {
            assert!(control.decrypt(&message).is_err(), "random bytes are no frame");
            continue;
        }
        let plain_frame = agent.encrypt(&message).expect("encrypt").remove(0);
        let mut altered = plain_frame.clone();
        let at = usize::try_from(next() % altered.len() as u64).expect("an index");
        altered[at] ^= 1 << (next() % 8);
        assert_eq!(control.decrypt(&altered), Err(Error::Undecryptable));
        // A failed frame spends no counter here, so the untouched one still proves that both ends are in step.
        assert_eq!(control.decrypt(&plain_frame), Ok(Some(message)));
    }
    for _ in 0..1_000 {
        let first: Vec<u8> = (0..next() % 200).map(|_| next().to_le_bytes()[0]).collect();
        assert!(Responder::channel(&DhSecret::generate(), &first).is_err());
    }
}
