//! `python connector.py`: a project that runs itself by `connector.debug()`, and a truncation that waits for the end.

use std::path::Path;
use std::process::Command;

use inshore_tests::debug::Project;
use inshore_tests::{cache, python, stage};
use serde_json::json;

const ITSELF: &str = r#"
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def update(configuration, state):
    log.fine("fine line")
    log.info("info line")
    start = state.get("next", 0)
    op.upsert("seen", {"id": start, "name": configuration["name"]})
    op.checkpoint({"next": start + 1})
    if configuration["name"] == "fails":
        raise ValueError("no more")

connector = Connector(update=update, schema=lambda configuration: [{"table": "seen", "primary_key": ["id"]}])

if __name__ == "__main__":
    connector.debug(configuration={"name": "one"}, log_level=log.Level.INFO)
    connector.debug(configuration={"name": "two"}, state={"next": 7})
    print("both ran")
    connector.debug(configuration={"name": "fails"})
"#;

/// The interpreter of the tests has nothing of the SDK: it comes by the path that the command line prints.
fn run_itself(project: &Project) -> (Option<i32>, String, String) {
    let path = Command::new(stage().join("usr/bin/inshore")).arg("sdk-path").output().expect("the product starts");
    let path = String::from_utf8(path.stdout).expect("a path");
    assert!(Path::new(path.trim()).join("inshore_host.py").is_file(), "{path}");
    let output = Command::new(python())
        .arg(project.path().join("connector.py"))
        .current_dir("/")
        .env("PYTHONPATH", path.trim())
        .env("XDG_CACHE_HOME", cache())
        .output()
        .expect("Python runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn python_runs_a_project_that_calls_debug_twice_and_ends_as_the_failed_run_does() {
    let project = Project::new(&[("connector.py", ITSELF)]);
    let (exit, data, words) = run_itself(&project);
    assert_eq!((exit, data.as_str()), (Some(1), "both ran\n"), "{words}");
    assert!(words.contains("ValueError: no more") && words.contains("SDK-001"), "{words}");
    assert_eq!(words.matches("info line").count(), 3, "{words}");
    assert_eq!(words.matches("fine line").count(), 2, "the first run asked for INFO\n{words}");
    let seen = project.query("select id, name from tester.seen order by id");
    assert_eq!(seen, json!([[0, "one"], [7, "two"], [8, "fails"]]));
    assert_eq!(project.read("files/state.json"), r#"{"next": 9}"#);
}

const DEFERS: &str = r#"
from fivetran_connector_sdk import Connector, Operations as op

def update(configuration, state):
    if configuration["run"] == "1":
        for i in range(4):
            op.upsert("t", {"id": i, "run": "1"})
        return
    op.truncate("t", deferred=True)
    op.upsert("t", {"id": 0, "run": configuration["run"]})
    op.checkpoint({})
    op.upsert("t", {"id": 1, "run": configuration["run"]})
    op.checkpoint({"done": True})
    op.upsert("t", {"id": 9, "run": configuration["run"]})
    if configuration["run"] == "2":
        raise ValueError("not yet")

connector = Connector(update=update, schema=lambda configuration: [{"table": "t", "primary_key": ["id"]}])
"#;

#[test]
fn a_deferred_truncate_marks_rows_only_after_a_sync_that_succeeded() {
    let project = Project::new(&[("connector.py", DEFERS)]);
    let run = |number: u32, exit: i32| {
        project.write("configuration.json", &json!({"run": number.to_string()}).to_string());
        let run = project.debug(&[]);
        assert_eq!(run.exit, Some(exit), "{}", run.words);
        project.query("select id, run, _fivetran_deleted from tester.t order by id")
    };
    assert_eq!(run(1, 0), json!([[0, "1", false], [1, "1", false], [2, "1", false], [3, "1", false]]));
    // The sync failed: what it checkpointed is there, and nothing is marked.
    assert_eq!(run(2, 1), json!([[0, "2", false], [1, "2", false], [2, "1", false], [3, "1", false]]));
    let truncated = json!([[0, "3", false], [1, "3", false], [2, "1", true], [3, "1", true], [9, "3", false]]);
    assert_eq!(run(3, 0), truncated);
}

const TESTED: &str = r#"
from fivetran_connector_sdk import Connector, ConfigurationForm, Logging as log, Test, form_field

def reaches(configuration):
    log.info("trying " + configuration["host"])
    return Test().success() if configuration["host"] == "good" else Test().failure("no such host")

def lists(configuration):
    return Test().success()

def form():
    return (ConfigurationForm().add_field(form_field.TextField("host", "Host"))
        .add_test(label="Reach the host", func=reaches).add_test(label="List tables", func=lists))

connector = Connector(update=None, configuration_form=form)
"#;

#[test]
fn setup_tests_run_with_the_configuration() {
    let project = Project::new(&[("connector.py", TESTED), ("configuration.json", r#"{"host": "good"}"#)]);
    let run = project.inshore(&["test"]);
    assert_eq!(
        (run.exit, run.data.as_str()),
        (Some(0), "passed  Reach the host\npassed  List tables\n"),
        "{}",
        run.words
    );
    assert!(run.words.contains("trying good"), "{}", run.words);

    project.write("bad.json", r#"{"host": "bad"}"#);
    let bad = project.path().join("bad.json").display().to_string();
    let run = project.inshore(&["test", "--configuration", &bad]);
    let lines = "failed  Reach the host: no such host\npassed  List tables\n";
    assert_eq!((run.exit, run.data.as_str()), (Some(1), lines), "{}", run.words);
    assert!(run.words.contains("SDK-020: 1 of 2 setup tests did not pass"), "{}", run.words);

    let run = project.inshore(&["test", "--configuration", &bad, "--test", "lists"]);
    assert_eq!((run.exit, run.data.as_str()), (Some(0), "passed  List tables\n"), "{}", run.words);
    let run = project.inshore(&["test", "--test", "nosuch"]);
    assert_eq!(run.exit, Some(1));
    assert!(run.words.contains("SDK-019") && run.words.contains("nosuch"), "{}", run.words);
}
