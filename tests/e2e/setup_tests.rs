//! Setup tests that an agent runs: by REST and after a deployment, in the sandbox; their words stay on its host.

use inshore_tests::shop;
use inshore_tests::stack::{SCHEMA, Stack};
use serde_json::{Value, json};

const CONNECTOR: &str = r#"
import pathlib
from fivetran_connector_sdk import ConfigurationForm, Connector, Operations as op, Test

def update(configuration, state):
    op.upsert("orders", {"id": 1})

def reach(configuration):
    return Test().success() if configuration["token"] == "canary-4711" else Test().failure("wrong")

def refuse(configuration):
    return Test().failure("canary-4711 is refused")

def outside(configuration):
    pathlib.Path(configuration["place"]).read_text()
    return Test().success()

def form(configuration=None):
    tests = (("Reach the shop", reach), ("Log in", refuse), ("Read the host", outside))
    form = ConfigurationForm()
    for label, test in tests:
        form = form.add_test(label=label, func=test)
    return form

connector = Connector(update=update, configuration_form=form)
"#;

fn statuses(data: &Value) -> Vec<(&str, &str)> {
    let tests = data["setup_tests"].as_array().map(Vec::as_slice).unwrap_or_default();
    tests
        .iter()
        .map(|test| (test["title"].as_str().unwrap_or_default(), test["status"].as_str().unwrap_or_default()))
        .collect()
}

#[test]
fn an_agent_runs_them_in_its_sandbox_and_keeps_their_words() {
    let stack = Stack::start();
    let planted = stack.dir.path().join("planted");
    std::fs::write(&planted, "planted").expect("written");
    let place = planted.display().to_string();
    let connection =
        stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("token", "canary-4711"), ("place", &place)]);
    let path = format!("/v1/connections/{connection}");
    let reply = stack.rest.post(&format!("{path}/test"), &json!({}));
    assert!(!reply.body.to_string().contains("canary"), "{}", reply.body);
    let data = reply.data();
    let expected = [("Setup test 1", "PASSED"), ("Setup test 2", "FAILED"), ("Setup test 3", "FAILED")];
    assert_eq!(statuses(&data), expected, "{}", stack.journal(&connection));
    let journal = stack.journal(&connection);
    for words in
        ["`Reach the shop` passed", "`Log in` failed: canary-4711 is refused", "`Read the host` raised an error"]
    {
        assert!(journal.contains(words), "{words} is not in {journal}");
    }
    assert!(journal.contains("FileNotFoundError"), "the sandbox has no such file: {journal}");
    for file in ["agent.db", "ledger"] {
        assert!(!holds(&stack.agent.dir.join("state").join(file), b"canary"), "{file}");
    }

    // Nothing moved, nothing was claimed, and a sync is none the wiser.
    assert!(!stack.lake.join(SCHEMA).exists(), "a check opens no destination");
    assert_eq!(stack.rest.get(&format!("{path}/syncs")).data()["items"], json!([]));
    assert_eq!(data["succeeded_at"], Value::Null);
    assert_eq!(stack.sync(&connection)["status"], "succeeded");
    assert_eq!(statuses(&stack.rest.get(&path).data()), expected, "the results stay");

    // A value that was mended is what the next tests see.
    let secrets = json!([{"key": "token", "value": "other"}, {"key": "place", "value": place}]);
    let body = json!({"run_setup_tests": true, "config": {"secrets_list": secrets}});
    let mended = stack.rest.patch(&path, &body).data();
    assert_eq!(statuses(&mended)[0], ("Setup test 1", "FAILED"), "{mended}");
}

#[test]
fn a_connector_that_cannot_be_tested_says_why_by_its_code() {
    let stack = Stack::start();
    let without =
        stack.connection(&shop::zip(&[("connector.py", &CONNECTOR.replace("configuration_form=form", ""))]), &[]);
    let reply = stack.rest.post(&format!("/v1/connections/{without}/test"), &json!({})).data();
    assert_eq!(reply["setup_tests"], json!([]), "no form, no tests");
    let policy = stack.agent.dir.join("policy.toml");
    let before = std::fs::read_to_string(&policy).expect("the policy");
    std::fs::write(&policy, before.replace("connectors = \"any\"", "connectors = \"listed\"")).expect("another policy");
    let reply = stack.rest.post(&format!("/v1/connections/{without}/test"), &json!({})).data();
    assert_eq!(statuses(&reply), [("Setup tests", "JOB_FAILED")]);
    let message = reply["setup_tests"][0]["message"].as_str().expect("words").to_owned();
    assert!(message.starts_with("POL-002: ") && message.ends_with("(docs/errors/POL-002.md)"), "{message}");
}

fn holds(path: &std::path::Path, needle: &[u8]) -> bool {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        return entries.map(|entry| entry.path()).any(|entry| holds(&entry, needle));
    }
    std::fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}
