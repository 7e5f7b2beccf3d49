//! Sealed values open only where and for what they were sealed.

use inshore_protocol::{Base64Bytes, Down, SecretEntry, decode_down};

use super::*;

fn offered() -> JobSpec {
    let offer = include_bytes!("../../../../protocol/golden/v1/down.offer.json");
    let Ok(Down::Offer { job }) = decode_down(offer) else { panic!("an offer") };
    *job
}

#[test]
fn a_value_that_was_sealed_for_someone_or_something_else_is_not_opened() {
    let (sealing, offer) = (DhSecret::generate(), offered());
    let context = |endpoint| SealContext {
        agent_id: "agt_1",
        connection_id: offer.connection_id.as_str(),
        purpose: "configuration",
        endpoint,
    };
    let sealed = |key: &str, endpoint, to: &DhSecret| {
        let data = inshore_trust::seal(&to.public(), &context(endpoint).to_bytes(), b"hunter2");
        let value = SecretValue::Sealed { to: "agt_1".parse().expect("id"), data: Base64Bytes(data) };
        JobSpec { configuration: vec![SecretEntry { key: key.to_owned(), value }], ..offer.clone() }
    };
    let opened = |spec: &JobSpec| open_configuration(spec, &Policy::default(), "agt_1", &sealing);
    let good = opened(&sealed("password", "password", &sealing)).expect("opens");
    assert_eq!(good, [("password".to_owned(), "hunter2".to_owned())]);
    for spec in [sealed("password", "user", &sealing), sealed("password", "password", &DhSecret::generate())] {
        let error = opened(&spec).expect_err("another key or place");
        assert_eq!(error.code(), Code::SecretUnopenable, "{error}");
        assert!(error.to_string().contains("`password`"), "{error}");
    }
    let elsewhere =
        open_configuration(&sealed("password", "password", &sealing), &Policy::default(), "agt_2", &sealing);
    assert_eq!(elsewhere.expect_err("sealed to another agent").code(), Code::SecretUnopenable);
}
