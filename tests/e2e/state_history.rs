//! `inshore state history`, `diff` and `rewind`: the past of a project's state, and the way back.

use std::time::Duration;

use inshore_tests::debug::{Project, Run};
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{shop, wait};
use serde_json::{Value, json};

const COUNTING: &str = r#"
import pathlib, time
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "n", "primary_key": ["id"]}]

def update(configuration, state):
    start = state.get("next", 0)
    for i in range(start, start + 2):
        op.upsert("n", {"id": i, "run": start})
        op.checkpoint({"next": i + 1, "big": "x" * configuration.get("big", "").count("x") * 100000})
    while pathlib.Path("files/hold").exists():
        pathlib.Path("files/holding").touch()
        time.sleep(0.05)

connector = Connector(update=update, schema=schema)
"#;

fn history(project: &Project) -> Vec<Value> {
    let run = project.inshore(&["state", "history", "-o", "json"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    let json: Value = serde_json::from_str(&run.data).expect("JSON");
    json["commits"].as_array().expect("a list").clone()
}

fn refused(run: &Run, code: &str) {
    assert!(run.exit == Some(1) && run.words.contains(code), "{code} is not in {}", run.words);
}

fn state(project: &Project) -> Value {
    serde_json::from_str(&project.inshore(&["state", "get"]).data).expect("JSON")
}

#[test]
fn a_project_goes_back_to_an_earlier_state() {
    let project = Project::new(&[("connector.py", COUNTING)]);
    for verb in [vec!["history"], vec!["diff"], vec!["rewind", "2", "--yes"]] {
        refused(&project.inshore(&[&["state"], &verb[..]].concat()), "DEV-002");
    }
    assert_eq!(project.debug(&[]).exit, Some(0));
    assert_eq!(project.debug(&[]).exit, Some(0));
    let commits = history(&project);
    let nexts: Vec<_> = commits.iter().map(|commit| commit["state"]["next"].clone()).collect();
    assert_eq!(nexts, [json!(4), json!(3), json!(2), json!(1)]);
    assert_eq!((&commits[0]["current"], &commits[1]["current"]), (&json!(true), &json!(false)));
    assert_eq!((&commits[3]["upserts"], &commits[3]["tables"]), (&json!(1), &json!(["tester.n"])));
    let number = |index: usize| commits[index]["commit"].to_string();

    let diff = project.inshore(&["state", "diff"]);
    assert_eq!((diff.exit, diff.data.as_str()), (Some(0), "~ next: 3 → 4\n"), "{}", diff.words);
    let diff = project.inshore(&["state", "diff", &number(3), &number(1)]);
    assert_eq!(diff.data, "~ next: 1 → 3\n");
    refused(&project.inshore(&["state", "diff", "4711"]), "DEV-012");

    let back = number(2);
    let unasked = project.inshore(&["state", "rewind", &back]);
    assert!(unasked.exit == Some(2) && unasked.words.contains("--yes"), "{}", unasked.words);
    refused(&project.inshore(&["state", "rewind", "1", "--yes"]), "DEV-012");
    assert_eq!(state(&project)["next"], 4, "nothing was written");
    let rewound = project.inshore(&["state", "rewind", &back, "--yes"]);
    assert_eq!(rewound.exit, Some(0), "{}", rewound.words);
    assert!(rewound.words.contains("~ next: 4 → 2") && rewound.words.contains("rows stay"), "{}", rewound.words);
    assert_eq!(state(&project)["next"], 2);
    let after = history(&project);
    assert_eq!((after.len(), &after[0]["state"]["next"], &after[0]["current"]), (5, &json!(2), &json!(true)));
    assert_eq!(after[0]["upserts"], 0, "a rewind moves no row");
    assert_eq!(project.query("select count(*) from tester.n"), json!([[4]]));

    // The next run reads the same rows again, and goes on from there.
    assert_eq!(project.debug(&[]).exit, Some(0));
    assert_eq!(project.query("select id, run from tester.n order by id"), json!([[0, 0], [1, 0], [2, 2], [3, 2]]));
    let again = project.inshore(&["state", "rewind", &history(&project)[0]["commit"].to_string(), "--yes"]);
    assert!(again.words.contains("from this state already"), "{}", again.words);
    let text = project.inshore(&["state", "history", "--limit", "2"]);
    assert!(text.data.contains("* ") && text.data.contains("… older ones"), "{}", text.data);
}

#[test]
fn a_state_that_was_set_by_hand_is_not_mistaken_for_a_commit() {
    let project = Project::new(&[("connector.py", COUNTING), ("configuration.json", r#"{"big": "xxx"}"#)]);
    assert_eq!(project.debug(&[]).exit, Some(0));
    assert_eq!(project.inshore(&["state", "set", r#"{"next": 7}"#]).exit, Some(0));
    let text = project.inshore(&["state", "history"]);
    assert!(text.data.contains("starts from another state") && text.data.contains('…'), "{}{}", text.data, text.words);
    let diff = project.inshore(&["state", "diff", "-o", "json"]);
    let json: Value = serde_json::from_str(&diff.data).expect("JSON");
    assert_eq!(json["differences"][1], json!({"path": "next", "change": "changed", "from": 2, "to": 7}));
    let gone = history(&project)[1]["commit"].to_string();
    assert_eq!(history(&project)[1]["state"], Value::Null, "a large state is kept until the next");
    refused(&project.inshore(&["state", "rewind", &gone, "--yes"]), "DEV-012");
    // A state beyond the size that an entry holds comes back as well.
    let newest = history(&project)[0]["commit"].to_string();
    assert_eq!(project.inshore(&["state", "rewind", &newest, "--yes"]).exit, Some(0));
    assert_eq!(state(&project)["big"].as_str().map(str::len), Some(300_000));
}

#[test]
fn nothing_changes_the_state_of_a_project_that_runs() {
    let project = Project::new(&[("connector.py", COUNTING)]);
    assert_eq!(project.debug(&[]).exit, Some(0));
    let first = history(&project)[0]["commit"].to_string();
    project.write("files/hold", "");
    let mut run = project.command(&["debug", "--progress", "none"]).spawn().expect("the product starts");
    let holding = project.path().join("files/holding");
    wait::until("the connector to hold", Duration::from_secs(30), || holding.exists().then_some(()));
    for command in
        [vec!["state", "rewind", &first, "--yes"], vec!["state", "set", "{}"], vec!["reset", "--yes"], vec!["debug"]]
    {
        refused(&project.inshore(&command), "DEV-011");
    }
    assert_eq!(history(&project)[0]["state"]["next"], 4, "looking is allowed");
    std::fs::remove_file(project.path().join("files/hold")).expect("removed");
    assert!(run.wait().expect("it ends").success());
    assert_eq!(state(&project)["next"], 4);
    assert_eq!(project.inshore(&["state", "rewind", &first, "--yes"]).exit, Some(0));
}

#[test]
fn a_chain_that_was_altered_has_no_past_to_show() {
    let project = Project::new(&[("connector.py", COUNTING)]);
    assert_eq!(project.debug(&[]).exit, Some(0));
    let chain = project.path().join("files/tables/_inshore/local/chain");
    let slot = std::fs::read_dir(&chain).expect("a chain").filter_map(Result::ok).map(|entry| entry.path()).max();
    let slot = slot.expect("an entry");
    let text = std::fs::read_to_string(&slot).expect("text");
    std::fs::write(&slot, text.replacen("next", "naxt", 1)).expect("written");
    refused(&project.inshore(&["state", "history"]), "DST-004");
}

#[test]
fn the_owner_of_an_agent_goes_back_to_an_earlier_state_of_a_connection() {
    let stack = Stack::start();
    let (connection, _) = stack.shop(50, 7);
    stack.sync(&connection);
    let lake = format!("file://{}", stack.lake.display());
    let config = stack.dir.path().join("agent/agent.toml").display().to_string();
    let place = ["--connection", &connection, "--destination", &lake, "--config", &config];
    let nowhere = Project::new(&[]);
    let ask = |verb: &[&str]| nowhere.inshore(&[&["state"], verb, &place].concat());
    let commits = || {
        let run = ask(&["history", "-o", "json"]);
        assert_eq!(run.exit, Some(0), "{}", run.words);
        let json: Value = serde_json::from_str(&run.data).expect("JSON");
        json["commits"].as_array().expect("a list").clone()
    };
    let before = commits();
    assert!(before.len() > 3 && before[0]["current"] == true, "{before:?}");
    let back = before[2]["commit"].to_string();
    assert!(!ask(&["diff", &back]).data.is_empty());
    let run = ask(&["rewind", &back, "--yes"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    let after = commits();
    assert_eq!((after.len(), &after[0]["state"]), (before.len() + 1, &before[2]["state"]));
    // The next sync reads from there, and nothing is lost or doubled.
    let again = stack.sync(&connection);
    assert_ne!(again["rows"]["upserts"], 0, "{again}");
    assert_eq!(commits()[0]["state"], before[0]["state"]);
    let absent = nowhere.inshore(&[
        "state",
        "history",
        "--connection",
        "connection_x",
        "--destination",
        &lake,
        "--config",
        &config,
    ]);
    refused(&absent, "DEV-002");
}

#[test]
fn a_connection_that_is_syncing_is_not_rewound() {
    let slow = "import time\nfrom fivetran_connector_sdk import Connector, Operations as op\n\n\
                def update(configuration, state):\n    for i in range(400):\n        op.upsert('t', {'id': i})\n        \
                op.checkpoint({'next': i})\n        time.sleep(0.02)\n\nconnector = Connector(update=update)\n";
    let stack = Stack::start();
    let connection = stack.connection_named("slow", &shop::zip(&[("connector.py", slow)]), &[]);
    let sync = stack.rest.sync(&connection);
    let lake = format!("file://{}", stack.lake.display());
    let config = stack.dir.path().join("agent/agent.toml").display().to_string();
    let place = ["--connection", &connection, "--destination", &lake, "--config", &config];
    let nowhere = Project::new(&[]);
    let ask = |verb: &[&str]| nowhere.inshore(&[&["state"], verb, &place].concat());
    let first = wait::until("a commit", SYNC, || {
        let json: Value = serde_json::from_str(&ask(&["history", "-o", "json"]).data).ok()?;
        json["commits"].as_array()?.last().map(|commit| commit["commit"].to_string())
    });
    refused(&ask(&["rewind", &first, "--yes"]), "DEV-011");
    assert_eq!(stack.rest.wait(&connection, &sync, SYNC)["status"], "succeeded");
    assert_eq!(ask(&["rewind", &first, "--yes"]).exit, Some(0));
}
