//! Where a destination is, in the words of its service: an address of our own, or provider, bucket and prefix of a managed
//! data lake. Addresses only: how a host reaches a store, and with which secrets, stands in its own policy.

use serde_json::{Map, Value, json};

use super::ApiError;
use super::body::Body;

/// Addresses that agents know.
const SCHEMES: [&str; 5] = ["file", "s3", "gs", "az", "abfss"];
const AZURE_HOST: &str = ".dfs.core.windows.net";

/// The services of destinations.
pub(super) const SERVICES: [&str; 2] = ["inshore_files", "managed_data_lake"];

/// The address that a new destination's configuration means.
pub(super) fn address(service: &str, config: &Body) -> Result<String, ApiError> {
    match service {
        "managed_data_lake" => managed(config),
        _ => checked(config.required("uri")?),
    }
}

/// The address after a change. That of a managed data lake does not change: its tables are where they are.
pub(super) fn changed(service: &str, held: &str, config: &Body) -> Result<String, ApiError> {
    if service != "managed_data_lake" {
        return config.text("uri")?.map_or_else(|| Ok(held.to_owned()), checked);
    }
    let shown = shown(service, held);
    for name in ["storage_provider", "bucket", "container_name", "storage_account_name", "prefix_path"] {
        let wanted = config.text(name)?.map(|text| text.trim_matches('/').to_owned());
        if wanted.is_some_and(|wanted| shown.get(name).and_then(Value::as_str).unwrap_or_default() != wanted) {
            return Err(ApiError::invalid(format!("`config.{name}` cannot be changed; make a new destination")));
        }
    }
    Ok(held.to_owned())
}

/// The configuration as REST shows it.
pub(super) fn shown(service: &str, uri: &str) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("uri".to_owned(), uri.into());
    if service == "managed_data_lake" {
        let (scheme, rest) = uri.split_once("://").unwrap_or_default();
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = match authority.split_once('@') {
            Some((container, host)) => {
                let account = host.strip_suffix(AZURE_HOST).unwrap_or(host);
                json!({"container_name": container, "storage_account_name": account})
            }
            None => json!({"bucket": authority}),
        };
        let provider = match scheme {
            "s3" => "AWS",
            "gs" => "GCS",
            _ => "ADLS",
        };
        shown.extend(named.as_object().cloned().unwrap_or_default());
        shown.insert("storage_provider".to_owned(), provider.into());
        shown.insert("prefix_path".to_owned(), prefix.into());
    }
    shown
}

fn managed(config: &Body) -> Result<String, ApiError> {
    let providers = ["AWS", "ADLS", "GCS"];
    let provider = config.choice("storage_provider", &providers)?;
    let place = match provider.ok_or_else(|| ApiError::invalid("`config.storage_provider` is required"))? {
        "AWS" => format!("s3://{}", config.required("bucket")?),
        "GCS" => format!("gs://{}", config.required("bucket")?),
        _ => format!(
            "abfss://{}@{}{AZURE_HOST}",
            config.required("container_name")?,
            config.required("storage_account_name")?
        ),
    };
    if place.matches('/').count() > 2 {
        return Err(ApiError::invalid("`config.bucket` is a name; a folder in it belongs into `prefix_path`"));
    }
    match config.text("prefix_path")?.map(|prefix| prefix.trim_matches('/').to_owned()) {
        Some(prefix) if !prefix.is_empty() => checked(format!("{place}/{prefix}")),
        _ => checked(place),
    }
}

/// A password in an address would end up readable in the store, so none is accepted.
fn checked(uri: String) -> Result<String, ApiError> {
    let is_plain = || {
        let (scheme, rest) = uri.split_once("://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let names = authority.split('@');
        let authority_fits = match scheme {
            "file" => authority.is_empty() && !path.is_empty(),
            "abfss" => names.clone().count() == 2 && names.clone().all(|name| !name.is_empty()),
            _ => !authority.is_empty() && names.clone().count() == 1,
        };
        let strange = |letter: char| letter.is_control() || letter.is_whitespace() || "\\?#".contains(letter);
        let path = path.strip_suffix('/').unwrap_or(path);
        let components_fit = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let fits = SCHEMES.contains(&scheme) && authority_fits && components_fit;
        (fits && !path.contains('@') && !uri.contains(strange)).then_some(())
    };
    match is_plain() {
        Some(()) => Ok(uri),
        None => Err(ApiError::invalid(
            "`config.uri` must be a `file:///…` address of a directory on the agent's host, or `s3://bucket/prefix`, \
             `gs://bucket/prefix`, `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix`, \
             without credentials",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(config: Value) -> Body {
        Body(config.as_object().cloned().expect("an object"))
    }

    #[test]
    fn a_managed_data_lake_is_an_address_and_back() {
        for (config, uri) in [
            (json!({"storage_provider": "AWS", "bucket": "b", "prefix_path": "/a/b/"}), "s3://b/a/b"),
            (json!({"storage_provider": "GCS", "bucket": "b"}), "gs://b"),
            (
                json!({"storage_provider": "ADLS", "container_name": "c", "storage_account_name": "a", "prefix_path": "p"}),
                "abfss://c@a.dfs.core.windows.net/p",
            ),
        ] {
            assert_eq!(address("managed_data_lake", &body(config.clone())).expect("an address"), uri);
            let shown = shown("managed_data_lake", uri);
            for (name, value) in config.as_object().expect("an object") {
                let value = value.as_str().unwrap_or_default().trim_matches('/');
                assert_eq!(shown[name].as_str(), Some(value), "{name}");
            }
            assert_eq!(changed("managed_data_lake", uri, &body(config)).expect("the same"), uri);
        }
        for config in [
            json!({"bucket": "b"}),
            json!({"storage_provider": "AWS"}),
            json!({"storage_provider": "AZURE", "bucket": "b"}),
            json!({"storage_provider": "AWS", "bucket": "b/c"}),
            json!({"storage_provider": "AWS", "bucket": "user:password@b"}),
            json!({"storage_provider": "AWS", "bucket": "b", "prefix_path": "a/../b"}),
        ] {
            assert!(address("managed_data_lake", &body(config.clone())).is_err(), "{config}");
        }
        assert!(changed("managed_data_lake", "s3://b/a", &body(json!({"prefix_path": "z"}))).is_err());
    }

    #[test]
    fn addresses_hold_no_credentials() {
        for good in
            ["file:///lake", "s3://b", "s3://b/p/", "gs://b/p", "az://c/p", "abfss://c@a.dfs.core.windows.net/p"]
        {
            assert!(address("inshore_files", &body(json!({"uri": good}))).is_ok(), "{good}");
        }
        for bad in [
            "file://",
            "file://host/x",
            "/lake",
            "ftp://b/p",
            "s3://",
            "s3://k:s@b",
            "s3://b/a b",
            "s3://b//p",
            "abfss://c/p",
        ] {
            assert!(address("inshore_files", &body(json!({"uri": bad}))).is_err(), "{bad}");
        }
    }
}
