//! Random operations under crashes: upserts, updates, deletes and truncations of the same keys within and across commit
//! windows, keys whose type widens on the way, equal rows without a key. A model says what the tables must hold.

use std::time::Duration;

use fastrand::Rng;
use inshore_tests::script::Script;
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{prove, seed, wait};
use serde_json::{Value, json};

const POINTS: [&str; 5] = ["P12", "P13", "P13b", "P9b", "P10"];

/// Plays the script to its end, with the agent started anew whenever a point killed it.
fn finish(stack: &mut Stack, connection: &str, sync: &str) {
    let rest = stack.rest.clone();
    let mut run = rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
    wait::until("the run to end", SYNC * 2, || {
        if stack.agent.has_ended() {
            stack.agent.kill();
            stack.agent.start(&rest);
        }
        run = rest.get(&format!("/v1/connections/{connection}/syncs/{sync}?wait=1s")).data();
        (!["queued", "running"].contains(&run["status"].as_str().unwrap_or_default())).then_some(())
    });
    if run["status"] != "succeeded" {
        stack.sync(connection);
    }
}

fn crash_at(stack: &mut Stack, connection: &str, points: &[(&str, u64)]) {
    stack.agent.kill();
    stack.agent.arm(points);
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    let sync = rest.sync(connection);
    finish(stack, connection, &sync);
}

#[test]
fn random_operations_with_crashes_at_the_commit_and_in_the_tables() {
    let seeds = if prove() { 20 } else { 1 };
    for seed in seed()..seed() + seeds {
        let mut rng = Rng::with_seed(seed);
        let mut stack = Stack::start();
        let mut script = Script::random(&stack.source(), seed, 4_000, 60);
        script.cut(POINTS.len());
        let connection = script.connection(&stack);
        // Every point kills once, in a sync of its own.
        for (number, point) in POINTS.into_iter().enumerate() {
            if number > 0 {
                script.reveal();
            }
            crash_at(&mut stack, &connection, &[(point, rng.u64(1..6))]);
        }
        let hits = stack.agent.hits();
        println!("seed {seed}: hit {hits:?}, runs from {:?}", Script::runs(&stack, &connection));
        assert_eq!(hits, POINTS, "every point was hit");
        script.assert_exact(&stack.lake, &format!("seed {seed}, {hits:?}"));
    }
}

#[test]
fn random_operations_with_random_kills() {
    let seeds = if prove() { 20 } else { 1 };
    for seed in seed()..seed() + seeds {
        let mut rng = Rng::with_seed(seed);
        let mut stack = Stack::start();
        let script = Script::random(&stack.source(), seed + 1_000, 4_000, 60);
        let connection = script.connection(&stack);
        let rest = stack.rest.clone();
        let sync = rest.sync(&connection);
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(rng.u64(300..1_500)));
            stack.agent.kill_tree();
            stack.agent.start(&rest);
        }
        finish(&mut stack, &connection, &sync);
        println!("seed {seed}: runs from {:?}", Script::runs(&stack, &connection));
        script.assert_exact(&stack.lake, &format!("seed {seed}"));
    }
}

/// A truncation that is applied a second time must spare the rows of the windows after it.
#[test]
fn a_truncation_that_is_rolled_forward_again_spares_later_rows() {
    let row = |id: u64, n: u64| json!(["u", "keyed", {"id": id, "n": n}]);
    for point in ["P12", "P13", "P13b"] {
        let mut lines = vec![json!([{"table": "keyed", "primary_key": ["id"]}])];
        for window in 0..6 {
            lines.extend((0..20).map(|id| row(window * 10 + id, window)));
            lines.push(json!(["t", "keyed"]));
            lines.extend((0..5).map(|id| row(window * 10 + id, window + 100)));
            lines.push(json!(["c", 0]));
        }
        let mut stack = Stack::start();
        let script = Script::of(&stack.source(), &lines);
        let connection = script.connection(&stack);
        crash_at(&mut stack, &connection, &[(point, 3)]);
        assert_eq!(stack.agent.hits().len(), 1, "{point} was hit");
        script.assert_exact(&stack.lake, point);
    }
}

/// The state is an object of its own above 256 KiB.
#[test]
fn a_large_state_survives_crashes_around_its_commit() {
    let mut lines = vec![json!([{"table": "keyed", "primary_key": ["id"]}])];
    for window in 0..10 {
        lines.extend((0..20).map(|id| json!(["u", "keyed", {"id": window * 15 + id, "n": window}])));
        lines.push(json!(["c", 300]));
    }
    let mut stack = Stack::start();
    let mut script = Script::of(&stack.source(), &lines);
    script.cut(4);
    let connection = script.connection(&stack);
    for (number, point) in ["P8", "P9", "P9b", "P10"].into_iter().enumerate() {
        if number > 0 {
            script.reveal();
        }
        crash_at(&mut stack, &connection, &[(point, 2)]);
    }
    assert_eq!(stack.agent.hits().len(), 4, "{:?}", stack.agent.hits());
    script.assert_exact(&stack.lake, "a large state");
    stack.sync(&connection);
    let chain = stack.lake.join("_inshore").join(&connection).join("state");
    let left = std::fs::read_dir(chain).expect("state objects were written").count();
    assert!(left <= 1, "{left} state objects are left");
}

/// One window far above the memory that a job may take: it spills, and the same keys come again after every spill.
#[test]
fn one_window_far_above_the_memory_budget() {
    let rows = if prove() { 300_000 } else { 40_000 };
    let mut lines = vec![json!([{"table": "keyed", "primary_key": ["id"]}, {"table": "lines"}])];
    let mut rng = Rng::with_seed(seed());
    for _ in 0..rows {
        let id = rng.u64(..rows / 3);
        lines.push(match rng.u8(..10) {
            0..6 => json!(["u", "keyed", {"id": id, "n": rng.u32(..), "text": "t".repeat(rng.usize(..80))}]),
            6..8 => json!(["p", "keyed", {"id": id, "n": rng.u32(..)}]),
            8 => json!(["d", "keyed", {"id": id}]),
            _ => json!(["u", "lines", {"a": id % 5_000}]),
        });
    }
    let stack = Stack::start();
    let policy = stack.agent.dir.join("policy.toml");
    let text = std::fs::read_to_string(&policy).expect("the policy");
    std::fs::write(&policy, format!("{text}[resources]\nmemory_bytes_max = \"1MiB\"\n"))
        .expect("the policy is written");
    let script = Script::of(&stack.source(), &lines);
    let connection = script.connection(&stack);
    stack.sync(&connection);
    script.assert_exact(&stack.lake, "spilled");
}

/// More entries than lie between two Anchors, the Anchor's own crash points, and a hint that is wrong in every way.
#[test]
fn a_chain_of_a_thousand_tiny_checkpoints_with_crashes_at_its_anchor_and_wrong_hints() {
    let mut lines: Vec<Value> = vec![json!([{"table": "keyed", "primary_key": ["id"]}])];
    lines.push(json!(["u", "keyed", {"id": 0, "n": 0}]));
    lines.extend((0..1_030).map(|_| json!(["c", 0])));
    let mut stack = Stack::start();
    let mut script = Script::of(&stack.source(), &lines);
    let connection = script.connection(&stack);
    let rest = stack.rest.clone();
    for (hits, point) in [(1, "P17"), (2, "P17b")] {
        stack.agent.kill_tree();
        stack.agent.arm(&[(point, 1)]);
        stack.agent.start(&rest);
        let sync = rest.sync(&connection);
        wait::until(point, SYNC, || (stack.agent.hits().len() == hits).then_some(()));
        rest.wait(&connection, &sync, SYNC);
    }
    stack.sync(&connection);
    script.assert_exact(&stack.lake, "an anchor");
    let hint = stack.lake.join("_inshore").join(&connection).join("hint.json");
    for wrong in [
        "",
        "garbage",
        "{\"v\":1,\"anchor\":2}",
        "{\"v\":1,\"anchor\":99999}",
        "{\"v\":1,\"anchor\":18446744073709551615}",
        "{\"v\":1,\"anchor\":0}",
    ] {
        std::fs::write(&hint, wrong).expect("the hint is written");
        lines.push(json!(["u", "keyed", {"id": lines.len() % 3, "n": lines.len()}]));
        script = Script::of(&stack.source(), &lines);
        stack.sync(&connection);
        script.assert_exact(&stack.lake, &format!("hint {wrong:?}"));
    }
}
