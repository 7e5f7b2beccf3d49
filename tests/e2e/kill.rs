//! Random `kill -9` of the agent, of its jobs, and of both, at random moments of random syncs.

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

#[test]
fn kill_agent_and_job_at_random_moments() {
    for stack in 0..if prove() { STACKS_PROVE } else { 1 } {
        kill_one_stack(seed() + stack);
    }
}

fn kill_one_stack(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut stack = Stack::start();
    let (connection, database) = stack.shop(ROWS, seed);
    let (mut killed, mut syncs) = (0, 0);
    while killed < KILLS {
        let sync = stack.rest.sync(&connection);
        for _ in 0..rng.u64(1..4) {
            std::thread::sleep(Duration::from_millis(rng.u64(20..1_200)));
            killed += u64::from(kill_something(&mut stack, &mut rng));
        }
        let run = stack.rest.wait(&connection, &sync, SYNC * 2);
        finish(&stack, &connection, &run);
        syncs += 1;
        oracle::assert_exact(&stack.lake, SCHEMA, &database, &format!("after {killed} kills, seed {seed}"));
        shop::change(&database, seed + syncs);
    }
    stack.sync(&connection);
    oracle::assert_exact(&stack.lake, SCHEMA, &database, &format!("at the end, seed {seed}"));
    let orphans = orphans(&stack);
    println!(
        "seed {seed}: {killed} kills over {syncs} syncs, orphan files after garbage collection: {}",
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

fn walk(folder: &std::path::Path, visit: &mut impl FnMut(&std::path::Path)) {
    for entry in std::fs::read_dir(folder).expect("the lake lists").flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}
