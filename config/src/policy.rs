//! `policy.toml`: what this host allows, whatever a control plane asks for. Pure checks over a parsed file; the lowest
//! process asks them again. A refusal tells the control plane a reason code only.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, de};

use crate::egress::Egress;
use crate::error::{Error, FileKind};
use crate::file;
use crate::secret_ref::{SecretPattern, SecretRef};
use crate::store::{AzureOptions, GcsOptions, NetworkOptions, S3Options, StoreOptions, Tables};
use crate::unit::{AbsolutePath, ByteSize};
use crate::uri;

/// Group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The whole file. Defaults allow nothing to leave and no connector to run; see `config/policy.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub mode: Mode,
    pub destinations: Vec<ListedDestination>,
    pub connectors: Connectors,
    connector_digests: Vec<Digest>,
    secret_references: Vec<SecretPattern>,
    environment_variables: Vec<VariablePattern>,
    pub allow_unsandboxed: bool,
    /// Whether a connector's requirements may be built from source, which runs their code on this host.
    pub allow_source_builds: bool,
    pub sandbox: SandboxPolicy,
    pub telemetry: Telemetry,
    pub logs: Logs,
    pub resources: Resources,
}

/// Who decides what may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Managed,
    Locked,
}

/// Which connector packages may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connectors {
    #[default]
    Listed,
    Signed,
    Any,
}

/// A place rows may land in, and how this host reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "DestinationTables")]
pub struct ListedDestination {
    pub kind: String,
    uri: ListedUri,
    /// Where the salt of hashed columns is kept on this host.
    hash_salt: Option<SecretRef>,
    pub options: StoreOptions,
}

/// The same as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationTables {
    kind: String,
    uri: ListedUri,
    hash_salt: Option<SecretRef>,
    s3: Option<S3Options>,
    gcs: Option<GcsOptions>,
    azure: Option<AzureOptions>,
    #[serde(default)]
    network: NetworkOptions,
}

/// What connectors may do in their sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxPolicy {
    /// Where connectors may connect.
    pub egress: Egress,
    /// Folders of this host that connectors see, read-only, beside the system's own.
    pub read_only: Vec<AbsolutePath>,
    /// Whether connectors may have memory that is writable and executable at once.
    pub allow_writable_code: bool,
    /// Processes and threads of one connector together.
    pub processes_max: u32,
    /// What a connector's own files (HOME, /tmp) may take together.
    pub scratch_bytes_max: ByteSize,
}

/// What may be sent up beyond counters, enums, ids and hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    pub schema_names: bool,
    pub connector_logs: bool,
    pub state: bool,
}

/// Where the lines of connectors go beside their journal on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Whether syncs write them to the table `inshore_log.connector_sdk_log` of the destination.
    pub connector_sdk_log: bool,
}

/// Caps on everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Memory of one job's own process.
    pub memory_bytes_max: ByteSize,
    /// Memory of all processes of one connector together.
    pub connector_memory_bytes_max: ByteSize,
    /// Memory of all connectors together, in percent of the host's: what is kept for running ones must fit.
    pub connectors_memory_percent: u32,
    /// Jobs at one time.
    pub jobs_max: u32,
    /// Spool of all jobs together.
    pub spool_bytes_max: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedUri(String);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Digest(String);

/// The name of a variable; a trailing `*` stands for every end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VariablePattern(String);

impl Policy {
    /// Reads the file at `path`. What binds the agent must not be for others to write.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let policy = file::load(FileKind::Policy, path)?;
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(Error::WritableByOthers { file: FileKind::Policy, path: path.to_owned(), mode });
        }
        Ok(policy)
    }

    /// Parses a text; `path` is for messages only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        file::parse(FileKind::Policy, path, text)
    }

    /// Whether jobs may run without signatures. In `locked` mode they may not, and signatures do not exist yet.
    #[must_use]
    pub fn allows_unapproved_jobs(&self) -> bool {
        self.mode == Mode::Managed
    }

    /// Whether rows may land at `uri`. Lexical: the destination itself must not follow links out of its root.
    #[must_use]
    pub fn allows_destination(&self, kind: &str, uri: &str) -> bool {
        self.destination(kind, uri).is_some()
    }

    /// The listing that covers `uri`: the closest one where several do, for its options.
    #[must_use]
    pub fn destination(&self, kind: &str, uri: &str) -> Option<&ListedDestination> {
        let covers = |listed: &&ListedDestination| listed.kind == kind && uri::lies_under(uri, &listed.uri.0);
        self.destinations.iter().filter(covers).max_by_key(|listed| listed.uri.0.trim_end_matches('/').len())
    }

    /// Where the salt of a destination's hashed columns is: of the closest listing that has one.
    #[must_use]
    pub fn hash_salt(&self, kind: &str, uri: &str) -> Option<&SecretRef> {
        let covers = |listed: &&ListedDestination| listed.kind == kind && uri::lies_under(uri, &listed.uri.0);
        let listed = self.destinations.iter().filter(covers).filter(|listed| listed.hash_salt.is_some());
        listed.max_by_key(|listed| listed.uri.0.len())?.hash_salt.as_ref()
    }

    /// Whether the package with this SHA-256 (lower-case hexadecimal) may run.
    #[must_use]
    pub fn allows_connector(&self, digest: &str) -> bool {
        match self.connectors {
            Connectors::Any => true,
            Connectors::Listed | Connectors::Signed => self.connector_digests.iter().any(|listed| listed.0 == digest),
        }
    }

    /// Whether a reference that arrived through the control plane may be resolved here.
    #[must_use]
    pub fn allows_secret(&self, reference: &SecretRef) -> bool {
        self.secret_references.iter().any(|pattern| pattern.matches(reference))
    }

    /// Whether a connection may set this variable for its connector.
    #[must_use]
    pub fn allows_variable(&self, name: &str) -> bool {
        let covers = |VariablePattern(pattern): &VariablePattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        self.environment_variables.iter().any(covers)
    }
}

impl TryFrom<DestinationTables> for ListedDestination {
    type Error = String;

    fn try_from(tables: DestinationTables) -> Result<Self, String> {
        let DestinationTables { kind, uri, hash_salt, s3, gcs, azure, network } = tables;
        let options = StoreOptions::check(&uri.0, Tables { s3, gcs, azure, network })?;
        Ok(Self { kind, uri, hash_salt, options })
    }
}

impl ListedDestination {
    /// The URI that destinations must equal or lie below.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri.0
    }
}

impl Default for SandboxPolicy {
    fn default() -> Self {
        Self {
            egress: Egress::default(),
            read_only: Vec::new(),
            allow_writable_code: false,
            processes_max: 512,
            scratch_bytes_max: ByteSize(20 << 30),
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Self { connector_sdk_log: true }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory_bytes_max: ByteSize(256 << 20),
            connector_memory_bytes_max: ByteSize(4 << 30),
            connectors_memory_percent: 75,
            jobs_max: 4,
            spool_bytes_max: ByteSize(10 << 30),
        }
    }
}

impl<'de> Deserialize<'de> for ListedUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if uri::is_plain(&text) {
            match uri::is_known(&text) {
                true => Ok(Self(text)),
                false => Err(de::Error::custom(format!(
                    "`{text}` is no address of a store: file:///folder, s3://bucket/prefix, gs://bucket/prefix, \
                     az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix"
                ))),
            }
        } else {
            Err(de::Error::custom(format!(
                "`{text}` is not a plain URI such as file:///srv/lake or s3://bucket/prefix"
            )))
        }
    }
}

impl<'de> Deserialize<'de> for VariablePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = text.strip_suffix('*').unwrap_or(&text);
        if name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) && !text.is_empty() {
            Ok(Self(text))
        } else {
            Err(de::Error::custom(format!("`{text}` is no name of a variable; a `*` may stand at its end")))
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(de::Error::custom(format!("`{text}` is not a SHA-256 digest of 64 lower-case hexadecimal digits")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{known_keys, uncommented};

    const SAMPLE: &str = include_str!("../policy.toml");
    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn parse(text: &str) -> Result<Policy, Error> {
        Policy::parse(Path::new("/etc/inshore/policy.toml"), text)
    }

    #[test]
    fn the_sample_parses_to_the_defaults_and_holds_every_key() {
        assert_eq!(parse(SAMPLE).expect("sample"), Policy::default());
        let full = uncommented(SAMPLE);
        let shown = parse(&full).expect("sample with every key set");
        assert_eq!((shown.resources, shown.telemetry), (Resources::default(), Telemetry::default()));
        assert_eq!(shown.logs, Logs { connector_sdk_log: true });
        assert_eq!((shown.sandbox.processes_max, shown.sandbox.allow_writable_code), (512, false));
        assert!(shown.allows_connector(DIGEST) && shown.allows_destination("inshore_files", "file:///srv/lake/a"));
        for table in ["", "sandbox", "telemetry", "logs", "resources"] {
            for key in known_keys::<Policy>(table) {
                let found =
                    full.lines().any(|line| line.starts_with(&format!("{key} =")) || line == format!("[{key}]"));
                assert!(found, "config/policy.toml does not mention {table}.{key}");
            }
        }
    }

    #[test]
    fn the_sample_holds_every_key_of_an_object_store() {
        let tables = [
            ("s3", known_keys::<S3Options>("")),
            ("gcs", known_keys::<GcsOptions>("")),
            ("azure", known_keys::<AzureOptions>("")),
            ("network", known_keys::<NetworkOptions>("")),
        ];
        for (table, keys) in tables {
            let (_, rest) = SAMPLE.split_once(&format!("# [destinations.{table}]")).expect(table);
            let block = rest.split("# [destinations.").next().unwrap_or_default();
            for key in keys {
                let found = block.lines().any(|line| line.starts_with(&format!("# {key} = ")));
                assert!(found, "config/policy.toml does not mention {table}.{key}");
            }
        }
    }

    #[test]
    fn a_policy_that_others_can_write_binds_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "").expect("a file");
        for (mode, code) in [(0o644, None), (0o600, None), (0o664, Some("CFG-005")), (0o646, Some("CFG-005"))] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("a mode");
            assert_eq!(Policy::load(&path).err().map(|error| error.code()), code, "{mode:o}");
        }
    }

    #[test]
    fn nothing_is_allowed_until_it_is_written_down() {
        let policy = Policy::default();
        assert!(!policy.allows_destination("inshore_files", "file:///srv/lake"));
        assert!(!policy.allows_connector(DIGEST));
        assert!(!policy.allows_secret(&SecretRef::parse("${file:/etc/passwd}").expect("reference")));
        assert!(!policy.allow_unsandboxed && !policy.allow_source_builds);
    }

    #[test]
    fn lists_decide_by_kind_path_and_digest() {
        let policy = parse(concat!(
            "destinations = [{ kind = \"inshore_files\", uri = \"file:///lake\" }]\n",
            "connectors = \"signed\"\nsecret_references = [\"${file:/secrets/*}\"]\n",
        ))
        .expect("policy");
        assert!(policy.allows_destination("inshore_files", "file:///lake/shop"));
        assert!(!policy.allows_destination("postgres", "file:///lake/shop"));
        assert!(!policy.allows_destination("inshore_files", "file:///lake2"));
        assert!(!policy.allows_destination("inshore_files", "file:///lake/../etc"));
        assert!(!policy.allows_connector(DIGEST), "signed does not mean any");
        assert!(parse("connectors = \"any\"").expect("policy").allows_connector(DIGEST));
        assert!(parse("mode = \"managed\"").expect("policy").allows_unapproved_jobs());
        assert!(!parse("mode = \"locked\"").expect("policy").allows_unapproved_jobs());
        for (reference, allowed) in [
            ("${file:/secrets/a}", true),
            ("${file:/secrets/a/b}", false),
            ("${file:/secrets/..}", false),
            ("${file:/secrets/}", false),
            ("${env:HOME}", false),
        ] {
            let allows = SecretRef::parse(reference).is_ok_and(|reference| policy.allows_secret(&reference));
            assert_eq!(allows, allowed, "{reference}");
        }
    }

    #[test]
    fn the_closest_listing_names_the_salt() {
        let policy = parse(concat!(
            "destinations = [{ kind = \"inshore_files\", uri = \"file:///lake\", hash_salt = \"${file:/secrets/lake}\" },\n",
            "{ kind = \"inshore_files\", uri = \"file:///lake/shop\", hash_salt = \"${cred:shop}\" },\n",
            "{ kind = \"inshore_files\", uri = \"file:///lake/shop/deep\" }, { kind = \"inshore_files\", uri = \"file:///b\" }]\n",
        ))
        .expect("policy");
        for (uri, expected) in [
            ("file:///lake", Some("${file:/secrets/lake}")),
            ("file:///lake/a", Some("${file:/secrets/lake}")),
            ("file:///lake/shop/deep/x", Some("${cred:shop}")),
            ("file:///b", None),
            ("file:///c", None),
        ] {
            let expected = expected.map(|text| SecretRef::parse(text).expect("a reference"));
            assert_eq!(policy.hash_salt("inshore_files", uri), expected.as_ref(), "{uri}");
        }
        assert!(parse("destinations = [{ kind = \"x\", uri = \"file:///\", hash_salt = \"abc\" }]").is_err());
    }

    #[test]
    fn errors_say_line_column_and_nearest_key() {
        for (text, code, part) in [
            ("conectors = \"any\"", "CFG-006", "line 1, column 1: unknown key `conectors`; did you mean `connectors`?"),
            ("[telemetry]\nstatus = true", "CFG-006", "line 2, column 1: unknown key `status`; did you mean `state`?"),
            ("destinations = [{ kind = \"x\", url = \"file:///\" }]", "CFG-006", "did you mean `uri`?"),
            ("destinations = [{ kind = \"x\", uri = \"/lake\" }]", "CFG-005", "`/lake` is not a plain URI"),
            ("connector_digests = [\"abc\"]", "CFG-005", "not a SHA-256 digest"),
            ("connectors = \"all\"", "CFG-005", "line 1, column 14"),
            ("mode = managed", "CFG-005", "line 1, column 8"),
            ("[sandbox]\negress = [\"db.example\"]", "CFG-005", "`db.example` is not an egress rule: it has no port"),
            ("[sandbox]\nprocess_max = 1", "CFG-006", "did you mean `processes_max`?"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(Policy::load(&folder.path().join("policy.toml")).expect_err("missing").code(), "CFG-004");
    }
}
