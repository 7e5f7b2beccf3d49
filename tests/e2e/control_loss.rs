//! The control plane dies, comes back, or comes back with an older memory. What arrived stays as it is, every outcome
//! counts once, nothing runs twice, and no connection is stuck for ever.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use fastrand::Rng;
use inshore_tests::script::Script;
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{prove, seed, wait};

/// A script of `checkpoints` windows; each sync plays what was added since the one before.
fn script(stack: &Stack, operations: u64) -> (Script, String) {
    let script = Script::random(&stack.source(), seed(), operations, 20);
    let connection = script.connection(stack);
    (script, connection)
}

#[test]
fn a_control_plane_that_is_killed_during_syncs_records_each_outcome_once_and_runs_nothing_twice() {
    let kills = if prove() { 50 } else { 4 };
    let mut rng = Rng::with_seed(seed());
    let mut stack = Stack::start();
    let (script, connection) = script(&stack, 2_000);
    let rest = stack.rest.clone();
    let (mut syncs, mut killed) = (Vec::new(), 0);
    while killed < kills {
        let sync = rest.sync(&connection);
        for _ in 0..rng.u64(1..3) {
            std::thread::sleep(Duration::from_millis(rng.u64(100..1_500)));
            stack.control.restart();
            killed += 1;
        }
        let run = rest.wait(&connection, &sync, SYNC);
        assert_eq!(run["status"], "succeeded", "{run}");
        assert_eq!(run["attempt"], 1, "{run}");
        syncs.push(sync);
    }
    // The agent was never killed: each sync ran once.
    assert_eq!(Script::runs(&stack, &connection).len(), syncs.len(), "runs of the connector");
    let state = rest.get(&format!("/v1/connections/{connection}")).data();
    assert_eq!(state["status"]["sync_state"], "scheduled", "{state}");
    script.assert_exact(&stack.lake, "after kills of the control plane");
}

/// The database of the control plane, as of now.
fn copy_database(stack: &mut Stack) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    stack.control.kill();
    let files = std::fs::read_dir(stack.control.state_dir()).expect("its state").flatten();
    let files = files.map(|entry| entry.path()).filter(|path| path.is_file());
    let copy = files.map(|path| (path.clone(), std::fs::read(&path).expect("a file"))).collect();
    stack.control.restart();
    copy
}

fn restore_database(stack: &mut Stack, copy: &[(std::path::PathBuf, Vec<u8>)]) {
    stack.control.kill();
    for entry in std::fs::read_dir(stack.control.state_dir()).expect("its state").flatten() {
        if entry.path().is_file() {
            std::fs::remove_file(entry.path()).expect("the newer file goes");
        }
    }
    for (path, bytes) in copy {
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(bytes)).expect("the older file is back");
    }
    stack.control.restart();
}

/// Generations go back with the database, below what the chain has seen: the connection must find its way.
#[test]
fn a_control_plane_restored_from_an_older_copy_finds_its_way_past_the_chains_generation() {
    let mut stack = Stack::start();
    let (script, connection) = script(&stack, 500);
    stack.sync(&connection);
    let copy = copy_database(&mut stack);
    let rest = stack.rest.clone();
    stack.agent.wait_online(&rest);
    for _ in 0..6 {
        stack.sync(&connection);
    }
    restore_database(&mut stack, &copy);
    stack.agent.wait_online(&rest);
    let run = stack.sync(&connection);
    assert!(run["generation"].as_u64() > Some(7), "{run}");
    script.assert_exact(&stack.lake, "after the restore");
    stack.sync(&connection);
}

/// The copy was taken in the middle of a sync that has long ended, as the agent knows.
#[test]
fn long_a_control_plane_restored_to_the_middle_of_a_sync_that_has_ended_goes_on() {
    // The lease of the sync has to run out first: a minute.
    let mut stack = Stack::start();
    let (script, connection) = script(&stack, 3_000);
    let rest = stack.rest.clone();
    let sync = rest.sync(&connection);
    wait::until("the sync to run", SYNC, || {
        (rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data()["status"] == "running").then_some(())
    });
    let copy = copy_database(&mut stack);
    let run = rest.wait(&connection, &sync, SYNC);
    assert_eq!(run["status"], "succeeded", "{run}");
    for _ in 0..3 {
        stack.sync(&connection);
    }
    restore_database(&mut stack, &copy);
    let run = rest.wait(&connection, &sync, SYNC);
    assert_eq!(run["status"], "succeeded", "{run}");
    stack.sync(&connection);
    script.assert_exact(&stack.lake, "after the restore");
}

/// The inbox and outbox are lost, the identity is kept.
#[test]
fn long_an_agent_that_lost_its_inbox_and_outbox_goes_on() {
    // It is taken for a clone until its counter has caught up, and the lease has to run out.
    let mut stack = Stack::start();
    let (script, connection) = script(&stack, 1_500);
    let rest = stack.rest.clone();
    let sync = rest.sync(&connection);
    wait::until("the sync to run", SYNC, || {
        (rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data()["status"] == "running").then_some(())
    });
    stack.agent.kill_tree();
    for entry in std::fs::read_dir(stack.agent.dir.join("state")).expect("its state").flatten() {
        if entry.file_name().to_string_lossy().starts_with("agent.db") {
            std::fs::remove_file(entry.path()).expect("a file of the database goes");
        }
    }
    stack.agent.start(&rest);
    let run = rest.wait(&connection, &sync, SYNC);
    if run["status"] != "succeeded" {
        stack.sync(&connection);
    }
    script.assert_exact(&stack.lake, "without the inbox");
}
