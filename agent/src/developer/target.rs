//! Where `inshore run` writes: `destination.json` of the project, or the file that a flag names. Variables of the
//! environment fill in what does not belong into a file. The chain there is signed with a key of this user.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inshore_config::Environment;
use inshore_trust::SigningKey;
use serde::Deserialize;
use url::Url;

use super::project::Project;
use super::unreadable::{Unreadable, read};

/// The one kind of destination of this release, spelt as the control plane does.
const SERVICE: &str = "inshore_files";
const FILE: &str = "destination.json";
const SCHEMA_BYTES_MAX: usize = 255;
/// Files of a project that hold values of their developer's own.
const PRIVATE: [&str; 2] = ["configuration.json", FILE];

/// Why nothing is written there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no destination: --destination-file names one, or {FILE} of the project is one; `inshore debug` needs none"
    )]
    None,
    #[error(transparent)]
    Read(#[from] Unreadable),
    #[error("{}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("make the key {}", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::None | Error::Malformed { .. } => "PKG-011",
            Error::Read(_) => Unreadable::CODE,
            Error::Key { .. } => "PKG-010",
        }
    }
}

/// A lake that is not the project's own.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) root: Url,
    /// The destination schema, and the connection's name.
    pub(crate) schema: String,
    pub(super) key: SigningKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    service: String,
    schema: Option<String>,
    config: Config,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    uri: String,
}

/// Reads the destination: of the flag, else of the project.
pub(crate) fn target(flag: Option<&Path>, project: &Project, environment: &Environment) -> Result<Target, Error> {
    let own = project.folder().join(FILE);
    let path = flag.map(Path::to_owned).or_else(|| own.exists().then_some(own)).ok_or(Error::None)?;
    let text = read(&path)?;
    let (root, schema) =
        parse(&text, project, environment).map_err(|what| Error::Malformed { path: path.clone(), what })?;
    Ok(Target { root, schema, key: own_key(environment)? })
}

fn parse(text: &str, project: &Project, environment: &Environment) -> Result<(Url, String), String> {
    // The parser's message shows no value.
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.service != SERVICE {
        return Err(format!("the service `{}` is not supported: `{SERVICE}` is, a folder of this host", file.service));
    }
    let uri = expanded(&file.config.uri, environment)?;
    let root = Url::parse(&uri).ok().filter(|url| url.scheme() == "file" && url.to_file_path().is_ok());
    let root = root.ok_or("`config.uri` must look like file:///srv/lake")?;
    let folder = project.folder().file_name().map(|name| name.to_string_lossy().to_lowercase().replace('-', "_"));
    let schema = match file.schema {
        Some(schema) => expanded(&schema, environment)?,
        None => folder.unwrap_or_default(),
    };
    if !is_schema(&schema) {
        return Err(format!("the schema `{schema}` must match ^[_a-z][_a-z0-9]*$: `schema` names one"));
    }
    Ok((root, schema))
}

fn is_schema(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte == b'_' || byte.is_ascii_lowercase())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && name.len() <= SCHEMA_BYTES_MAX
}

/// `${NAME}` and `${NAME:-default}` become what the environment holds; `$$` is one `$`.
fn expanded(text: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some((inside, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, value)| (name, Some(value)));
            let value = environment.get(name).or(default);
            out.push_str(value.ok_or_else(|| format!("the variable {name} is not set"))?);
            after
        } else {
            return Err("a `$` must be `${NAME}` or `$$`".to_owned());
        };
    }
    out.push_str(rest);
    Ok(out)
}

/// The key that this user's runs sign with, made by the first. Losing it means to begin a new chain elsewhere.
fn own_key(environment: &Environment) -> Result<SigningKey, Error> {
    let home = environment.get("HOME").map(|home| Path::new(home).join(".config"));
    let folder = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).or(home).unwrap_or_else(|| ".".into());
    let folder = folder.join("inshore");
    let path = folder.join("signing.key");
    let failed = |source| Error::Key { path: path.clone(), source };
    if let Ok(text) = std::fs::read_to_string(&path) {
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed)
            .map_err(|_| failed(std::io::Error::other("it holds no key of 32 bytes in hex")))?;
        return Ok(SigningKey::from_bytes(&seed));
    }
    let key = SigningKey::generate();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(hex::encode(key.to_secret_bytes().as_slice()).as_bytes()).map_err(failed)?;
    Ok(key)
}

/// The project's private files that Git would take into a commit. Without Git there are none.
pub(crate) fn unignored(project: &Project) -> Vec<&'static str> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(project.folder()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.code()
    };
    if git(&["rev-parse", "--is-inside-work-tree"]) != Some(0) {
        return Vec::new();
    }
    let shown = |name: &&str| project.folder().join(name).exists() && git(&["check-ignore", "-q", name]) == Some(1);
    PRIVATE.into_iter().filter(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::developer::project::tests::project;

    #[test]
    fn variables_are_filled_in() {
        let environment: Environment = [("LAKE".to_owned(), "/srv".to_owned())].into_iter().collect();
        let cases = [
            ("file://${LAKE}/x", Ok("file:///srv/x")),
            ("${NONE:-a}${LAKE:-b}", Ok("a/srv")),
            ("$$5 plain", Ok("$5 plain")),
            ("${NONE}", Err("the variable NONE is not set")),
            ("$LAKE", Err("a `$` must be `${NAME}` or `$$`")),
            ("${LAKE", Err("a `$` must be `${NAME}` or `$$`")),
        ];
        for (text, expected) in cases {
            assert_eq!(expanded(text, &environment).as_deref(), expected.map_err(str::to_owned).as_deref(), "{text}");
        }
    }

    #[test]
    fn a_destination_is_a_folder_and_a_schema() {
        let (_folder, project) = project(&[]);
        let environment = Environment::default();
        let of = |text: &str| parse(text, &project, &environment);
        let (root, schema) =
            of(r#"{"service": "inshore_files", "schema": "shop", "config": {"uri": "file:///srv/lake"}}"#)
                .expect("fine");
        assert_eq!((root.as_str(), schema.as_str()), ("file:///srv/lake", "shop"));
        for (text, words) in [
            (r#"{"service": "iceberg", "config": {"uri": "file:///x"}}"#, "`iceberg` is not supported"),
            (r#"{"service": "inshore_files", "schema": "a", "config": {"uri": "s3://x"}}"#, "file:///srv/lake"),
            (r#"{"service": "inshore_files", "schema": "A b", "config": {"uri": "file:///x"}}"#, "must match"),
            (r#"{"service": "inshore_files", "config": {"uri": "x", "token": "canary"}}"#, "`token`"),
            ("{", "line 1"),
        ] {
            let error = of(text).expect_err(text);
            assert!(error.contains(words) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_key_is_made_once_and_is_its_users_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let home = tempfile::tempdir().expect("a folder");
        let environment: Environment = [("HOME".to_owned(), home.path().display().to_string())].into_iter().collect();
        let first = own_key(&environment).expect("made");
        assert_eq!(own_key(&environment).expect("read").public(), first.public());
        let path = home.path().join(".config/inshore/signing.key");
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        std::fs::write(&path, "x").expect("written");
        assert_eq!(own_key(&environment).err().map(|error| error.code()), Some("PKG-010"));
    }
}
