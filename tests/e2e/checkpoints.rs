//! Checkpoints of a table's log, written by the real job: a death around one loses nothing, and the table lives on without
//! the versions before it, for us and for independent readers.

use std::path::{Path, PathBuf};
use std::process::Command;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{python, root, shop, wait};
use serde_json::Value;

/// Every sync moves so many rows more, each with a checkpoint of its own: more than lie between two of a log's.
const ROWS: u64 = 105;
const CONNECTOR: &str = r#"
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "n", "primary_key": ["id"]}]

def update(configuration, state):
    start = state.get("next", 0)
    for number in range(start, start + int(configuration["rows"])):
        op.upsert("n", {"id": number})
        op.checkpoint({"next": number + 1})

connector = Connector(update=update, schema=schema)
"#;

fn log(stack: &Stack) -> PathBuf {
    stack.lake.join(SCHEMA).join("n/_delta_log")
}

/// The versions that end so.
fn versions(log: &Path, end: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(log).expect("a log").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut versions: Vec<u64> = names.filter_map(|name| name.strip_suffix(end)?.parse().ok()).collect();
    versions.sort_unstable();
    versions
}

/// Every independent reader finds the keys from 0 on, each once.
fn assert_rows(stack: &Stack, rows: u64, what: &str) {
    let script = root().join("tests/python/read_tables.py");
    let table = format!("{SCHEMA}/n");
    let output = Command::new(python()).arg(script).arg(&stack.lake).args(["--table", &table]).output();
    let output = output.expect("Python runs");
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{what}: {}", String::from_utf8_lossy(&output.stderr)));
    let readers = found.as_object().expect("readers");
    assert_eq!(readers.len(), 7, "{what}");
    for (reader, tables) in readers {
        let keys = tables[&table]["rows"].as_array().expect("rows").iter().map(|row| row[0].as_str().expect("a key"));
        let wanted = (0..rows).map(|key| format!("i:{key}"));
        assert!(keys.eq(wanted), "{what}: {reader} finds other rows than {rows}");
    }
}

fn crash_at(point: &str) {
    let mut stack = Stack::start();
    let rows = ROWS.to_string();
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("rows", rows.as_str())]);
    stack.agent.kill();
    stack.agent.arm(&[(point, 1)]);
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    let sync = rest.sync(&connection);
    wait::until(point, SYNC, || (!stack.agent.hits().is_empty()).then_some(()));
    let log = log(&stack);
    let hint = log.join("_last_checkpoint");
    assert!(!hint.exists(), "{point}");
    // The first attempt left 101 rows; whoever goes on adds 105 to the rows of its own state.
    let mut total = 101 + ROWS;
    if rest.wait(&connection, &sync, SYNC)["status"] != "succeeded" {
        stack.sync(&connection);
    }
    assert_rows(&stack, total, point);
    let checkpoints = versions(&log, ".checkpoint.parquet");
    assert!(checkpoints.len() >= 2 && hint.exists(), "{point}: {checkpoints:?}");
    let newest = checkpoints[checkpoints.len() - 1];
    for version in versions(&log, ".json").into_iter().filter(|version| *version <= newest) {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).expect("deleted");
    }
    assert_rows(&stack, total, &format!("{point}, without the first versions"));
    stack.sync(&connection);
    total += ROWS;
    assert_rows(&stack, total, &format!("{point}, and on from there"));
    println!("{point}: hit, checkpoints {checkpoints:?}");
}

#[test]
fn crash_before_a_checkpoint_is_written() {
    crash_at("P24");
}

#[test]
fn crash_between_a_checkpoint_and_the_file_that_names_it() {
    crash_at("P25");
}
