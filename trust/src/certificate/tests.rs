//! What a certificate and a chain of them accept, and what they refuse.

use super::*;
use crate::key::DhSecret;

fn body(kind: KeyKind, key: [u8; 32]) -> CertificateBody {
    CertificateBody::new(kind, "agt_1", key, 1_000)
}

#[test]
fn a_certificate_survives_travel_as_fields() {
    let (root, agent) = (SigningKey::generate(), SigningKey::generate());
    let certificate = issue(&root, &body(KeyKind::Agent, agent.public().0).expiring_at(2_000));
    let (fields, signature) = certificate.to_fields().expect("fields");
    let again = Certificate::from_fields(&fields, signature);
    assert_eq!(again, certificate);
    let subject = again.verify(&root.public()).expect("verifies");
    assert_eq!((subject.key, subject.is_expired(1_999), subject.is_expired(2_000)), (agent.public(), false, true));
}

#[test]
fn altered_fields_other_issuers_and_other_spellings_are_refused() {
    let (root, agent) = (SigningKey::generate(), SigningKey::generate());
    let certificate = issue(&root, &body(KeyKind::Agent, agent.public().0));
    let (mut fields, signature) = certificate.to_fields().expect("fields");
    fields.subject = "agt_2".to_owned();
    assert_eq!(
        Certificate::from_fields(&fields, signature).verify(&root.public()),
        Err(CertificateError::SignatureWrong)
    );
    assert_eq!(certificate.verify(&agent.public()), Err(CertificateError::SignatureWrong));
    for text in [
        certificate.body.replace(',', ", "),
        certificate.body.replace("\"v\":1", "\"v\":2"),
        certificate.body.replace("agt_1", "a b"),
        certificate.body.replace('{', "{\"extra\":1,"),
    ] {
        let sig = root.sign(&signed_bytes(&text));
        assert_eq!(Certificate { body: text, sig }.verify(&root.public()), Err(CertificateError::Malformed));
    }
}

#[test]
fn chains_follow_only_the_allowed_roles() {
    let (root, next, agent, job) =
        (SigningKey::generate(), SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    let agent_certificate = issue(&root, &body(KeyKind::Agent, agent.public().0));
    let good = CertificateChain::default()
        .with(agent_certificate.clone())
        .with(issue(&agent, &body(KeyKind::Job, job.public().0)));
    assert_eq!(good.verify_kind(&root.public(), KeyKind::Job).expect("good").key, job.public());
    assert_eq!(good.verify(&next.public()), Err(CertificateError::SignatureWrong));

    let rotated = CertificateChain::default()
        .with(issue(&root, &body(KeyKind::Root, next.public().0)))
        .with(issue(&next, &body(KeyKind::Control, DhSecret::generate().public().0)));
    assert!(rotated.verify_kind(&root.public(), KeyKind::Control).is_ok());

    let agent_makes_agent = CertificateChain::default()
        .with(agent_certificate.clone())
        .with(issue(&agent, &body(KeyKind::Agent, job.public().0)));
    let agent_makes_control = CertificateChain::default()
        .with(agent_certificate)
        .with(issue(&agent, &body(KeyKind::Control, job.public().0)));
    let root_makes_job = CertificateChain::default().with(issue(&root, &body(KeyKind::Job, job.public().0)));
    for chain in [agent_makes_agent, agent_makes_control, root_makes_job] {
        assert!(matches!(chain.verify(&root.public()), Err(CertificateError::PathWrong { .. })));
    }
    assert_eq!(CertificateChain::default().verify(&root.public()), Err(CertificateError::Empty));
}
