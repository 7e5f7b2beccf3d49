//! Drain, cancel and abort are three things; a job whose agent has died stops by itself.

use std::time::Duration;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, process, shop, wait};
use rustix::process::Signal;
use serde_json::json;

/// Emits rows slowly, with a checkpoint now and then, so that a stop always comes in the middle.
const SLOW: &str = r#"
import time
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{"table": "ticks", "primary_key": ["id"]}]

def update(configuration, state):
    number = state.get("next", 0)
    while number < int(configuration["rows"]):
        op.upsert("ticks", {"id": number})
        number += 1
        time.sleep(0.02)
        if number % 10 == 0:
            op.checkpoint({"next": number})

connector = Connector(update=update, schema=schema)
"#;

/// Never ends and never checkpoints.
const HANGING: &str = r#"
import time
from fivetran_connector_sdk import Connector, Operations as op

def update(configuration, state):
    op.upsert("ticks", {"id": 1})
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass

connector = Connector(update=update)
"#;

fn running(stack: &Stack, connection: &str, sync: &str, checkpoints: u64) {
    wait::until("the sync to be on its way", SYNC, || {
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        assert!(["queued", "running"].contains(&run["status"].as_str().unwrap_or_default()), "{run}");
        (run["status"] == "running" && run["checkpoints"].as_u64() >= Some(checkpoints)).then_some(())
    });
}

#[test]
fn drain_by_sigterm_ends_at_a_durable_checkpoint_and_the_next_sync_goes_on_from_it() {
    let mut stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", SLOW)]), &[("rows", "200")]);
    let sync = stack.rest.sync(&connection);
    running(&stack, &connection, &sync, 2);
    stack.agent.process().signal(Signal::TERM);
    let status = stack.agent.process().wait(Duration::from_secs(35));
    assert!(status.success() || status.code() == Some(143), "{status}: {}", stack.agent.output());
    stack.agent.kill();
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    let run = rest.wait(&connection, &sync, SYNC);
    let moved = run["rows"]["upserts"].as_u64().unwrap_or_default();
    if run["status"] != "succeeded" {
        stack.sync(&connection);
    }
    assert!(moved < 200 || run["status"] == "succeeded", "{run}");
    assert_eq!(count(&stack, "ticks"), 200);
}

#[test]
fn cancel_stops_a_connector_that_hangs_and_leaves_no_process() {
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", HANGING)]), &[]);
    let sync = stack.rest.sync(&connection);
    running(&stack, &connection, &sync, 0);
    wait::until("the connector's process", SYNC, || (stack.agent.tree().len() >= 3).then_some(()));
    let reply = stack.rest.post(&format!("/v1/connections/{connection}/syncs/{sync}/cancel"), &json!({}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let run = stack.rest.wait(&connection, &sync, Duration::from_secs(70));
    assert_eq!(run["status"], "cancelled", "{run}");
    wait::until("every process of the job to be gone", Duration::from_secs(10), || {
        (stack.agent.tree().len() == 1).then_some(())
    });
}

#[test]
fn a_job_whose_agent_has_died_stops_by_itself() {
    let mut stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", HANGING)]), &[]);
    let sync = stack.rest.sync(&connection);
    running(&stack, &connection, &sync, 0);
    wait::until("the connector's process", SYNC, || (stack.agent.tree().len() >= 3).then_some(()));
    let orphans: Vec<u32> = stack.agent.tree().into_iter().skip(1).collect();
    stack.agent.kill();
    wait::until("the job and its connector to end", Duration::from_secs(20), || {
        orphans.iter().all(|pid| !alive(*pid)).then_some(())
    });
    process::signal_all(&orphans, Signal::KILL);
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Rows of a table, by an independent reader.
fn count(stack: &Stack, table: &str) -> u64 {
    oracle::count(&stack.lake, SCHEMA, table)
}
