//! Keys, certificates, seals, the Noise session and hash chains: everything both binaries must agree on to the byte.
//! Pure: no IO, no tokio, no clock (instants arrive as arguments). Secret keys are zeroized on drop and never printed.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

mod certificate;
pub mod hash_chain;
mod join_token;
mod key;
pub mod noise;
mod seal;
mod sign;
pub mod transcript;

pub use certificate::{Certificate, CertificateBody, CertificateChain, CertificateError, KeyKind, Subject, issue};
pub use join_token::{JoinToken, JoinTokenError, proof_holds};
pub use key::{DhPublic, DhSecret, KeyError, PublicKey, Signature, SigningKey, random_bytes};
pub use seal::{SealContext, SealError, open, seal};
pub use sign::{JobSigner, SignedLine};
