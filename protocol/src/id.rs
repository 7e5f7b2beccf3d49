//! Typed ids, hashes and byte strings of the wire. Each is checked where it is decoded, so a value of these types is
//! always well-formed; none of them can carry free text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::{ID_BYTES_MAX, TABLE_LABEL_BYTES_MAX};

/// A value that is not an id of its kind. The value itself is not repeated: it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {rule}")]
pub struct InvalidId {
    kind: &'static str,
    rule: &'static str,
}

const ID_RULE: &str = "1 to 64 characters of A-Z, a-z, 0-9, _ and -";
const DIGEST_RULE: &str = "64 lower-case hexadecimal digits";
const LABEL_RULE: &str = "1 to 255 bytes without control characters";

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= TABLE_LABEL_BYTES_MAX && !text.chars().any(char::is_control)
}

macro_rules! checked_text {
    ($($(#[$doc:meta])* $name:ident, $check:ident, $rule:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if $check(&text) { Ok(Self(text)) } else { Err(InvalidId { kind: stringify!($name), rule: $rule }) }
            }

            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

checked_text! {
    /// One enrolled agent.
    AgentId, is_id, ID_RULE;
    /// One connection: never its name.
    ConnectionId, is_id, ID_RULE;
    /// One configured destination.
    DestinationId, is_id, ID_RULE;
    /// One group of connections.
    GroupId, is_id, ID_RULE;
    /// One job, over all its attempts.
    JobId, is_id, ID_RULE;
    /// One connected WebSocket of a channel.
    SessionId, is_id, ID_RULE;
    /// One join token; its secret is elsewhere.
    TokenId, is_id, ID_RULE;
    /// Whom a certificate is about: an agent, job or control-plane id.
    SubjectId, is_id, ID_RULE;
    /// SHA-256 of a connector package.
    PackageDigest, is_digest, DIGEST_RULE;
    /// A table as the control plane may know it: its name where `telemetry.schema_names` is on, else a keyed hash.
    TableLabel, is_label, LABEL_RULE;
}

impl From<AgentId> for SubjectId {
    fn from(id: AgentId) -> Self {
        Self(id.0)
    }
}

impl From<JobId> for SubjectId {
    fn from(id: JobId) -> Self {
        Self(id.0)
    }
}

impl PackageDigest {
    /// The digest of known SHA-256 bytes.
    #[must_use]
    pub fn from_sha256(bytes: &[u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}

macro_rules! hex_bytes {
    ($($(#[$doc:meta])* $name:ident, $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex::encode(self.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&hex::encode(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(de::Error::custom)?;
                Ok(Self(bytes))
            }
        }
    )*};
}

hex_bytes! {
    /// 16 bytes, as hexadecimal text.
    Hex16, 16;
    /// A hash, public key or challenge of 32 bytes, as hexadecimal text.
    Hex32, 32;
    /// A signature of 64 bytes, as hexadecimal text.
    Hex64, 64;
}

/// Bytes as standard base64 text. Downward only (sealed values, package chunks).
#[derive(Clone, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl fmt::Debug for Base64Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Base64Bytes({} bytes)", self.0.len())
    }
}

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_accept_only_their_alphabet() {
        for good in ["a", "agt_01-Z", &"x".repeat(64)] {
            assert_eq!(AgentId::new(good).expect("good id").as_str(), good);
        }
        for bad in ["", "a b", "a/b", "..", "ä", "a\n", &"x".repeat(65)] {
            assert!(AgentId::new(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).expect("json");
            assert!(serde_json::from_str::<JobId>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn digests_and_labels_are_checked_when_decoded() {
        let digest = PackageDigest::from_sha256(&[0xab; 32]);
        assert_eq!(PackageDigest::new(digest.as_str()).expect("digest"), digest);
        assert!(PackageDigest::new("AB".repeat(32)).is_err());
        assert!(TableLabel::new("shop.order lines").is_ok());
        assert!(TableLabel::new("a\u{0}b").is_err());
        assert!(TableLabel::new("x".repeat(256)).is_err());
        assert!(serde_json::from_str::<Hex32>("\"00\"").is_err());
    }

    #[test]
    fn byte_strings_survive_the_wire_and_hide_from_debug() {
        let bytes = Base64Bytes(vec![0, 255, 7]);
        let json = serde_json::to_string(&bytes).expect("json");
        assert_eq!(json, "\"AP8H\"");
        assert_eq!(serde_json::from_str::<Base64Bytes>(&json).expect("decode"), bytes);
        assert_eq!(format!("{bytes:?}"), "Base64Bytes(3 bytes)");
    }
}
