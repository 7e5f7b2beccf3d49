//! The environment of a command that a person types. Services take their settings from files alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where commands are looked for when nothing says it.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variables of this process that are text.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Of this process, now.
    #[must_use]
    pub fn own() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// With these in addition; they win.
    #[must_use]
    pub fn with<'a>(mut self, more: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        self.0.extend(more.map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// All of them.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// `PATH`, else the usual folders.
    #[must_use]
    pub fn search_path(&self) -> &str {
        self.get("PATH").unwrap_or(SEARCH_PATH)
    }

    /// `$XDG_CACHE_HOME/inshore`, else `~/.cache/inshore`.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = self.get("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        cache.unwrap_or_else(std::env::temp_dir).join("inshore")
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_lies_where_the_user_wants_it() {
        let of = |variables: &[(&str, &str)]| -> PathBuf {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            variables.collect::<Environment>().cache_dir()
        };
        assert_eq!(of(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), PathBuf::from("/c/inshore"));
        assert_eq!(of(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]), PathBuf::from("/h/.cache/inshore"));
    }
}
