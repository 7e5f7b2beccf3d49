//! Re-syncs with the real binaries: of a connection, of a table; what readers see until the end, and after crashes at every
//! point of a commit.

use std::process::Command;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{python, shop, wait};
use serde_json::{Value, json};

/// Reads what the files say is there: `people` by number, `events` by number. Writes down where it started from.
const CONNECTOR: &str = r#"
import json, os, pathlib, time
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "people", "primary_key": ["id"]}, {"table": "events", "primary_key": ["id"]}]

def update(configuration, state):
    source = pathlib.Path(configuration["source"])
    rows = json.loads((source / "rows.json").read_text())
    start = state.get("next", 0)
    for n in range(start, rows["until"]):
        if n not in rows["gone"]:
            op.upsert("people", {"id": n, "name": f"{rows['mark']}-{n}", "start": start})
            op.upsert("events", {"id": n, "name": f"{rows['mark']}-{n}"})
        if n % 10 == 9:
            op.checkpoint({"next": n + 1})
            while (source / f"hold-{n}").exists():
                time.sleep(0.05)
    op.checkpoint({"next": rows["until"]})

connector = Connector(update=update, schema=schema)
"#;

const LOOK: &str = r#"
import json, sys, deltalake
table = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().to_pylist()
live = {str(row["id"]): row["name"] for row in table if not row["_fivetran_deleted"]}
dead = sorted(row["id"] for row in table if row["_fivetran_deleted"])
assert len(table) == len(live) + len(dead), "a key stands there twice"
print(json.dumps({"live": live, "dead": dead, "starts": sorted({row["start"] for row in table if row.get("start") is not None})}))
"#;

struct Source {
    stack: Stack,
    connection: String,
}

impl Source {
    fn start() -> Source {
        let stack = Stack::start();
        let source = stack.source();
        let path = source.display().to_string();
        let connection = stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("source", &path)]);
        Source { stack, connection }
    }

    /// What the source has from now on.
    fn holds(&self, mark: &str, until: u32, gone: &[u32]) {
        let rows = json!({"mark": mark, "until": until, "gone": gone});
        std::fs::write(self.stack.source().join("rows.json"), rows.to_string()).expect("written");
    }

    fn table(&self, name: &str) -> Value {
        let folder = self.stack.lake.join(SCHEMA).join(name);
        let output = Command::new(python()).args(["-c", LOOK]).arg(folder).output().expect("Python runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Live rows by their marks, dead ones by their number.
    fn check(&self, table: &str, mark: &str, live: usize, dead: &[u32]) {
        let found = self.table(table);
        let rows = found["live"].as_object().expect("rows");
        let marked = rows.values().filter(|name| name.as_str().is_some_and(|name| name.starts_with(mark))).count();
        assert_eq!((marked, rows.len(), &found["dead"]), (live, live, &json!(dead)), "{table}: {found}");
    }

    fn resync(&self, route: &str, body: &Value) -> String {
        let asked = self.stack.rest.post(&format!("/v1/connections/{}/{route}", self.connection), body).data();
        asked["sync_id"].as_str().expect("an id").to_owned()
    }

    fn ended(&self, sync: &str) -> Value {
        let run = self.stack.rest.wait(&self.connection, sync, SYNC);
        assert_eq!(run["status"], "succeeded", "{run}\n{}", self.stack.agent.output());
        run
    }
}

#[test]
fn a_connection_is_read_again_and_what_is_gone_is_marked_at_the_end() {
    let source = Source::start();
    source.holds("old", 30, &[]);
    source.stack.sync(&source.connection);
    source.check("people", "old", 30, &[]);
    source.holds("new", 25, &[3, 17]);
    let hold = source.stack.source().join("hold-9");
    std::fs::write(&hold, "").expect("written");
    let sync = source.resync("resync", &json!({}));
    let path = format!("/v1/connections/{}/syncs/{sync}", source.connection);
    wait::until("a first checkpoint", SYNC, || {
        (source.stack.rest.get(&path).data()["checkpoints"].as_u64() > Some(0)).then_some(())
    });
    // Until the end readers see every old row that has not come again, 3 too.
    let found = wait::until("its rows to be there", SYNC, || {
        let found = source.table("people");
        (found["live"]["9"] == "new-9").then_some(found)
    });
    assert_eq!(
        (&found["live"]["3"], &found["live"]["29"], &found["dead"]),
        (&json!("old-3"), &json!("old-29"), &json!([]))
    );
    std::fs::remove_file(hold).expect("removed");
    assert_eq!(source.ended(&sync)["type"], "historical");
    for table in ["people", "events"] {
        source.check(table, "new", 23, &[3, 17, 25, 26, 27, 28, 29]);
    }
    // Increments go on from where the re-sync ended.
    source.holds("later", 40, &[]);
    source.stack.sync(&source.connection);
    let found = source.table("people");
    assert_eq!(
        (&found["live"]["24"], &found["live"]["25"], &found["dead"]),
        (&json!("new-24"), &json!("later-25"), &json!([3, 17]))
    );
}

#[test]
fn a_table_is_read_again_and_the_others_keep_rows_and_state() {
    let source = Source::start();
    source.holds("old", 30, &[]);
    source.stack.sync(&source.connection);
    source.holds("new", 35, &[4]);
    let sync = source.resync(&format!("schemas/{SCHEMA}/tables/people/resync"), &json!({}));
    source.ended(&sync);
    source.check("people", "new", 34, &[4]);
    source.check("events", "old", 30, &[]);
    // The next increment begins where the last one ended: it brings events of 30 and later, and people of them again.
    source.stack.sync(&source.connection);
    let events = source.table("events");
    assert_eq!((&events["live"]["29"], &events["live"]["30"]), (&json!("old-29"), &json!("new-30")));
    assert_eq!(source.table("people")["starts"], json!([0, 30]));
    // A table that is blocked is not read again, and stays as it is.
    let block = json!({"schemas": {SCHEMA: {"tables": {"events": {"enabled": false}}}}});
    source.stack.rest.post(&format!("/v1/connections/{}/schemas", source.connection), &block).data();
    source.holds("third", 5, &[]);
    source.ended(&source.resync("resync", &json!({})));
    source.check("people", "third", 5, &(5..35).collect::<Vec<_>>());
    assert_eq!(source.table("events"), events);
    // Let in again, it is filled by a re-sync.
    source.stack.rest.post(&format!("/v1/connections/{}/schemas", source.connection), &json!({})).data();
    source.ended(&source.resync("schemas/tables/resync", &json!({SCHEMA: ["events"]})));
    source.check("events", "third", 5, &(5..35).collect::<Vec<_>>());
}

#[test]
fn a_resync_that_dies_goes_on_and_still_knows_its_end() {
    for (point, count) in
        [("P6", 1), ("P8", 2), ("P9", 2), ("P9b", 2), ("P10", 2), ("P11", 2), ("P9", 5), ("P9b", 5), ("P13", 3)]
    {
        let mut source = Source::start();
        source.holds("old", 30, &[]);
        source.stack.sync(&source.connection);
        source.stack.agent.kill_tree();
        source.holds("new", 35, &[2, 22]);
        source.stack.agent.arm(&[(point, count)]);
        let rest = source.stack.rest.clone();
        source.stack.agent.start(&rest);
        let whole = count != 2;
        let (route, body) =
            if whole { ("resync", json!({})) } else { ("resync", json!({"scope": {SCHEMA: ["people"]}})) };
        let mut sync = source.resync(route, &body);
        let path = |sync: &str| format!("/v1/connections/{}/syncs/{sync}", source.connection);
        for _ in 0..4 {
            let run = source.stack.rest.wait(&source.connection, &sync, SYNC);
            if run["status"] == "succeeded" {
                break;
            }
            // What died is queued again in a minute; nobody waits here.
            sync = source.stack.rest.sync(&source.connection);
        }
        assert_eq!(source.stack.rest.get(&path(&sync)).data()["status"], "succeeded", "{point} {count}");
        assert!(source.stack.agent.hits().iter().any(|hit| hit.starts_with(point)), "{point} {count} was never passed");
        source.check("people", "new", 33, &[2, 22]);
        if let ("P9b" | "P10" | "P11", 2) = (point, count) {
            let starts = source.table("people")["starts"].clone();
            assert_eq!(starts, json!([0, 20]), "{point}: it went on from its second commit");
        }
        if whole {
            source.check("events", "new", 33, &[2, 22]);
        } else {
            source.check("events", "old", 30, &[]);
        }
        source.holds("later", 36, &[]);
        source.stack.sync(&source.connection);
        assert_eq!(source.table("people")["live"]["35"], "later-35");
        let before = if whole { json!("new-34") } else { json!("later-34") };
        assert_eq!(source.table("people")["live"]["34"], before, "{point} {count}: increments go on");
    }
}
