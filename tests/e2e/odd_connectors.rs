//! Connectors that do what no example does: yield, use threads, go on after an error, emit without an end, use keys that
//! are hard to compare. Rows before the last checkpoint arrive once; rows after it arrive when the connector ended well.

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, shop};

const HEAD: &str = "
import json, math, os, threading, time
from fivetran_connector_sdk import Connector, Operations as op
";

fn connector(body: &str) -> Vec<u8> {
    shop::zip(&[("connector.py", &format!("{HEAD}{body}\nconnector = Connector(update=update, schema=schema)\n"))])
}

const KEYED: &str = r#"
def schema(configuration):
    return [{"table": "rows", "primary_key": ["id"]}]
"#;

/// The old form of connectors: operations are yielded, some in a list.
#[test]
fn a_connector_that_yields() {
    let stack = Stack::start();
    let body = format!(
        "{KEYED}
def update(configuration, state):
    for number in range(200):
        yield op.upsert('rows', {{'id': number % 150}})
        if number % 50 == 0:
            yield op.checkpoint({{'n': number}})
    yield [op.upsert('rows', {{'id': 1000}}), op.delete('rows', {{'id': 3}})]
"
    );
    let connection = stack.connection(&connector(&body), &[]);
    stack.sync(&connection);
    stack.sync(&connection);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "rows"), 151);
}

/// Many threads emit and checkpoint at the same time.
#[test]
fn a_connector_that_emits_and_checkpoints_from_many_threads() {
    let stack = Stack::start();
    let body = format!(
        "{KEYED}
def update(configuration, state):
    def work(thread):
        for number in range(300):
            op.upsert('rows', {{'id': thread * 1000 + number, 'thread': thread}})
            if number % 60 == 0:
                op.checkpoint({{'thread': thread, 'number': number}})
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"
    );
    let connection = stack.connection(&connector(&body), &[]);
    stack.sync(&connection);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "rows"), 1_800);
}

/// What follows `op.error` does not count, and neither do the rows since the last checkpoint.
#[test]
fn a_connector_that_goes_on_after_an_error() {
    let stack = Stack::start();
    let body = format!(
        "{KEYED}
def update(configuration, state):
    op.upsert('rows', {{'id': 1}})
    op.checkpoint({{'n': 1}})
    op.upsert('rows', {{'id': 2}})
    try:
        op.error('somebody has to look')
    except BaseException:
        pass
    for number in range(3, 50):
        op.upsert('rows', {{'id': number}})
    op.checkpoint({{'n': 50}})
"
    );
    let connection = stack.connection(&connector(&body), &[]);
    let sync = stack.rest.sync(&connection);
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "rows"), 1, "{run}");
}

/// Keys that compare in odd ways come twice in one window and again in the next: each is one row.
#[test]
fn keys_that_are_hard_to_compare_are_one_row_each() {
    let stack = Stack::start();
    let body = r#"
def schema(configuration):
    return [{"table": name, "primary_key": ["id"], "columns": {"id": kind}} for name, kind in KINDS.items()]

KINDS = {"doubles": "DOUBLE", "floats": "FLOAT", "strings": "STRING", "binaries": "BINARY", "instants": "UTC_DATETIME",
         "dates": "NAIVE_DATE", "truths": "BOOLEAN", "decimals": {"type": "DECIMAL", "precision": 38, "scale": 4}}

def update(configuration, state):
    from decimal import Decimal
    keys = {
        "doubles": [1e308, 5e-324, 0.1, 0.0],
        "floats": [0.5, 1.5, 0.0],
        "strings": ["", " ", "a\u0000b", "é", "e\u0301", "x" * 5000 + "1", "x" * 5000 + "2", "\U0010ffff" * 200],
        "binaries": [b"", b"\x00", b"\xff" * 300, b"\xff" * 301],
        "instants": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2024-02-29T12:00:00.000001Z"],
        "dates": ["0001-01-01", "9999-12-31", "1969-12-31"],
        "truths": [True, False],
        "decimals": [Decimal("0"), Decimal("-9999999999999999999999999999999999.9999"), Decimal("1.10")],
    }
    for turn in range(3):
        for table, ids in keys.items():
            for key in ids + ids:
                op.upsert(table, {"id": key, "turn": turn})
            op.update(table, {"id": ids[0], "patched": turn})
        op.checkpoint({"turn": turn})
"#;
    let connection = stack.connection(&connector(body), &[]);
    stack.sync(&connection);
    stack.sync(&connection);
    let wanted = [
        ("doubles", 4),
        ("floats", 3),
        ("strings", 8),
        ("binaries", 4),
        ("instants", 3),
        ("dates", 3),
        ("truths", 2),
        ("decimals", 3),
    ];
    for (table, rows) in wanted {
        assert_eq!(oracle::count(&stack.lake, SCHEMA, table), rows, "{table}");
    }
}

/// NaN is one value and zero has one sign, as keys.
#[test]
fn not_a_number_and_negative_zero_are_one_key_each() {
    let stack = Stack::start();
    let body = r#"
def schema(configuration):
    return [{"table": "doubles", "primary_key": ["id"], "columns": {"id": "DOUBLE"}}]

def update(configuration, state):
    for turn in range(3):
        for key in [0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan]:
            op.upsert("doubles", {"id": key, "turn": turn})
        op.checkpoint({"turn": turn})
"#;
    let connection = stack.connection(&connector(body), &[]);
    stack.sync(&connection);
    stack.sync(&connection);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "doubles"), 4);
}

/// A second connection that writes the same tables is refused or kept apart; the first one's rows stay.
#[test]
fn two_connections_that_write_the_same_tables() {
    let stack = Stack::start();
    let body = format!(
        "{KEYED}
def update(configuration, state):
    for number in range(int(configuration['from']), int(configuration['from']) + 10):
        op.upsert('rows', {{'id': number}})
"
    );
    let zip = connector(&body);
    let first = stack.connection_named("other", &zip, &[("from", "0")]);
    stack.sync(&first);
    let package = stack.rest.upload(&zip).data()["id"].clone();
    let body = serde_json::json!({
        "group_id": stack.group, "service": "connector_sdk", "paused": false, "schedule_type": "manual",
        "run_setup_tests": false,
        "config": {"schema": "other", "package_id": package, "secrets_list": [{"key": "from", "value": "1000"}]},
    });
    let made = stack.rest.post("/v1/connections", &body);
    if made.status == 201 {
        let id = made.data()["id"].as_str().expect("an id").to_owned();
        let sync = stack.rest.sync(&id);
        let run = stack.rest.wait(&id, &sync, SYNC);
        assert_eq!(run["error"]["code"], "DST-008", "{run}");
    } else {
        assert!((400..500).contains(&made.status), "{}", made.body);
    }
    assert_eq!(oracle::count(&stack.lake, "other", "rows"), 10);
    stack.sync(&first);
}
