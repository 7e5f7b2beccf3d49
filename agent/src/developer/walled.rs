//! A project in the sandbox of an agent, on its author's machine: `--sandbox`, and `--record-egress`, which lets everything
//! through and tells what was reached.

use std::path::PathBuf;

use inshore_config::{AgentConfig, Egress, SandboxPolicy};

use crate::sandbox::{Layer, Sandbox, SelfTest, Tally, Tools, Wanted};

/// What is let through to be recorded: this machine too, where a developer's databases run.
const EVERYTHING: [&str; 2] = ["*", "localhost:*"];

/// This machine cannot do what agents do.
#[derive(Debug, thiserror::Error)]
#[error("this machine cannot make the sandbox: {reason}")]
pub(crate) struct Error {
    reason: String,
}

impl Error {
    /// The page in docs/errors.
    pub(super) fn code(&self) -> &'static str {
        "POL-003"
    }
}

/// The sandbox that a run is put into.
#[derive(Debug)]
pub(crate) struct Walled {
    policy: SandboxPolicy,
    tools: Tools,
    /// What a recorded run reaches.
    recorded: Option<Tally>,
}

impl Walled {
    /// As the policy says; `inside` is this binary.
    pub(crate) fn new(policy: SandboxPolicy, inside: PathBuf) -> Self {
        let bubblewrap = AgentConfig::default().bubblewrap.as_path().to_owned();
        Self { policy, tools: Tools { bubblewrap, inside, layer: Layer::default() }, recorded: None }
    }

    /// The same with nothing refused that can be let through.
    pub(crate) fn recording(mut self) -> Self {
        self.policy.egress = Egress::parse(EVERYTHING).expect("these are rules");
        self.recorded = Some(Tally::default());
        self
    }

    /// What a recorded run reached, as rules of an egress list.
    pub(crate) fn reached(&self) -> Option<Vec<String>> {
        self.recorded.as_ref().map(Tally::reached)
    }

    /// Says why it cannot be, before anything is prepared.
    pub(super) async fn test(&self) -> Result<(), Error> {
        match Sandbox::self_test(&self.tools).await {
            (SelfTest::Passed, _) => Ok(()),
            (SelfTest::Failed { reason }, _) => Err(Error { reason }),
        }
    }

    pub(super) fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::new(&self.policy, &Wanted::default(), &self.tools);
        match &self.recorded {
            Some(tally) => sandbox.at_every_port(tally.clone()),
            None => sandbox,
        }
    }
}
