//! Ed25519 signing keys and X25519 key-agreement keys, as opaque newtypes. Secrets have no Clone, no Display, and a
//! Debug that shows nothing.

use std::fmt;

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// A key or signature that does not have the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("decode a key: not {expected} hexadecimal digits")]
    Form { expected: usize },
    #[error("verify a signature: it does not match")]
    SignatureWrong,
}

/// Random bytes of the operating system.
///
/// # Panics
/// Where the operating system has no randomness to give: nothing safe can be done then.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// An Ed25519 secret key: an identity, a root, a job key.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        let seed = Zeroizing::new(random_bytes::<32>());
        Self::from_bytes(&seed)
    }

    /// The key of a stored seed.
    #[must_use]
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs exactly these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public())
    }
}

/// An X25519 secret key: a channel key, a sealing key, a control plane's Noise key.
pub struct DhSecret(x25519_dalek::StaticSecret);

impl DhSecret {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        let seed = Zeroizing::new(random_bytes::<32>());
        Self::from_bytes(&seed)
    }

    /// The key of stored bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(x25519_dalek::StaticSecret::from(*bytes))
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> DhPublic {
        DhPublic(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// The shared secret; none where the other key is of low order (then it would not depend on ours).
    pub(crate) fn agree(&self, other: &DhPublic) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(other.0));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for DhSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DhSecret({})", self.public())
    }
}

macro_rules! public_bytes {
    ($($(#[$doc:meta])* $name:ident, $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Lower-case hexadecimal text.
            #[must_use]
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }

            /// Reads hexadecimal text.
            pub fn from_hex(text: &str) -> Result<Self, KeyError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Form { expected: $len * 2 })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.to_hex())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::from_hex(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

public_bytes! {
    /// An Ed25519 public key. Checked to be a point when it verifies, not before.
    PublicKey, 32;
    /// An X25519 public key.
    DhPublic, 32;
    /// An Ed25519 signature.
    Signature, 64;
}

impl PublicKey {
    /// Verifies a signature over exactly these bytes; weak keys and malleable signatures are refused.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::SignatureWrong)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(bytes, &signature).map_err(|_| KeyError::SignatureWrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_only() {
        let key = SigningKey::generate();
        let signature = key.sign(b"entry");
        assert_eq!(key.public().verify(b"entry", &signature), Ok(()));
        assert!(key.public().verify(b"Entry", &signature).is_err());
        assert!(SigningKey::generate().public().verify(b"entry", &signature).is_err());
        assert!(PublicKey([0; 32]).verify(b"entry", &signature).is_err());
    }

    #[test]
    fn stored_keys_come_back_and_debug_shows_no_secret() {
        let key = SigningKey::generate();
        let secret = key.to_secret_bytes();
        assert_eq!(SigningKey::from_bytes(&secret).public(), key.public());
        assert!(!format!("{key:?}").contains(&hex::encode(secret.as_slice())));
        let dh = DhSecret::generate();
        assert_eq!(DhSecret::from_bytes(&dh.to_secret_bytes()).public(), dh.public());
        assert!(!format!("{dh:?}").contains(&hex::encode(dh.to_secret_bytes().as_slice())));
    }

    #[test]
    fn a_low_order_point_agrees_on_nothing() {
        assert!(DhSecret::generate().agree(&DhPublic([0; 32])).is_none());
    }
}
