//! `inshore debug`: a developer's own run, without agent and control plane.

use std::os::unix::fs::PermissionsExt;

use inshore_tests::debug::Project;
use serde_json::json;

const CONNECTOR: &str = r#"
from fivetran_connector_sdk import Connector, Logging as log, Operations as op
import os

def schema(configuration):
    return [
        {"table": "hello", "primary_key": ["id"]},
        {"table": "empty", "primary_key": ["id"], "columns": {"id": "INT", "at": "UTC_DATETIME"}},
    ]

def update(configuration, state):
    log.fine("model " + os.environ["FIVETRAN_DEPLOYMENT_MODEL"])
    print("printed by the connector")
    start = state.get("next", 0)
    for i in range(start, start + int(configuration["rows"])):
        op.upsert("hello", {"id": i, "userName": configuration["name"], "detail": {"a": [i]}})
    op.checkpoint({"next": start + int(configuration["rows"])})
    if configuration.get("fail"):
        op.upsert("hello", {"id": -1})
        raise ValueError("no more")

connector = Connector(update=update, schema=schema)
"#;

#[test]
fn debug_fills_the_warehouse_and_goes_on_from_its_state() {
    let project = Project::new(&[("connector.py", CONNECTOR), ("configuration.json", r#"{"rows": "3", "name": "a"}"#)]);
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    for words in ["model local_debug", "printed by the connector", "tester.hello        3", "warehouse.db"] {
        assert!(run.words.contains(words), "{words:?} is not in\n{}", run.words);
    }
    assert_eq!(project.read("files/state.json"), r#"{"next": 3}"#);
    assert_eq!(project.read("files/.gitignore"), "*\n");
    let mode = std::fs::metadata(project.path().join("files")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "rows and state are the developer's alone");
    let all = "select id, user_name, detail, _fivetran_deleted from tester.hello order by id";
    let row = |id: i64, name: &str| json!([id, name, format!("{{\"a\": [{id}]}}"), false]);
    assert_eq!(project.query(all), json!([row(0, "a"), row(1, "a"), row(2, "a")]));
    assert_eq!(project.query("select count(*) from tester.empty"), json!([[0]]));
    // Any DuckDB since 0.10 opens the file, in any program: version 64 after the magic bytes, and no lock or log beside it.
    let header = std::fs::read(project.path().join("files/warehouse.db")).expect("a file");
    assert_eq!((header.get(8..12), header.get(12..20)), (Some(&b"DUCK"[..]), Some(&64_u64.to_le_bytes()[..])));
    assert!(!project.path().join("files/warehouse.db.wal").exists(), "nothing is left to be replayed");

    project.write("other.json", r#"{"rows": "1", "name": "b"}"#);
    let other = project.path().join("other.json").display().to_string();
    project.debug(&["--configuration", &other]);
    assert_eq!(project.read("files/state.json"), r#"{"next": 4}"#);
    project.write("files/state.json", r#"{"next": 1}"#);
    let run = project.debug(&["--configuration", &other]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert_eq!(project.query(all), json!([row(0, "a"), row(1, "b"), row(2, "a"), row(3, "b")]));
    assert_eq!(project.read("files/state.json"), r#"{"next": 2}"#, "an edited state is the state");
}

#[test]
fn debug_of_a_failing_connector_keeps_its_checkpoint_and_tells_the_line() {
    let project = Project::new(&[
        ("connector.py", CONNECTOR),
        ("configuration.json", r#"{"rows": "2", "name": "a", "fail": "1"}"#),
    ]);
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(1), "{}", run.words);
    for words in ["SDK-001", "ValueError: no more", "connector.py\", line 20", "docs/errors/SDK-001.md"] {
        assert!(run.words.contains(words), "{words:?} is not in\n{}", run.words);
    }
    assert_eq!(project.read("files/state.json"), r#"{"next": 2}"#);
    assert_eq!(project.query("select count(*), min(id) from tester.hello"), json!([[2, 0]]));
}

#[test]
fn debug_says_what_is_wrong_with_a_project() {
    let empty = Project::new(&[]);
    let numbers = Project::new(&[("connector.py", CONNECTOR), ("configuration.json", r#"{"rows": 3}"#)]);
    let cases = [
        (empty.debug(&[]), "PKG-003", "has no connector.py"),
        (numbers.debug(&[]), "PKG-011", "the value of `rows` must be a text in quotes"),
        (numbers.debug(&["--configuration", "/nonexistent.json"]), "PKG-010", "/nonexistent.json"),
    ];
    for (run, code, words) in cases {
        assert_eq!(run.exit, Some(1), "{}", run.words);
        assert!(run.words.contains(code) && run.words.contains(words), "{}", run.words);
    }
}
