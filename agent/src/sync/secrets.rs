//! Configured secrets that turn up in a state, which is stored beside the data: told by the name of their setting and the
//! place in the state, never by their value.

use std::collections::BTreeMap;

use serde_json::Value;

/// Shorter values are found everywhere.
const SECRET_CHARACTERS_MIN: usize = 6;
/// Parts of names whose values are secrets.
const SECRET_NAMES: [&str; 8] = ["secret", "token", "password", "passwd", "pwd", "key", "credential", "auth"];
/// Stands in a place for a key that holds a secret itself.
const MASK: &str = "******";

/// Values of the configuration that must not be found in a state.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    all: Vec<String>,
    /// Those that were not told yet.
    left: BTreeMap<String, String>,
}

impl Secrets {
    pub(crate) fn of<'a>(configuration: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let secret = |name: &str, value: &str| {
            let name = name.to_lowercase();
            value.len() >= SECRET_CHARACTERS_MIN && SECRET_NAMES.iter().any(|part| name.contains(part))
        };
        let settings = configuration.into_iter().filter(|(name, value)| secret(name, value));
        let left: BTreeMap<_, _> = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { all: left.values().cloned().collect(), left }
    }

    /// A sentence for each that the state holds; each is told once.
    pub(super) fn warnings(&mut self, state: &str) -> Vec<String> {
        let place = |(name, place): (String, String)| {
            format!(
                "the state holds the value of `{name}` of the configuration at `{place}`: the state is stored with the data, so keep it out"
            )
        };
        self.found_in(state).into_iter().map(place).collect()
    }

    /// Setting and place.
    fn found_in(&mut self, state: &str) -> Vec<(String, String)> {
        if self.left.is_empty() {
            return Vec::new();
        }
        // A text without escapes holds what its strings hold; most states are such, and large ones are not read for nothing.
        if !state.contains('\\') && !self.left.values().any(|value| state.contains(value.as_str())) {
            return Vec::new();
        }
        let Ok(state) = serde_json::from_str(state) else { return Vec::new() };
        let mut found = Vec::new();
        self.search(&state, "", &mut found);
        found
    }

    fn search(&mut self, value: &Value, place: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::String(text) => self.take(text, place, found),
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| self.search(item, &format!("{place}[{index}]"), found));
            }
            Value::Object(fields) => {
                for (key, item) in fields {
                    let shown = if self.all.iter().any(|secret| key.contains(secret.as_str())) { MASK } else { key };
                    let below = if place.is_empty() { shown.to_owned() } else { format!("{place}.{shown}") };
                    self.take(key, &below, found);
                    self.search(item, &below, found);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, text: &str, place: &str, found: &mut Vec<(String, String)>) {
        let held: Vec<_> = self.left.extract_if(.., |_, value| text.contains(value.as_str())).collect();
        found.extend(held.into_iter().map(|(name, _)| (name, place.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(configuration: &[(&str, &str)]) -> Secrets {
        let owned: BTreeMap<_, _> =
            configuration.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Secrets::of(&owned)
    }

    #[test]
    fn a_secret_in_the_state_is_found_wherever_it_hides() {
        let settings = [("api_key", "abc\"defg"), ("Db_Password", "hunter22"), ("page_size", "100000"), ("token", "1")];
        for (state, expected) in [
            (r#"{"cursor": 1, "page": "100000", "one": "1"}"#, &[][..]),
            (r#"{"a": [0, {"url": "x?k=abc\"defg&b"}]}"#, &[("api_key", "a[1].url")]),
            (r#"{"a": {"p": "hunter22"}, "b": "hunter22"}"#, &[("Db_Password", "a.p")]),
            (r#"{"a": {"p": "\u0068unter22"}}"#, &[("Db_Password", "a.p")]),
            (
                r#"{"a": {"of hunter22": {"b": "abc\"defg"}}}"#,
                &[("Db_Password", "a.******"), ("api_key", "a.******.b")],
            ),
            (r#"{"hunter22": 1"#, &[]),
        ] {
            let found = secrets(&settings).found_in(state);
            let found: Vec<_> = found.iter().map(|(name, place)| (name.as_str(), place.as_str())).collect();
            assert_eq!(found, expected, "{state}");
        }
    }

    #[test]
    fn each_is_told_once_and_never_shown() {
        let mut secrets = secrets(&[("api_key", "hunter22")]);
        let told = secrets.warnings(r#"{"a": "hunter22", "hunter22": 1}"#);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("`api_key`") && told[0].contains("`a`") && !told[0].contains("hunter22"), "{told:?}");
        assert!(secrets.warnings(r#"{"a": "hunter22"}"#).is_empty());
    }
}
