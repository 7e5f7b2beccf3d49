//! Enrolment: a host that holds a join token becomes an agent. It proves the token's secret without sending it, and its
//! identity key is certified by the root. The token works once; the same identity may ask again, if its answer was lost.

use std::sync::Arc;

use inshore_protocol::limits::HANDSHAKE;
use inshore_protocol::{
    AgentId, ControlCertificate, Enrol, EnrolDown, EnrolRefusal, EnrolUp, ProtocolRange, decode_enrol_up, encode,
};
use inshore_trust::noise::Responder;
use inshore_trust::{DhPublic, KeyKind, PublicKey, proof_holds, transcript};

use crate::app::App;
use crate::channel::{Closed, Wire};
use crate::keys::certified;
use crate::log::chain;
use crate::store::TokenUse;
use crate::time::Timestamp;

/// Runs one enrolment to its end.
pub(crate) async fn serve(app: Arc<App>, upgrade: hyper::upgrade::OnUpgrade) {
    let mut wire = match Wire::open(upgrade).await {
        Ok(wire) => wire,
        Err(error) => return tracing::info!(reason = %chain(&error), "enrolment ended"),
    };
    let ended = match tokio::time::timeout(HANDSHAKE, run(&app, &mut wire)).await {
        Ok(Ok(())) => Closed::Ended("enrolled"),
        Ok(Err(error)) => error,
        Err(_) => Closed::HandshakeSlow,
    };
    tracing::info!(reason = %chain(&ended), "enrolment ended");
    wire.close(&ended).await;
}

async fn run(app: &App, wire: &mut Wire) -> Result<(), Closed> {
    wire.send_clear(encode(&ControlCertificate::ControlCertificate {
        certificates: vec![app.keys.certificate.clone()],
    }))
    .await?;
    let first = wire.message().await?;
    let (noise, answer) = Responder::enrolment(&app.keys.control, &first)?;
    wire.send_clear(answer).await?;
    let hash = *noise.handshake_hash();
    wire.secure(noise);
    let EnrolUp::Enrol(request) = decode_enrol_up(&wire.message().await?)? else { return Err(Closed::OutOfTurn) };
    let agent_id = match admit(app, &request, &hash).await? {
        Ok(agent_id) => agent_id,
        Err(reason) => return refuse(wire, reason).await,
    };
    let certificate = app.keys.certify_agent(agent_id.as_str(), request.identity, Timestamp::now());
    wire.send(&encode(&EnrolDown::Enrolled { agent_id: agent_id.clone(), certificate })).await?;
    let EnrolUp::Certificates { channel, sealing } = decode_enrol_up(&wire.message().await?)? else {
        return Err(Closed::OutOfTurn);
    };
    let identity = PublicKey(request.identity.0);
    let holds = |fields, kind, key| certified(fields, kind, &identity, agent_id.as_str()) == Some(key);
    if !holds(&channel, KeyKind::Channel, request.channel) || !holds(&sealing, KeyKind::Sealing, request.sealing) {
        return refuse(wire, EnrolRefusal::CertificateWrong).await;
    }
    app.store.set_sealing_key(agent_id.as_str(), &request.sealing.0).await?;
    wire.send(&encode(&EnrolDown::Done)).await?;
    tracing::info!(%agent_id, "agent enrolled");
    Ok(())
}

async fn refuse(wire: &mut Wire, reason: EnrolRefusal) -> Result<(), Closed> {
    tracing::warn!(?reason, "enrolment refused");
    wire.send(&encode(&EnrolDown::Refused { reason })).await?;
    Err(Closed::Refused("enrolment"))
}

async fn admit(app: &App, request: &Enrol, hash: &[u8; 32]) -> Result<Result<AgentId, EnrolRefusal>, Closed> {
    if ProtocolRange::OURS.common(request.protocol).is_none() {
        return Ok(Err(EnrolRefusal::ProtocolVersion));
    }
    let token_id = request.token_id.as_str();
    let proven = transcript::Enrol {
        handshake_hash: hash,
        identity: &PublicKey(request.identity.0),
        channel: &DhPublic(request.channel.0),
        sealing: &DhPublic(request.sealing.0),
    };
    // The secret is derived, so an unknown token has one too: only who holds the text can prove it.
    if !proof_holds(&app.keys.token_secret(token_id), &proven.to_bytes(), &request.proof.0) {
        return Ok(Err(EnrolRefusal::ProofWrong));
    }
    Ok(match app.store.use_token(token_id, &request.identity.0, Timestamp::now()).await? {
        TokenUse::Unknown => Err(EnrolRefusal::TokenUnknown),
        TokenUse::Expired => Err(EnrolRefusal::TokenExpired),
        TokenUse::Used => Err(EnrolRefusal::TokenUsed),
        TokenUse::Enrolled { agent_id } => AgentId::new(agent_id).map_err(|_| EnrolRefusal::TokenUnknown),
    })
}
