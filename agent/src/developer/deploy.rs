//! `inshore deploy` and `inshore download`: a project becomes a connection of a control plane, and comes back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::api::{self, Api};
use super::package::Package;

const SERVICE: &str = "connector_sdk";
/// Minutes between the syncs of a new connection.
const FREQUENCY: &str = "360";
const GROUPS_PAGE: u32 = 500;

/// Why nothing was deployed, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Api(#[from] api::Error),
    #[error("no destination is named {name}; there are: {known}")]
    NoDestination { name: String, known: String },
    #[error("the account has {count} destinations: --destination names one of {known}")]
    WhichDestination { count: usize, known: String },
    #[error("{name} has no connection {connection}")]
    NoConnection { name: String, connection: String },
    #[error("the connection {connection} is of the service {service}: choose another name")]
    OtherService { connection: String, service: String },
    #[error("the package of {connection} is used by {count} connections: --package-id names it when that is meant")]
    SharedPackage { connection: String, count: usize },
    #[error("the connection {connection} has no package yet")]
    NoPackage { connection: String },
    #[error("the connection {id} is there, and its setup tests failed: {failed}")]
    SetupTests { id: String, failed: String },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Api(error) => error.code(),
            Error::SetupTests { .. } => "DEV-010",
            _ => "DEV-009",
        }
    }
}

/// What a deployment is told beside the package.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The name of the destination; none when the account has one only.
    pub(crate) destination: Option<String>,
    pub(crate) connection: String,
    /// Replaces the stored values as a whole.
    pub(crate) configuration: Option<BTreeMap<String, String>>,
    /// Variables of the connector's environment; replace the stored ones as a whole.
    pub(crate) environment: Option<BTreeMap<String, String>>,
    pub(crate) python: Option<String>,
    pub(crate) naming: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) proxy_host_config_key: Option<String>,
    /// Where the connector may connect; a connection that is there keeps its list without.
    pub(crate) egress: Option<Vec<String>>,
    /// A package that is there already, instead of an upload.
    pub(crate) package: Option<String>,
    /// An agent does not run the setup tests either.
    pub(crate) no_tests: bool,
}

/// A connection as a deployment finds it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) group: String,
    pub(crate) group_name: String,
    /// Its id and package, when the connection is there.
    pub(crate) connection: Option<Existing>,
}

#[derive(Debug)]
pub(crate) struct Existing {
    pub(crate) id: String,
    package: Option<String>,
}

/// What a deployment did.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) id: String,
    pub(crate) created: bool,
    pub(crate) package: String,
    /// The code was there already, byte for byte.
    pub(crate) code_unchanged: bool,
    pub(crate) python: Option<String>,
    pub(crate) paused: bool,
    /// Setup tests that an agent ran.
    pub(crate) tests_on_agent: usize,
}

/// Looks for the destination and the connection of these names.
pub(crate) fn find(api: &Api, destination: Option<&str>, connection: &str) -> Result<Found, Error> {
    let groups = all(api, &format!("/v1/groups?limit={GROUPS_PAGE}"))?;
    let name = |group: &Value| group["name"].as_str().unwrap_or_default().to_owned();
    let known = groups.iter().map(name).collect::<Vec<_>>().join(", ");
    let group = match destination {
        Some(wanted) => {
            let found = groups.iter().find(|group| name(group) == wanted);
            found.ok_or_else(|| Error::NoDestination { name: wanted.to_owned(), known })?
        }
        None if groups.len() == 1 => &groups[0],
        None => return Err(Error::WhichDestination { count: groups.len(), known }),
    };
    let id = text(&group["id"]);
    let items = all(api, &format!("/v1/groups/{id}/connectors?schema={}", encoded(connection)))?;
    let existing = match items.first() {
        None => None,
        Some(item) if item["service"] == SERVICE => {
            let whole = api.get(&format!("/v1/connectors/{}", text(&item["id"])))?;
            let package = whole["config"]["package_id"].as_str().map(str::to_owned);
            Some(Existing { id: text(&item["id"]), package })
        }
        Some(item) => {
            let service = text(&item["service"]);
            return Err(Error::OtherService { connection: connection.to_owned(), service });
        }
    };
    Ok(Found { group: id, group_name: name(group), connection: existing })
}

/// Creates the connection, or brings it up to date.
pub(crate) fn deploy(api: &Api, wanted: &Wanted, found: &Found, package: Option<&Package>) -> Result<Deployed, Error> {
    let old = match found.connection.as_ref().and_then(|existing| existing.package.as_deref()) {
        Some(id) => own_package(api, id, wanted)?,
        None => None,
    };
    let unchanged = old.as_ref().filter(|old| package.is_some_and(|package| old["file_sha256_hash"] == package.sha256));
    let (id, uploaded) = match (&wanted.package, unchanged, package) {
        (Some(id), _, _) => (id.clone(), false),
        (None, Some(old), _) => (text(&old["id"]), false),
        (None, None, Some(package)) => (text(&api.upload(&package.zip)?["id"]), true),
        (None, None, None) => return Err(Error::NoPackage { connection: wanted.connection.clone() }),
    };
    let reply = match &found.connection {
        None => api.post("/v1/connectors", &create_body(wanted, &found.group, &id)),
        Some(existing) => api.patch(&format!("/v1/connectors/{}", existing.id), &update_body(wanted, &id)),
    };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            // A package that nobody uses would only lie there; the reason why is what counts.
            if uploaded {
                drop(api.delete(&format!("/v1/connector-sdk/packages/{id}")));
            }
            return Err(error.into());
        }
    };
    if let Some(old) = old.filter(|old| old["id"] != id.as_str()) {
        drop(api.delete(&format!("/v1/connector-sdk/packages/{}", text(&old["id"]))));
    }
    concluded(&reply, wanted, found.connection.is_none(), id, uploaded)
}

/// The package of the connection; one that others use too is not replaced behind their backs.
fn own_package(api: &Api, id: &str, wanted: &Wanted) -> Result<Option<Value>, Error> {
    let package = match api.get(&format!("/v1/connector-sdk/packages/{id}")) {
        Err(error) if error.is_absent() => return Ok(None),
        package => package?,
    };
    let count = package["connection_ids"].as_array().map_or(0, Vec::len);
    if count > 1 && wanted.package.is_none() {
        return Err(Error::SharedPackage { connection: wanted.connection.clone(), count });
    }
    Ok((count <= 1).then_some(package))
}

fn create_body(wanted: &Wanted, group: &str, package: &str) -> Value {
    let mut body = update_body(wanted, package);
    body["group_id"] = json!(group);
    body["service"] = json!(SERVICE);
    body["config"]["schema"] = json!(wanted.connection);
    body["paused"] = json!(true);
    body["sync_frequency"] = json!(FREQUENCY);
    body["destination_schema_names"] = json!(naming(wanted.naming.as_deref()));
    body["hybrid_deployment_agent_id"] = json!(wanted.agent);
    body
}

fn update_body(wanted: &Wanted, package: &str) -> Value {
    let mut config = json!({"package_id": package});
    let pair = |(key, value): (&String, &String)| json!({"key": key, "value": value});
    if let Some(configuration) = &wanted.configuration {
        config["secrets_list"] = configuration.iter().map(pair).collect();
    }
    if let Some(environment) = &wanted.environment {
        config["environment_variables"] = environment.iter().map(pair).collect();
    }
    if let Some(version) = &wanted.python {
        config["python_version"] = json!(version);
    }
    if let Some(rules) = &wanted.egress {
        config["egress"] = json!(rules);
    }
    if let Some(key) = &wanted.proxy_host_config_key {
        config["proxy_host_config_key"] = json!(key);
    }
    let mut body = json!({"config": config, "run_setup_tests": !wanted.no_tests});
    if let Some(agent) = &wanted.agent {
        body["hybrid_deployment_agent_id"] = json!(agent);
    }
    if let Some(proxy) = &wanted.proxy {
        body["proxy_agent_id"] = json!(proxy);
        body["networking_method"] = json!("ProxyAgent");
    }
    body
}

fn naming(wanted: Option<&str>) -> &'static str {
    if wanted.is_some_and(|naming| naming.to_uppercase().starts_with("SOURCE")) {
        "SOURCE_NAMING"
    } else {
        "FIVETRAN_NAMING"
    }
}

fn concluded(
    reply: &Value,
    wanted: &Wanted,
    created: bool,
    package: String,
    uploaded: bool,
) -> Result<Deployed, Error> {
    let id = text(&reply["id"]);
    // Without tests of its own, a reply shows those of an earlier deployment.
    let tests = reply["setup_tests"].as_array().filter(|_| !wanted.no_tests);
    let tests = tests.map(Vec::as_slice).unwrap_or_default();
    let failed = tests.iter().filter(|test| matches!(test["status"].as_str(), Some("FAILED" | "JOB_FAILED")));
    let failed: Vec<_> = failed.map(|test| format!("{}: {}", text(&test["title"]), text(&test["message"]))).collect();
    if !failed.is_empty() {
        return Err(Error::SetupTests { id, failed: failed.join("; ") });
    }
    let python = reply["config"]["python_version"].as_str().map(str::to_owned);
    let paused = reply["paused"] == true;
    let code_unchanged = !uploaded && wanted.package.is_none();
    Ok(Deployed { id, created, package, code_unchanged, python, paused, tests_on_agent: tests.len() })
}

/// The zip that a connection runs, with its digest.
pub(crate) fn download(api: &Api, destination: Option<&str>, connection: &str) -> Result<(Vec<u8>, String), Error> {
    let found = find(api, destination, connection)?;
    let absent = || Error::NoConnection { name: found.group_name.clone(), connection: connection.to_owned() };
    let existing = found.connection.as_ref().ok_or_else(absent)?;
    let id = existing.package.as_ref().ok_or_else(|| Error::NoPackage { connection: connection.to_owned() })?;
    let package = api.get(&format!("/v1/connector-sdk/packages/{id}"))?;
    Ok((api.download(id)?, text(&package["file_sha256_hash"])))
}

/// Every item of a list, over all its pages.
fn all(api: &Api, path: &str) -> Result<Vec<Value>, Error> {
    all_until(api, path, usize::MAX)
}

/// The items of a list, page by page until there are so many.
pub(super) fn all_until(api: &Api, path: &str, enough: usize) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = match &cursor {
            None => api.get(path)?,
            Some(cursor) => api.get(&format!("{path}&cursor={}", encoded(cursor)))?,
        };
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        let next = page["next_cursor"].as_str().map(str::to_owned);
        if next.is_none() || next == cursor || items.len() >= enough {
            return Ok(items);
        }
        cursor = next;
    }
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_setup_test_fails_the_deployment() {
        let reply = |status: &str| {
            json!({
                "id": "connection_1", "paused": true, "config": {"python_version": null},
                "setup_tests": [{"title": "Connect", "status": status, "message": "no route"}],
            })
        };
        let tested = Wanted::default();
        for status in ["PASSED", "WARNING", "SKIPPED"] {
            let deployed = concluded(&reply(status), &tested, true, "package_1".to_owned(), true).expect(status);
            assert!(deployed.paused && deployed.created && deployed.python.is_none());
        }
        for status in ["FAILED", "JOB_FAILED"] {
            let untested = Wanted { no_tests: true, ..Wanted::default() };
            let deployed = concluded(&reply(status), &untested, false, "package_1".to_owned(), true).expect(status);
            assert_eq!(deployed.tests_on_agent, 0, "they are of an earlier deployment");
            let error = concluded(&reply(status), &tested, false, "package_1".to_owned(), true).expect_err(status);
            assert_eq!(error.code(), "DEV-010");
            assert!(
                error.to_string().contains("connection_1") && error.to_string().contains("Connect: no route"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_update_names_only_what_was_asked_for() {
        let plain = Wanted { connection: "c".to_owned(), ..Wanted::default() };
        assert_eq!(update_body(&plain, "p"), json!({"config": {"package_id": "p"}, "run_setup_tests": true}));
        let untested = Wanted { no_tests: true, ..Wanted::default() };
        assert_eq!(update_body(&untested, "p")["run_setup_tests"], false);
        let values = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let variables = BTreeMap::from([("HTTPS_PROXY".to_owned(), "http://p".to_owned())]);
        let all = Wanted {
            configuration: Some(values),
            environment: Some(variables),
            python: Some("3.12".to_owned()),
            agent: Some("a".to_owned()),
            proxy: Some("x".to_owned()),
            proxy_host_config_key: Some("host".to_owned()),
            egress: Some(vec!["db.example:5432".to_owned()]),
            naming: Some("source".to_owned()),
            ..plain
        };
        let created = create_body(&all, "g", "p");
        let expected = json!({
            "group_id": "g", "service": "connector_sdk", "paused": true, "sync_frequency": "360", "run_setup_tests": true,
            "destination_schema_names": "SOURCE_NAMING", "hybrid_deployment_agent_id": "a", "proxy_agent_id": "x",
            "networking_method": "ProxyAgent",
            "config": {
                "schema": "c", "package_id": "p", "python_version": "3.12", "proxy_host_config_key": "host",
                "egress": ["db.example:5432"], "secrets_list": [{"key": "k", "value": "v"}],
                "environment_variables": [{"key": "HTTPS_PROXY", "value": "http://p"}],
            },
        });
        assert_eq!(created, expected);
    }
}
