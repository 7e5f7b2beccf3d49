//! The join token: what an operator carries from the control plane to a host. Text form
//! `inshore-join-<base64url(JSON) without padding>`. Its secret never crosses the wire; Debug shows none of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::key::PublicKey;

const PREFIX: &str = "inshore-join-";
const CHECK_BYTES: usize = 8;

/// Text that is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    #[error("read a join token: it does not begin with `inshore-join-`")]
    Prefix,
    #[error("read a join token: it is truncated or altered")]
    Damaged,
    #[error("read a join token: its version is newer than this agent")]
    Version,
}

/// One permission to enrol one agent, once, before it expires.
pub struct JoinToken {
    pub url: String,
    /// What the agent pins.
    pub root: PublicKey,
    pub token_id: String,
    pub secret: Zeroizing<[u8; 16]>,
    pub expires_at_ms: u64,
    pub agent_name: String,
}

#[derive(Serialize, Deserialize)]
struct TokenJson {
    v: u16,
    url: String,
    root: PublicKey,
    token_id: String,
    secret: String,
    expires_at_ms: u64,
    agent_name: String,
}

impl JoinToken {
    /// The text form.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut json = TokenJson {
            v: 1,
            url: self.url.clone(),
            root: self.root,
            token_id: self.token_id.clone(),
            secret: hex::encode(self.secret.as_slice()),
            expires_at_ms: self.expires_at_ms,
            agent_name: self.agent_name.clone(),
        };
        let mut bytes = Zeroizing::new(serde_json::to_vec(&json).expect("a token has string keys and plain values"));
        json.secret.zeroize();
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// Reads the text form; white space around it is ignored. A checksum tells damage from a wrong token.
    pub fn from_text(text: &str) -> Result<Self, JoinTokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinTokenError::Prefix)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinTokenError::Damaged)?);
        let split = bytes.len().checked_sub(CHECK_BYTES).ok_or(JoinTokenError::Damaged)?;
        let (json, found) = bytes.split_at(split);
        if found != check(json) {
            return Err(JoinTokenError::Damaged);
        }
        let json: TokenJson = serde_json::from_slice(json).map_err(|_| JoinTokenError::Damaged)?;
        if json.v != 1 {
            return Err(JoinTokenError::Version);
        }
        let hex_secret = Zeroizing::new(json.secret);
        let mut secret = Zeroizing::new([0; 16]);
        hex::decode_to_slice(hex_secret.as_bytes(), secret.as_mut_slice()).map_err(|_| JoinTokenError::Damaged)?;
        let TokenJson { url, root, token_id, expires_at_ms, agent_name, .. } =
            TokenJson { secret: String::new(), ..json };
        Ok(Self { url, root, token_id, secret, expires_at_ms, agent_name })
    }

    /// The proof of possession for this handshake and these keys: HMAC-SHA256 under the token's secret.
    #[must_use]
    pub fn proof(&self, transcript: &[u8]) -> [u8; 32] {
        token_mac(&self.secret, transcript).finalize().into_bytes().into()
    }
}

/// Checks a proof in constant time: the control plane's side of [`JoinToken::proof`].
#[must_use]
pub fn proof_holds(secret: &[u8; 16], transcript: &[u8], proof: &[u8; 32]) -> bool {
    token_mac(secret, transcript).verify_slice(proof).is_ok()
}

fn token_mac(secret: &[u8; 16], transcript: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(transcript);
    mac
}

fn check(json: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::digest(json).into();
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    check
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JoinToken")
            .field("url", &self.url)
            .field("token_id", &self.token_id)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("agent_name", &self.agent_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn token() -> JoinToken {
        JoinToken {
            url: "wss://control.example:443".to_owned(),
            root: SigningKey::generate().public(),
            token_id: "tok_1".to_owned(),
            secret: Zeroizing::new([7; 16]),
            expires_at_ms: 1_800_000,
            agent_name: "warehouse".to_owned(),
        }
    }

    #[test]
    fn the_text_form_comes_back_and_every_truncation_is_found() {
        let token = token();
        let text = token.to_text();
        let again = JoinToken::from_text(&format!("  {}\n", text.as_str())).expect("reads");
        assert_eq!((again.url, again.root, again.secret), (token.url, token.root, token.secret));
        for len in 0..text.len() {
            let cut = text.get(..len).expect("the text form is ASCII");
            assert!(JoinToken::from_text(cut).is_err(), "cut at {len}");
        }
        assert_eq!(JoinToken::from_text("hello").err(), Some(JoinTokenError::Prefix));
    }

    #[test]
    fn a_proof_holds_for_its_transcript_only_and_debug_shows_no_secret() {
        let token = token();
        let proof = token.proof(b"transcript");
        assert!(proof_holds(&token.secret, b"transcript", &proof));
        assert!(!proof_holds(&token.secret, b"other", &proof));
        assert!(!proof_holds(&[8; 16], b"transcript", &proof));
        assert!(!format!("{token:?}").contains("07070707") && !format!("{token:?}").contains("7, 7"));
    }
}
