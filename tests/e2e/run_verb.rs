//! `inshore run`: a project without an agent, into a lake of one's own.

use std::path::Path;
use std::process::{Command, Stdio};

use inshore_tests::debug::{Project, Run};
use inshore_tests::oracle;

const COUNTING: &str = r#"
import os
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def schema(configuration):
    return [{"table": "n", "primary_key": ["id"]}]

def update(configuration, state):
    start = state.get("next", 0)
    log.info(f"from {start} as {os.environ['FIVETRAN_CONNECTION_NAME']} in {os.environ['FIVETRAN_DEPLOYMENT_MODEL']}")
    for i in range(start, start + 3):
        op.upsert("n", {"id": i})
    op.checkpoint({"next": start + 3})

connector = Connector(update=update, schema=schema)
"#;

const DESTINATION: &str = r#"{"service": "inshore_files", "schema": "counted", "config": {"uri": "file://${LAKE}"}}"#;

struct Place {
    project: Project,
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            project: Project::new(&[("connector.py", COUNTING), ("destination.json", DESTINATION)]),
            home: tempfile::tempdir().expect("a folder"),
        };
        std::fs::create_dir(place.lake()).expect("a lake");
        place
    }

    fn lake(&self) -> std::path::PathBuf {
        self.home.path().join("lake")
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.project.command(&[&["run"], arguments].concat());
        command.env("LAKE", self.lake()).env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME");
        Run::of(command.output().expect("the product starts"))
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git").arg("-C").arg(folder).args(arguments).stdout(Stdio::null()).status();
    assert!(status.expect("git is there").success(), "git {arguments:?}");
}

#[test]
fn rows_and_state_are_kept_by_the_lake() {
    let place = Place::new();
    for start in [0, 3] {
        let run = place.run(&[]);
        assert_eq!(run.exit, Some(0), "{}", run.words);
        let said = format!("from {start} as counted in hybrid_cloud");
        assert!(run.words.contains(&said) && run.words.contains("counted.n"), "{}", run.words);
    }
    assert!(!place.project.path().join("files/state.json").exists(), "the lake alone keeps the state");
    assert_eq!(oracle::count(&place.lake(), "counted", "n"), 6);
    // A state that is named wins over the lake's.
    place.project.write("other.json", r#"{"next": 90}"#);
    let run = place.run(&["--state", "other.json"]);
    assert!(run.words.contains("from 90"), "{}", run.words);
    // A local run goes on beside it.
    let debug = place.project.debug(&[]);
    assert!(debug.words.contains("from 0 as test_connection_name in local_debug"), "{}", debug.words);
}

#[test]
fn a_destination_that_is_wrong_is_named() {
    let place = Place::new();
    let refused = |exit: i32, words: &[&str]| {
        let run = place.run(&[]);
        assert_eq!(run.exit, Some(exit), "{}", run.words);
        for word in words {
            assert!(run.words.contains(word), "{word} is not in {}", run.words);
        }
    };
    place.project.write("destination.json", &DESTINATION.replace("inshore_files", "iceberg"));
    refused(3, &["PKG-011", "destination.json", "`iceberg` is not supported"]);
    place.project.write("destination.json", &DESTINATION.replace("LAKE", "ABSENT"));
    refused(3, &["PKG-011", "the variable ABSENT is not set"]);
    place.project.write("destination.json", &DESTINATION.replace("${LAKE}", "${LAKE}/absent"));
    refused(1, &["DST-003"]);
    std::fs::remove_file(place.project.path().join("destination.json")).expect("removed");
    refused(3, &["PKG-011", "--destination-file"]);
}

#[test]
fn a_file_with_values_of_ones_own_does_not_belong_to_a_repository() {
    let place = Place::new();
    let warning = "Git does not ignore destination.json";
    assert!(!place.run(&[]).words.contains(warning), "no repository, no warning");
    git(place.project.path(), &["init", "-q"]);
    assert!(place.run(&[]).words.contains(warning));
    place.project.write(".gitignore", "destination.json\n");
    assert!(!place.run(&[]).words.contains(warning));
}
