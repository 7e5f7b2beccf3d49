//! Governance with the real binaries: columns and tables that a connection blocks or hashes, found nowhere in the lake, on
//! the host, at the control plane; handlings of what is new; what is let in again.

use std::path::Path;
use std::process::Command;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{agent, python, shop};
use serde_json::{Value, json};

const MARK: &str = "canary-";

/// Every value that is to be blocked or hashed begins with the mark, and stands in every place that a value can have.
const CONNECTOR: &str = r#"
import io
from fivetran_connector_sdk import Connector, Operations as op, FileUpload

def schema(configuration):
    return [
        {"table": "people", "primary_key": ["email"], "columns": {"salary": "STRING", "doc": "JSON", "note": "STRING"}},
        {"table": "secrets", "primary_key": ["id"]},
        {"table": "events"},
    ]

def update(configuration, state):
    run = state.get("run", 0)
    op.truncate("secrets")
    op.upsert("secrets", {"id": -1}, file=FileUpload("canary-name", io.BytesIO(b"canary-file" * 1000)))
    for n in range(200):
        who = f"canary-key-{n}"
        op.upsert("people", {"email": who, "salary": f"canary-salary-{n}", "doc": {"deep": [f"canary-doc-{n}"]},
                             "raw": f"canary-raw-{n}".encode(), "born": f"canary-born-{n}", "note": f"open-{n}"})
        op.upsert("events", {"at": n, "who": f"canary-who-{n}", "what": f"canary-what-{n}", "kind": "open"})
        op.upsert("secrets", {"id": n, "text": f"canary-secret-{n}"})
    op.update("people", {"email": "canary-key-1", "salary": "canary-salary-new", "note": "updated", "born": None})
    op.delete("people", {"email": "canary-key-2"})
    if run:
        op.upsert("people", {"email": "canary-key-0", "late": f"late-{run}", "note": "again"})
        op.upsert("appeared", {"id": run})
    op.checkpoint({"run": run + 1})

connector = Connector(update=update, schema=schema)
"#;

/// Rows of each table as its readers see them, and every place in all files where the mark is found: values, statistics,
/// names and raw bytes.
const LOOK: &str = r#"
import json, pathlib, sys, deltalake, pyarrow.parquet as parquet
root, mark = pathlib.Path(sys.argv[1]), sys.argv[2]
tables, hits, searched = {}, [], 0
for path in sorted(root.rglob("*")):
    if not path.is_file():
        continue
    if path.suffix == ".parquet":
        file = parquet.ParquetFile(path)
        text = repr(file.read().to_pylist()) + repr(file.schema_arrow.metadata)
        for group in range(file.metadata.num_row_groups):
            for column in range(file.metadata.num_columns):
                statistics = file.metadata.row_group(group).column(column).statistics
                text += repr(statistics.to_dict()) if statistics is not None else ""
        searched += len(text)
        if mark in text:
            hits.append(str(path))
    searched += path.stat().st_size
    if mark.encode() in path.read_bytes():
        hits.append(f"{path}: bytes")
for log in sorted(root.glob("shop/*/_delta_log")):
    table = deltalake.DeltaTable(str(log.parent)).to_pyarrow_table()
    types = {field.name: str(field.type) for field in table.schema}
    tables[log.parent.name] = {"types": types, "rows": json.loads(json.dumps(table.to_pylist(), default=str))}
print(json.dumps({"tables": tables, "hits": hits, "searched": searched}))
"#;

fn look(folder: &Path, mark: &str) -> Value {
    let output = Command::new(python()).args(["-c", LOOK]).arg(folder).arg(mark).output().expect("Python runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Makes the policy name a salt, and lets names of tables go up where `open`.
fn allow(stack: &Stack, open: bool) {
    let salt = stack.agent.dir.join("salt");
    agent::write_secret(&salt, &"5a".repeat(32));
    let policy = stack.agent.dir.join("policy.toml");
    let text = std::fs::read_to_string(&policy).expect("the policy");
    let listing = format!("hash_salt = \"${{file:{}}}\" }}]", salt.display());
    let text = text.replacen(" }]", &format!(", {listing}"), 1);
    std::fs::write(&policy, format!("{text}[telemetry]\nschema_names = {open}\n")).expect("the policy");
}

fn hash(text: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::new().chain_update([0x5a; 32]).chain_update(text).finalize())
}

fn schemas(connection: &str) -> String {
    format!("/v1/connections/{connection}/schemas")
}

fn row<'a>(table: &'a Value, column: &str, value: &Value) -> &'a Value {
    let rows = table["rows"].as_array().expect("rows");
    rows.iter().find(|row| row[column] == *value).unwrap_or_else(|| panic!("no row with {column} = {value}"))
}

#[test]
fn blocked_and_hashed_values_are_nowhere() {
    let stack = Stack::start();
    allow(&stack, true);
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[]);
    let people = json!({
        "salary": {"enabled": false}, "doc": {"enabled": false}, "raw": {"enabled": false}, "born": {"hashed": true},
        "email": {"hashed": true},
    });
    let events = json!({"who": {"enabled": false}, "what": {"hashed": true}});
    let config = json!({"schemas": {SCHEMA: {"tables": {
        "people": {"columns": people}, "events": {"columns": events}, "secrets": {"enabled": false},
    }}}});
    let stored = stack.rest.post(&schemas(&connection), &config);
    assert_eq!(stored.status, 200, "{}", stored.body);
    // Columns that a lock holds become text all the same.
    stack.rest.patch(&schemas(&connection), &json!({"is_type_locked": true})).data();
    stack.sync(&connection);
    stack.sync(&connection);
    let lake = look(&stack.lake, MARK);
    assert_eq!(lake["hits"], json!([]), "{} bytes searched", lake["searched"]);
    let host = look(&stack.agent.dir, MARK);
    let control = look(&stack.control.state_dir(), MARK);
    assert_eq!((&host["hits"], &control["hits"]), (&json!([]), &json!([])), "host and control plane");
    assert!(look(&stack.lake, "open-7")["hits"].as_array().is_some_and(|hits| !hits.is_empty()), "the search finds");
    println!("searched {} + {} + {} bytes", lake["searched"], host["searched"], control["searched"]);

    let tables = &lake["tables"];
    assert_eq!(tables["secrets"], Value::Null);
    let people = &tables["people"];
    assert_eq!(people["rows"].as_array().map(Vec::len), Some(200), "hashed keys meet their rows again");
    let types = |name: &str| people["types"][name].clone();
    assert_eq!(
        (types("email"), types("born"), types("salary"), types("doc")),
        (json!("string"), json!("string"), json!(null), json!(null))
    );
    let updated = row(people, "email", &json!(hash("canary-key-1")));
    assert_eq!((&updated["note"], &updated["born"]), (&json!("updated"), &json!(null)));
    assert_eq!(row(people, "email", &json!(hash("canary-key-2")))["_fivetran_deleted"], true);
    assert_eq!(row(people, "email", &json!(hash("canary-key-3")))["born"], hash("canary-born-3"));
    let events = &tables["events"];
    assert_eq!(events["rows"].as_array().map(Vec::len), Some(200), "ids of keyless rows are made of what arrives");
    assert_eq!(row(events, "at", &json!(5))["what"], hash("canary-what-5"));

    let columns = stack.rest.get(&format!("{}/{SCHEMA}/tables/people/columns", schemas(&connection))).data();
    assert_eq!(columns["columns"]["email"]["is_primary_key"], true);
    assert_eq!(
        (&columns["columns"]["salary"]["enabled"], &columns["columns"]["born"]["hashed"]),
        (&json!(false), &json!(true))
    );
    let refused = stack
        .rest
        .patch(&format!("{}/{SCHEMA}/tables/people/columns/email", schemas(&connection)), &json!({"enabled": false}));
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("InvalidInput")), "{}", refused.body);
}

#[test]
fn what_is_new_comes_in_as_the_handling_says() {
    let stack = Stack::start();
    allow(&stack, true);
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[]);
    let patch = |body: &Value| stack.rest.patch(&schemas(&connection), body).data();
    let made = stack.rest.post(&schemas(&connection), &json!({"schema_change_handling": "BLOCK_ALL"}));
    assert_eq!(made.status, 200, "{}", made.body);
    let run = stack.sync(&connection);
    assert_eq!(run["nothing_moved_reason"], "all_blocked", "{run}");
    assert_eq!(look(&stack.lake, MARK)["tables"], json!({}));
    let shown = stack.rest.get(&schemas(&connection)).data();
    assert_eq!(shown["schemas"][SCHEMA]["tables"]["people"]["enabled"], false);

    patch(
        &json!({"schema_change_handling": "ALLOW_COLUMNS", "schemas": {SCHEMA: {"tables": {"people": {"enabled": true}}}}}),
    );
    stack.sync(&connection);
    let tables = look(&stack.lake, MARK)["tables"].clone();
    let late = |tables: &Value| tables["people"]["types"]["late"].clone();
    assert_eq!(
        tables.as_object().map(|tables| tables.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["people".to_owned()])
    );
    assert_eq!(late(&tables), "string", "a new column of a known table");

    patch(&json!({"schemas": {SCHEMA: {"tables": {"people": {"columns": {"late": {"enabled": false}}}}}}}));
    stack.sync(&connection);
    let tables = look(&stack.lake, MARK)["tables"].clone();
    // The row was written again, so that its blocked value is gone with the old row.
    assert_eq!(row(&tables["people"], "email", &json!("canary-key-0"))["late"], json!(null));
    assert_eq!(late(&tables), "string", "a column that is there stays");
    assert_eq!(tables["appeared"], Value::Null);

    let answer = stack.rest.patch(
        &schemas(&connection),
        &json!({"schema_change_handling": "ALLOW_ALL", "schemas": {SCHEMA: {"tables": {
            "people": {"columns": {"late": {"enabled": true}}}, "appeared": {"enabled": true},
        }}}}),
    );
    assert!(answer.body["message"].as_str().is_some_and(|message| message.contains("re-sync")), "{}", answer.body);
    stack.sync(&connection);
    let tables = look(&stack.lake, MARK)["tables"].clone();
    assert_eq!(row(&tables["people"], "email", &json!("canary-key-0"))["late"], "late-3");
    assert_eq!(tables["appeared"]["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(tables["events"], Value::Null, "what was blocked when it appeared stays blocked");

    // A number whose type is locked becomes text all the same once it is hashed.
    let events = |rule: Value| json!({"is_type_locked": true, "schemas": {SCHEMA: {"tables": {"events": rule}}}});
    patch(&events(json!({"enabled": true})));
    stack.sync(&connection);
    patch(&events(json!({"columns": {"at": {"hashed": true}}})));
    stack.sync(&connection);
    let events = &look(&stack.lake, MARK)["tables"]["events"];
    assert_eq!(events["types"]["at"], "string");
    let kinds = |at: String| row(events, "at", &json!(at))["kind"].clone();
    assert_eq!((kinds("7".to_owned()), kinds(hash("7"))), (json!("open"), json!("open")), "old rows stay readable");
}

#[test]
fn names_stay_on_the_host_and_rules_made_of_its_hashes_count() {
    let stack = Stack::start();
    allow(&stack, false);
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[]);
    stack.sync(&connection);
    let shown = stack.rest.get(&schemas(&connection)).data();
    let text = shown.to_string();
    assert!(["people", "secrets", "email"].iter().all(|name| !text.contains(name)), "{text}");
    assert!(look(&stack.control.state_dir(), "salary")["hits"] == json!([]), "the control plane knows no column");
    let (schema, tables) = shown["schemas"].as_object().and_then(|all| all.iter().next()).expect("a schema");
    let block: serde_json::Map<String, Value> = tables["tables"]
        .as_object()
        .expect("tables")
        .keys()
        .map(|table| (table.clone(), json!({"enabled": false})))
        .collect();
    let patched = stack.rest.patch(&schemas(&connection), &json!({"schemas": {schema: {"tables": block}}}));
    assert_eq!(patched.status, 200, "{}", patched.body);
    let run = stack.sync(&connection);
    // The table that the first sync did not name comes in.
    assert_eq!((&run["rows"]["upserts"], &run["status"]), (&json!(1), &json!("succeeded")), "{run}");
}

#[test]
fn hashing_without_a_salt_and_blocking_an_unknown_key_fail_with_their_codes() {
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[]);
    let rule = |rule: Value| json!({"schemas": {SCHEMA: {"tables": {"people": {"columns": {"email": rule}}}}}});
    for (body, code) in [(rule(json!({"hashed": true})), "POL-006"), (rule(json!({"enabled": false})), "CPL-004")] {
        assert_eq!(stack.rest.post(&schemas(&connection), &body).status, 200);
        let sync = stack.rest.sync(&connection);
        let run = stack.rest.wait(&connection, &sync, SYNC);
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}");
        assert_eq!(look(&stack.lake, MARK)["tables"], json!({}), "nothing of the table is committed");
    }
    assert_eq!(stack.rest.post(&schemas(&connection), &json!({})).status, 200);
    stack.sync(&connection);
}
