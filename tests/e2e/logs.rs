//! The connector's log: its table at the destination, in the commit of the rows, and its journal on the host, as
//! `inshore logs` shows it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use inshore_tests::agent::command;
use inshore_tests::debug::Project;
use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, python, shop};
use serde_json::{Value, json};

const LOG: &str = "inshore_log";
const TABLE: &str = "connector_sdk_log";

const CONNECTOR: &str = r#"
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def schema(configuration):
    return [{"table": "orders", "primary_key": ["id"]}]

def update(configuration, state):
    log.info("table orders begins")
    log.error("an error\nof two lines")
    log.critical("a severe one")
    print('{"level":"WARNING","message":"the other spelling","message-origin":"sdk_connector"}')
    print("printed")
    op.upsert("orders", {"id": 1})
    op.checkpoint({"cursor": configuration["cursor"]})
    log.warning("after the checkpoint")
    if configuration["fail"] == "yes":
        raise ValueError("no")

connector = Connector(update=update, schema=schema)
"#;

/// Rows of the table, in the order of their time, without ids.
fn lines(stack: &Stack, connection: &str) -> Vec<Value> {
    let script = "import sys, json, deltalake\n\
                  rows = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().to_pylist()\n\
                  rows = sorted((row for row in rows if row['connection_id'] == sys.argv[2]), key=lambda row: row['id'])\n\
                  print(json.dumps([[row['level'], row['message'], row['message_origin'], row['sync_id']] for row in rows]))";
    let output =
        Command::new(python()).args(["-c", script]).arg(stack.lake.join(LOG).join(TABLE)).arg(connection).output();
    let output = output.expect("Python runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line[1].as_str()).collect()
}

fn logs(stack: &Stack, arguments: &[&str]) -> String {
    let output = command(&stack.agent.dir, &["logs"]).args(arguments).output().expect("inshore runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn lines_are_rows_of_the_commit_and_of_the_journal() {
    let stack = Stack::start();
    let zip = shop::zip(&[("connector.py", CONNECTOR)]);
    let connection = stack.connection(&zip, &[("cursor", "1"), ("fail", "no")]);
    let run = stack.sync(&connection);
    let sync = run["id"].as_str().expect("an id").to_owned();
    let found = lines(&stack, &connection);
    let said = [
        "table orders begins",
        "an error\nof two lines",
        "a severe one",
        "the other spelling",
        "printed",
        "after the checkpoint",
    ];
    let mut sorted: Vec<&str> = messages(&found);
    sorted.sort_unstable();
    let mut wanted = said.to_vec();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    let of = |message: &str| found.iter().find(|line| line[1] == message).cloned().unwrap_or_default();
    assert_eq!(of("an error\nof two lines"), json!(["ERROR", "an error\nof two lines", "connector_sdk", sync]));
    assert_eq!(of("a severe one")[0], "SEVERE");
    assert_eq!(of("the other spelling"), json!(["WARNING", "the other spelling", "connector_sdk", sync]));
    assert_eq!(of("printed"), json!(["INFO", "printed", "output", sync]));
    assert_eq!(run["rows"]["upserts"], 1, "lines are no rows of the connector: {run}");

    // What no commit follows is in the journal only.
    let failing = stack.connection_named("second", &zip, &[("cursor", "2"), ("fail", "yes")]);
    let failed = stack.rest.sync(&failing);
    let run = stack.rest.wait(&failing, &failed, SYNC);
    assert_eq!(run["error"]["code"], "SDK-001", "{run}");
    let found = lines(&stack, &failing);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(!messages(&found).contains(&"after the checkpoint"));
    assert_eq!(lines(&stack, &connection).len(), 6, "the other connection's lines stay");
    stack.sync(&connection);
    assert_eq!(lines(&stack, &connection).len(), 12);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "orders"), 1);

    let lake = format!("file://{}", stack.lake.display());
    let config = stack.agent.dir.join("agent.toml").display().to_string();
    let place = ["--connection", &connection, "--destination", &lake, "--config", &config, "-o", "json"];
    let history = Project::new(&[]).inshore(&[&["state", "history"], &place[..]].concat());
    let history: Value = serde_json::from_str(&history.data).unwrap_or_else(|_| panic!("{}", history.words));
    let moved: Vec<_> =
        history["commits"].as_array().expect("a list").iter().map(|commit| &commit["upserts"]).collect();
    assert_eq!(moved, [0, 1, 0, 1], "a commit of lines moves no row: {history}");

    let all = logs(&stack, &[]);
    assert!(all.contains("after the checkpoint") && all.contains(&failing) && all.contains(&connection), "{all}");
    let warnings = logs(&stack, &[&failing, "--level", "error", "--sync", &failed]);
    assert!(warnings.contains("ValueError: no") && warnings.contains("an error"), "{warnings}");
    assert!(!warnings.contains("after the checkpoint") && !warnings.contains(&connection), "{warnings}");
    let table = logs(&stack, &["--table", "orders", "-o", "jsonl", "--sync", &sync]);
    assert_eq!(table.lines().count(), 1, "{table}");
    assert_eq!(logs(&stack, &[&connection, "-n", "2"]).matches(&sync).count(), 0, "the newest are of the newest sync");
    let unknown = command(&stack.agent.dir, &["logs", "con_nobody"]).output().expect("inshore runs");
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn logs_are_followed_while_a_sync_runs() {
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("cursor", "1"), ("fail", "no")]);
    let mut following = command(&stack.agent.dir, &["logs", "--follow", "--level", "warning"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("inshore runs");
    let stdout = following.stdout.take().expect("a pipe");
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            drop(told.send(line));
        }
    });
    stack.sync(&connection);
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.contains("after the checkpoint")) {
        seen.push(heard.recv_timeout(SYNC).expect("a line of the sync"));
    }
    following.kill().expect("it follows until it is stopped");
    following.wait().expect("ended");
    assert!(seen.iter().any(|line| line.contains("a severe one")), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("printed")), "{seen:?}");
}

/// A crash between the commit of lines and their table leaves each of them there once.
#[test]
fn lines_survive_a_crash_once() {
    for point in ["P10", "P12", "P13b"] {
        let mut stack = Stack::start();
        let connection =
            stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("cursor", "1"), ("fail", "no")]);
        stack.agent.kill();
        stack.agent.arm(&[(point, 1)]);
        let rest = stack.rest.clone();
        stack.agent.start(&rest);
        let sync = rest.sync(&connection);
        if rest.wait(&connection, &sync, SYNC)["status"] != "succeeded" {
            stack.sync(&connection);
        }
        assert_eq!(stack.agent.hits(), [point]);
        let found = lines(&stack, &connection);
        // Those of the attempt that ended well, and what the commit of the first one had of its own.
        let count = |message: &str| messages(&found).iter().filter(|found| **found == message).count();
        assert_eq!(count("after the checkpoint"), 1, "{point}: {found:?}");
        assert!((1..=2).contains(&count("printed")), "{point}: {found:?}");
        stack.sync(&connection);
        assert_eq!(lines(&stack, &connection).len(), found.len() + 6, "{point}: nothing is lost or doubled later");
    }
}

/// No sync fails over the table of lines, and the policy can do without it.
#[test]
fn rows_arrive_where_the_table_of_lines_cannot_be_written_or_is_switched_off() {
    let stack = Stack::start();
    let zip = shop::zip(&[("connector.py", CONNECTOR)]);
    let connection = stack.connection(&zip, &[("cursor", "1"), ("fail", "no")]);
    std::fs::write(stack.lake.join(LOG), "in the way").expect("a file");
    let warned = |run: &Value| run["warnings"].as_array().is_some_and(|all| all.iter().any(|w| w["code"] == "DST-011"));
    let run = stack.sync(&connection);
    assert!(warned(&run), "{run}");
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "orders"), 1);
    let journal = logs(&stack, &[&connection]);
    let said = ["table orders begins", "after the checkpoint", "inshore_log.connector_sdk_log cannot be written"];
    said.iter().for_each(|said| assert!(journal.contains(said), "{said}: {journal}"));

    std::fs::remove_file(stack.lake.join(LOG)).expect("out of the way");
    let run = stack.sync(&connection);
    assert!(!warned(&run), "{run}");
    assert_eq!(lines(&stack, &connection).len(), 6);

    let policy = stack.agent.dir.join("policy.toml");
    let text = std::fs::read_to_string(&policy).expect("the policy");
    std::fs::write(&policy, text + "[logs]\nconnector_sdk_log = false\n").expect("the policy");
    let run = stack.sync(&connection);
    assert!(!warned(&run), "{run}");
    assert_eq!(lines(&stack, &connection).len(), 6, "the table stays as it is");
    assert_eq!(logs(&stack, &[&connection]).matches("table orders begins").count(), 3);
}

/// The shared table is no connector's to write.
#[test]
fn a_connector_cannot_write_the_table_of_lines() {
    let stack = Stack::start();
    let body = "from fivetran_connector_sdk import Connector, Operations as op\n\
                def update(configuration, state):\n    op.upsert('connector_sdk_log', {'id': 'forged'}, schema='log')\n\
                connector = Connector(update)\n";
    let connection = stack.connection_named("inshore", &shop::zip(&[("connector.py", body)]), &[]);
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_eq!(run["error"]["code"], "DST-008", "{run}");
    assert!(!stack.lake.join(LOG).exists());
}

#[test]
fn a_configured_secret_in_the_state_is_named_and_not_shown() {
    const KEEPING: &str = "from fivetran_connector_sdk import Connector, Operations as op\n\ndef update(configuration, state):\n    \
        op.upsert('t', {'id': 1})\n    for page in range(2):\n        \
        op.checkpoint({'pages': [{'url': f\"https://x/?k={configuration['api_key']}&p={page}\"}]})\n\n\
        connector = Connector(update=update)\n";
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", KEEPING)]), &[("api_key", "canary-4711")]);
    stack.sync(&connection);
    let journal = stack.journal(&connection);
    let words = "the state holds the value of `api_key` of the configuration at `pages[0].url`";
    assert_eq!(journal.matches(words).count(), 1, "{journal}");
    assert!(!journal.contains("canary"), "{journal}");
    let rows = lines(&stack, &connection);
    assert_eq!(messages(&rows).iter().filter(|message| message.starts_with(words)).count(), 1, "{rows:?}");
}
