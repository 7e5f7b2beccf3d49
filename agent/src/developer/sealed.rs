//! Configuration values that lie encrypted on a developer's disk: `fivetran_encrypted:` and base64 of
//! nonce ‖ ciphertext ‖ tag, AES-256-GCM over the value with its key's name beside it (SDK_CONTRACT §18). The key of
//! this user is in `~/.fivetran/connector_sdk/config_encryption_key`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const PREFIX: &str = "fivetran_encrypted:";
/// Written by another tool, whose keys are not ours to look for.
const FOREIGN: (&str, &str) = ("ENCRYPTED:", ":local-fernet:");
const KEY_BYTES: usize = 32;
const KEY_FILE: &str = ".fivetran/connector_sdk/config_encryption_key";

/// Why a value stays closed. None of these texts holds a value or a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the value of `{field}` is encrypted, and no home folder is known that could hold the key")]
    NoHome { field: String },
    #[error("the value of `{field}` is encrypted, and its key {} cannot be read", path.display())]
    KeyUnreadable {
        field: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("make the key {}", path.display())]
    KeyUnwritable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} holds no key of 32 bytes in base64", path.display())]
    KeyMalformed { path: PathBuf },
    #[error("the value of `{field}` does not open with the key {}: it was encrypted by somebody else, under another name, or altered", path.display())]
    Refused { field: String, path: PathBuf },
    #[error(
        "the value of `{field}` is encrypted by connector_sdk_tools (local-fernet), which is not supported: write it plainly, or encrypt it with `inshore configuration`"
    )]
    Foreign { field: String },
}

/// Opens every value that is encrypted, in place.
pub(crate) fn open(configuration: &mut BTreeMap<String, String>, home: Option<&Path>) -> Result<(), Error> {
    let mut key = None;
    for (field, value) in configuration {
        if value.strip_prefix(FOREIGN.0).is_some_and(|rest| rest.contains(FOREIGN.1)) {
            return Err(Error::Foreign { field: field.clone() });
        }
        let Some(sealed) = value.strip_prefix(PREFIX) else { continue };
        let path = home.ok_or_else(|| Error::NoHome { field: field.clone() })?.join(KEY_FILE);
        let key = match &key {
            Some(key) => key,
            None => key.insert(read_key(&path, field)?),
        };
        let opened = open_one(key, field, sealed);
        *value = opened.ok_or_else(|| Error::Refused { field: field.clone(), path: path.clone() })?;
    }
    Ok(())
}

/// Closes a value with this user's key, which is made where there is none.
pub(crate) fn seal(field: &str, value: &str, home: Option<&Path>) -> Result<String, Error> {
    let path = home.ok_or_else(|| Error::NoHome { field: field.to_owned() })?.join(KEY_FILE);
    if !path.exists() {
        make_key(&path).map_err(|source| Error::KeyUnwritable { path: path.clone(), source })?;
    }
    let key = read_key(&path, field)?;
    let nonce = inshore_trust::random_bytes::<NONCE_LEN>();
    let mut sealed = value.as_bytes().to_vec();
    let closed =
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(field.as_bytes()), &mut sealed);
    closed.map_err(|_| Error::KeyMalformed { path })?;
    Ok(format!("{PREFIX}{}", STANDARD.encode([&nonce[..], &sealed].concat())))
}

fn make_key(path: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(STANDARD.encode(inshore_trust::random_bytes::<KEY_BYTES>()).as_bytes())
}

fn read_key(path: &Path, field: &str) -> Result<LessSafeKey, Error> {
    let unreadable = |source| Error::KeyUnreadable { field: field.to_owned(), path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let bytes = decoded(text.trim()).and_then(|bytes| UnboundKey::new(&AES_256_GCM, &bytes).ok());
    bytes.map(LessSafeKey::new).ok_or_else(|| Error::KeyMalformed { path: path.to_owned() })
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

fn open_one(key: &LessSafeKey, field: &str, sealed: &str) -> Option<String> {
    let mut bytes = decoded(sealed)?;
    let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let text = key.open_in_place(nonce, Aad::from(field.as_bytes()), sealed).ok()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's `cryptography`: AESGCM(bytes(range(32))).encrypt(bytes(12), b"s3cret", b"api_key").
    const SEALED: &str = "fivetran_encrypted:AAAAAAAAAAAAAAAAfY/WrNBY2Vs+/lB6nDJdQFpTwKocvA==";

    fn home(key: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(KEY_FILE);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, key).expect("a file");
        home
    }

    fn opened(home: Option<&Path>, field: &str, value: &str) -> Result<String, Error> {
        let mut configuration = BTreeMap::from([(field.to_owned(), value.to_owned())]);
        open(&mut configuration, home)?;
        Ok(configuration.remove(field).expect("the field stays"))
    }

    #[test]
    fn a_value_opens_with_its_own_key_and_name_only() {
        let right = home(&format!("{}\n", STANDARD.encode((0..32).collect::<Vec<u8>>())));
        assert_eq!(opened(Some(right.path()), "api_key", SEALED).expect("opens"), "s3cret");
        assert_eq!(opened(None, "api_key", "plain").expect("plain"), "plain");
        let wrong = home(&STANDARD.encode([7; 32]));
        let short = home(&STANDARD.encode([7; 16]));
        let altered = SEALED.replace("AAAA", "AAAB");
        let cases = [
            (Some(right.path()), "other", SEALED, "does not open"),
            (Some(right.path()), "api_key", altered.as_str(), "does not open"),
            (Some(right.path()), "api_key", "fivetran_encrypted:AA==", "does not open"),
            (Some(wrong.path()), "api_key", SEALED, "does not open"),
            (Some(short.path()), "api_key", SEALED, "no key of 32 bytes"),
            (Some(Path::new("/nonexistent")), "api_key", SEALED, "cannot be read"),
            (None, "api_key", SEALED, "no home folder"),
            (Some(right.path()), "api_key", "ENCRYPTED:v1:k1:local-fernet:gAAAA", "local-fernet"),
        ];
        for (home, field, value, words) in cases {
            let error = opened(home, field, value).expect_err(words).to_string();
            assert!(
                error.contains(words) && error.contains(if words.contains("32") { "config" } else { field }),
                "{error}"
            );
            assert!(!error.contains("s3cret"));
        }
    }
}
