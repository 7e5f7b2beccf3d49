//! Setup tests that are asked for by REST: an offer that is no sync, its results, and every reason why there are none.

use inshore_protocol::{
    Class, Code, Down, Failure, JobKind, JobRef, JobSpec, OutcomeResult, RefusalReason, SetupTest, Up,
};

use super::agent::{Host, Line};
use super::syncs::{accept, acked, offered, outcome};
use super::*;

fn checked(job: &JobSpec, seq: u64, result: OutcomeResult, tests: &[SetupTest]) -> Up {
    let Up::Outcome(mut outcome) = outcome(job, seq, result) else { panic!("no outcome") };
    outcome.setup_tests = tests.to_vec();
    Up::Outcome(outcome)
}

fn entries(connection: &Value) -> Vec<(String, String, String)> {
    let text = |test: &Value, key: &str| test[key].as_str().expect("text").to_owned();
    let tests = connection["setup_tests"].as_array().expect("a list");
    tests.iter().map(|test| (text(test, "title"), text(test, "status"), text(test, "message"))).collect()
}

/// A connection, its path, and what its agent answers to the check that is asked for.
async fn answered(plane: &Plane, path: &str, line: &mut Line, end: impl AsyncFn(&mut Line, JobSpec)) -> Value {
    let test = format!("{path}/test");
    let (reply, ()) = tokio::join!(plane.post(&test, json!({})), async {
        let job = offered(line).await;
        assert_eq!(job.kind, JobKind::Check);
        end(line, job).await;
    });
    reply.data()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_runs_them_and_the_reply_shows_how_each_ended() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let created = plane.connection(&group, &package, json!([{"key": "path", "value": "${env:DATA}"}])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    assert_eq!(created["setup_tests"], json!([]));
    plane.patch(&path, json!({"run_setup_tests": "yes", "paused": true})).await.check(400, "InvalidInput");
    assert_eq!(plane.get(&path).await.data()["paused"], false, "nothing was changed");

    // The agent comes while it is waited for.
    let tests = [SetupTest::Passed, SetupTest::Failed, SetupTest::Raised];
    let patch = plane.patch(&path, json!({"run_setup_tests": true, "paused": true}));
    let (reply, mut line) = tokio::join!(patch, async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let mut line = host.online(&plane, Vec::new()).await;
        let job = offered(&mut line).await;
        assert_eq!((job.kind, job.configuration[0].key.as_str()), (JobKind::Check, "path"));
        accept(&mut line, &job, 1).await;
        let renewed = JobRef { job_id: job.job_id.clone(), generation: job.generation };
        line.send(&Up::Renew { jobs: vec![renewed.clone()] }).await;
        line.until(|down| matches!(down, Down::Grant { .. }).then_some(())).await;
        line.send(&checked(&job, 2, OutcomeResult::Succeeded, &tests)).await;
        acked(&mut line, 2).await;
        line.send(&Up::Renew { jobs: vec![renewed] }).await;
        line.until(|down| matches!(down, Down::LeaseLost { .. }).then_some(())).await;
        line
    });
    assert_eq!(reply.status, 200);
    let shown = entries(&reply.data());
    let titles: Vec<_> = shown.iter().map(|(title, status, _)| (title.as_str(), status.as_str())).collect();
    assert_eq!(titles, [("Setup test 1", "PASSED"), ("Setup test 2", "FAILED"), ("Setup test 3", "FAILED")]);
    assert!(shown[0].2.is_empty() && shown[1].2.contains("inshore logs connection_"), "{shown:?}");
    let read = plane.get(&path).await.data();
    assert_eq!((entries(&read), &read["succeeded_at"]), (shown, &Value::Null));
    assert_eq!(plane.get(&format!("{path}/syncs")).await.data()["items"], json!([]), "it is no sync");

    let none = answered(&plane, &path, &mut line, async |line, job| {
        accept(line, &job, 3).await;
        line.send(&checked(&job, 4, OutcomeResult::Succeeded, &[])).await;
    });
    assert_eq!(none.await["setup_tests"], json!([]), "a connector without a form");
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_were_not_run_say_why() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let failed = |data: &Value| {
        let [(title, status, message)] = entries(data).try_into().expect("one entry");
        assert_eq!((title.as_str(), status.as_str()), ("Setup tests", "JOB_FAILED"));
        message
    };
    let reply = plane.post(&format!("{path}/test"), json!({})).await.data();
    assert!(failed(&reply).contains("enrol one"), "{reply}");

    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let failure = Failure { class: Class::Fix, ..Code::VariableNotListed.into() };
    for (result, words) in [
        (OutcomeResult::Failed { failure }, "POL-005: "),
        (OutcomeResult::Drained, "told to stop"),
        (OutcomeResult::Fenced, "AGT-003: "),
    ] {
        let reply = answered(&plane, &path, &mut line, async |line, job| {
            accept(line, &job, 1).await;
            line.send(&checked(&job, 2, result, &[])).await;
        });
        let message = failed(&reply.await);
        assert!(message.contains(words), "{message}");
    }
    let reply = answered(&plane, &path, &mut line, async |line, job| {
        let JobSpec { job_id, generation, .. } = job;
        let reason = RefusalReason::ConnectorNotListed;
        line.send(&Up::Refused { outbox_seq: 5, job_id, generation, reason, retry_after_ms: None }).await;
    });
    let message = failed(&reply.await);
    assert!(message.starts_with("POL-002: "), "{message}");

    // A connection without a package has nothing to test; one that is not there has nothing at all.
    plane.post("/v1/connections/connection_0/test", json!({})).await.check(404, "NotFound_Connector");
    let bare =
        json!({"group_id": group, "service": "connector_sdk", "run_setup_tests": true, "config": {"schema": "bare"}});
    let bare = plane.post("/v1/connections", bare).await.data();
    assert_eq!(bare["setup_tests"], json!([]));
    let path = format!("/v1/connections/{}/test", bare["id"].as_str().expect("an id"));
    assert_eq!(plane.post(&path, json!({})).await.status, 409);
}
