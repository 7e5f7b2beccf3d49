//! Where packages come from: this host's own index and wheels, or what the project says where the host says nothing.
//! Credentials reach the installers in a file of their own, never in arguments or variables.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::connector::Error;
use crate::connector::sdk::requirements::{Requirements, masked};

/// The host's settings. The default leaves the choice to the project and to the installers' own settings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    pub(crate) url: Option<String>,
    pub(crate) extra_urls: Vec<String>,
    /// A folder of wheels; without `url` it is the only source.
    pub(crate) wheel_house: Option<PathBuf>,
    pub(crate) credentials: Vec<Credentials>,
}

/// `user:password` for one host, of an index or of a repository.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    pub(crate) host: String,
    pub(crate) user_password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Files that tell installers the credentials; gone with this value.
pub(super) struct CredentialFiles {
    folder: tempfile::TempDir,
}

impl Index {
    /// No network beyond this host.
    pub(super) fn is_offline(&self) -> bool {
        self.wheel_house.is_some() && self.url.is_none()
    }

    /// A host with its own index takes packages from nowhere else, so that nobody can slip one in from outside.
    pub(super) fn admit(&self, requirements: &Requirements) -> Result<(), Error> {
        let is_own = self.url.is_some() || self.wheel_house.is_some();
        match requirements.index_options.first() {
            Some(option) if is_own => Err(Error::RequirementRefused {
                what: format!(
                    "the project asks for `{}`, and this host takes packages only from its own index: remove the line",
                    masked(option)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Options that `pip` and `uv pip` share.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut option = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            arguments.push(OsString::from(name));
            arguments.push(value.as_ref().to_owned());
        };
        if let Some(url) = &self.url {
            option("--index-url", url);
        }
        self.extra_urls.iter().for_each(|url| option("--extra-index-url", url));
        if let Some(folder) = &self.wheel_house {
            option("--find-links", folder);
        }
        if self.is_offline() {
            arguments.push("--no-index".into());
        }
        arguments
    }

    /// The credentials in the forms that installers and git read; `None` when there are none.
    pub(super) fn credential_files(&self) -> io::Result<Option<CredentialFiles>> {
        if self.credentials.is_empty() {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("inshore-index-").tempdir()?;
        let (mut netrc, mut git) = (String::new(), String::new());
        for one in &self.credentials {
            let (user, password) = one.user_password.split_once(':').unwrap_or((&one.user_password, ""));
            netrc.push_str(&format!("machine {}\nlogin {user}\npassword {password}\n", one.host));
            git.push_str(&format!("https://{}:{}@{}\n", encoded(user), encoded(password), one.host));
        }
        let files = CredentialFiles { folder };
        write_private(&files.netrc(), &netrc)?;
        write_private(&files.git(), &git)?;
        Ok(Some(files))
    }
}

impl CredentialFiles {
    fn netrc(&self) -> PathBuf {
        self.folder.path().join("netrc")
    }

    fn git(&self) -> PathBuf {
        self.folder.path().join("git")
    }

    /// Variables that name the files.
    pub(super) fn variables(&self) -> Vec<(String, OsString)> {
        let mut helper = OsString::from("store --file=");
        helper.push(self.git());
        [
            ("NETRC", self.netrc().into_os_string()),
            ("GIT_CONFIG_COUNT", "1".into()),
            ("GIT_CONFIG_KEY_0", "credential.helper".into()),
            ("GIT_CONFIG_VALUE_0", helper),
            ("GIT_TERMINAL_PROMPT", "0".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// For the user part of a URL.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with_credentials() -> Index {
        let credentials = Credentials { host: "index.example".to_owned(), user_password: "me:se@cret".to_owned() };
        Index {
            url: Some("https://index.example/simple".to_owned()),
            credentials: vec![credentials],
            ..Index::default()
        }
    }

    #[test]
    fn credentials_are_in_private_files_only() {
        let index = with_credentials();
        let files = index.credential_files().unwrap().unwrap();
        let netrc = std::fs::read_to_string(files.netrc()).unwrap();
        assert_eq!(netrc, "machine index.example\nlogin me\npassword se@cret\n");
        assert_eq!(std::fs::read_to_string(files.git()).unwrap(), "https://me:se%40cret@index.example\n");
        for path in [files.netrc(), files.git()] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let seen = format!("{:?} {:?} {index:?}", index.arguments(), files.variables());
        assert!(!seen.contains("cret"), "{seen}");
        let folder = files.folder.path().to_owned();
        drop(files);
        assert!(!folder.exists());
        assert!(Index::default().credential_files().unwrap().is_none());
    }

    #[test]
    fn wheels_alone_mean_no_network() {
        let mut index = Index { wheel_house: Some("/srv/wheels".into()), ..Index::default() };
        assert_eq!(index.arguments(), ["--find-links", "/srv/wheels", "--no-index"]);
        index.url = Some("https://index.example/simple".to_owned());
        assert!(!index.arguments().contains(&"--no-index".into()));
        assert!(Index::default().arguments().is_empty());
    }

    #[test]
    fn a_project_brings_no_index_to_a_host_with_its_own() {
        let own = Requirements { index_options: vec!["-i https://u:p@evil.example".to_owned()], ..Default::default() };
        assert!(Index::default().admit(&own).is_ok());
        let error = with_credentials().admit(&own).unwrap_err();
        assert_eq!(error.code(), "PKG-013");
        assert!(error.to_string().contains("***@evil.example"), "{error}");
        assert!(with_credentials().admit(&Requirements::default()).is_ok());
    }
}
