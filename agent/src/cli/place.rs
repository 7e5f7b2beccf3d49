//! Whose past `inshore state` looks at: a project's, or on an agent's host that of a connection.

use std::path::PathBuf;

use clap::Args;
use url::Url;

use super::destination::listed_options;
use super::state::StateArgs;
use super::{CONFIG_FILE, Failure, POLICY_FILE, load, project};
use crate::channel::{Store, now_ms};
use crate::destination::{LakeSettings, Writer};
use crate::developer::{self, Whose};
use crate::identity::Identity;

#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    project: StateArgs,
    /// A connection of this host's agent, by its id, instead of a project. Run it as the agent's user.
    #[arg(long, value_name = "ID", requires = "destination", conflicts_with = "project")]
    connection: Option<String>,
    /// Where the connection's rows land, such as file:///srv/lake.
    #[arg(long, value_name = "URI", requires = "connection")]
    destination: Option<Url>,
    /// The agent's settings.
    #[arg(long, default_value = CONFIG_FILE)]
    config: PathBuf,
    /// What this host allows; it says how an object store is reached.
    #[arg(long, default_value = POLICY_FILE, requires = "connection")]
    policy: PathBuf,
}

/// The agent that a connection belongs to.
pub(super) struct OfAgent {
    identity: Identity,
    state_dir: PathBuf,
    connection: String,
}

impl PlaceArgs {
    pub(super) fn open(&self) -> Result<(Whose, Option<OfAgent>), Failure> {
        let (Some(id), Some(destination)) = (&self.connection, &self.destination) else {
            return Ok((Whose::Project(project::open(&self.project.project)?), None));
        };
        let state_dir = load(&self.config)?.state_dir.as_path().to_owned();
        let identity = Identity::load(&state_dir).map_err(|error| Failure::new(error.code(), &error))?;
        let mut settings = LakeSettings::new(destination.clone());
        if destination.scheme() != "file" {
            settings.options = listed_options(&self.policy, destination)?;
        }
        let connection = developer::Connection { settings, id: id.clone(), root: identity.root };
        Ok((Whose::Connection(connection), Some(OfAgent { identity, state_dir, connection: id.clone() })))
    }
}

impl OfAgent {
    /// Refuses while the agent of this host has a sync of the connection. One that another agent begins meanwhile has a
    /// higher generation, and wins.
    pub(super) fn check_idle(&self) -> Result<(), Failure> {
        let store = Store::open(&self.state_dir.join("agent.db"));
        let running = store.and_then(|store| store.unfinished()).map_err(|error| Failure::new("AGT-002", &error))?;
        if running.iter().any(|spec| spec.connection_id.as_str() == self.connection) {
            let text = "a sync of the connection runs: wait for its end, or cancel it".to_owned();
            return Err(Failure { code: "DEV-011".to_owned(), text, exit: 1 });
        }
        Ok(())
    }

    /// Signs as a job of this agent does.
    pub(super) fn writer(&self, generation: u64) -> Writer {
        let job_id = format!("rewind-{}", uuid::Uuid::now_v7());
        Writer {
            connection_id: self.connection.clone(),
            agent_id: self.identity.agent_id.clone(),
            signer: self.identity.job_signer(&job_id, now_ms()),
            job_id,
            generation,
            trusted_root: self.identity.root,
        }
    }
}
