//! What a deployment takes from elsewhere than its flags: variables, a profile of options.toml, and the file that names
//! the control plane. A flag wins over a variable, a variable over a profile.

use std::path::{Path, PathBuf};

use inshore_config::Environment;
use serde::Deserialize;

use super::unreadable::{Unreadable, read};

const FOLDER: &str = ".fivetran/connector_sdk";
const PROFILE: &str = "default";

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Read(#[from] Unreadable),
    #[error("{}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("{} has no profile {name}", path.display())]
    NoProfile { path: PathBuf, name: String },
    #[error("no control plane is known: --control-plane URL or the variable INSHORE_CONTROL_PLANE names one")]
    NoControlPlane,
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Read(_) => Unreadable::CODE,
            Error::Malformed { .. } | Error::NoProfile { .. } => "PKG-011",
            Error::NoControlPlane => "DEV-007",
        }
    }
}

/// The options of one profile. A key of the API is refused: it belongs into the environment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) destination: Option<String>,
    pub(crate) connection: Option<String>,
    pub(crate) python_version: Option<String>,
    pub(crate) naming: Option<String>,
    pub(crate) hybrid_deployment_agent_id: Option<String>,
    pub(crate) proxy_id: Option<String>,
    pub(crate) proxy_host_config_key: Option<String>,
    pub(crate) package_id: Option<String>,
    pub(crate) egress: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    profiles: std::collections::BTreeMap<String, Profile>,
}

/// The profile that was asked for: of the named file, else of the first that is there. Without a name it is `default`,
/// which need not be there.
pub(crate) fn profile(
    file: Option<&Path>,
    name: Option<&str>,
    project: &Path,
    environment: &Environment,
) -> Result<Profile, Error> {
    let own = environment.get("HOME").map(|home| Path::new(home).join(FOLDER).join("options.toml"));
    let named = file.map(Path::to_owned).or_else(|| environment.get("FIVETRAN_OPTIONS_FILE").map(PathBuf::from));
    let found =
        named.or_else(|| [Some(project.join("options.toml")), own].into_iter().flatten().find(|path| path.exists()));
    let Some(path) = found else {
        return match name {
            None => Ok(Profile::default()),
            Some(name) => Err(Error::NoProfile { path: "options.toml".into(), name: name.to_owned() }),
        };
    };
    let text = read(&path)?;
    let malformed = |what: String| Error::Malformed { path: path.clone(), what };
    if text.lines().any(|line| line.trim_start().starts_with("api_key")) {
        return Err(malformed("`api_key` does not belong into a file: FIVETRAN_API_KEY holds it".to_owned()));
    }
    // The parser's own message shows the line; secrets have just been ruled out.
    let mut options: Options = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
    match (options.profiles.remove(name.unwrap_or(PROFILE)), name) {
        (Some(profile), _) => Ok(profile),
        (None, None) => Ok(Profile::default()),
        (None, Some(name)) => Err(Error::NoProfile { path, name: name.to_owned() }),
    }
}

/// The flag, else the variable, else the address that other tools of this user talk to.
pub(crate) fn control_plane(flag: Option<&str>, environment: &Environment) -> Result<String, Error> {
    if let Some(url) = flag.or_else(|| environment.get("INSHORE_CONTROL_PLANE")) {
        return Ok(url.to_owned());
    }
    let path = environment.get("HOME").map(|home| Path::new(home).join(FOLDER).join("_config.json"));
    let text = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    settings["production_base_url"].as_str().map(str::to_owned).ok_or(Error::NoControlPlane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, name: Option<&str>) -> Result<Profile, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("options.toml"), text).expect("a file");
        profile(None, name, folder.path(), &Environment::default())
    }

    #[test]
    fn a_profile_is_taken_by_its_name() {
        let text =
            "[profiles.default]\nconnection = \"a\"\n[profiles.prod]\nconnection = \"b\"\npython_version = \"3.12\"\n";
        assert_eq!(of(text, None).expect("default").connection.as_deref(), Some("a"));
        assert_eq!(of(text, Some("prod")).expect("prod").connection.as_deref(), Some("b"));
        assert!(of("", None).expect("nothing").connection.is_none());
        assert!(matches!(of(text, Some("other")), Err(Error::NoProfile { .. })));
        for wrong in ["[profiles.default]\napi_key = \"x\"", "[profiles.default]\nconection = \"x\"", "["] {
            let error = of(wrong, None).expect_err(wrong);
            assert!(error.code() == "PKG-011" && !error.to_string().contains("\"x\""), "{error}");
        }
    }

    #[test]
    fn the_control_plane_is_named_by_flag_variable_or_file() {
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(home.path().join(FOLDER)).expect("a folder");
        let mut variables = vec![("HOME".to_owned(), home.path().display().to_string())];
        let environment = |variables: &[(String, String)]| variables.iter().cloned().collect::<Environment>();
        assert!(control_plane(None, &environment(&variables)).is_err());
        std::fs::write(home.path().join(FOLDER).join("_config.json"), r#"{"production_base_url": "https://file"}"#)
            .expect("a file");
        assert_eq!(control_plane(None, &environment(&variables)).expect("a URL"), "https://file");
        variables.push(("INSHORE_CONTROL_PLANE".to_owned(), "https://variable".to_owned()));
        assert_eq!(control_plane(None, &environment(&variables)).expect("a URL"), "https://variable");
        assert_eq!(control_plane(Some("https://flag"), &environment(&variables)).expect("a URL"), "https://flag");
    }
}
