//! One-time enrolment: a join token becomes a lasting identity. The token comes from a file or from bytes the caller
//! read (stdin, a credential), never from arguments or environment; its secret is proved, not sent.
//!
//! Assume a crash anywhere: the keys are on disk before they are used, and the control plane answers a repeat with the
//! same keys as the first time; the identity is on disk before the control plane is told that all is done.

use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inshore_config::AgentConfig;
use inshore_protocol::{
    Code, Enrol, EnrolDown, EnrolRefusal, EnrolUp, Hex32, ProtocolRange, Version, decode_enrol_down, encode, limits,
};
use inshore_trust::noise::Initiator;
use inshore_trust::{CertificateError, JoinToken, JoinTokenError, transcript};
use zeroize::Zeroizing;

use crate::channel::dial;
use crate::channel::ledger::{self, FrameClass, Ledger};
use crate::channel::secure::{self, Secured};
use crate::channel::{DialSettings, ProxySettings, now_ms};
use crate::identity::{self, Identity, Keys};
use crate::installation;

/// The limit of a whole enrolment.
const TIMEOUT: Duration = limits::HANDSHAKE;

const PATH: &str = "/v1/agent/enrol";
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// Where the join token is.
enum TokenSource {
    File(PathBuf),
    /// Already read, from stdin or a credential.
    Bytes(Zeroizing<Vec<u8>>),
}

/// What an enrolment needs to know beside its token.
struct EnrolSettings {
    token: TokenSource,
    state_dir: PathBuf,
    /// In place of the token's.
    url: Option<String>,
    tls_ca_file: Option<PathBuf>,
    proxy: Option<ProxySettings>,
    version: Version,
    /// The wall clock: tokens expire.
    now_ms: u64,
    timeout: Duration,
}

/// Why this host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read the join token at {path}")]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error("read the join token at {path}: others can read it (mode {mode:o}); make it 0600 and ask for a new token")]
    TokenExposed { path: PathBuf, mode: u32 },
    #[error("read the join token: above 16 KiB, so it is none")]
    TokenTooLarge,
    #[error(transparent)]
    TokenText(#[from] JoinTokenError),
    #[error("enrol with this token: it expired at {expired_at_ms} ms; ask for a new one, or check this host's clock")]
    TokenExpired { expired_at_ms: u64 },
    #[error("enrol this host: it is enrolled as {agent_id}; remove its state directory to enrol it again")]
    AlreadyEnrolled { agent_id: String },
    #[error("prepare the state directory {path}")]
    StateDir { path: PathBuf, source: std::io::Error },
    #[error(
        "enrol this host: {path} belongs to user {owner} and this is root, so the agent could not read its identity; run this \
         command as that user, with `runuser -u inshore --` on an installed host"
    )]
    ForeignStateDir { path: PathBuf, owner: u32 },
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error("reach the proxy with its credentials")]
    ProxyCredentials { source: inshore_config::SecretError },
    #[error("prepare the ledger")]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Channel(#[from] secure::Error),
    #[error("enrol with this token: the control plane refuses it: {}", words(*reason))]
    Refused { reason: EnrolRefusal },
    #[error("trust the control plane: the identity it certified is not under the root of the token")]
    Certificate { source: CertificateError },
    #[error("enrol this host: the control plane broke the protocol")]
    Protocol,
}

impl Error {
    /// The code of the error's page.
    pub(crate) fn code(&self) -> &'static str {
        self.failure().text()
    }

    fn failure(&self) -> Code {
        match self {
            Error::TokenFile { .. } | Error::TokenExposed { .. } => Code::TokenUnreadable,
            Error::TokenTooLarge | Error::TokenText(_) => Code::TokenMalformed,
            Error::TokenExpired { .. } | Error::Refused { reason: EnrolRefusal::TokenExpired } => Code::TokenExpired,
            Error::Refused {
                reason: EnrolRefusal::TokenUsed | EnrolRefusal::TokenUnknown | EnrolRefusal::ProofWrong,
            } => Code::TokenUsed,
            Error::Refused { reason: EnrolRefusal::ProtocolVersion } => Code::ProtocolVersion,
            Error::Refused { .. } => Code::IdentityRefused,
            Error::AlreadyEnrolled { .. } => Code::AlreadyEnrolled,
            Error::Identity(_) => Code::IdentityUnreadable,
            Error::ProxyCredentials { .. } => Code::SecretUnresolved,
            Error::StateDir { .. } | Error::ForeignStateDir { .. } | Error::Ledger(_) => Code::StoreBroken,
            Error::Certificate { .. } | Error::Channel(secure::Error::Root { .. }) => Code::RootWrong,
            Error::Channel(error) => error.code(),
            Error::Protocol => Code::BadFrame,
        }
    }

    /// 3: something on this host is wrong; 4: the other side, or the token, is not who it should be; 5: nobody there.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.failure() {
            Code::ControlPlaneUnreachable | Code::BadFrame => 5,
            Code::TokenExpired
            | Code::TokenUsed
            | Code::RootWrong
            | Code::TlsCertificateRefused
            | Code::ChannelKeyMismatch
            | Code::IdentityRefused
            | Code::ProtocolVersion => 4,
            _ => 3,
        }
    }
}

/// What a refusal means for the person who enrols.
fn words(reason: EnrolRefusal) -> &'static str {
    match reason {
        EnrolRefusal::TokenUsed => "it was used before; ask for a new one",
        EnrolRefusal::TokenUnknown => "it is not one of its tokens",
        EnrolRefusal::TokenExpired => "it has expired; ask for a new one",
        EnrolRefusal::ProofWrong => "it is damaged; copy it again, whole",
        EnrolRefusal::ProtocolVersion => "this version of the agent is too old or too new for it",
        _ => "for a reason that this version does not know",
    }
}

/// Enrols this host with the token in a file, or on stdin where there is none or it is `-`.
pub(crate) async fn run(config: &AgentConfig, token_file: Option<&Path>) -> Result<Identity, Error> {
    let token = match token_file {
        Some(path) if path != Path::new("-") => TokenSource::File(path.to_owned()),
        _ => TokenSource::Bytes(read_stdin()?),
    };
    let settings = EnrolSettings {
        token,
        state_dir: config.state_dir.as_path().to_owned(),
        url: config.channel.url.clone(),
        tls_ca_file: config.channel.tls_ca_file.as_ref().map(|path| path.as_path().to_owned()),
        proxy: installation::proxy(&config.channel).map_err(|source| Error::ProxyCredentials { source })?,
        version: installation::version(),
        now_ms: now_ms(),
        timeout: TIMEOUT,
    };
    enrol(settings).await
}

fn read_stdin() -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = std::io::stdin().lock().take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::TokenFile { path: "stdin".into(), source })?;
    Ok(bytes)
}

/// Enrols this host. The identity is on disk when it returns.
async fn enrol(settings: EnrolSettings) -> Result<Identity, Error> {
    let token = read_token(&settings.token)?;
    if token.expires_at_ms <= settings.now_ms {
        return Err(Error::TokenExpired { expired_at_ms: token.expires_at_ms });
    }
    let state_dir = settings.state_dir.as_path();
    prepare(state_dir)?;
    let keys = identity::candidate(state_dir)?;
    let mut ledger = Ledger::open(&state_dir.join("ledger"))?;
    let exchange = Box::pin(exchange(&settings, &token, keys, &mut ledger));
    tokio::time::timeout(settings.timeout, exchange).await.map_err(|_| secure::Error::HandshakeTimeout)?
}

async fn exchange(
    settings: &EnrolSettings,
    token: &JoinToken,
    keys: Keys,
    ledger: &mut Ledger,
) -> Result<Identity, Error> {
    let dial_settings = DialSettings {
        url: settings.url.clone().unwrap_or_else(|| token.url.clone()),
        tls_ca_file: settings.tls_ca_file.clone(),
        proxy: settings.proxy.clone(),
    };
    let socket = dial::dial(&dial_settings, PATH).await.map_err(secure::Error::Dial)?;
    let mut secured = Secured::open(socket, &token.root, settings.now_ms, Initiator::enrolment).await?;
    let request = request(token, &keys, secured.handshake_hash(), settings.version)?;
    secured.send(ledger, "enrol", FrameClass::Enrolment, &encode(&request)).await?;
    let certificate = match answer(&mut secured).await? {
        EnrolDown::Enrolled { certificate, .. } => secure::certificate(&certificate).ok_or(Error::Protocol)?,
        EnrolDown::Refused { reason } => return Err(Error::Refused { reason }),
        _ => return Err(Error::Protocol),
    };
    let certified = |source| Error::Certificate { source };
    let identity =
        Identity::new(keys, token.url.clone(), token.root, certificate, settings.now_ms).map_err(certified)?;
    identity.save(&settings.state_dir)?;
    // From here on this host is enrolled: every hello carries the certificates again, so a failure is no failure.
    let certificates = EnrolUp::Certificates {
        channel: secure::fields(identity.channel_certificate()).map_err(certified)?,
        sealing: secure::fields(identity.sealing_certificate()).map_err(certified)?,
    };
    let told = secured.send(ledger, "certificates", FrameClass::Enrolment, &encode(&certificates)).await;
    if told.is_err() || !matches!(answer(&mut secured).await, Ok(EnrolDown::Done)) {
        tracing::warn!("the control plane did not confirm; the first session will tell it again");
    }
    secured.close(None).await;
    Ok(identity)
}

fn request(token: &JoinToken, keys: &Keys, handshake_hash: &[u8; 32], version: Version) -> Result<EnrolUp, Error> {
    let (identity, channel, sealing) = (keys.identity.public(), keys.channel.public(), keys.sealing.public());
    let transcript =
        transcript::Enrol { handshake_hash, identity: &identity, channel: &channel, sealing: &sealing }.to_bytes();
    Ok(EnrolUp::Enrol(Enrol {
        token_id: token.token_id.parse().map_err(|_| JoinTokenError::Damaged)?,
        proof: Hex32(token.proof(&transcript)),
        identity: Hex32(identity.0),
        channel: Hex32(channel.0),
        sealing: Hex32(sealing.0),
        protocol: ProtocolRange::OURS,
        version,
    }))
}

async fn answer(secured: &mut Secured) -> Result<EnrolDown, Error> {
    let message = secured.next_message().await?;
    decode_enrol_down(&message).map_err(|source| secure::Error::Decode { source }.into())
}

fn read_token(source: &TokenSource) -> Result<JoinToken, Error> {
    let bytes = match source {
        TokenSource::Bytes(bytes) => Zeroizing::new(bytes.to_vec()),
        TokenSource::File(path) => read_file(path)?,
    };
    if bytes.len() as u64 > TOKEN_BYTES_MAX {
        return Err(Error::TokenTooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| JoinTokenError::Damaged)?;
    Ok(JoinToken::from_text(text)?)
}

/// A token that others could read must be taken for stolen.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let error = |source| Error::TokenFile { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(error)?;
    let mode = file.metadata().map_err(error)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::TokenExposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(error)?;
    Ok(bytes)
}

fn prepare(state_dir: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    made.map_err(|source| Error::StateDir { path: state_dir.to_owned(), source })?;
    let owner = std::fs::metadata(state_dir).map_or(0, |metadata| metadata.uid());
    if rustix::process::geteuid().is_root() && owner != 0 {
        return Err(Error::ForeignStateDir { path: state_dir.to_owned(), owner });
    }
    match Identity::load(state_dir) {
        Ok(identity) => Err(Error::AlreadyEnrolled { agent_id: identity.agent_id }),
        Err(identity::Error::NotEnrolled { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
