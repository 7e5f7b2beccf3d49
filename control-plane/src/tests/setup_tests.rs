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

/// Refuses an offer for want of room.
async fn full(line: &mut Line, job: &JobSpec) {
    let JobSpec { job_id, generation, .. } = job.clone();
    line.send(&Up::Refused {
        outbox_seq: 1,
        job_id,
        generation,
        reason: RefusalReason::Capacity,
        retry_after_ms: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_room_is_passed_over_until_all_were_asked() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let (mut first, mut second) = (Host::enrolled(&plane, &group).await, Host::enrolled(&plane, &group).await);
    let created = plane.connection(&group, &package, json!([])).await.data();
    let test = format!("/v1/connections/{}/test", created["id"].as_str().expect("an id"));
    let (mut first, mut second) = (first.online(&plane, Vec::new()).await, second.online(&plane, Vec::new()).await);
    let (reply, asked) = tokio::join!(plane.post(&test, json!({})), async {
        // Both are full at first; the one that is asked again first is not full any more.
        let mut asked = Vec::new();
        loop {
            let (name, line, job) = tokio::select! {
                job = offered(&mut first) => ("first", &mut first, job),
                job = offered(&mut second) => ("second", &mut second, job),
            };
            asked.push(name);
            if asked.len() <= 2 {
                full(line, &job).await;
                continue;
            }
            accept(line, &job, 2).await;
            line.send(&checked(&job, 3, OutcomeResult::Succeeded, &[SetupTest::Passed])).await;
            return asked;
        }
    });
    assert_ne!(asked[0], asked[1], "the other one was asked next");
    assert_eq!((asked.len(), entries(&reply.data())[0].1.as_str()), (3, "PASSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_without_them_does_not_run_them_any_more() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let mut line = host.online(&plane, Vec::new()).await;
    let test = format!("{path}/test");
    let (reply, _line) = tokio::join!(plane.post(&test, json!({})), async {
        let job = offered(&mut line).await;
        accept(&mut line, &job, 1).await;
        drop(line);
        host.online(&plane, Vec::new()).await
    });
    let [(_, status, message)] = entries(&reply.data()).try_into().expect("one entry");
    assert_eq!(status, "JOB_FAILED");
    assert!(message.contains("stopped or lost its connection"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_one_run_of_them_at_a_time() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let mut line = host.online(&plane, Vec::new()).await;
    let (test, patch) = (format!("{path}/test"), json!({"run_setup_tests": true, "paused": true}));
    let (one, two, three, offers) =
        tokio::join!(plane.post(&test, json!({})), plane.post(&test, json!({})), plane.patch(&path, patch), async {
            let job = offered(&mut line).await;
            accept(&mut line, &job, 1).await;
            let wait = std::time::Duration::from_millis(500);
            let offers = tokio::time::timeout(wait, offered(&mut line)).await;
            line.send(&checked(&job, 2, OutcomeResult::Succeeded, &[SetupTest::Passed])).await;
            offers
        });
    assert!(offers.is_err(), "a second offer: {offers:?}");
    for reply in [one, two, three] {
        assert_eq!(entries(&reply.data())[0].1, "PASSED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_another_package_or_other_settings_do_not_stay() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let mut line = host.online(&plane, Vec::new()).await;
    let passes = async |line: &mut Line, job: JobSpec| {
        accept(line, &job, 1).await;
        line.send(&checked(&job, 2, OutcomeResult::Succeeded, &[SetupTest::Failed])).await;
    };
    for (body, stay) in [
        (json!({"paused": true, "config": {"package_id": package}}), 1),
        (json!({"config": {"secrets_list": [{"key": "path", "value": "${env:DATA}"}]}}), 0),
        (json!({"config": {"python_version": "3.11"}}), 0),
        (json!({"config": {"egress": ["db.example:5432"]}, "run_setup_tests": false}), 0),
        (json!({"hybrid_deployment_agent_id": host.agent_id}), 0),
    ] {
        assert_eq!(answered(&plane, &path, &mut line, passes).await["setup_tests"][0]["status"], "FAILED");
        let shown = plane.patch(&path, body.clone()).await.data()["setup_tests"].clone();
        assert_eq!(shown.as_array().map(Vec::len), Some(stay), "{body}: {shown}");
    }

    // New content under the same id.
    answered(&plane, &path, &mut line, passes).await;
    let zip = zip_of(&["connector.py", "more.py"]);
    let replaced = plane.upload("PATCH", &format!("/v1/connector-sdk/packages/{package}"), &zip).await;
    assert_eq!(replaced.status, 200);
    assert_eq!(plane.get(&path).await.data()["setup_tests"], json!([]));

    // A run with the old settings ends; what it still says is not stored.
    let test = format!("{path}/test");
    let (reply, job) = tokio::join!(plane.post(&test, json!({})), async {
        let job = offered(&mut line).await;
        accept(&mut line, &job, 3).await;
        plane.patch(&path, json!({"config": {"python_version": "3.12"}})).await.data();
        job
    });
    assert_eq!(reply.data()["setup_tests"], json!([]));
    line.send(&checked(&job, 4, OutcomeResult::Succeeded, &[SetupTest::Failed])).await;
    acked(&mut line, 4).await;
    assert_eq!(plane.get(&path).await.data()["setup_tests"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_that_ran_when_the_control_plane_stopped_say_so() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let mut line = host.online(&plane, Vec::new()).await;
    let test = format!("{path}/test");
    tokio::select! {
        _ = plane.post(&test, json!({})) => panic!("nobody ran them"),
        () = async {
            let job = offered(&mut line).await;
            accept(&mut line, &job, 1).await;
        } => {}
    }
    let message = |shown: &Value| entries(shown)[0].2.clone();
    assert!(message(&plane.get(&path).await.data()).contains("not over yet"));
    drop(line);
    let plane = plane.restart().await;
    let shown = message(&plane.get(&path).await.data());
    assert!(shown.contains("the control plane was stopped while they ran"), "{shown}");
}
