//! Files beside rows: published with the commit of their rows under their paths, never for a window that is not committed,
//! the same content one object, and nothing left over, also after crashes around the publication.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use inshore_tests::debug::Project;
use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, prove, python, root, seed, shop, wait};
use serde_json::json;

/// Uploads `rows` files and one whose content changes with each; a checkpoint after every tenth.
const CONNECTOR: &str = r#"
import io
from fivetran_connector_sdk import Connector, FileUpload, Operations as op

def schema(configuration):
    return [{"table": "docs", "primary_key": ["id"]}]

def content(number):
    return f"file {number}\n".encode() * (1 + number % 7) * 1000

def update(configuration, state):
    for number in range(state.get("next", 0), int(configuration["rows"])):
        op.upsert("docs", {"id": number}, file=FileUpload(f"part {number % 3}/{number}.txt", io.BytesIO(content(number))))
        op.upsert("docs", {"id": -1}, file=FileUpload("newest", io.BytesIO(content(number))))
        if number % 10 == 9:
            op.checkpoint({"next": number + 1})
    op.checkpoint({"next": int(configuration["rows"])})

connector = Connector(update=update, schema=schema)
"#;

fn content(number: u64) -> String {
    format!("file {number}\n").repeat(usize::try_from((1 + number % 7) * 1000).expect("small"))
}

fn assert_files(folder: &Path, rows: u64, what: &str) {
    for number in 0..rows {
        let file = folder.join(format!("part {}/{number}.txt", number % 3));
        let found =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{what}: {}: {error}", file.display()));
        assert_eq!(found, content(number), "{what}: file {number}");
    }
    let newest = std::fs::read_to_string(folder.join("newest")).expect("the newest");
    assert_eq!(newest, content(rows - 1), "{what}: the last committed content wins");
    assert_eq!(count(folder), rows + 1, "{what}: no other file");
}

fn count(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

fn published(stack: &Stack) -> PathBuf {
    stack.lake.join(SCHEMA).join("docs/_files")
}

/// Every file of the lake is needed by a table, a row or the chain.
fn assert_no_orphans(lake: &Path, what: &str) {
    let output = Command::new(python()).arg(root().join("tests/python/lake_files.py")).arg("--lake").arg(lake).output();
    let output = output.expect("Python runs");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn debug_shows_files_beside_the_tables() {
    let project = Project::new(&[("connector.py", CONNECTOR), ("configuration.json", r#"{"rows": "12"}"#)]);
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(run.words.contains("files/uploads/docs"), "{}", run.words);
    assert_files(&project.path().join("files/uploads/docs"), 12, "debug");
    let rows = project.query("select id, _fivetran_file_path from tester.docs where id in (-1, 4) order by id");
    assert_eq!(rows, json!([[-1, "newest"], [4, "part 1/4.txt"]]));
    assert_no_orphans(&project.path().join("files/tables"), "debug");
    project.write("configuration.json", r#"{"rows": "15"}"#);
    assert_eq!(project.debug(&[]).exit, Some(0));
    assert_files(&project.path().join("files/uploads/docs"), 15, "the second run");
    assert_no_orphans(&project.path().join("files/tables"), "the second run");
}

#[test]
fn a_window_that_is_not_committed_publishes_nothing_and_leaves_nothing() {
    let project = Project::new(&[("configuration.json", "{}")]);
    let connector = |body: &str| {
        let head = "import io, os, threading, time\nfrom fivetran_connector_sdk import Connector, FileUpload, Operations as op\n\
                    def put(id, path, text):\n    op.upsert('docs', {'id': id}, file=FileUpload(path, io.BytesIO(text)))\n";
        project.write(
            "connector.py",
            &format!("{head}def update(configuration, state):\n    {body}\nconnector = Connector(update)\n"),
        );
        project.debug(&[])
    };
    let tables = project.path().join("files/tables");
    let docs = tables.join("tester/docs/_files");
    let cases = [
        (
            "put(1, 'a', b'kept'); op.checkpoint({}); put(1, 'a', b'lost'); put(2, 'b', b'lost'); raise ValueError('x')",
            "SDK-001",
        ),
        ("put(3, 'c', b'lost' * 3000000); os._exit(1)", "SDK-003"),
        ("put(3, 'a/b', b'needs a folder where a file lies')", "SDK-022"),
        ("put(3, 'd/e', b''); put(4, 'd', b'')", "SDK-022"),
        ("op.upsert('docs', {'id': 5}, file=FileUpload('f', io.BytesIO(b'x'), expected_bytes=2))", "SDK-022"),
        ("op.upsert('docs', {'id': 5}, file=FileUpload('f', io.BytesIO(b'x'), expected_bytes=1 << 40))", "SDK-021"),
    ];
    for (body, code) in cases {
        let run = connector(body);
        assert!(run.words.contains(code), "{code} for {body}: {}", run.words);
        assert_eq!(count(&docs), 1, "{body}");
        assert_eq!(std::fs::read(docs.join("a")).expect("the committed file"), b"kept", "{body}");
    }
    let endless = "class Slow:\n        def read(self, size):\n            time.sleep(0.05)\n            return b'x' * 1000\n    \
                   threading.Thread(target=lambda: op.upsert('docs', {'id': 9}, file=FileUpload('slow', Slow())), daemon=True).start()\n    \
                   time.sleep(0.5); put(1, 'a', b'new'); put(6, 'same/1', b'new'); put(7, 'same/2', b'new')";
    let run = connector(endless);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert_eq!(std::fs::read(docs.join("a")).expect("the committed file"), b"new");
    assert_eq!(count(&docs), 3, "a file whose end never came is not there");
    let object = |name: &str| std::fs::metadata(docs.join(name)).expect("is there").ino();
    assert_eq!((object("a"), object("same/1")), (object("same/1"), object("same/2")), "one content is one object");
    assert_no_orphans(&tables, "what the failed runs had staged");
}

/// The agent or its job dies at a point of the publication; afterwards every file is there once, with its own content.
fn crash_at(point: &str, passes: u64) {
    let seeds = if prove() { 5 } else { 1 };
    for seed in seed()..seed() + seeds {
        let pass = 1 + fastrand::Rng::with_seed(seed).u64(..passes);
        let what = format!("{point} at pass {pass}");
        let mut stack = Stack::start();
        let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("rows", "40")]);
        stack.agent.kill();
        stack.agent.arm(&[(point, pass)]);
        let rest = stack.rest.clone();
        stack.agent.start(&rest);
        let sync = rest.sync(&connection);
        wait::until(&what, SYNC, || (!stack.agent.hits().is_empty()).then_some(()));
        if rest.wait(&connection, &sync, SYNC)["status"] != "succeeded" {
            stack.sync(&connection);
        }
        assert_files(&published(&stack), 40, &what);
        assert_eq!(oracle::count(&stack.lake, SCHEMA, "docs"), 41, "{what}");
        stack.sync(&connection);
        assert_no_orphans(&stack.lake, &what);
        println!("{what}: hit {:?}", stack.agent.hits());
    }
}

#[test]
fn crash_while_a_file_gets_its_name() {
    crash_at("P21", 60);
}

#[test]
fn crash_between_two_published_files() {
    crash_at("P22", 40);
}

#[test]
fn crash_when_all_files_are_published_and_the_table_is_not() {
    crash_at("P23", 4);
}

#[test]
fn crash_when_the_commit_of_files_is_durable_and_nothing_noted() {
    crash_at("P10", 4);
}

/// The agent and its jobs are killed at random moments of a sync that uploads files.
#[test]
fn kills_at_random_moments_of_uploads() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut stack = Stack::start();
    let zip = shop::zip(&[("connector.py", CONNECTOR)]);
    // The destination is probed before the first kill.
    let first = stack.connection_named("first", &zip, &[("rows", "1")]);
    stack.sync(&first);
    let connection = stack.connection(&zip, &[("rows", "600")]);
    let rest = stack.rest.clone();
    let kills = if prove() { 50 } else { 6 };
    let mut killed = 0;
    while killed < kills {
        let sync = rest.sync(&connection);
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(rng.u64(200..900)));
            stack.agent.kill_tree();
            stack.agent.start(&rest);
            killed += 1;
        }
        rest.wait(&connection, &sync, SYNC);
    }
    stack.sync(&connection);
    assert_files(&published(&stack), 600, "after the kills");
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "docs"), 601);
    stack.sync(&connection);
    assert_no_orphans(&stack.lake, "after the kills");
    println!("{killed} kills: 601 files, none lost, doubled or orphaned");
}
