//! What is refused before any code of a connector runs: packages that are not what they say, and everything the host's
//! policy does not allow. Each by its own code, and none is tried again where only a person can help.

use std::path::PathBuf;

use inshore_tests::shop;
use inshore_tests::stack::{SYNC, Stack};
use serde_json::{Value, json};

use super::{PROLOGUE, page};

/// One table, one row.
const SMALL: &str = "
def update(configuration, state):
    op.upsert('t', {'id': 1})

def schema(configuration):
    return [{'table': 't', 'primary_key': ['id']}]

connector = Connector(update=update, schema=schema)
";

fn small() -> Vec<u8> {
    shop::zip(&[("connector.py", &format!("{PROLOGUE}{SMALL}"))])
}

/// Runs a sync that must end with this code and status.
fn ends(stack: &Stack, connection: &str, code: &str, status: &str) -> Value {
    let sync = stack.rest.sync(connection);
    let run = stack.rest.wait(connection, &sync, SYNC);
    assert_eq!((&run["error"]["code"], &run["status"]), (&json!(code), &json!(status)), "{run}");
    assert_eq!(run["rescheduled_for"].is_null(), status == "failed", "{run}");
    page(code);
    run
}

#[test]
fn jobs_that_the_policy_does_not_allow_fail_by_their_own_code_and_are_not_repeated() {
    let stack = Stack::start();
    let connection = stack.connection(&small(), &[]);
    let file = stack.agent.dir.join("policy.toml");
    let policy = std::fs::read_to_string(&file).expect("the policy");
    let lake = format!("file://{}", stack.lake.display());
    let cases = [
        ("POL-001", lake.as_str(), "file:///srv/elsewhere", "add it to `destinations`"),
        ("POL-002", "connectors = \"any\"", "connectors = \"listed\"", "add it to `connector_digests`"),
        ("POL-004", "mode = \"managed\"", "mode = \"locked\"", "locked"),
        ("CFG-005", "mode = \"managed\"", "mode = \"sometimes\"", "line 1"),
    ];
    for (code, from, to, says) in cases {
        assert!(policy.contains(from), "{from}");
        std::fs::write(&file, policy.replace(from, to)).expect("another policy");
        let before = stack.agent.output().len();
        let run = ends(&stack, &connection, code, "failed");
        assert_eq!(run["error"]["class"], "Fix", "{run}");
        let said = stack.agent.output().split_off(before);
        assert!(said.contains(says), "{code}: `{says}` in:\n{said}");
    }
    // An edit counts from the next job on.
    std::fs::write(&file, policy).expect("the policy is put back");
    stack.sync(&connection);
}

#[test]
fn a_zip_bomb_is_refused_at_upload_and_one_that_lies_about_its_size_in_the_job() {
    let stack = Stack::start();
    let zeros = "\0".repeat(64 << 20);
    let source = format!("{PROLOGUE}{SMALL}");
    let honest = shop::zip(&[("connector.py", &source), ("data.bin", &zeros)]);
    let reply = stack.rest.upload(&honest);
    assert_eq!((reply.status, &reply.body["code"]), (413, &json!("InvalidInput")), "{}", reply.body);
    assert!(reply.body["message"].as_str().is_some_and(|text| text.contains("PKG-008")), "{}", reply.body);
    let connection = stack.connection(&claiming(honest, "data.bin", 1), &[]);
    ends(&stack, &connection, "PKG-001", "failed");
    assert!(stack.agent.output().contains("larger than its declared"), "{}", stack.agent.output());
    page("PKG-008");
}

/// The same zip whose directory says that this entry holds `bytes`.
fn claiming(mut zip: Vec<u8>, name: &str, bytes: u32) -> Vec<u8> {
    // A directory entry: signature, 20 bytes, size packed and unpacked, name at 46.
    let entry = (0..zip.len() - 46)
        .find(|at| zip[*at..].starts_with(b"PK\x01\x02") && zip[at + 46..].starts_with(name.as_bytes()))
        .expect("the entry's line in the directory");
    zip[entry + 24..entry + 28].copy_from_slice(&bytes.to_le_bytes());
    zip
}

#[test]
fn a_package_whose_bytes_changed_at_the_control_plane_never_runs() {
    let stack = Stack::start();
    // A package of its own: one that the agents' cache holds would not be fetched.
    let source = format!("# {}\n{PROLOGUE}{SMALL}", stack.dir.path().display());
    let connection = stack.connection(&shop::zip(&[("connector.py", &source)]), &[]);
    let file = package_file(&stack);
    let good = std::fs::read(&file).expect("the package");
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&file, altered).expect("altered");
    ends(&stack, &connection, "PKG-007", "rescheduled");
    std::fs::write(&file, good).expect("put back");
    stack.sync(&connection);
}

fn package_file(stack: &Stack) -> PathBuf {
    let folder = std::fs::read_dir(stack.control.state_dir().join("packages")).expect("the packages");
    let mut files = folder.map(|entry| entry.expect("an entry").path());
    files.find(|path| path.extension().is_some_and(|end| end == "zip")).expect("a package")
}

#[test]
fn a_python_that_the_host_does_not_have() {
    let stack = Stack::start();
    let connection = stack.connection(&small(), &[]);
    let path = format!("/v1/connections/{connection}");
    assert_eq!(stack.rest.patch(&path, &json!({"config": {"python_version": "snake"}})).status, 400);
    assert_eq!(stack.rest.patch(&path, &json!({"config": {"python_version": "3.99"}})).status, 200);
    ends(&stack, &connection, "PKG-009", "failed");
}
