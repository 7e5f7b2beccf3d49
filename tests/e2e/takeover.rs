//! Two agents on one connection: the first is frozen, the second takes over, the first wakes up and is fenced.

use std::time::Duration;

use inshore_tests::agent::Agent;
use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, process, shop, wait};
use rustix::process::Signal;

const ROWS: u64 = 12_000;
/// Lease, offer to the other agent, and the sync itself.
const TAKEOVER: Duration = Duration::from_secs(75);

#[test]
fn a_frozen_writer_is_replaced_and_fenced_when_it_wakes() {
    let stack = Stack::start();
    let rest = stack.rest.clone();
    let mut second = Agent::enrol(&stack.control, &stack.group, &stack.dir.path().join("second"), &stack.lake);
    second.start(&rest);
    let database = shop::database(&stack.source());
    shop::generate(&database, ROWS, 3);
    let path = database.display().to_string();
    let connection = stack.connection(&shop::package(), &[("database", &path), ("checkpoint_rows", "50")]);
    let sync = rest.sync(&connection);
    let run_path = format!("/v1/connections/{connection}/syncs/{sync}");
    let owner = wait::until("some checkpoints", SYNC, || {
        let run = rest.get(&run_path).data();
        assert_ne!(run["status"], "succeeded", "the sync was over before it could be frozen: {run}");
        (run["checkpoints"].as_u64() >= Some(3)).then(|| run["agent_id"].as_str().map(str::to_owned)).flatten()
    });
    let first_owns = owner == stack.agent.id;
    let frozen = if first_owns { stack.agent.tree() } else { second.tree() };
    assert!(frozen.len() >= 3, "agent, job and connector: {frozen:?}");
    process::signal_all(&frozen, Signal::STOP);
    let run = rest.wait(&connection, &sync, TAKEOVER);
    let taken_by = run["agent_id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(run["status"], "succeeded", "{run}");
    assert_ne!(taken_by, owner, "the other agent finished it: {run}");
    oracle::assert_exact(&stack.lake, SCHEMA, &database, "while the first is frozen");
    process::signal_all(&frozen, Signal::CONT);
    let log = || if first_owns { stack.agent.output() } else { second.output() };
    wait::until("the woken writer to end", Duration::from_secs(60), || log().contains("job ended").then_some(()));
    assert!(log().contains("result=Fenced"), "the woken writer ended otherwise:\n{}", log());
    oracle::assert_exact(&stack.lake, SCHEMA, &database, "after the first woke up");
    shop::change(&database, 3);
    stack.sync(&connection);
    oracle::assert_exact(&stack.lake, SCHEMA, &database, "a sync later");
}
