//! Where things are on this host and whose they are: the control plane's address, the SDK beside the executable,
//! interpreters, the policy's owner, scratch folders that a crash left.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inshore_config::{AgentConfig, ChannelConfig, LogConfig, SecretError, SecretRef};
use inshore_protocol::Version;
use sha2::{Digest, Sha256};

use crate::channel::DialSettings;
use crate::channel::dial::ProxySettings;

/// What the names of scratch folders begin with.
const SCRATCH: &str = "inshore-job-";

/// How the control plane is reached; the config's own address wins over the join token's.
pub(crate) fn dial_settings(config: &AgentConfig, url: &str) -> Result<DialSettings, SecretError> {
    let channel = &config.channel;
    Ok(DialSettings {
        url: channel.url.clone().unwrap_or_else(|| url.to_owned()),
        tls_ca_file: channel.tls_ca_file.as_ref().map(|path| path.as_path().to_owned()),
        proxy: proxy(channel)?,
    })
}

/// The proxy on the way to the control plane, its credentials resolved.
pub(crate) fn proxy(channel: &ChannelConfig) -> Result<Option<ProxySettings>, SecretError> {
    let Some(url) = channel.proxy.clone() else { return Ok(None) };
    let credentials = channel.proxy_credentials.as_ref().map(SecretRef::resolve).transpose()?;
    Ok(Some(ProxySettings { url, credentials: credentials.map(|secret| secret.expose().to_owned().into()) }))
}

/// This build's version, as numbers.
pub(crate) fn version() -> Version {
    let mut parts = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    Version { major: next(), minor: next(), patch: next() }
}

/// Whether this process could change a file that is to bind it: so on a developer's machine, never on an installed one.
pub(crate) fn is_our_own(path: &Path) -> bool {
    let user = rustix::process::geteuid();
    let owner = std::fs::metadata(path).map(|metadata| metadata.uid());
    !user.is_root() && owner.is_ok_and(|owner| owner == user.as_raw())
}

/// A job logs as its agent does.
pub(crate) fn job_arguments(log: &LogConfig) -> Vec<OsString> {
    let log = serde_json::to_string(log).expect("plain structs always serialise");
    ["job", "--log", &log].map(OsString::from).to_vec()
}

/// `../lib/inshore/sdk` beside the folder of the real executable.
pub(crate) fn sdk_dir(executable: &Path) -> PathBuf {
    let prefix = executable.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    prefix.join("lib/inshore/sdk")
}

/// Folders of the configured interpreters first, then the usual ones.
pub(crate) fn search_path(config: &AgentConfig) -> String {
    let configured = config.python.interpreters.iter().filter_map(|path| path.as_path().parent());
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(Path::new);
    let folders = configured.chain(usual).map(|folder| folder.display().to_string());
    folders.collect::<Vec<_>>().join(":")
}

/// Short: a connector's HOME lies below, and the sockets that its programs put there have 107 bytes for their path.
pub(crate) fn scratch_name(job_id: &str, generation: u64) -> String {
    let mut digest = hex::encode(Sha256::digest(job_id));
    digest.truncate(16);
    format!("{SCRATCH}{digest}-{generation}")
}

/// Removes scratch folders of jobs that a crash left behind; what they held is ciphertext or can be made again. Nothing
/// else in the folder is ours to remove: somebody may have named a folder that holds more.
pub(crate) fn empty(spool: &Path) {
    let left = std::fs::read_dir(spool).into_iter().flatten().flatten();
    for entry in left.filter(|entry| entry.file_name().to_string_lossy().starts_with(SCRATCH)) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "an old scratch folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_scratch_folders_of_jobs_are_removed_from_the_spool() {
        let spool = tempfile::tempdir().expect("a folder");
        let scratch = super::scratch_name("01a1ff01-f7d8-719e-ada8-8e43572f9a98", 99_999);
        let socket = format!("/var/lib/inshore/spool/{scratch}/home/.gnupg/S.gpg-agent.browser");
        assert!(scratch.starts_with(super::SCRATCH) && socket.len() <= 107, "{socket}");
        for name in ["inshore-job-0190-1", "photos"] {
            std::fs::create_dir(spool.path().join(name)).expect("a folder");
        }
        super::empty(spool.path());
        assert!(!spool.path().join("inshore-job-0190-1").exists());
        assert!(spool.path().join("photos").is_dir());
    }
}
