//! The conversation between the agent and one job process: framed JSON over an inherited socket, never argv or
//! environment. The first message is the whole request, secrets included; the socket's end is the other side's death.

use std::path::PathBuf;

use inshore_trust::{CertificateChain, JobSigner, PublicKey, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::outcome::Outcome;
use super::spec::{JobSpec, ProgressFrame};
use crate::connector::sdk::environment::Index;
use crate::report::Labels;
use crate::sandbox::Tools;

/// One message is at most this large; a configuration of 100 keys is far below.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// The variables of the agent's own environment that go on to installers, and of which connectors see the proxies,
/// certificates and the time zone.
pub(super) const PASSED_ON: [&str; 26] = [
    "HOME",
    "LANG",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_CONFIG_FILE",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_FIND_LINKS",
    "UV_NATIVE_TLS",
    "UV_CONFIG_FILE",
];

/// Agent to job.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ToJob {
    Start { request: Box<Request> },
    Drain,
    Cancel,
}

/// Job to agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FromJob {
    Progress { progress: ProgressFrame },
    Outcome { outcome: Box<Outcome> },
}

/// Everything a job needs. Holds opened secrets: no `Debug`, never logged.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) spec: JobSpec,
    pub(crate) agent_id: String,
    /// The connector's configuration in clear.
    pub(crate) configuration: Vec<(String, String)>,
    /// Variables of the connector's environment that the connection declares and the policy allows, in clear.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) signer: Signer,
    pub(crate) root: PublicKey,
    pub(crate) policy_file: PathBuf,
    pub(crate) package_file: PathBuf,
    /// Where environments are cached.
    pub(crate) cache_dir: PathBuf,
    /// Where the connection's own lines go.
    pub(crate) journal_file: PathBuf,
    /// This job's own folder, removed when it ends.
    pub(crate) scratch_dir: PathBuf,
    pub(crate) limits: Limits,
    /// What makes the connector's sandbox.
    pub(crate) tools: Tools,
    /// The SDK's Python packages and native module.
    pub(crate) sdk_dir: PathBuf,
    /// Where interpreters and tools are looked for.
    pub(crate) search_path: String,
    /// Where packages come from, credentials in clear.
    pub(crate) index: Index,
    /// Keys the hashes that stand for table names.
    pub(crate) label_key: [u8; 32],
    /// The secret of hashed columns, where the connection has any.
    pub(crate) hash_salt: Option<[u8; 32]>,
    /// The policy opens the names of tables.
    pub(crate) names_open: bool,
}

impl Request {
    /// How tables are named upward.
    pub(crate) fn labels(&self) -> Labels {
        if self.names_open { Labels::Names } else { Labels::Hashed { key: self.label_key } }
    }
}

/// This job's own signing key, and the certificates that lead from it to the pinned root.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signer {
    seed: [u8; 32],
    chain: CertificateChain,
}

impl Signer {
    pub(crate) fn new(signer: &JobSigner) -> Self {
        Self { seed: *signer.key().to_secret_bytes(), chain: signer.chain().clone() }
    }

    pub(crate) fn signer(&self) -> JobSigner {
        JobSigner::from_parts(SigningKey::from_bytes(&self.seed), self.chain.clone())
    }
}

/// Bounds of one job, from the policy and the agent's own settings.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) batch_memory_bytes_max: u64,
    pub(crate) connector_memory_bytes_max: u64,
    pub(crate) spool_bytes_max: u64,
    pub(crate) environments_bytes_max: u64,
}

/// Why the conversation ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("talk to the other process")]
    Io(#[from] std::io::Error),
    #[error("message of {0} bytes is above the cap")]
    TooLarge(u32),
    #[error("message does not fit its type")]
    Malformed,
}

/// Sends one message.
pub(crate) async fn send<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), Error> {
    // A request holds opened secrets.
    let body = Zeroizing::new(serde_json::to_vec(message).map_err(|_| Error::Malformed)?);
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or(Error::TooLarge(u32::MAX))?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(&body).await?;
    Ok(stream.flush().await?)
}

/// Receives one message; `None` once the other side has closed. Not cancel-safe: owned by one reading task.
pub(crate) async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>, Error> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = u32::from_le_bytes(length);
    if length > MESSAGE_BYTES_MAX {
        return Err(Error::TooLarge(length));
    }
    let mut body = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| Error::TooLarge(length))?]);
    stream.read_exact(&mut body).await?;
    // The error's text could quote a value: it is dropped.
    serde_json::from_slice(&body).map(Some).map_err(|_| Error::Malformed)
}

#[cfg(test)]
mod tests {
    use super::{Error, ToJob, receive, send};

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_seen() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let sender = crate::tasks::spawn("sender", async move {
            send(&mut near, &ToJob::Drain).await.expect("sends");
            send(&mut near, &ToJob::Cancel).await.expect("sends");
        });
        assert!(matches!(receive(&mut far).await, Ok(Some(ToJob::Drain))));
        assert!(matches!(receive(&mut far).await, Ok(Some(ToJob::Cancel))));
        assert!(matches!(receive::<ToJob>(&mut far).await, Ok(None)));
        sender.await.expect("joins");
    }

    #[tokio::test]
    async fn a_message_above_the_cap_is_refused_before_it_is_read() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0x7f, 0, 0];
        assert!(matches!(receive::<ToJob>(&mut bytes).await, Err(Error::TooLarge(_))));
    }
}
