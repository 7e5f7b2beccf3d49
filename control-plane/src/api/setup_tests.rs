//! Setup tests on request: `run_setup_tests` of a create or PATCH, and `POST …/test`. An agent runs them; a reply shows how each
//! ended, by its place in the connector's form. What it is called and what it said stays on the agent's host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use inshore_protocol::SetupTest;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::connections::{self, connection_json};
use super::reply::{Reply, ok};
use super::{ApiError, syncs};
use crate::app::App;
use crate::catalogue;
use crate::job::{Checked, NotRun};
use crate::log;
use crate::store::{self, Connection, Store};

/// A reply waits this long; the tests go on without it, and the connection shows their results later.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// What a connection shows of tests that run.
const UNFINISHED: &str = "they are not over yet: the connection shows their results when they are";
const INTERRUPTED: &str = "the control plane was stopped while they ran: ask for them again";

/// The tests that run, by connection: one at a time each. Whoever holds the lock writes the results.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashMap<String, Run>>);

#[derive(Debug, Clone, Default)]
struct Run {
    /// What it tests is not what the connection has any more.
    outdated: CancellationToken,
    over: CancellationToken,
}

impl Running {
    async fn find(&self, connection_id: &str) -> Option<Run> {
        self.0.lock().await.get(connection_id).filter(|run| !run.over.is_cancelled()).cloned()
    }

    /// Forgets the results of a connection whose package or settings are others now, and ends the tests that run with
    /// the old ones.
    pub(super) async fn outdate(&self, store: &Store, connection_id: &str) -> Result<(), store::Error> {
        let mut running = self.0.lock().await;
        if let Some(run) = running.remove(connection_id) {
            run.outdated.cancel();
        }
        store.set_setup_tests(connection_id, "[]").await
    }
}

/// Nobody goes on with tests that ran when the process ended: their connections say so.
pub(crate) async fn resume(store: &Store) -> Result<(), store::Error> {
    let entries = |reason: &str| json!([not_run(reason)]).to_string();
    store.replace_setup_tests(&entries(UNFINISHED), &entries(INTERRUPTED)).await
}

/// Whether what the tests see is another after a PATCH.
pub(super) fn is_outdated(before: &Connection, after: &Connection) -> bool {
    let seen = |connection: &Connection| {
        let Connection { package_id, python_version, agent_id, bounds, .. } = connection.clone();
        (package_id, python_version, agent_id, bounds)
    };
    seen(before) != seen(after)
}

/// Whether a create or PATCH asks for them.
pub(super) fn asked(body: &Body) -> Result<bool, ApiError> {
    Ok(body.flag("run_setup_tests")?.unwrap_or(false))
}

/// Runs them where there is a connector to test.
pub(super) async fn run_if(asked: bool, app: &Arc<App>, connection: &Connection) -> Result<(), ApiError> {
    if asked && connection.package_id.is_some() {
        run(app, &connection.id).await?;
    }
    Ok(())
}

/// Replies with the connection as it is after the tests.
pub(super) async fn test(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let connection = connections::find(&app, &id).await?;
    syncs::complete(&app, &connection).await?;
    run(&app, &connection.id).await?;
    let connection = connections::find(&app, &id).await?;
    Ok(ok(connection_json(&app, &connection).await?))
}

/// Waits until the connection's tests are over: those that run already, else new ones. Whoever asked may leave before.
async fn run(app: &Arc<App>, connection_id: &str) -> Result<(), ApiError> {
    start(app, connection_id).await?;
    let over = async {
        while let Some(run) = app.setup_tests.find(connection_id).await {
            run.over.cancelled().await;
        }
    };
    if tokio::time::timeout(ANSWER_MAX, over).await.is_err() {
        tracing::info!("setup tests take longer than a reply waits");
    }
    Ok(())
}

async fn start(app: &Arc<App>, connection_id: &str) -> Result<(), ApiError> {
    let mut running = app.setup_tests.0.lock().await;
    if running.get(connection_id).is_some_and(|run| !run.over.is_cancelled()) {
        return Ok(());
    }
    // Read under the lock: a change that comes later finds this run and outdates it.
    let connection = connections::find(app, connection_id).await?;
    app.store.set_setup_tests(connection_id, &json!([not_run(UNFINISHED)]).to_string()).await?;
    let run = Run::default();
    running.insert(connection_id.to_owned(), run.clone());
    app.tasks.spawn("setup-tests", finish(Arc::clone(app), connection, run));
    Ok(())
}

/// Stores what they came to.
async fn finish(app: Arc<App>, connection: Connection, run: Run) {
    let _over = run.over.drop_guard();
    let checked = tokio::select! {
        biased;
        () = app.tasks.stopped() => return,
        () = run.outdated.cancelled() => return,
        checked = app.jobs.check(&connection) => checked,
    };
    let mut running = app.setup_tests.0.lock().await;
    if run.outdated.is_cancelled() {
        return;
    }
    running.remove(&connection.id);
    let stored = match checked {
        Ok(checked) => app.store.set_setup_tests(&connection.id, &shown(&checked, &connection.id).to_string()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        log::failure("the setup tests of a connection could not be run or stored", &error);
    }
}

/// As every reply shows them.
fn shown(checked: &Checked, connection_id: &str) -> Value {
    let words = format!("; what it said is in the journal of the agent's host: inshore logs {connection_id}");
    match checked {
        Checked::Ran(tests) => tests
            .iter()
            .enumerate()
            .map(|(index, test)| {
                let (status, message) = match test {
                    SetupTest::Passed => ("PASSED", String::new()),
                    SetupTest::Failed => ("FAILED", format!("the test failed{words}")),
                    SetupTest::Raised => ("FAILED", format!("the test raised an error{words}")),
                    SetupTest::Unknown => {
                        ("WARNING", "the agent is newer: this version does not know its result".to_owned())
                    }
                };
                entry(&format!("Setup test {}", index + 1), status, &message)
            })
            .collect(),
        Checked::NotRun(why) => json!([not_run(&reason(*why))]),
    }
}

fn reason(why: NotRun) -> String {
    match why {
        NotRun::Failed(code) => {
            format!("{}: {} (docs/errors/{}.md)", code.text(), catalogue::message(code), code.text())
        }
        NotRun::Incomplete => "the connection has no package, or its group no destination".to_owned(),
        NotRun::NoAgent => "no agent may run this connection yet: enrol one in its group".to_owned(),
        NotRun::Offline => "no agent of this connection was online within 60 s: start the agent on its host".to_owned(),
        NotRun::Busy => "no agent of this connection had room for them within 60 s".to_owned(),
        NotRun::Slow => "they took longer than 15 minutes and were cancelled".to_owned(),
        NotRun::Stopped => "the agent was told to stop meanwhile".to_owned(),
        NotRun::Gone => {
            "the agent that ran them stopped or lost its connection meanwhile: ask for them again".to_owned()
        }
    }
}

fn not_run(reason: &str) -> Value {
    entry("Setup tests", "JOB_FAILED", reason)
}

fn entry(title: &str, status: &str, message: &str) -> Value {
    json!({"title": title, "status": status, "message": message, "details": null})
}
