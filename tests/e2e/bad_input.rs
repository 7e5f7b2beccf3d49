//! Bad input, and what it gets: a code, a sentence that says what, where and what to do, an exit status; never a panic,
//! never a lost row.

mod limits;
mod refusals;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use inshore_tests::agent::{self, command};
use inshore_tests::control::Control;
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{root, shop};
use serde_json::Value;

/// Every code has a page.
fn page(code: &str) {
    assert!(root().join(format!("docs/errors/{code}.md")).is_file(), "a page for {code}");
}

/// Runs a command that must fail with this code and exit status, and name the page of the code.
fn refused(output: &Output, code: &str, exit: i32, says: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{text}");
    assert!(text.contains(code), "{code} in: {text}");
    assert!(!text.contains("panicked"), "{text}");
    for part in says {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    page(code);
}

fn files(dir: &Path, agent: &str, policy: &str) {
    std::fs::write(dir.join("agent.toml"), agent).expect("agent.toml");
    std::fs::write(dir.join("policy.toml"), policy).expect("policy.toml");
}

fn run(dir: &Path) -> Output {
    command(dir, &["agent", "run"]).output().expect("inshore runs")
}

#[test]
fn settings_that_are_missing_malformed_or_misspelt() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let good = format!("state_dir = \"{}\"\n", dir.join("state").display());
    refused(&run(dir), "CFG-001", 3, &["agent.toml"]);
    files(dir, "jobs_max = ", "");
    refused(&run(dir), "CFG-002", 3, &["agent.toml", "line 1"]);
    files(dir, &format!("{good}jobs_mx = 3\n"), "");
    refused(&run(dir), "CFG-003", 3, &["jobs_mx", "jobs_max", "line 2"]);
    files(dir, &good, "");
    std::fs::remove_file(dir.join("policy.toml")).expect("no policy");
    refused(&run(dir), "CFG-004", 3, &["policy.toml"]);
    files(dir, &good, "mode = \"sometimes\"\n");
    refused(&run(dir), "CFG-005", 3, &["policy.toml", "line 1"]);
    files(dir, &good, "allow_unsandbox = true\n");
    refused(&run(dir), "CFG-006", 3, &["allow_unsandbox", "allow_unsandboxed"]);
    files(dir, &good, "");
    refused(&run(dir), "ENR-006", 3, &["enrol"]);
}

#[test]
fn join_tokens_that_are_used_truncated_readable_by_others_or_for_another_control_plane() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(&folder.path().join("control"));
    let rest = control.rest();
    let group = rest.post("/v1/groups", &serde_json::json!({"name": "test"})).data();
    let group = group["id"].as_str().expect("an id");
    let dir = folder.path().join("agent");
    agent::write_files(&control, &dir, &folder.path().join("lake"));
    let (_, token) = agent::join_token(&rest, group, "first");
    let file = dir.join("token");
    agent::write_secret(&file, &token);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, mode).expect("world-readable");
    refused(&agent::enrol(&dir, &file), "ENR-001", 3, &["token"]);
    agent::write_secret(&file, token.split_at(token.len() / 2).0);
    refused(&agent::enrol(&dir, &file), "ENR-002", 3, &[]);
    refused(&agent::enrol(&dir, &dir.join("nothing")), "ENR-001", 3, &["nothing"]);
    agent::write_secret(&file, &token);
    assert!(agent::enrol(&dir, &file).status.success());
    let second = folder.path().join("second");
    agent::write_files(&control, &second, &folder.path().join("lake"));
    refused(&agent::enrol(&second, &file), "ENR-004", 4, &[]);
    let other = Control::start(&folder.path().join("other"));
    let (_, token) = agent::join_token(&rest, group, "third");
    agent::write_secret(&file, &redirected(&token, other.https));
    agent::write_files(&other, &second, &folder.path().join("lake"));
    refused(&agent::enrol(&second, &file), "ENR-005", 4, &[]);
    drop(other);
    refused(&agent::enrol(&second, &file), "CHN-001", 5, &[]);
}

/// The same token pointing at another port: only the pinned root tells the two apart.
fn redirected(token: &str, port: u16) -> String {
    let token = inshore_trust::JoinToken::from_text(token).expect("a token");
    let redirected = inshore_trust::JoinToken { url: format!("wss://127.0.0.1:{port}"), ..token };
    redirected.to_text().to_string()
}

#[test]
fn a_control_plane_whose_certificate_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(&folder.path().join("control"));
    let rest = control.rest();
    let group = rest.post("/v1/groups", &serde_json::json!({"name": "test"})).data();
    let dir = folder.path().join("agent");
    agent::write_files(&control, &dir, &folder.path().join("lake"));
    let settings = std::fs::read_to_string(dir.join("agent.toml")).expect("settings");
    let without: String =
        settings.lines().filter(|line| !line.starts_with("tls_ca_file")).map(|line| format!("{line}\n")).collect();
    std::fs::write(dir.join("agent.toml"), without).expect("settings");
    let (_, token) = agent::join_token(&rest, group["id"].as_str().expect("an id"), "one");
    agent::write_secret(&dir.join("token"), &token);
    refused(&agent::enrol(&dir, &dir.join("token")), "CHN-002", 4, &[]);
}

#[test]
fn packages_that_are_no_connector_are_refused_at_upload() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = Control::start(&folder.path().join("control"));
    let rest = control.rest();
    let cases: [(&[u8], &str); 3] = [
        (b"not a zip at all", "PKG-001"),
        (&shop::zip(&[("connector.py", ""), ("../evil.py", "")]), "PKG-002"),
        (&shop::zip(&[("main.py", "")]), "PKG-003"),
    ];
    for (zip, code) in cases {
        let reply = rest.upload(zip);
        assert_eq!(reply.status, 400, "{code}: {}", reply.body);
        assert_eq!(reply.body["code"], "InvalidInput", "{code}");
        assert!(reply.body["message"].as_str().is_some_and(|text| text.contains(code)), "{code}: {}", reply.body);
    }
}

/// What a connector does wrong, and the code its sync fails with.
const CONNECTORS: &[(&str, &str, &str)] = &[
    ("syntax", "def update(:\n", "PKG-004"),
    ("no_object", "x = 1\n", "PKG-005"),
    ("raises", "def update(configuration, state):\n    raise ValueError('no')\n", "SDK-001"),
    ("exits", "import sys\ndef update(configuration, state):\n    sys.exit(1)\n", "SDK-002"),
    ("dies", "import os\ndef update(configuration, state):\n    os._exit(1)\n", "SDK-003"),
    ("state", "def update(configuration, state):\n    op.checkpoint({'x': object()})\n", "SDK-005"),
    ("large_state", "def update(configuration, state):\n    op.checkpoint({'x': 'y' * (11 << 20)})\n", "SDK-006"),
    ("null_key", "def update(configuration, state):\n    op.upsert('t', {'id': None})\n", "SDK-007"),
    ("misfit", "def update(configuration, state):\n    op.upsert('t', {'id': 1, 'day': 'soon'})\n", "SDK-008"),
    ("keyless_update", "def update(configuration, state):\n    op.update('u', {'a': 1})\n", "SDK-011"),
    (
        "asks",
        "def update(configuration, state):\n    op.error('please look')\n    import time\n    time.sleep(60)\n",
        "SDK-012",
    ),
    (
        "breaks_frames",
        "import os, stat\ndef update(configuration, state):\n    for fd in range(3, 64):\n        try:\n            \
         if stat.S_ISSOCK(os.fstat(fd).st_mode):\n                os.write(fd, b'\\xff' * 4096)\n        except OSError:\n            pass\n",
        "SDK-015",
    ),
    ("partial_key", "def update(configuration, state):\n    op.update('two', {'a': 1, 'x': 2})\n", "SDK-014"),
    (
        "file",
        "import io\nfrom fivetran_connector_sdk import FileUpload\ndef update(configuration, state):\n    \
         op.upsert('t', {'id': 1}, file=FileUpload('a.txt', io.BytesIO(b'x'), expected_bytes=2))\n",
        "SDK-022",
    ),
];

/// What a connector does that does not fail its sync, and the code it is warned with.
const WARNED: &[(&str, &str, &str)] = &[
    ("warns", "def update(configuration, state):\n    op.warning('look at this')\n", "SDK-016"),
    ("leaves", "import sys\ndef update(configuration, state):\n    sys.exit(0)\n", "SDK-017"),
];

const PROLOGUE: &str = "from fivetran_connector_sdk import Connector, Operations as op\n";
const EPILOGUE: &str = r#"
def schema(configuration):
    return [
        {"table": "t", "primary_key": ["id"], "columns": {"day": "NAIVE_DATE"}},
        {"table": "two", "primary_key": ["a", "b"]},
        {"table": "u"},
    ]

connector = Connector(update=update, schema=schema)
"#;

fn failure(stack: &Stack, name: &str, source: &str) -> Value {
    let connection = stack.connection_named(name, &shop::zip(&[("connector.py", source)]), &[]);
    let sync = stack.rest.sync(&connection);
    stack.rest.wait(&connection, &sync, SYNC)
}

#[test]
fn connectors_that_fail_say_why_by_code() {
    let stack = Stack::start();
    for (name, body, code) in CONNECTORS {
        let epilogue = if ["syntax", "no_object"].contains(name) { "" } else { EPILOGUE };
        let run = failure(&stack, name, &format!("{PROLOGUE}{body}{epilogue}"));
        assert_eq!(run["error"]["code"], *code, "{name}: {run}\n{}", stack.agent.output());
        page(code);
    }
}

#[test]
fn connectors_that_are_odd_but_not_wrong_are_warned_about() {
    let stack = Stack::start();
    for (name, body, code) in WARNED {
        let run = failure(&stack, name, &format!("{PROLOGUE}{body}{EPILOGUE}"));
        assert_eq!(run["status"], "succeeded", "{name}: {run}");
        assert_eq!(run["warnings"][0]["code"], *code, "{name}: {run}");
        page(code);
    }
}

#[test]
fn a_primary_key_that_changes_between_syncs() {
    let stack = Stack::start();
    let source = format!(
        "{PROLOGUE}def update(configuration, state):\n    op.upsert('t', {{'a': 1, 'b': 2}})\n\
         def schema(configuration):\n    key = open(configuration['key']).read()\n    \
         return [{{'table': 't', 'primary_key': [key]}}]\n\
         connector = Connector(update=update, schema=schema)\n"
    );
    let key = stack.source().join("key");
    std::fs::write(&key, "a").expect("a key");
    let zip = shop::zip(&[("connector.py", &source)]);
    let connection = stack.connection(&zip, &[("key", &key.display().to_string())]);
    stack.sync(&connection);
    std::fs::write(&key, "b").expect("another key");
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_eq!((&run["status"], &run["error"]["code"]), (&"failed".into(), &"SDK-010".into()), "{run}");
    page("SDK-010");
    std::fs::write(&key, "a").expect("the key again");
    stack.sync(&connection);
}

#[test]
fn an_identity_that_is_readable_by_others_damaged_or_revoked() {
    let mut stack = Stack::enrolled();
    let dir = stack.agent.dir.clone();
    let file = dir.join("state/identity.json");
    let good = std::fs::read_to_string(&file).expect("the identity");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&file, mode(0o644)).expect("world-readable");
    refused(&run(&dir), "ENR-007", 3, &["identity.json", "0600"]);
    agent::write_secret(&file, good.split_at(good.len() / 2).0);
    refused(&run(&dir), "ENR-007", 3, &["identity.json", "enrol again"]);
    agent::write_secret(&file, &good);
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    assert_eq!(rest.delete(&format!("/v1/hybrid-deployment-agents/{}", stack.agent.id)).status, 200);
    let status = stack.agent.process().wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(4), "{}", stack.agent.output());
    assert!(stack.agent.output().contains("inshore: CHN-004"), "{}", stack.agent.output());
    page("CHN-004");
}

#[test]
fn a_requirement_that_does_not_resolve() {
    let stack = Stack::start();
    let source =
        format!("{PROLOGUE}def update(configuration, state):\n    pass\nconnector = Connector(update=update)\n");
    let zip = shop::zip(&[("connector.py", &source), ("requirements.txt", "inshore-no-such-package==99.99\n")]);
    let connection = stack.connection(&zip, &[]);
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, SYNC * 2);
    assert_eq!(run["error"]["code"], "PKG-006", "{run}");
}

#[test]
fn column_names_that_meet_are_a_warning_and_the_last_value_wins() {
    let stack = Stack::start();
    let source = format!(
        "{PROLOGUE}def update(configuration, state):\n    op.upsert('t', {{'id': 1, 'userName': 'first', 'user.name': 'last'}})\n\
         def schema(configuration):\n    return [{{'table': 't', 'primary_key': ['id']}}]\n\
         connector = Connector(update=update, schema=schema)\n"
    );
    let connection = stack.connection(&shop::zip(&[("connector.py", &source)]), &[]);
    let run = stack.sync(&connection);
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("SDK-009"), "{run}");
}

#[test]
fn a_destination_that_is_read_only_vanished_or_tampered_with() {
    let stack = Stack::start();
    let (connection, _) = stack.shop(400, 5);
    stack.sync(&connection);
    let chain =
        walk(&stack.lake).into_iter().find(|path| path.to_string_lossy().contains("/chain/0000")).expect("a slot");
    let text = std::fs::read_to_string(&chain).expect("an entry");
    std::fs::write(&chain, text.replacen("\"seq\"", "\"Seq\"", 1)).expect("edited by hand");
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_eq!(run["error"]["code"], "DST-004", "{run}");
    let log = stack.agent.output();
    assert!(log.contains("slot"), "the log names the slot:\n{log}");
    std::fs::write(&chain, text).expect("put back");
    stack.sync(&connection);
    let aside = stack.lake.with_extension("aside");
    std::fs::rename(&stack.lake, &aside).expect("the lake goes");
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, Duration::from_secs(60));
    assert_eq!(run["error"]["code"], "DST-003", "{run}");
    std::fs::rename(&aside, &stack.lake).expect("the lake comes back");
    stack.sync(&connection);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
