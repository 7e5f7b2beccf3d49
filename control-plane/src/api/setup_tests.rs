//! Setup tests on request: `run_setup_tests` of a create or PATCH, and `POST …/test`. An agent runs them; a reply shows how each
//! ended, by its place in the connector's form. What it is called and what it said stays on the agent's host.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use inshore_protocol::SetupTest;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::body::Body;
use super::connections::{self, connection_json};
use super::reply::{Reply, ok};
use super::{ApiError, syncs};
use crate::app::App;
use crate::catalogue;
use crate::job::{Checked, NotRun};
use crate::log;
use crate::store::Connection;

/// A reply waits this long; the tests go on without it, and the connection shows their results later.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Whether a create or PATCH asks for them.
pub(super) fn asked(body: &Body) -> Result<bool, ApiError> {
    Ok(body.flag("run_setup_tests")?.unwrap_or(false))
}

/// Runs them where there is a connector to test.
pub(super) async fn run_if(asked: bool, app: &Arc<App>, connection: &Connection) -> Result<(), ApiError> {
    if asked && connection.package_id.is_some() {
        run(app, connection).await?;
    }
    Ok(())
}

/// Replies with the connection as it is after the tests.
pub(super) async fn test(State(app): State<Arc<App>>, Path(id): Path<String>) -> Reply {
    let connection = connections::find(&app, &id).await?;
    syncs::complete(&app, &connection).await?;
    run(&app, &connection).await?;
    let connection = connections::find(&app, &id).await?;
    Ok(ok(connection_json(&app, &connection).await?))
}

/// Stores what they came to; whoever asked may leave before.
async fn run(app: &Arc<App>, connection: &Connection) -> Result<(), ApiError> {
    let unfinished = json!([not_run("they are not over yet: the connection shows their results when they are")]);
    app.store.set_setup_tests(&connection.id, &unfinished.to_string()).await?;
    let (running, over) = oneshot::channel::<()>();
    let (task, connection) = (Arc::clone(app), connection.clone());
    app.tasks.spawn("setup-tests", async move {
        let checked = tokio::select! {
            biased;
            () = task.tasks.stopped() => return,
            checked = task.jobs.check(&connection) => checked,
        };
        let stored = match checked {
            Ok(checked) => {
                task.store.set_setup_tests(&connection.id, &shown(&checked, &connection.id).to_string()).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            log::failure("the setup tests of a connection could not be run or stored", &error);
        }
        drop(running);
    });
    if tokio::time::timeout(ANSWER_MAX, over).await.is_err() {
        tracing::info!("setup tests take longer than a reply waits");
    }
    Ok(())
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
    }
}

fn not_run(reason: &str) -> Value {
    entry("Setup tests", "JOB_FAILED", reason)
}

fn entry(title: &str, status: &str, message: &str) -> Value {
    json!({"title": title, "status": status, "message": message, "details": null})
}
