//! The verbs of a developer's project beside `debug`: init, inspect, sql, state, reset, version.

use std::process::Stdio;
use std::time::Duration;

use inshore_tests::debug::{Project, Run};
use serde_json::{Value, json};

const TIMES: &str = r#"
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "t", "primary_key": ["id"], "columns": {"price": {"type": "DECIMAL", "precision": 9, "scale": 2}}}]

def update(configuration, state):
    run = state.get("run", 0)
    for i in range(3 + run):
        op.upsert("t", {"id": i, "price": "1.10", "n": 1 if run == 0 else 1.5, "text": "a, \"b\"\n" if i else None})
    if run:
        op.delete("t", {"id": 0})
        op.upsert("other", {"id": 1})
    op.checkpoint({"run": run + 1})

connector = Connector(update=update, schema=schema)
"#;

fn expect(run: &Run, exit: i32, words: &[&str]) {
    assert_eq!(run.exit, Some(exit), "{}", run.words);
    for word in words {
        assert!(run.words.contains(word) || run.data.contains(word), "{word:?} is not in\n{}{}", run.data, run.words);
    }
}

#[test]
fn a_new_project_needs_no_network_after_its_first_run() {
    let project = Project::of_template("default");
    expect(&project.debug(&[]), 0, &["taking orders 1 to 25"]);
    let started = std::time::Instant::now();
    let mut command = std::process::Command::new("unshare");
    let inside = project.command(&["debug"]);
    command.args(["--user", "--map-root-user", "--net"]).arg(inside.get_program()).args(inside.get_args());
    command.current_dir(project.path()).env("XDG_CACHE_HOME", inshore_tests::cache()).stdin(Stdio::null());
    let run = Run::of(command.output().expect("unshare starts"));
    expect(&run, 0, &["taking orders 26 to 50", "warehouse.db"]);
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn a_fresh_host_without_a_network_runs_a_connector_that_needs_no_package() {
    let (project, cache) = (Project::of_template("default"), tempfile::tempdir().expect("a folder"));
    let offline = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        let inside = project.command(arguments);
        command.args(["--user", "--map-root-user", "--net"]).arg(inside.get_program()).args(inside.get_args());
        command.current_dir(project.path()).env("XDG_CACHE_HOME", cache.path()).stdin(Stdio::null());
        Run::of(command.output().expect("unshare starts"))
    };
    let run = offline(&["debug"]);
    let words =
        ["requests could not be installed", "taking orders 1 to 25", "files/tables as Parquet", "no warehouse.db"];
    expect(&run, 0, &words);
    assert!(!run.words.contains("Retrying"), "the installer's own lines are for who asks: {}", run.words);
    let started = std::time::Instant::now();
    expect(&offline(&["debug", "--verbose"]), 0, &["taking orders 26 to 50", "no warehouse.db"]);
    assert!(started.elapsed() < Duration::from_secs(5), "nothing is tried again at once: {:?}", started.elapsed());
}

#[test]
fn init_writes_over_nothing() {
    let project = Project::of_template("default");
    project.write("connector.py", "mine");
    let run = project.inshore(&["init", ".", "--template", "oauth2"]);
    expect(&run, 1, &["DEV-001", "connector.py, configuration.json", "--force"]);
    assert_eq!(project.read("connector.py"), "mine");
    expect(&project.inshore(&["init", "--force"]), 0, &["next: inshore debug"]);
    expect(&project.inshore(&["init", "deeper/down"]), 0, &["next: inshore debug deeper/down"]);
    expect(&project.inshore(&["init", "--template", "nothing"]), 2, &["incremental-rest"]);
}

#[test]
fn inspect_tells_what_the_last_run_changed() {
    let project = Project::new(&[("connector.py", TIMES)]);
    expect(&project.inshore(&["inspect"]), 1, &["DEV-002", "inshore debug"]);
    expect(&project.debug(&[]), 0, &[]);
    let first = project.inshore(&["inspect"]);
    expect(
        &first,
        0,
        &["tester.t  3 rows, key id", "last run: new table, 3 rows written", "price              DECIMAL(9,2)"],
    );
    expect(&project.debug(&[]), 0, &[]);
    let second = project.inshore(&["inspect"]);
    let words = [
        "tester.t  4 rows, 1 marked deleted, key id",
        "last run: 1 new rows, 3 rows written again, 1 marked deleted",
        "DOUBLE  was INT",
        "tester.other  1 rows",
    ];
    expect(&second, 0, &words);
    let json: Value = serde_json::from_str(&project.inshore(&["inspect", "-o", "json"]).data).expect("JSON");
    assert_eq!(json["tables"][1]["rows"], 4, "{json}");
    assert_eq!(second.words, "", "a result is data");
}

#[test]
fn sql_answers_people_and_programs() {
    let project = Project::new(&[("connector.py", TIMES)]);
    expect(&project.inshore(&["sql", "select 1"]), 1, &["DEV-002"]);
    expect(&project.debug(&[]), 0, &[]);
    let query = "select id, price, text, n = 1 as one from tester.t order by id";
    let ask = |output: &str| project.inshore(&["sql", query, "-o", output]).data;
    let table = "id  price  text     one\n──  ─────  ───────  ────\n 0   1.10  NULL     true\n 1   1.10  a, \"b\"   true\n \
                 2   1.10  a, \"b\"   true\n";
    assert_eq!(project.inshore(&["sql", query]).data, table);
    let rows: Value = serde_json::from_str(&ask("json")).expect("JSON");
    assert_eq!(rows[1], json!({"id": 1, "price": "1.10", "text": "a, \"b\"\n", "one": true}));
    assert_eq!(ask("jsonl").lines().count(), 3);
    assert!(
        ask("csv").starts_with("id,price,text,one\n0,1.10,,true\n1,1.10,\"a, \"\"b\"\"\n\",true\n"),
        "{}",
        ask("csv")
    );
    let few = project.inshore(&["sql", query, "--rows", "1"]);
    expect(&few, 0, &["… 2 more rows"]);
    expect(&project.inshore(&["sql", "select * from tester.absent"]), 1, &["DEV-003", "absent"]);
    expect(&project.inshore(&["sql", "drop table tester.t"]), 1, &["DEV-003", "read-only"]);
    assert_eq!(project.inshore(&["sql", "select 1 where false", "-o", "json"]).data, "[]\n");
    let bare = tempfile::tempdir().expect("a folder");
    let mut nowhere = project.command(&["sql", "select 1"]);
    nowhere.env("XDG_CACHE_HOME", bare.path()).env("PATH", bare.path());
    expect(&Run::of(nowhere.output().expect("runs")), 1, &["DEV-004", "prepare DuckDB", "is not on this host"]);
}

#[test]
fn the_state_can_be_read_set_and_edited() {
    let project = Project::new(&[("connector.py", TIMES)]);
    let get = || project.inshore(&["state", "get"]).data;
    assert_eq!(get(), "{}\n");
    expect(&project.inshore(&["state", "set", r#"{"run": 1}"#]), 0, &["next run"]);
    assert_eq!(get(), "{\"run\": 1}\n");
    expect(&project.inshore(&["state", "set", "{run: 1}"]), 1, &["PKG-011", "line 1, column 2"]);
    assert_eq!(get(), "{\"run\": 1}\n");
    let edit =
        |editor: &str| Run::of(project.command(&["state", "edit"]).env("VISUAL", editor).output().expect("runs"));
    expect(&edit("sed -i s/1/7/"), 0, &["next run"]);
    let state: Value = serde_json::from_str(&get()).expect("JSON");
    assert_eq!(state, json!({"run": 7}));
    expect(&edit("true"), 0, &["stays as it was"]);
    expect(&edit("false"), 0, &["stays as it was"]);
    expect(&edit("/nonexistent/editor"), 1, &["PKG-010", "/nonexistent/editor"]);
    expect(&edit("sed -i s/{/[/"), 1, &["PKG-011"]);
}

#[test]
fn reset_asks_before_it_removes() {
    let project = Project::new(&[("connector.py", TIMES)]);
    expect(&project.inshore(&["reset"]), 0, &["nothing to remove"]);
    expect(&project.debug(&[]), 0, &[]);
    expect(&project.inshore(&["reset"]), 2, &["--yes"]);
    assert!(project.path().join("files/state.json").exists());
    expect(&project.inshore(&["reset", "--force"]), 0, &["removed"]);
    assert!(!project.path().join("files").exists());
    expect(&project.inshore(&["reset", "/nonexistent/x"]), 1, &["PKG-010"]);
}

#[test]
fn a_mistyped_verb_is_answered_with_the_near_one() {
    let project = Project::new(&[]);
    expect(&project.inshore(&["debgu"]), 2, &["'debug'"]);
    expect(&project.inshore(&["version"]), 0, &["inshore 0."]);
}
