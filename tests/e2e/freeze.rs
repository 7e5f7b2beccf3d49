//! Parts of the product frozen for longer than a lease, and an agent cloned with its identity.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inshore_tests::script::Script;
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{agent, process, prove, seed, wait};
use rustix::process::Signal;

/// Longer than a lease of 30 s and its renewals.
const FROZEN: Duration = Duration::from_secs(50);

fn running(stack: &Stack, connection: &str, sync: &str) {
    wait::until("some checkpoints", SYNC, || {
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (run["checkpoints"].as_u64() >= Some(2)).then_some(())
    });
}

/// The agent goes on renewing while its job, or only the connector below it, stands still.
#[test]
fn a_job_or_connector_that_is_frozen_for_longer_than_a_lease_goes_on() {
    let frozen = if prove() { FROZEN } else { Duration::from_secs(3) };
    for connector_only in [false, true] {
        let stack = Stack::start();
        let script = Script::random(&stack.source(), seed(), 1_200, 40);
        let connection = script.connection(&stack);
        let sync = stack.rest.sync(&connection);
        running(&stack, &connection, &sync);
        // Agent, job, connector and below.
        let tree = stack.agent.tree();
        let stopped = if connector_only { tree.get(2..) } else { tree.get(1..2) };
        let stopped = stopped.expect("a job and a connector").to_vec();
        process::signal_all(&stopped, Signal::STOP);
        std::thread::sleep(frozen);
        process::signal_all(&stopped, Signal::CONT);
        let run = stack.rest.wait(&connection, &sync, SYNC);
        assert_eq!(run["status"], "succeeded", "{run}");
        assert_eq!(Script::runs(&stack, &connection).len(), 1, "it ran once");
        script.assert_exact(&stack.lake, &format!("frozen, connector only: {connector_only}"));
    }
}

/// The state directory is copied in the middle of a sync and both are started: one identity, two writers.
#[test]
fn long_a_cloned_agent_does_not_double_a_row() {
    // The two take turns at the control plane: most of a minute.
    let mut stack = Stack::start();
    let mut script = Script::random(&stack.source(), seed(), 6_000, 150);
    script.cut(2);
    let connection = script.connection(&stack);
    let rest = stack.rest.clone();
    let sync = rest.sync(&connection);
    running(&stack, &connection, &sync);
    stack.agent.kill_tree();
    let clone = stack.dir.path().join("clone");
    agent::write_files(&stack.control, &clone, &stack.lake);
    copy(&stack.agent.dir.join("state"), &clone.join("state"));
    // Both find an unfinished job in their inbox and take it up again.
    stack.agent.launch();
    let command = agent::command(&clone, &["agent", "run"]);
    let mut second = process::Process::start(command, &stack.dir.path().join("clone.log"));
    let run = rest.wait(&connection, &sync, SYNC);
    println!("{} {}", run["status"], run["error"]["code"]);
    wait::until("both to have ended their job", SYNC, || {
        let ended = |log: String| log.contains("job ended");
        (ended(stack.agent.output()) && ended(second.output())).then_some(())
    });
    script.reveal();
    let next = rest.sync(&connection);
    let run = rest.wait(&connection, &next, SYNC);
    second.kill();
    if run["status"] != "succeeded" {
        stack.sync(&connection);
    }
    stack.sync(&connection);
    script.assert_exact(&stack.lake, "cloned");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "the state directory is copied");
}
