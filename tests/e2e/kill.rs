//! Random `kill -9` of the agent, of its jobs, and of both, at random moments of random syncs.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use inshore_tests::process;
use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, prove, seed, shop};
use rustix::process::Signal;
use serde_json::Value;

const ROWS: u64 = 3_000;
/// Kills on one stack; each sync in between makes the shop some 5 % larger, so more kills take more stacks.
const KILLS: u64 = 50;
const STACKS_PROVE: u64 = 4;
/// The threaded shop has more commits per sync than its rows need; a few kills show most of what fifty do.
const KILLS_THREADED: u64 = 8;
/// So that each of its threads checkpoints in the first sync, and some do in each later one.
const CHECKPOINT_ROWS: &str = "10";

#[test]
fn kill_agent_and_job_at_random_moments() {
    for stack in 0..if prove() { STACKS_PROVE } else { 1 } {
        let seed = seed() + stack;
        let mut stack = Stack::start();
        let (connection, database) = stack.shop(ROWS, seed);
        kill_one_stack(&mut stack, &connection, &database, seed, KILLS);
    }
}

#[test]
fn kill_a_connector_that_checkpoints_from_eight_threads() {
    let seed = seed();
    let mut stack = Stack::start();
    let database = shop::database(&stack.source());
    shop::generate(&database, ROWS, seed);
    let example = shop::example("connector.py");
    let package = shop::zip(&[
        ("connector.py", include_str!("kill/threaded_shop.py")),
        ("shop.py", &example),
        ("requirements.txt", &shop::example("requirements.txt")),
    ]);
    let path = database.display().to_string();
    let connection = stack.connection(&package, &[("database", &path), ("checkpoint_rows", CHECKPOINT_ROWS)]);
    let kills = if prove() { KILLS } else { KILLS_THREADED };
    kill_one_stack(&mut stack, &connection, &database, seed, kills);
    let journal = stack.agent.dir.join("state/logs").join(format!("{connection}.jsonl"));
    let journal = std::fs::read_to_string(journal).expect("the connector's journal");
    let threads = ["customers", "orders", "order_lines", "events"]
        .map(|table| (0..2).filter(|part| journal.contains(&format!("{table}.{part} has checkpointed"))).count());
    assert_eq!(threads, [2; 4], "threads per table that checkpointed");
}

fn kill_one_stack(stack: &mut Stack, connection: &str, database: &Path, seed: u64, kills: u64) {
    let mut rng = Rng::with_seed(seed);
    let (mut killed, mut syncs) = (0, 0);
    while killed < kills {
        let sync = stack.rest.sync(connection);
        for _ in 0..rng.u64(1..4) {
            std::thread::sleep(Duration::from_millis(rng.u64(20..1_200)));
            killed += u64::from(kill_something(stack, &mut rng));
        }
        let run = stack.rest.wait(connection, &sync, SYNC * 2);
        finish(stack, connection, &run);
        syncs += 1;
        oracle::assert_exact(&stack.lake, SCHEMA, database, &format!("after {killed} kills, seed {seed}"));
        shop::change(database, seed + syncs);
    }
    stack.sync(connection);
    let seen = oracle::assert_exact(&stack.lake, SCHEMA, database, &format!("at the end, seed {seed}"));
    let orphans = orphans(stack);
    println!(
        "seed {seed}: {killed} kills over {syncs} syncs; {} rows, {} lost, {} doubled; orphan files after garbage collection: {}",
        seen.rows,
        seen.lost,
        seen.duplicated,
        orphans.len()
    );
    assert!(orphans.is_empty(), "{orphans:?}");
}

/// False when there was no job to kill at that moment.
fn kill_something(stack: &mut Stack, rng: &mut Rng) -> bool {
    match rng.u8(..3) {
        0 => stack.agent.kill_tree(),
        1 => stack.agent.kill(),
        _ => {
            let jobs: Vec<u32> = stack.agent.tree().into_iter().skip(1).collect();
            process::signal_all(&jobs, Signal::KILL);
            return !jobs.is_empty();
        }
    }
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    true
}

/// A run that a kill ended is followed by one that nothing disturbs.
fn finish(stack: &Stack, connection: &str, run: &Value) {
    if run["status"] != "succeeded" {
        stack.sync(connection);
    }
}

/// Data files that neither a table nor the chain names.
fn orphans(stack: &Stack) -> Vec<String> {
    let mut named = String::new();
    let mut files = Vec::new();
    walk(&stack.lake, &mut |path| {
        let text = path.to_string_lossy().into_owned();
        if text.contains("/_delta_log/") || text.contains("/chain/") {
            named.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        } else if text.ends_with(".parquet") {
            files.push(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        }
    });
    files.retain(|file| !named.contains(file.as_str()));
    files
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).expect("the lake lists").flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}
