//! `inshore package`, `deploy` and `download` against a running control plane and agent.

use inshore_tests::debug::{Project, Run};
use inshore_tests::stack::{SYNC, Stack};
use serde_json::{Value, json};

const CONNECTOR: &str = r#"
from fivetran_connector_sdk import Connector, Operations as op

def update(configuration, state):
    op.upsert("greetings", {"id": 1, "text": configuration["greeting"]})
    op.checkpoint({})

def schema(configuration):
    return [{"table": "greetings", "primary_key": ["id"]}]

connector = Connector(update=update, schema=schema)
"#;

fn project() -> Project {
    Project::new(&[("connector.py", CONNECTOR), ("configuration.json", r#"{"greeting": "hello"}"#)])
}

/// `inshore` with the key of this stack in its environment.
fn inshore(stack: &Stack, project: &Project, arguments: &[&str]) -> Run {
    let mut command = project.command(arguments);
    command.env("FIVETRAN_API_KEY", stack.control.api_key());
    command.env("INSHORE_CONTROL_PLANE", format!("http://127.0.0.1:{}", stack.control.http));
    Run::of(command.output().expect("the product starts"))
}

fn deploy(stack: &Stack, project: &Project, arguments: &[&str]) -> Value {
    let run = inshore(stack, project, &[&["deploy", "--connection", "hello", "-o", "json"], arguments].concat());
    assert_eq!(run.exit, Some(0), "{}", run.words);
    serde_json::from_str(&run.data).expect("JSON")
}

fn configuration_keys(stack: &Stack, connection: &str) -> Vec<String> {
    let data = stack.rest.get(&format!("/v1/connections/{connection}")).data();
    let list = data["config"]["secrets_list"].as_array().cloned().unwrap_or_default();
    list.iter().map(|secret| secret["key"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_deployed_project_is_synced_by_the_agent() {
    let stack = Stack::start();
    let project = project();
    let first = deploy(&stack, &project, &[]);
    assert_eq!((&first["change"], &first["paused"]), (&json!("created"), &json!(true)));
    let id = first["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(configuration_keys(&stack, &id), ["greeting"]);
    let started =
        stack.rest.patch(&format!("/v1/connections/{id}"), &json!({"paused": false, "schedule_type": "manual"}));
    assert_eq!(started.status, 200, "{}", started.body);
    let run = stack.sync(&id);
    assert_eq!(run["status"], "succeeded", "{run}");
    assert!(stack.lake.join("hello/greetings").is_dir(), "the agent wrote the table");

    // Equal code is not uploaded again, and the stored values stay although the project's own file has others.
    project.write("configuration.json", r#"{"other": "value"}"#);
    let again = deploy(&stack, &project, &[]);
    assert_eq!((&again["change"], &again["code_unchanged"]), (&json!("updated"), &json!(true)));
    assert_eq!((&again["package_id"], &again["connection_id"]), (&first["package_id"], &first["connection_id"]));
    assert_eq!(configuration_keys(&stack, &id), ["greeting"]);
    let named = project.path().join("configuration.json").display().to_string();
    deploy(&stack, &project, &["--configuration", &named]);
    assert_eq!(configuration_keys(&stack, &id), ["other"], "values are replaced as a whole");

    // New code takes the place of the old, which nobody needs any more.
    project.write("connector.py", &CONNECTOR.replace("configuration[\"greeting\"]", "'new code'"));
    let egress = ["--egress", "db.example:5432", "--egress", "*.kafka.example:9092"];
    let changed = deploy(&stack, &project, &[&["--python", "3.11"], egress.as_slice()].concat());
    let data = stack.rest.get(&format!("/v1/connections/{id}")).data();
    assert_eq!(data["config"]["egress"], json!(["db.example:5432", "*.kafka.example:9092"]));
    assert_eq!((&changed["code_unchanged"], &changed["python_version"]), (&json!(false), &json!("3.11")));
    assert_ne!(changed["package_id"], first["package_id"]);
    let old = first["package_id"].as_str().expect("an id");
    assert_eq!(stack.rest.get(&format!("/v1/connector-sdk/packages/{old}")).status, 404);
    let sync = stack.rest.sync(&id);
    assert_eq!(stack.rest.wait(&id, &sync, SYNC)["status"], "succeeded");

    let runs = inshore(&stack, &project, &["syncs", "hello"]);
    assert_eq!((runs.exit, runs.data.matches(" succeeded ").count()), (Some(0), 2), "{}{}", runs.data, runs.words);
    let runs = inshore(&stack, &project, &["syncs", "hello", "--limit", "1", "-o", "jsonl"]);
    let newest: Value = serde_json::from_str(&runs.data).expect("one object on one line");
    assert_eq!((&newest["id"], &newest["rows"]["upserts"]), (&json!(sync), &json!(1)));
    assert!(newest["last_checkpoint_at"].as_str() > newest["started_at"].as_str(), "{newest}");
    let failed = inshore(&stack, &project, &["syncs", "hello", "--status", "failed"]);
    assert_eq!(failed.data, "no syncs yet\n");
    let absent = inshore(&stack, &project, &["syncs", "absent"]);
    assert!(absent.exit == Some(1) && absent.words.contains("DEV-009"), "{}", absent.words);

    let run = inshore(&stack, &project, &["download", "hello", "back"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(project.read("back/connector.py").contains("'new code'"));
    assert!(!project.path().join("back/configuration.json").exists(), "values never come back");
    let run = inshore(&stack, &project, &["download", "hello", "back"]);
    assert!(run.exit == Some(1) && run.words.contains("DEV-001"), "{}", run.words);
}

#[test]
fn a_deployment_says_why_it_is_refused() {
    let stack = Stack::start();
    let project = project();
    let key = stack.control.api_key();
    let secret = key.split_once(':').expect("key:secret").1.to_owned();
    let url = format!("http://127.0.0.1:{}", stack.control.http);
    let refused = |arguments: &[&str], key: Option<&str>, url: &str, exit: i32, words: &str| {
        let mut command = project.command(&[&["deploy"], arguments].concat());
        command.env("INSHORE_CONTROL_PLANE", url).env("HOME", project.path()).env_remove("FIVETRAN_API_KEY");
        if let Some(key) = key {
            command.env("FIVETRAN_API_KEY", key);
        }
        let run = Run::of(command.output().expect("the product starts"));
        assert_eq!(run.exit, Some(exit), "{arguments:?}: {}", run.words);
        assert!(run.words.contains(words), "{words:?} is not in {}", run.words);
        assert!(!run.words.contains(&secret), "the key is in the output: {}", run.words);
    };
    let hello = ["--connection", "hello"];
    let more = |more: &[&'static str]| [&hello[..], more].concat();
    refused(&hello, None, &url, 2, "no API key");
    refused(&[], Some(&key), &url, 2, "--connection NAME");
    refused(&hello, Some("wrong:key"), &url, 4, "DEV-008");
    refused(&hello, Some(&key), "http://127.0.0.1:9", 5, "DEV-007");
    refused(&hello, Some(&key), "http://192.0.2.1", 5, "travels encrypted");
    let absent = "no destination is named absent; there are: test";
    refused(&more(&["--destination", "absent"]), Some(&key), &url, 1, absent);
    refused(&more(&["--destination", "absent"]), Some(&key), &url, 1, "DEV-009");
    refused(&["--connection", "No Schema"], Some(&key), &url, 1, "must match");
    refused(&more(&["--package-id", "package_0"]), Some(&key), &url, 1, "there is no such package");
    refused(&more(&["--profile", "prod"]), Some(&key), &url, 1, "no profile prod");
    let list = stack.rest.get("/v1/connector-sdk/packages").data();
    assert_eq!(list["items"], json!([]), "a refused deployment leaves no package");
    let run = inshore(&stack, &project, &["download", "hello"]);
    assert!(run.exit == Some(1) && run.words.contains("has no connection hello"), "{}", run.words);
}

#[test]
fn a_package_is_told_by_its_digest() {
    let project = project();
    let run = project.inshore(&["package", "--list"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(run.data.contains("  connector.py\n") && !run.data.contains("configuration.json"), "{}", run.data);
    let json = |run: &Run| serde_json::from_str::<Value>(&run.data).expect("JSON");
    let first = json(&project.inshore(&["package", "-o", "json"]));
    let path = first["path"].as_str().expect("a path");
    assert_eq!(std::fs::metadata(path).expect("a file").len(), first["bytes"].as_u64().expect("a number"));
    let second = json(&project.inshore(&["package", "-o", "json"]));
    assert_eq!(first["sha256"], second["sha256"]);
    std::os::unix::fs::symlink("/etc/hostname", project.path().join("out")).expect("a link");
    let run = project.inshore(&["package"]);
    assert!(run.exit == Some(1) && run.words.contains("PKG-002") && run.words.contains("leads out"), "{}", run.words);
    std::fs::remove_file(project.path().join("out")).expect("removed");
    std::fs::create_dir(project.path().join("drivers")).expect("a folder");
    project.write("drivers/odbc.deb", "");
    let run = project.inshore(&["package"]);
    assert!(run.exit == Some(1) && run.words.contains("DEV-006"), "{}", run.words);
}

const SURROUNDED: &str = r#"
import os
from fivetran_connector_sdk import ConfigurationForm, Connector, Operations as op, Test

def update(configuration, state):
    op.upsert("greetings", {"id": 1, "length": len(os.environ["SHOP_TOKEN"]), "proxy": os.environ.get("HTTPS_PROXY", "")})
    op.checkpoint({})

def reach(configuration):
    if configuration["greeting"] == "hello" and len(os.environ.get("SHOP_TOKEN", "")) == 20:
        return Test().success()
    return Test().failure("no greeting, or no token")

def form(configuration=None):
    return ConfigurationForm().add_test(label="Reach the shop", func=reach)

connector = Connector(update=update, configuration_form=form)
"#;

/// Whether any file below `folder`, but for `except`, holds these bytes.
fn holds(folder: &std::path::Path, except: &std::path::Path, needle: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path != except).any(|path| {
        if path.is_dir() {
            return holds(&path, except, needle);
        }
        std::fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    })
}

#[test]
fn variables_of_a_connection_reach_its_connector_where_the_policy_lists_them() {
    let stack = Stack::start();
    let project = Project::new(&[("connector.py", SURROUNDED), ("configuration.json", r#"{"greeting": "hello"}"#)]);
    let token = "canary-env-token-471";
    let deployed = |arguments: &[&str]| {
        let mut command = project.command(&[&["deploy", "--connection", "hello", "-o", "json"], arguments].concat());
        command.env("FIVETRAN_API_KEY", stack.control.api_key()).env("SHOP_TOKEN", token);
        command.env("INSHORE_CONTROL_PLANE", format!("http://127.0.0.1:{}", stack.control.http));
        Run::of(command.output().expect("the product starts"))
    };
    let run = deployed(&["--env", "ABSENT_VARIABLE"]);
    assert!(run.exit == Some(2) && run.words.contains("ABSENT_VARIABLE"), "{}", run.words);
    let run = deployed(&["--env", "LD_PRELOAD=/x"]);
    assert!(run.exit == Some(1) && run.words.contains("`LD_PRELOAD`"), "{}", run.words);

    let policy = stack.dir.path().join("agent/policy.toml");
    let before = std::fs::read_to_string(&policy).expect("a policy");
    let listed = |names: &str| std::fs::write(&policy, format!("{names}{before}")).expect("written");
    let all = "environment_variables = [\"SHOP_*\", \"UNLISTED\"]\n";
    listed(all);
    let run = deployed(&["--env", "SHOP_TOKEN", "--env", "UNLISTED=1"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    let told: Value = serde_json::from_str(&run.data).expect("JSON");
    assert_eq!(
        (&told["setup_tests"], &told["environment_variables"]),
        (&json!(["Reach the shop"]), &json!(["SHOP_TOKEN", "UNLISTED"]))
    );
    assert_eq!(told["setup_tests_on_agent"], 1);
    let id = told["connection_id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/connections/{id}");
    let shown = stack.rest.get(&path).data();
    assert_eq!(shown["config"]["environment_variables"][0], json!({"key": "SHOP_TOKEN", "value": "******"}));
    stack.rest.patch(&path, &json!({"paused": false, "schedule_type": "manual"}));

    // The policy lists no variable yet, then one of the two, then all.
    for (names, status, code) in [
        ("", "failed", json!("POL-005")),
        ("environment_variables = [\"SHOP_*\"]\n", "failed", json!("POL-005")),
        (all, "succeeded", Value::Null),
    ] {
        listed(names);
        let sync = stack.rest.sync(&id);
        let run = stack.rest.wait(&id, &sync, SYNC);
        assert_eq!(
            (&run["status"], &run["error"]["code"]),
            (&json!(status), &code),
            "{names}: {}",
            stack.agent.output()
        );
    }
    assert_eq!(inshore_tests::oracle::count(&stack.lake, "hello", "greetings"), 1);
    assert!(!holds(stack.dir.path(), &stack.lake, token.as_bytes()), "a value is in a file in clear");
    assert!(!stack.agent.output().contains(token));

    // Without the flag they stay; with it they are replaced as a whole.
    assert_eq!(deployed(&["--yes"]).exit, Some(0));
    assert_eq!(stack.rest.get(&path).data()["config"]["environment_variables"].as_array().map(Vec::len), Some(2));
    assert_eq!(deployed(&["--yes", "--env", "SHOP_TOKEN=another-token-of-471"]).exit, Some(0));
    let left = stack.rest.get(&path).data()["config"]["environment_variables"].clone();
    assert_eq!(left, json!([{"key": "SHOP_TOKEN", "value": "******"}]));
    // What the agent says to a deployment: the policy does not list the variable, or the test fails where it runs.
    let refused = |arguments: &[&str], words: &str| {
        let run = deployed(&[&["--yes"], arguments].concat());
        assert!(run.exit == Some(1) && run.words.contains("DEV-010"), "{}", run.words);
        assert!(run.words.contains(words) && run.words.contains(&id), "{words} is not in {}", run.words);
    };
    refused(&["--env", "SHOP_TOKEN=short"], "Setup test 1: the test failed");
    listed("");
    refused(&[], "Setup tests: POL-005");
}

#[test]
fn a_setup_test_that_fails_deploys_nothing() {
    let stack = Stack::start();
    let project = Project::new(&[("connector.py", SURROUNDED), ("configuration.json", r#"{"greeting": "no"}"#)]);
    let run = inshore(&stack, &project, &["deploy", "--connection", "hello"]);
    assert_eq!(run.exit, Some(1), "{}", run.words);
    for words in ["failed  Reach the shop: no greeting", "DEV-010", "nothing was deployed"] {
        assert!(run.words.contains(words), "{words} is not in {}", run.words);
    }
    assert_eq!(stack.rest.get("/v1/connections").data()["items"], json!([]));
    assert_eq!(stack.rest.get("/v1/connector-sdk/packages").data()["items"], json!([]));
    let run = inshore(&stack, &project, &["deploy", "--connection", "hello", "--no-tests"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
}

#[test]
fn a_deployment_without_tests_does_not_fail_on_those_before() {
    let stack = Stack::start();
    let project = project();
    let policy = stack.agent.dir.join("policy.toml");
    let before = std::fs::read_to_string(&policy).expect("the policy");
    std::fs::write(&policy, before.replace("connectors = \"any\"", "connectors = \"listed\"")).expect("another policy");
    let run = inshore(&stack, &project, &["deploy", "--connection", "hello"]);
    assert!(run.exit == Some(1) && run.words.contains("DEV-010"), "{}", run.words);
    let shown = || stack.rest.get("/v1/connections").data()["items"][0]["setup_tests"].clone();
    assert_eq!(shown()[0]["status"], "JOB_FAILED");

    assert_eq!(deploy(&stack, &project, &["--no-tests"])["setup_tests_on_agent"], 0);
    assert_eq!(shown()[0]["status"], "JOB_FAILED", "the same package, the same results");
    project.write("connector.py", &CONNECTOR.replace("op.checkpoint({})", "op.checkpoint({\"a\": 1})"));
    assert_eq!(deploy(&stack, &project, &["--no-tests"])["code_unchanged"], false);
    assert_eq!(shown(), json!([]), "new code has no results yet");
}
