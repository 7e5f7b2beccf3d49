//! Sealed values: readable by the holder of one X25519 key, and only in the context they were sealed for.
//!
//! Layout: `1 ‖ ephemeral public key (32) ‖ ChaCha20-Poly1305 ciphertext with tag`. The key is HKDF-SHA256 of the shared
//! secret, salted by both public keys, so each seal has its own key and the all-zero nonce is used once.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::{DhPublic, DhSecret};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 33;

/// A value that cannot be opened here: another key, another context, or altered. Which, is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("open a sealed value: it was not sealed to this key for this purpose")]
pub struct SealError;

/// The associated data of a sealed value. It cannot be moved to another agent, connection, purpose or endpoint.
#[derive(Debug, Clone, Copy)]
pub struct SealContext<'a> {
    pub agent_id: &'a str,
    pub connection_id: &'a str,
    /// `configuration` for connector settings.
    pub purpose: &'a str,
    /// For a connector setting its key.
    pub endpoint: &'a str,
}

impl SealContext<'_> {
    /// Label, then each part behind its length (u32, big-endian): no two contexts share bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"inshore seal context v1\0".to_vec();
        for part in [self.agent_id, self.connection_id, self.purpose, self.endpoint] {
            let len = u32::try_from(part.len()).expect("ids and setting names are far below 4 GiB");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// Seals `plain` to the holder of `to`'s secret half. None where `to` is of low order: anybody could open what is sealed
/// to such a key, and whoever enrols chooses it.
#[must_use]
pub fn seal(to: &DhPublic, aad: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let ephemeral = DhSecret::generate();
    let shared = ephemeral.agree(to)?;
    let cipher = cipher(&shared, &ephemeral.public(), to);
    let sealed =
        cipher.encrypt(&Nonce::default(), Payload { msg: plain, aad }).expect("a value below 256 GiB encrypts");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + sealed.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&ephemeral.public().0);
    bytes.extend_from_slice(&sealed);
    Some(bytes)
}

/// Opens a sealed value.
pub fn open(secret: &DhSecret, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (header, body) = sealed.split_at_checked(HEADER_BYTES).ok_or(SealError)?;
    let (format, ephemeral) = header.split_first().ok_or(SealError)?;
    if *format != FORMAT {
        return Err(SealError);
    }
    let ephemeral = DhPublic(ephemeral.try_into().map_err(|_| SealError)?);
    let shared = secret.agree(&ephemeral).ok_or(SealError)?;
    cipher(&shared, &ephemeral, &secret.public())
        .decrypt(&Nonce::default(), Payload { msg: body, aad })
        .map(Zeroizing::new)
        .map_err(|_| SealError)
}

fn cipher(shared: &[u8; 32], ephemeral: &DhPublic, to: &DhPublic) -> ChaCha20Poly1305 {
    let salt = [ephemeral.0, to.0].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(&salt), shared)
        .expand(b"inshore seal v1", key.as_mut_slice())
        .expect("32 bytes is a valid HKDF length");
    ChaCha20Poly1305::new(key.as_slice().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(endpoint: &str) -> Vec<u8> {
        SealContext { agent_id: "agt_1", connection_id: "con_1", purpose: "configuration", endpoint }.to_bytes()
    }

    #[test]
    fn a_value_opens_with_its_key_in_its_context_only() {
        let secret = DhSecret::generate();
        let sealed = seal(&secret.public(), &context("password"), b"hunter2").expect("seals");
        assert_eq!(open(&secret, &context("password"), &sealed).expect("opens").as_slice(), b"hunter2");
        assert_eq!(open(&secret, &context("user"), &sealed), Err(SealError));
        assert_eq!(open(&DhSecret::generate(), &context("password"), &sealed), Err(SealError));
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert_eq!(open(&secret, &context("password"), &altered), Err(SealError), "byte {index}");
            assert_eq!(open(&secret, &context("password"), &sealed[..index]), Err(SealError), "cut at {index}");
        }
    }

    #[test]
    fn nothing_is_sealed_to_a_key_that_everybody_holds() {
        let one = std::array::from_fn(|index| u8::from(index == 0));
        for low_order in [[0; 32], one] {
            assert_eq!(seal(&DhPublic(low_order), &context("password"), b"hunter2"), None);
        }
    }

    #[test]
    fn contexts_do_not_run_into_each_other() {
        let joined =
            |connection_id, purpose| SealContext { agent_id: "a", connection_id, purpose, endpoint: "e" }.to_bytes();
        assert_ne!(joined("ab", "c"), joined("a", "bc"));
    }
}
