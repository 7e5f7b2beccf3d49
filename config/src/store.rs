//! How this host reaches an object store: the options beside a listed destination's address. They belong to the host: a
//! control plane can neither read nor change them. Secrets stand here by reference only.
//!
//! Each store has a table of its own (`s3`, `gcs`, `azure`), and `network` is for all of them. Which way to log in is said,
//! never guessed: exactly one of those a store knows.

use serde::{Deserialize, Deserializer, de};

use crate::secret_ref::SecretRef;
use crate::unit::AbsolutePath;

/// Options of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreOptions {
    pub store: Option<Login>,
    pub network: Box<NetworkOptions>,
}

/// The store's own part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    S3(Box<S3Options>),
    Gcs(Box<GcsOptions>),
    Azure(Box<AzureOptions>),
}

/// The way to the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkOptions {
    /// `http://host:port` of an HTTP CONNECT proxy.
    pub proxy: Option<HttpUrl>,
    /// `user:password` for the proxy.
    pub proxy_credentials: Option<HeldSecret>,
    /// Hosts, `.suffixes` and address ranges that are reached without it.
    pub no_proxy: Vec<String>,
    /// PEM certificates that are trusted beside the system's.
    pub ca_file: Option<AbsolutePath>,
}

/// Amazon S3, and stores that speak its language.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Options {
    pub region: Option<String>,
    pub endpoint: Option<HttpUrl>,
    /// The bucket stands in the path instead of the host's name. Default: where an endpoint is set.
    pub path_style: Option<bool>,
    pub access_key_id: Option<HeldSecret>,
    pub secret_access_key: Option<HeldSecret>,
    pub session_token: Option<HeldSecret>,
    /// A section of a shared credentials file.
    pub profile: Option<String>,
    pub profile_file: Option<AbsolutePath>,
    pub web_identity_token_file: Option<AbsolutePath>,
    /// The role of the web identity.
    pub role_arn: Option<String>,
    /// The role of the machine, asked at its metadata address.
    pub instance_role: bool,
    /// `http://169.254.169.254` where it is not elsewhere.
    pub metadata_endpoint: Option<HttpUrl>,
    /// A role that is taken on with whatever logged in above.
    pub assume_role_arn: Option<String>,
    pub assume_role_external_id: Option<String>,
    pub assume_role_session_name: Option<String>,
    pub sts_endpoint: Option<HttpUrl>,
    pub server_side_encryption: Option<Encryption>,
    pub kms_key_id: Option<String>,
    /// A checksum that the store verifies, sent with every write.
    pub request_checksum: Option<RequestChecksum>,
}

/// Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GcsOptions {
    /// The JSON key of a service account.
    pub service_account: Option<HeldSecret>,
    /// The identity of the machine or workload, asked at the metadata server.
    pub workload_identity: bool,
    pub endpoint: Option<HttpUrl>,
}

/// Azure Blob Storage and Data Lake Storage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureOptions {
    /// The storage account; an `abfss://` address names it.
    pub account: Option<String>,
    pub account_key: Option<HeldSecret>,
    pub sas_token: Option<HeldSecret>,
    pub managed_identity: bool,
    pub client_id: Option<String>,
    pub tenant_id: Option<String>,
    pub workload_identity_token_file: Option<AbsolutePath>,
    pub endpoint: Option<HttpUrl>,
    /// Where tokens come from, in other clouds than the public one.
    pub authority_host: Option<HttpUrl>,
    /// `http://169.254.169.254/metadata/identity/oauth2/token` where it is not elsewhere.
    pub metadata_endpoint: Option<HttpUrl>,
}

/// What the store encrypts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Encryption {
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "aws:kms")]
    Kms,
}

/// Which checksum goes with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestChecksum {
    Sha256,
    Crc64nvme,
}

/// `https://host[:port]` or `http://…`, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(String);

/// A reference that a job can resolve: a job does not see the agent's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSecret(SecretRef);

impl HttpUrl {
    /// The address, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HeldSecret {
    /// The reference.
    #[must_use]
    pub fn reference(&self) -> &SecretRef {
        &self.0
    }
}

/// The tables of a listed destination, as they stand in the file.
pub(crate) struct Tables {
    pub(crate) s3: Option<S3Options>,
    pub(crate) gcs: Option<GcsOptions>,
    pub(crate) azure: Option<AzureOptions>,
    pub(crate) network: NetworkOptions,
}

impl StoreOptions {
    /// Options that fit the address and each other. The error is a sentence for the file's reader.
    pub(crate) fn check(uri: &str, tables: Tables) -> Result<Self, String> {
        let scheme = uri.split("://").next().unwrap_or_default();
        let belongs = |table: &str, wanted: &[&str]| match wanted.contains(&scheme) {
            true => Ok(()),
            false => Err(format!("the table `{table}` does not belong to {uri}")),
        };
        let mut login = None;
        if let Some(s3) = tables.s3 {
            belongs("s3", &["s3"])?;
            s3.check()?;
            login = Some(Login::S3(Box::new(s3)));
        }
        if let Some(gcs) = tables.gcs {
            belongs("gcs", &["gs"])?;
            one_way("gcs", &[("service_account", gcs.service_account.is_some()), gcs.workload()])?;
            login = Some(Login::Gcs(Box::new(gcs)));
        }
        if let Some(azure) = tables.azure {
            belongs("azure", &["az", "abfss"])?;
            azure.check(scheme)?;
            login = Some(Login::Azure(Box::new(azure)));
        }
        match (scheme, &login) {
            ("file", _) if tables.network != NetworkOptions::default() => {
                Err(format!("the table `network` does not belong to {uri}"))
            }
            ("s3", None) => Err(format!("{uri} needs a table `s3` that says how to log in")),
            ("gs", None) => Err(format!("{uri} needs a table `gcs` that says how to log in")),
            ("az" | "abfss", None) => Err(format!("{uri} needs a table `azure` that says how to log in")),
            _ => Ok(Self { store: login, network: Box::new(tables.network) }),
        }
    }
}

impl S3Options {
    fn check(&self) -> Result<(), String> {
        one_way(
            "s3",
            &[
                ("access_key_id", self.access_key_id.is_some()),
                ("profile", self.profile.is_some()),
                ("web_identity_token_file", self.web_identity_token_file.is_some()),
                ("instance_role", self.instance_role),
            ],
        )?;
        let needs = [
            ("access_key_id", self.access_key_id.is_some(), "secret_access_key", self.secret_access_key.is_some()),
            ("secret_access_key", self.secret_access_key.is_some(), "access_key_id", self.access_key_id.is_some()),
            ("session_token", self.session_token.is_some(), "access_key_id", self.access_key_id.is_some()),
            ("profile_file", self.profile_file.is_some(), "profile", self.profile.is_some()),
            ("profile", self.profile.is_some(), "profile_file", self.profile_file.is_some()),
            ("web_identity_token_file", self.web_identity_token_file.is_some(), "role_arn", self.role_arn.is_some()),
            ("role_arn", self.role_arn.is_some(), "web_identity_token_file", self.web_identity_token_file.is_some()),
            ("assume_role_external_id", self.assume_role_external_id.is_some(), "assume_role_arn", self.assumes()),
            ("assume_role_session_name", self.assume_role_session_name.is_some(), "assume_role_arn", self.assumes()),
            ("a store without `endpoint`", self.endpoint.is_none(), "region", self.region.is_some()),
        ];
        for (one, is_set, other, has_other) in needs {
            if is_set && !has_other {
                return Err(format!("`s3`: {one} needs {other} beside it"));
            }
        }
        if self.kms_key_id.is_some() && self.server_side_encryption != Some(Encryption::Kms) {
            return Err("`s3`: kms_key_id needs server_side_encryption = \"aws:kms\" beside it".to_owned());
        }
        Ok(())
    }

    fn assumes(&self) -> bool {
        self.assume_role_arn.is_some()
    }
}

impl GcsOptions {
    fn workload(&self) -> (&'static str, bool) {
        ("workload_identity", self.workload_identity)
    }
}

impl AzureOptions {
    fn check(&self, scheme: &str) -> Result<(), String> {
        let token_file = self.workload_identity_token_file.is_some();
        one_way(
            "azure",
            &[
                ("account_key", self.account_key.is_some()),
                ("sas_token", self.sas_token.is_some()),
                ("managed_identity", self.managed_identity),
                ("workload_identity_token_file", token_file),
            ],
        )?;
        match (scheme, &self.account) {
            ("az", None) => return Err("`azure`: an az:// address needs account beside it".to_owned()),
            ("abfss", Some(_)) => return Err("`azure`: an abfss:// address names the account itself".to_owned()),
            _ => {}
        }
        if token_file && (self.client_id.is_none() || self.tenant_id.is_none()) {
            return Err("`azure`: workload_identity_token_file needs client_id and tenant_id beside it".to_owned());
        }
        Ok(())
    }
}

/// Exactly one way to log in.
fn one_way(table: &str, ways: &[(&str, bool)]) -> Result<(), String> {
    let names = |chosen: bool| {
        let names: Vec<&str> = ways.iter().filter(|(_, is_set)| !chosen || *is_set).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    match ways.iter().filter(|(_, is_set)| *is_set).count() {
        1 => Ok(()),
        0 => Err(format!("`{table}` does not say how to log in; set one of {}", names(false))),
        _ => Err(format!("`{table}` says more than one way to log in: {}", names(true))),
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
        let is_plain = !host.is_empty() && !host.starts_with('/') && !host.contains(['@', '?', '#', ' ']);
        // The text may hold a password: it is not repeated.
        let hint = "write https://host or http://host, with a port where it needs one and without credentials";
        if is_plain { Ok(Self(text.trim_end_matches('/').to_owned())) } else { Err(de::Error::custom(hint)) }
    }
}

impl<'de> Deserialize<'de> for HeldSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reference = SecretRef::deserialize(deserializer)?;
        match reference {
            SecretRef::Env(_) => Err(de::Error::custom(
                "a job does not see the agent's environment: write ${file:/absolute/path} or ${cred:NAME}",
            )),
            reference => Ok(Self(reference)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Policy;

    fn parse(uri: &str, tables: &str) -> Result<Policy, crate::Error> {
        let text = format!("[[destinations]]\nkind = \"inshore_files\"\nuri = \"{uri}\"\n{tables}");
        Policy::parse(Path::new("/etc/inshore/policy.toml"), &text)
    }

    const KEYS: &str = "access_key_id = \"${file:/k/id}\"\nsecret_access_key = \"${cred:secret}\"\n";

    #[test]
    fn each_store_says_one_way_to_log_in() {
        let s3 = "[destinations.s3]\nregion = \"eu-central-1\"\n";
        for (uri, tables) in [
            ("s3://b/p", format!("{s3}{KEYS}")),
            ("s3://b/p", format!("{s3}{KEYS}session_token = \"${{cred:token}}\"\nassume_role_arn = \"arn:x\"")),
            ("s3://b/p", format!("{s3}profile = \"lake\"\nprofile_file = \"/etc/inshore/aws\"")),
            ("s3://b/p", format!("{s3}web_identity_token_file = \"/t\"\nrole_arn = \"arn:x\"")),
            ("s3://b/p", format!("{s3}instance_role = true\nserver_side_encryption = \"aws:kms\"\nkms_key_id = \"k\"")),
            ("gs://b", "[destinations.gcs]\nworkload_identity = true".to_owned()),
            ("gs://b", "[destinations.gcs]\nservice_account = \"${file:/k.json}\"".to_owned()),
            ("az://c/p", "[destinations.azure]\naccount = \"acc\"\naccount_key = \"${file:/k}\"".to_owned()),
            ("abfss://c@acc.dfs.core.windows.net/p", "[destinations.azure]\nmanaged_identity = true".to_owned()),
            ("file:///lake", String::new()),
        ] {
            parse(uri, &tables).unwrap_or_else(|error| panic!("{uri}\n{tables}\n{error}"));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        let s3 = "[destinations.s3]\nregion = \"eu\"\n";
        for (uri, tables, code, part) in [
            ("s3://b", String::new(), "CFG-005", "needs a table `s3` that says how to log in"),
            (
                "s3://b",
                s3.to_owned(),
                "CFG-005",
                "set one of access_key_id, profile, web_identity_token_file, instance_role",
            ),
            (
                "s3://b",
                format!("{s3}{KEYS}instance_role = true"),
                "CFG-005",
                "more than one way to log in: access_key_id, instance_role",
            ),
            (
                "s3://b",
                format!("{s3}access_key_id = \"${{file:/k}}\""),
                "CFG-005",
                "access_key_id needs secret_access_key beside it",
            ),
            (
                "s3://b",
                format!("[destinations.s3]\n{KEYS}"),
                "CFG-005",
                "a store without `endpoint` needs region beside it",
            ),
            ("s3://b", format!("{s3}{KEYS}kms_key_id = \"k\""), "CFG-005", "kms_key_id needs server_side_encryption"),
            ("s3://b", format!("{s3}secret_access_key = \"hunter2\""), "CFG-005", "read a secret reference"),
            (
                "s3://b",
                format!("{s3}secret_access_key = \"${{env:KEY}}\""),
                "CFG-005",
                "does not see the agent's environment",
            ),
            ("s3://b", format!("{s3}endpoint = \"https://me:hunter2@host\""), "CFG-005", "without credentials"),
            ("s3://b", "[destinations.s3]\nregoin = \"eu\"".to_owned(), "CFG-006", "did you mean `region`?"),
            (
                "s3://b",
                format!("{s3}{KEYS}[destinations.network]\nca_flie = \"/x\""),
                "CFG-006",
                "did you mean `ca_file`?",
            ),
            ("file:///b", format!("{s3}{KEYS}"), "CFG-005", "the table `s3` does not belong to file:///b"),
            (
                "file:///b",
                "[destinations.network]\nca_file = \"/x\"".to_owned(),
                "CFG-005",
                "`network` does not belong",
            ),
            (
                "az://c",
                "[destinations.azure]\nmanaged_identity = true".to_owned(),
                "CFG-005",
                "needs account beside it",
            ),
            ("gs://b", "[destinations.gcs]\n".to_owned(), "CFG-005", "set one of service_account, workload_identity"),
            ("ftp://b", String::new(), "CFG-005", "is no address of a store"),
        ] {
            let error = parse(uri, &tables).expect_err(&tables);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
