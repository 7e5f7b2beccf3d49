//! Type locking, a setting of the connection: columns that are there keep their types, whatever the connector sends.

use std::process::Command;

use inshore_tests::stack::{SCHEMA, Stack};
use inshore_tests::{python, shop};
use serde_json::{Value, json};

const CONNECTOR: &str = r#"
from datetime import datetime, timezone
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "t", "primary_key": ["id"], "columns": {"day": "NAIVE_DATE", "at": "UTC_DATETIME", "amount": {"type": "DECIMAL", "precision": 5, "scale": 2}}}]

def first():
    yield {"id": 1, "n": 1, "d": 1.5, "ok": True, "text": "a", "doc": {"a": 1}, "raw": b"x", "day": "2024-01-02", "at": "2024-01-02T00:00:00Z", "amount": "1.50"}

def second():
    yield {"id": 2, "n": "42", "d": 3, "ok": "false", "text": 7, "doc": "plain", "amount": "12345.678"}
    yield {"id": 3, "n": "no number", "d": "x", "ok": 5, "text": True, "doc": [1], "raw": b"y", "new": "fresh"}
    yield {"id": 4, "n": 2**40, "d": {"a": 1}, "ok": 1.0, "text": {"b": 2}, "doc": 8}
    yield {"id": "five", "n": 5.0}

def update(configuration, state):
    rows = second if state.get("second") else first
    for row in rows():
        op.upsert("t", row)
    op.checkpoint({"second": True})

connector = Connector(update=update, schema=schema)
"#;

/// The columns with their types, and the rows by id.
fn table(stack: &Stack) -> Value {
    let script = "import sys, json, deltalake\n\
                  table = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table()\n\
                  types = {field.name: str(field.type) for field in table.schema if not field.name.startswith('_')}\n\
                  rows = {str(row['id']): {k: v for k, v in row.items() if k in types} for row in table.to_pylist()}\n\
                  print(json.dumps({'types': types, 'rows': rows}, default=lambda v: v.decode() if isinstance(v, bytes) else str(v)))";
    let output = Command::new(python()).args(["-c", script]).arg(stack.lake.join(SCHEMA).join("t")).output();
    let output = output.expect("Python runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn locked_columns_keep_their_types_and_unfitting_values_are_null() {
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[]);
    let path = format!("/v1/connections/{connection}");
    let wrong = stack.rest.patch(&path, &json!({"config": {"is_type_locked": "yes"}}));
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    assert_eq!(stack.rest.patch(&path, &json!({"config": {"is_type_locked": true}})).status, 200);
    assert_eq!(stack.rest.get(&path).data()["config"]["is_type_locked"], true);
    stack.sync(&connection);
    let before = table(&stack)["types"].clone();
    stack.sync(&connection);
    let after = table(&stack);
    let types = |name: &str| (before[name].clone(), after["types"][name].clone());
    for name in ["n", "d", "ok", "text", "doc", "raw", "day", "at"] {
        let (before, after) = types(name);
        assert_eq!(before, after, "{name}");
    }
    assert_eq!(types("id"), (json!("int32"), json!("string")), "a key column is not locked");
    assert_eq!(types("amount").1, "decimal128(8, 3)", "digits grow");
    assert_eq!(after["types"]["new"], "string");
    let row = |id: &str| after["rows"][id].clone();
    assert_eq!(row("1")["n"], 1);
    let expected = [
        (
            "2",
            json!({"n": 42, "d": 3.0, "ok": false, "text": "7", "doc": "\"plain\"", "raw": null, "amount": "12345.678"}),
        ),
        ("3", json!({"n": null, "d": null, "ok": null, "text": "true", "doc": "[1]", "raw": "y", "new": "fresh"})),
        ("4", json!({"n": null, "d": null, "ok": true, "text": "{\"b\": 2}", "doc": "8"})),
        ("five", json!({"n": 5})),
    ];
    for (id, values) in expected {
        for (name, value) in values.as_object().expect("values") {
            assert_eq!(row(id)[name], *value, "{name} of {id}: {}", row(id));
        }
    }
}
