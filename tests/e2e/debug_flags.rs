//! `inshore debug` with its flags, and what it warns of; `inshore validate`.

use inshore_tests::debug::Project;
use inshore_tests::wait;
use serde_json::{Value, json};

const COUNTING: &str = r#"
from fivetran_connector_sdk import Connector, Logging as log, Operations as op
import os, sys

def update(configuration, state):
    log.debug("a debug line; " + os.environ["FIVETRAN_DEPLOYMENT_MODEL"])
    start = state.get("next", 0)
    for i in range(start, start + 5000):
        op.upsert("n", {"id": i})
        if i % 1000 == 999:
            op.checkpoint({"next": i + 1})
    if configuration.get("leave"):
        sys.exit(0)

def schema(configuration):
    return [{"table": "n", "primary_key": ["id"]}]

connector = Connector(update=update, schema=schema)

if __name__ == "__main__":
    sys.exit(connector.debug())
"#;

fn counting(configuration: &Value) -> Project {
    Project::new(&[("connector.py", COUNTING), ("configuration.json", &configuration.to_string())])
}

#[test]
fn a_limit_keeps_so_many_rows_and_the_state_of_the_checkpoint_before() {
    let project = counting(&json!({}));
    let run = project.debug(&["--limit-rows", "1500"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(run.words.contains("stopped at --limit-rows"), "{}", run.words);
    assert_eq!(project.read("files/state.json"), r#"{"next": 1000}"#);
    assert_eq!(project.query("select count(*), max(id) from tester.n"), json!([[1500, 1499]]));
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert_eq!(project.read("files/state.json"), r#"{"next": 6000}"#);
    assert_eq!(project.query("select count(*), max(id) from tester.n"), json!([[6000, 5999]]));
    let run = project.debug(&["--limit-rows", "100000"]);
    assert!(run.exit == Some(0) && !run.words.contains("stopped at"), "{}", run.words);
    assert_eq!(project.debug(&["--limit-rows", "0"]).exit, Some(2));
}

#[test]
fn what_was_printed_before_the_limit_is_shown() {
    let printing = "from fivetran_connector_sdk import Connector, Logging as log, Operations as op\nimport time\n\n\
                    def update(configuration, state):\n    for i in range(100):\n        log.info(f'row {i} comes')\n        \
                    op.upsert('n', {'id': i})\n        op.checkpoint({'next': i})\n    time.sleep(60)\n\n\
                    connector = Connector(update=update)\n";
    let project = Project::new(&[("connector.py", printing)]);
    let run = project.debug(&["--limit-rows", "7"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(run.words.contains("row 6 comes") && run.words.contains("stopped at --limit-rows"), "{}", run.words);
    assert_eq!(project.query("select count(*) from tester.n"), json!([[7]]));
}

fn events(project: &Project, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let run = project.debug(&[&["--progress", "json"], arguments].concat());
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (run.exit, run.data.lines().map(parse).collect())
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn progress_json_is_one_event_a_line() {
    let project = counting(&json!({"leave": "1"}));
    let (exit, events) = events(&project, &[]);
    assert_eq!(exit, Some(0));
    for event in &events {
        assert_eq!(event["schema_version"], 1);
        assert_eq!(event["sync_id"], events[0]["sync_id"]);
        assert!(event["ts"].as_str().is_some_and(|text| text.ends_with('Z')), "{event}");
    }
    let warnings = named(&events, "warning");
    assert!(
        warnings.iter().any(|event| event["message"].as_str().is_some_and(|text| text.contains("connector.py:13")))
    );
    let start = named(&events, "start");
    assert_eq!((start.len(), &start[0]["naming"], &start[0]["state_bytes"]), (1, &json!("FIVETRAN"), &json!(2)));
    let schema = named(&events, "schema");
    assert_eq!((schema.len(), &schema[0]["change"], &schema[0]["primary_key"]), (1, &json!("created"), &json!(["id"])));
    let checkpoints = named(&events, "checkpoint");
    assert_eq!(checkpoints.len(), 5);
    assert!(checkpoints.iter().all(|event| event["upserts"] == 1000 && event["state_bytes"] == 14), "{checkpoints:?}");
    let last_progress = *named(&events, "progress").last().expect("at least one");
    assert_eq!((&last_progress["table"], &last_progress["upserts"]), (&json!("n"), &json!(5000)));
    let end = events.last().expect("an end");
    assert_eq!((&end["event"], &end["status"], &end["exit_code"]), (&json!("end"), &json!("succeeded"), &json!(0)));
    assert_eq!((&end["upserts"], &end["checkpoints"], &end["schema_changes"]), (&json!(5000), &json!(5), &json!(1)));
}

#[test]
fn progress_json_tells_errors_with_their_line_and_quiet_runs_with_their_reason() {
    let raising = "from fivetran_connector_sdk import Connector\n\ndef update(configuration, state):\n    raise ValueError('no')\n\n\
                   connector = Connector(update=update)\n";
    let (exit, failed) = events(&Project::new(&[("connector.py", raising)]), &[]);
    assert_eq!(exit, Some(1));
    let error = named(&failed, "error")[0];
    assert_eq!((&error["code"], &error["message"]), (&json!("SDK-001"), &json!("ValueError: no")));
    assert_eq!((&error["file"], &error["line"]), (&json!("connector.py"), &json!(4)));
    assert_eq!(failed.last().expect("an end")["status"], "failed");
    let quiet = raising.replace("raise ValueError('no')", "pass");
    let (exit, quiet) = events(&Project::new(&[("connector.py", &quiet)]), &[]);
    assert_eq!(exit, Some(0));
    let reason = &quiet.last().expect("an end")["nothing_moved_reason"];
    assert!(reason.as_str().is_some_and(|text| text.contains("no operation")), "{reason}");
    let (exit, broken) = events(&Project::new(&[("connector.py", "x"), ("configuration.json", "{")]), &[]);
    assert_eq!((exit, &named(&broken, "error")[0]["code"]), (Some(1), &json!("PKG-011")));
}

#[test]
fn a_profile_tells_where_the_time_went() {
    let slow = COUNTING.replace(
        "        if i % 1000 == 999",
        "        if i == start: __import__('time').sleep(0.5)\n        if i % 1000 == 999",
    );
    let project = Project::new(&[("connector.py", &slow)]);
    let (exit, told) = events(&project, &["--profile"]);
    assert_eq!(exit, Some(0));
    let profile = named(&told, "profile")[0];
    let table = &profile["tables"][0];
    assert_eq!((&table["table"], &table["rows"]), (&json!("n"), &json!(5000)));
    assert!(table["user_code_ms"].as_u64() >= Some(500), "{profile}");
    assert!(table["checkpoint_ms"].as_u64() > Some(0), "five checkpoints take time: {profile}");
    assert!(profile["peak_bytes"]["connector"].as_u64() > Some(5 << 20), "{profile}");
    assert!(profile["peak_bytes"]["inshore"].as_u64() > Some(5 << 20), "{profile}");
    let text = project.debug(&["--profile"]).words;
    assert!(
        text.contains("  profile   rows  user code  encoding  back-pressure  checkpoint\n  n        5,000"),
        "{text}"
    );
    assert!(text.contains("peak memory: connector "), "{text}");
    assert!(!project.debug(&[]).words.contains("peak memory"), "only when it is asked for");
}

#[test]
fn a_run_can_start_from_the_state_of_an_earlier_commit() {
    let project = counting(&json!({}));
    assert_eq!(project.debug(&[]).exit, Some(0));
    let history: Value =
        serde_json::from_str(&project.inshore(&["state", "history", "-o", "json"]).data).expect("JSON");
    let commit = history["commits"][3]["commit"].to_string();
    assert_eq!(history["commits"][3]["state"]["next"], 2000);
    let (exit, told) = events(&project, &["--since-state", &commit]);
    assert_eq!((exit, &named(&told, "checkpoint")[0]["upserts"]), (Some(0), &json!(1000)));
    assert_eq!(project.read("files/state.json"), r#"{"next": 7000}"#);
    let absent = project.debug(&["--since-state", "4711"]);
    assert!(absent.exit == Some(1) && absent.words.contains("DEV-012"), "{}", absent.words);
    assert_eq!(project.debug(&["--since-state", "1", "--state", "x"]).exit, Some(2));
}

#[test]
fn an_error_begins_with_its_own_line() {
    let deep = "from fivetran_connector_sdk import Connector\nimport json\n\ndef update(configuration, state):\n    \
                json.loads('{')\n\nconnector = Connector(update=update)\n";
    let run = Project::new(&[("connector.py", deep)]).debug(&[]);
    let block = "inshore: SDK-001: json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: \
                 line 1 column 2 (char 1)\n  connector.py:5, in update\n       3 │\n       4 │ def update(configuration, state):\n  \
                 >    5 │     json.loads('{')\n       6 │\n       7 │ connector = Connector(update=update)\n\nTraceback";
    assert!(run.words.contains(block), "{block}\n is not in\n{}", run.words);
    assert_eq!(run.words.matches("Traceback").count(), 1);
}

#[test]
fn simulate_hybrid_runs_as_an_agent_would() {
    let project = counting(&json!({}));
    let plain = project.debug(&[]);
    assert!(plain.words.contains("a debug line; local_debug"), "{}", plain.words);
    let simulated = project.debug(&["--simulate", "hybrid"]);
    assert_eq!(simulated.exit, Some(0), "{}", simulated.words);
    assert!(!simulated.words.contains("a debug line"), "{}", simulated.words);
}

#[test]
fn a_secret_in_the_state_is_warned_of_without_being_shown() {
    let keeping = "from fivetran_connector_sdk import Connector, Operations as op\n\ndef update(configuration, state):\n    \
                   op.checkpoint({'url': 'https://x/?k=' + configuration['api_key']})\n\nconnector = Connector(update=update)\n";
    let project = Project::new(&[("connector.py", keeping), ("configuration.json", r#"{"api_key": "canary-4711"}"#)]);
    let run = project.debug(&[]);
    assert!(run.words.contains("the state holds the value of `api_key`"), "{}", run.words);
    assert!(!run.words.contains("canary"), "{}", run.words);
}

#[test]
fn an_encrypted_configuration_is_opened_with_the_users_key() {
    let showing = "from fivetran_connector_sdk import Connector, Operations as op\n\ndef update(configuration, state):\n    \
                   op.upsert('c', {'length': len(configuration['api_key'])})\n    op.checkpoint({})\n\n\
                   connector = Connector(update=update)\n";
    let sealed = r#"{"api_key": "fivetran_encrypted:AAAAAAAAAAAAAAAAfY/WrNBY2Vs+/lB6nDJdQFpTwKocvA=="}"#;
    let project = Project::new(&[("connector.py", showing), ("configuration.json", sealed)]);
    let home = tempfile::tempdir().expect("a folder");
    let debug = || {
        let output = project.command(&["debug"]).env("HOME", home.path()).output().expect("the product starts");
        inshore_tests::debug::Run::of(output)
    };
    let run = debug();
    assert_eq!(run.exit, Some(1));
    assert!(run.words.contains("DEV-005") && run.words.contains("`api_key`"), "{}", run.words);
    let folder = home.path().join(".fivetran/connector_sdk");
    std::fs::create_dir_all(&folder).expect("a folder");
    // The bytes 0 to 31.
    std::fs::write(folder.join("config_encryption_key"), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        .expect("a key");
    let run = debug();
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert_eq!(project.query("select length from tester.c"), json!([[6]]));
}

#[test]
fn validate_finds_what_a_sync_would_stumble_over() {
    let run = |connector: &str, more: &[(&str, &str)]| {
        Project::new(&[&[("connector.py", connector)], more].concat()).inshore(&["validate"])
    };
    let fine = run(COUNTING, &[]);
    assert_eq!(
        (fine.exit, fine.data.as_str()),
        (Some(0), "warning connector.py:13: sys.exit() ends the sync where it stands: raise an exception instead\n")
    );
    let head = "from fivetran_connector_sdk import Connector\nimport socket\ndef update(configuration, state): pass\n";
    let schema = |body: &str| {
        format!("{head}def schema(configuration):\n    {body}\nconnector = Connector(update=update, schema=schema)\n")
    };
    let cases = [
        ("def x(:\n".to_owned(), vec![], "PKG-004", "connector.py:1: not valid Python"),
        (head.to_owned(), vec![], "PKG-005", "binds no Connector to the name `connector`"),
        (format!("{head}connector = 1\n"), vec![], "PKG-005", "connector"),
        (schema("return [{'table': 't', 'primary_key': 'id'}]"), vec![], "SDK-013", "primary_key"),
        (
            schema("socket.create_connection(('127.0.0.1', 9))"),
            vec![],
            "SDK-001",
            "connector.py:5: OSError: validate has no network",
        ),
        (schema("print('noise'); return 1 / 0"), vec![], "SDK-001", "connector.py:5: ZeroDivisionError"),
        (schema("return []"), vec![("helper.py", "if:\n")], "PKG-004", "helper.py:1"),
        (schema("return []"), vec![("requirements.txt", "-r absent.txt\n")], "PKG-013", "absent.txt"),
        (schema("return []"), vec![("configuration.json", "{\"a\": 1}")], "PKG-011", "`a`"),
    ];
    for (connector, more, code, words) in cases {
        let run = run(&connector, &more);
        assert_eq!(run.exit, Some(1), "{connector}{}{}", run.data, run.words);
        let all = format!("{}{}", run.data, run.words);
        assert!(all.contains(code) && all.contains(words), "{code} {words:?} are not in\n{all}");
    }
}

#[test]
fn a_run_is_compared_with_another() {
    let (project, other) = (counting(&json!({})), counting(&json!({})));
    assert_eq!((project.debug(&[]).exit, other.debug(&[]).exit), (Some(0), Some(0)));
    assert_eq!(project.inshore(&["reset", "--yes"]).exit, Some(0));
    let folder = other.path().display().to_string();
    let equal = project.debug(&["--compare", &folder]);
    assert!(equal.exit == Some(0) && equal.words.contains("1 table is equal"), "{}", equal.words);
    let more = project.debug(&["--compare", &folder]);
    assert_eq!(more.exit, Some(1), "{}", more.words);
    for words in ["tester.n\n", "5,000 rows only here, 0 only there", "DEV-013"] {
        assert!(more.words.contains(words), "{words} is not in {}", more.words);
    }
    assert_eq!(project.read("files/state.json"), r#"{"next": 10000}"#, "the run itself stands");
    for (wrong, code) in [("/nonexistent", "DEV-002"), (".", "DEV-002")] {
        let run = project.debug(&["--compare", wrong]);
        assert!(run.exit == Some(1) && run.words.contains(code) && !run.words.contains("checkpoint"), "{}", run.words);
    }
}

#[test]
fn a_watched_project_runs_again_when_it_changes() {
    let project = counting(&json!({}));
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut command = project.command(&["debug", "--watch", "--progress", "plain"]);
    let mut watching = command.stderr(log.reopen().expect("the file again")).spawn().expect("starts");
    let said = |words: &'static str, count: usize| {
        wait::until(words, std::time::Duration::from_secs(60), || {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            (text.matches(words).count() >= count).then_some(())
        });
    };
    said("waiting for a change", 1);
    project.write("connector.py", "def broken(:\n");
    said("PKG-004", 1);
    said("waiting for a change", 2);
    project.write("connector.py", &COUNTING.replace("5000", "7"));
    said("waiting for a change", 3);
    assert_eq!(project.query("select count(*) from tester.n"), json!([[5007]]));
    let pid = rustix::process::Pid::from_child(&watching);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    assert_eq!(watching.wait().expect("it ends").code(), Some(0));
}
