//! The lake under the product's feet: moved away in the middle of a run, littered with the rests of interrupted writes,
//! and read all the time while it is written.

use std::process::{Command, Stdio};

use inshore_tests::script::Script;
use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{python, seed, wait};

/// Reads a table over and over until the file STOP is there: no key may be seen twice, and each version's rows must be
/// what its own log says.
const READER: &str = r#"
import os, sys, deltalake
table, stop, reads, last = sys.argv[1], sys.argv[2], 0, 0
while not os.path.exists(stop):
    try:
        now = deltalake.DeltaTable(table)
    except Exception:
        continue
    ids = now.to_pyarrow_table(columns=["id", "_fivetran_deleted"]).column("id").to_pylist()
    assert len(ids) == len(set(ids)), f"version {now.version()}: {len(ids)} rows, {len(set(ids))} keys"
    assert len(ids) >= last, f"version {now.version()}: {last} keys before, {len(ids)} now"
    assert len(ids) % 50 == 0, f"version {now.version()} holds part of a window: {len(ids)} rows"
    last, reads = len(ids), reads + 1
print(reads, flush=True)
os._exit(0)  # the reader library's threads do not end well
"#;

#[test]
fn readers_never_see_a_row_twice_or_part_of_a_window() {
    let mut stack = Stack::start();
    let mut lines = vec![serde_json::json!([{"table": "keyed", "primary_key": ["id"]}])];
    for window in 0..60_u64 {
        // Every window brings 50 new keys and touches all kinds of old ones.
        lines.extend((0..50).map(|id| serde_json::json!(["u", "keyed", {"id": window * 50 + id, "n": window}])));
        lines.extend((0..20).map(
            |id| serde_json::json!(["u", "keyed", {"id": (window * 31 + id * 7) % (window * 50 + 1), "n": window}]),
        ));
        lines
            .extend((0..5).map(|id| serde_json::json!(["d", "keyed", {"id": (window * 17 + id) % (window * 50 + 1)}])));
        lines.push(serde_json::json!(["c", 0]));
    }
    let script = Script::of(&stack.source(), &lines);
    let connection = script.connection(&stack);
    let stop = stack.dir.path().join("stop");
    let reader = Command::new(python())
        .args(["-c", READER])
        .arg(stack.lake.join(SCHEMA).join("keyed"))
        .arg(&stop)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let rest = stack.rest.clone();
    let sync = rest.sync(&connection);
    for _ in 0..2 {
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        stack.agent.kill_tree();
        stack.agent.start(&rest);
    }
    let run = rest.wait(&connection, &sync, SYNC);
    if run["status"] != "succeeded" {
        stack.sync(&connection);
    }
    std::fs::write(&stop, "").expect("the reader is told");
    let output = reader.wait_with_output().expect("the reader ends");
    let reads = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{} reads", reads.trim());
    assert!(reads.trim().parse::<u64>().expect("a number") > 5, "{reads}");
    script.assert_exact(&stack.lake, "after the reads");
}

/// The folder is moved away while a job runs, and back: nothing may be started anew in its place.
#[test]
fn a_lake_that_is_moved_away_is_not_started_anew() {
    let stack = Stack::start();
    let script = Script::random(&stack.source(), seed(), 4_000, 80);
    let connection = script.connection(&stack);
    let sync = stack.rest.sync(&connection);
    wait::until("some checkpoints", SYNC, || {
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (run["checkpoints"].as_u64() >= Some(3)).then_some(())
    });
    let away = stack.dir.path().join("away");
    std::fs::rename(&stack.lake, &away).expect("the lake is moved");
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_ne!(run["status"], "succeeded", "{run}");
    let code = run["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(code.starts_with("DST-"), "{run}");
    if stack.lake.exists() {
        let chain = stack.lake.join("_inshore").join(&connection).join("chain");
        assert!(!chain.exists() || chain.read_dir().expect("lists").count() == 0, "a second chain was begun");
        std::fs::remove_dir_all(&stack.lake).expect("what was made in its place goes");
    }
    std::fs::rename(&away, &stack.lake).expect("the lake is back");
    stack.sync(&connection);
    script.assert_exact(&stack.lake, "after the lake came back");
}

/// Rests of interrupted writes lie everywhere a writer works.
#[test]
fn rests_of_interrupted_writes_are_passed_over() {
    let stack = Stack::start();
    let mut script = Script::random(&stack.source(), seed(), 2_000, 20);
    script.cut(3);
    let connection = script.connection(&stack);
    stack.sync(&connection);
    for _ in 0..2 {
        let chain = stack.lake.join("_inshore").join(&connection).join("chain");
        let head = chain.read_dir().expect("the chain lists").count();
        for slot in [1, head, head + 1, head + 2] {
            std::fs::write(chain.join(format!("{slot:020}.json#1")), "rest").expect("a rest");
        }
        let log = stack.lake.join(SCHEMA).join("keyed/_delta_log");
        let version = log.read_dir().expect("the log lists").count();
        for number in [0, version - 1, version, version + 1] {
            std::fs::write(log.join(format!("{number:020}.json#1")), "rest").expect("a rest");
            std::fs::write(log.join(format!("{number:020}.json.tmp")), "rest").expect("a rest");
        }
        let data = stack.lake.join(SCHEMA).join("keyed/data").join(&connection);
        std::fs::write(data.join(format!("1-{}-0-0000000000000000.parquet#7", head + 1)), "rest").expect("a rest");
        std::fs::write(data.join("1-1-0-0123456789abcdef.parquet"), "not Parquet").expect("an orphan");
        script.reveal();
        stack.sync(&connection);
        script.assert_exact(&stack.lake, "with rests lying about");
    }
}
