//! One sentence per failure code: what happened, as far as anyone but the host may know. `docs/errors` has the rest.

use inshore_protocol::Code;

/// What replies and pages say about a code.
pub(crate) fn message(code: Code) -> &'static str {
    let text = code.text();
    MESSAGES
        .iter()
        .find(|(known, _)| *known == text)
        .map_or("the agent reported a code this version does not know", |(_, message)| message)
}

const MESSAGES: &[(&str, &str)] = &[
    ("CFG-001", "the agent has no agent.toml"),
    ("CFG-002", "the agent's agent.toml is malformed"),
    ("CFG-003", "the agent's agent.toml has an unknown key"),
    ("CFG-004", "the agent has no policy.toml"),
    ("CFG-005", "the agent's policy.toml is malformed"),
    ("CFG-006", "the agent's policy.toml has an unknown key"),
    ("CFG-007", "a secret reference cannot be resolved on the agent's host"),
    ("ENR-001", "the join token's file cannot be read, or others can read it too"),
    ("ENR-002", "the join token is truncated or altered"),
    ("ENR-003", "the join token is expired"),
    ("ENR-004", "the join token was used before"),
    ("ENR-005", "the control plane is not the one the join token names"),
    ("CHN-001", "the agent cannot reach the control plane"),
    ("CHN-002", "the agent refuses the control plane's TLS certificate"),
    ("CHN-003", "the control plane's channel key is not the one the agent pinned"),
    ("CHN-004", "the agent's identity is refused or revoked"),
    ("CHN-005", "agent and control plane share no protocol version"),
    ("CHN-006", "a frame on the channel was not valid"),
    ("POL-001", "the agent's policy.toml does not list the destination"),
    ("POL-002", "the agent's policy.toml does not list the connector"),
    ("POL-003", "the agent has no sandbox and its policy.toml does not allow running without one"),
    ("POL-004", "the agent's mode does not allow this job"),
    ("POL-005", "the agent's policy.toml does not list a variable of the connection's environment"),
    ("POL-006", "columns are hashed, and the agent has no usable salt for the destination"),
    ("PKG-001", "the package is not a zip file"),
    ("PKG-002", "an entry of the package leads outside of it"),
    ("PKG-003", "the package has no connector.py at its top level"),
    ("PKG-004", "connector.py has a syntax error"),
    ("PKG-005", "connector.py defines no `connector` object"),
    ("PKG-006", "a requirement of the connector cannot be installed"),
    ("PKG-007", "the package arrived damaged on the agent"),
    ("PKG-008", "the package is too large"),
    ("PKG-009", "the agent's host has no Python of the wanted version"),
    ("PKG-010", "a file of the project could not be read or written"),
    ("PKG-011", "a configuration or state file has the wrong shape"),
    ("PKG-012", "the connector brings system libraries, which the agent's host does not install"),
    ("PKG-013", "a line of the connector's requirements is not allowed or not supported on the agent's host"),
    ("PKG-014", "the package holds a configuration or the files of local runs"),
    ("SDK-001", "the connector's update() raised an exception"),
    ("SDK-002", "the connector exited with a non-zero status"),
    ("SDK-003", "the connector's process died"),
    ("SDK-004", "the connector ran out of memory"),
    ("SDK-005", "the connector's state cannot be serialised"),
    ("SDK-006", "the connector's state is too large"),
    ("SDK-007", "a primary key column was NULL"),
    ("SDK-008", "a value does not fit the declared type of its column"),
    ("SDK-009", "two column names are the same after renaming"),
    ("SDK-010", "the primary key of a table changed"),
    ("SDK-011", "an operation needs a primary key and the table has none"),
    ("SDK-012", "the connector asks for a person to act"),
    ("SDK-013", "the connector's schema() is not valid"),
    ("SDK-014", "an update or delete did not give the whole primary key"),
    ("SDK-015", "connector and agent disagree about their protocol"),
    ("DST-001", "the destination does not allow writing"),
    ("DST-002", "the destination is full"),
    ("DST-003", "the destination cannot be reached"),
    ("DST-004", "an entry of the destination's commit chain was altered or cannot be verified"),
    ("DST-005", "a table is ahead of the destination's commit chain"),
    ("DST-006", "a file the commit chain names is missing"),
    ("DST-007", "the destination failed its probe"),
    ("DST-008", "another connection owns a table"),
    ("DST-009", "another agent took this sync over"),
    ("DST-012", "the destination's store does not accept the credentials of the agent's host"),
    ("DST-013", "the destination's bucket or container is not there, or in another region"),
    ("DST-014", "the clock of the agent's host and that of the store disagree"),
    ("DST-015", "the agent's host does not trust the store's certificate"),
    ("AGT-001", "the agent's spool is full"),
    ("AGT-002", "the agent's own store cannot be used"),
    ("AGT-003", "the agent met an error of its own"),
    ("AGT-004", "a sealed secret cannot be opened by this agent"),
    ("CPL-001", "no agent of this connection holds its secrets; enter them again"),
    ("CPL-002", "no agent takes this sync: none is online and eligible, or each refused it"),
    ("CPL-003", "the agent that ran this sync did not come back"),
    ("CPL-004", "the schema configuration blocks a key column; hash it, or block the table"),
    ("CPL-005", "the schema configuration names tables by hashes that another agent told"),
    ("ENR-006", "the agent is not enrolled"),
    ("ENR-007", "the agent's identity cannot be read on its host"),
    ("ENR-008", "the host is enrolled already"),
    ("SDK-016", "the connector gave a warning"),
    ("SDK-017", "the connector exited before its update() ended"),
    ("SDK-018", "a row comes with a file, and the destination stores none"),
    ("SDK-019", "the connector's configuration form or the choice of its tests is not valid"),
    ("SDK-020", "a setup test of the connector did not pass"),
    ("SDK-021", "a file beside a row is larger than the limit"),
    ("SDK-022", "a file beside a row cannot be taken as it is"),
    ("SDK-023", "the connector names more tables or columns than a sync may have"),
    ("DST-011", "the table of connectors' lines could not be written"),
    ("DST-010", "the sync's generation jumped further than the agent accepts"),
    ("AGT-005", "the job's process died on the agent's host"),
    ("DEV-001", "the folder of a new project has files that would be replaced"),
    ("DEV-002", "no local run has left anything to look at"),
    ("DEV-003", "a query of the local warehouse failed"),
    ("DEV-004", "DuckDB could not be prepared or started on the developer's machine"),
    ("DEV-005", "an encrypted value of the configuration cannot be opened on the developer's machine"),
    ("DEV-006", "the project has drivers and no script that installs them"),
    ("DEV-007", "the developer's machine found no control plane"),
    ("DEV-008", "the API key of a deployment was refused"),
    ("DEV-009", "a deployment was refused"),
    ("DEV-010", "the connection was deployed and its setup tests failed"),
    ("DEV-011", "the project is being run on the developer's machine"),
    ("DEV-012", "the project has no commit of this number"),
    ("DEV-013", "the tables of a local run are not those of the run it was compared with"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_message() {
        let missing: Vec<_> =
            Code::all().iter().filter(|code| !MESSAGES.iter().any(|(text, _)| *text == code.text())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(MESSAGES.len(), Code::all().len());
        assert_eq!(message(Code::PackageNotZip), "the package is not a zip file");
    }
}
