//! Connectors run in their sandbox unless the host's policy says otherwise; `tests/python/isolation` has what it holds.

use inshore_tests::shop;
use inshore_tests::stack::Stack;

/// Leaves a file beside the agent's own.
const WRITER: &str = r#"
import pathlib
from fivetran_connector_sdk import Connector, Operations as op

def update(configuration, state):
    pathlib.Path(configuration["place"]).write_text("here")
    op.upsert("t", {"id": 1})

connector = Connector(update=update)
"#;

/// The one test whose connectors run without: that a policy may say so is what it is about.
#[test]
fn only_a_policy_that_says_so_runs_connectors_without_their_sandbox() {
    let stack = Stack::start();
    let place = stack.dir.path().join("left-behind");
    let connection =
        stack.connection(&shop::zip(&[("connector.py", WRITER)]), &[("place", &place.display().to_string())]);
    stack.sync(&connection);
    assert!(!place.exists(), "what it wrote went with its sandbox");
    let file = stack.agent.dir.join("policy.toml");
    let policy = std::fs::read_to_string(&file).expect("the policy");
    std::fs::write(&file, format!("allow_unsandboxed = true\n{policy}")).expect("another policy");
    stack.sync(&connection);
    assert_eq!(std::fs::read_to_string(&place).expect("it was written"), "here");
}
