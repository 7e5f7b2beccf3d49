//! A sync from request to outcome with an agent's end: offer, grant, progress, duplicates, late generations, retries,
//! takeover, package relay, sealed secrets.

use inshore_protocol::{
    Class, Code, Delivery, Down, Failure, JobId, JobRef, JobSpec, JobState, Outcome, OutcomeResult, PackageDigest,
    Phase, Progress, RowCounts, SecretValue, Stage, Up,
};
use inshore_trust::{SealContext, open};

use super::agent::{Host, Line};
use super::*;

pub(super) fn outcome(job: &JobSpec, seq: u64, result: OutcomeResult) -> Up {
    Up::Outcome(Box::new(Outcome {
        outbox_seq: seq,
        job_id: job.job_id.clone(),
        generation: job.generation,
        head_seq: Some(4),
        head_generation: None,
        result,
        rows: RowCounts { upserts: 90, updates: 6, deletes: 4, truncates: 1 },
        bytes: 4096,
        checkpoints: 2,
        state_bytes: 42,
        last_checkpoint_at_ms: Some(1_500),
        started_at_ms: 1_000,
        finished_at_ms: 2_000,
        delivery: Delivery::ExactlyOnce,
        warnings: Vec::new(),
        tables: Vec::new(),
        nothing_moved: None,
        setup_tests: Vec::new(),
        schema: None,
    }))
}

pub(super) async fn offered(line: &mut Line) -> JobSpec {
    line.until(|down| if let Down::Offer { job } = down { Some(*job) } else { None }).await
}

pub(super) async fn acked(line: &mut Line, seq: u64) {
    line.until(|down| (down == Down::OutboxAck { seq }).then_some(())).await;
}

pub(super) async fn accept(line: &mut Line, job: &JobSpec, seq: u64) {
    line.send(&Up::Accepted { outbox_seq: seq, job_id: job.job_id.clone(), generation: job.generation }).await;
    acked(line, seq).await;
    line.until(|down| matches!(down, Down::Grant { lease_ms: 30_000, .. }).then_some(())).await;
}

/// A connection that is asked to sync: (path of the connection, path of the sync).
async fn requested(plane: &Plane, group: &str, package: &str, secrets: Value) -> (String, String) {
    let created = plane.connection(group, package, secrets).await;
    assert_eq!(created.status, 201, "{}", created.json());
    let path = format!("/v1/connections/{}", created.data()["id"].as_str().expect("an id"));
    let sync =
        plane.post(&format!("{path}/sync"), json!({})).await.data()["sync_id"].as_str().expect("an id").to_owned();
    let sync = format!("{path}/syncs/{sync}");
    (path, sync)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_request_to_outcome() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let secret = "canary-4711-hunter2";
    let secrets = json!([{"key": "password", "value": secret}, {"key": "path", "value": "${env:DATA}"}]);
    let (path, sync) = requested(&plane, &group, &package, secrets).await;
    let shown = plane.get(&path).await;
    assert_eq!(shown.data()["config"]["secrets_list"][0], json!({"key": "password", "value": "******"}));
    // The mask keeps what is stored.
    let mask = json!({"config": {"secrets_list": shown.data()["config"]["secrets_list"]}});
    assert_eq!(plane.call("PATCH", &path, Some(mask)).await.status, 200);

    let mut line = host.online(&plane, Vec::new()).await;
    let job = offered(&mut line).await;
    assert_eq!(
        (job.generation, job.connection_name.as_str(), job.destination.uri.as_str()),
        (1, "shop", "file:///data/lake")
    );
    let context = SealContext {
        agent_id: &host.agent_id,
        connection_id: job.connection_id.as_str(),
        purpose: "configuration",
        endpoint: "password",
    };
    let SecretValue::Sealed { data, .. } = &job.configuration[0].value else { panic!("not sealed") };
    assert_eq!(open(&host.sealing, &context.to_bytes(), &data.0).expect("opens").as_slice(), secret.as_bytes());
    assert_eq!(job.configuration[1].value, SecretValue::Reference { reference: "${env:DATA}".to_owned() });
    accept(&mut line, &job, 1).await;

    fetch_package(&mut line, &job).await;
    report_progress(&mut line, &job).await;
    let running = plane.get(&sync).await.data();
    assert_eq!(
        (&running["status"], &running["stage"], &running["rows"]["upserts"]),
        (&json!("running"), &json!("extract"), &json!(50))
    );

    let long_poll = format!("{sync}?wait=30s");
    let (ended, ()) = tokio::join!(plane.get(&long_poll), async {
        line.send(&outcome(&job, 2, OutcomeResult::Succeeded)).await;
        acked(&mut line, 2).await;
    });
    let ended = ended.data();
    assert_eq!(
        (&ended["status"], &ended["rows"]["deletes"], &ended["delivery"]),
        (&json!("succeeded"), &json!(4), &json!("exactly-once"))
    );
    // The outcome knows the last commit; the newest progress may be older.
    assert_eq!(
        (&ended["last_checkpoint_at"], &ended["state_bytes"]),
        (&json!("1970-01-01T00:00:01.500000Z"), &json!(42))
    );
    // The same outcome again changes nothing and is acknowledged again.
    let before = plane.get(&path).await.data();
    line.send(&outcome(&job, 2, OutcomeResult::Cancelled)).await;
    acked(&mut line, 2).await;
    let after = plane.get(&path).await.data();
    assert_eq!((&before["succeeded_at"], &before["failed_at"]), (&after["succeeded_at"], &after["failed_at"]));
    assert!(after["succeeded_at"].is_string() && after["failed_at"].is_null());
    assert!(!plane.state_holds(secret.as_bytes()), "a literal secret is in no file");
    assert!(plane.state_holds(b"${env:DATA}"), "the search can find what is there");
}

/// The package comes chunk by chunk, and only what a connection of this agent uses.
async fn fetch_package(line: &mut Line, job: &JobSpec) {
    line.send(&Up::PackageWanted { digest: job.package.digest.clone(), offset: 0 }).await;
    let (total, data) = line
        .until(|down| match down {
            Down::PackageChunk { total_bytes, data, .. } => Some((total_bytes, data.0)),
            _ => None,
        })
        .await;
    assert_eq!((total, u64::try_from(data.len()).expect("fits")), (job.package.bytes, job.package.bytes));
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&data).into();
    assert_eq!(PackageDigest::from_sha256(&digest), job.package.digest);
}

/// Progress of a generation that is not current has no effect; the lease is renewed.
async fn report_progress(line: &mut Line, job: &JobSpec) {
    let rows = RowCounts { upserts: 50, ..RowCounts::default() };
    let progress = Progress {
        job_id: job.job_id.clone(),
        generation: 1,
        stage: Stage::Extract,
        rows,
        bytes: 9,
        checkpoints: 1,
        last_checkpoint_at_ms: Some(5_000),
        tables: Vec::new(),
    };
    line.send(&Up::Progress(Progress { generation: 7, rows: RowCounts { upserts: 999, ..rows }, ..progress.clone() }))
        .await;
    line.send(&Up::Progress(progress)).await;
    line.send(&Up::Renew { jobs: vec![job.job_ref()] }).await;
    line.until(|down| matches!(down, Down::Grant { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_retry_or_stay() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let (path, sync) = requested(&plane, &group, &package, json!([])).await;
    let job = offered(&mut line).await;
    accept(&mut line, &job, 1).await;
    line.send(&outcome(&job, 2, OutcomeResult::Failed { failure: Failure::from(Code::DestinationFull) })).await;
    acked(&mut line, 2).await;
    let ended = plane.get(&sync).await.data();
    assert_eq!(
        (&ended["status"], &ended["error"]["code"], &ended["error"]["class"]),
        (&json!("rescheduled"), &json!("DST-002"), &json!("Retry"))
    );
    let connection = plane.get(&path).await.data();
    assert_eq!(connection["status"]["sync_state"], "rescheduled");
    assert!(
        connection["status"]["rescheduled_for"].is_string()
            && connection["failed_at"].is_null()
            && connection["succeeded_at"].is_null()
    );

    // A person asks again; what only a person can fix has failed, and the connection stays syncable.
    for round in 0..2 {
        plane.post(&format!("{path}/sync"), json!({})).await.check(200, "Success");
        let job = offered(&mut line).await;
        accept(&mut line, &job, 10 + 2 * round).await;
        let class = Class::Retry;
        let failure = Failure { class, ..Failure::from(Code::UpdateRaised) };
        line.send(&outcome(&job, 11 + 2 * round, OutcomeResult::Failed { failure })).await;
        acked(&mut line, 11 + 2 * round).await;
        let connection = plane.get(&path).await.data();
        assert_eq!(connection["status"]["sync_state"], "scheduled");
        assert!(connection["failed_at"].is_string());
    }
    let listed = plane.get(&format!("{path}/syncs?limit=2")).await.data();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    assert!(listed["next_cursor"].is_string());
    assert_eq!(listed["items"][0]["error"]["message"], "the connector's update() raised an exception");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returning_agent_keeps_its_job_and_a_stale_one_loses_it() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let (_, sync) = requested(&plane, &group, &package, json!([])).await;
    let job = offered(&mut line).await;
    accept(&mut line, &job, 1).await;
    drop(line);
    // The control plane restarts too: the lease is in the store.
    let plane = plane.restart().await;
    let state = |generation, phase| JobState { job_id: job.job_id.clone(), generation, phase };
    let mut line = host.online(&plane, vec![state(1, Phase::Running)]).await;
    line.until(|down| matches!(down, Down::Grant { generation: 1, .. }).then_some(())).await;
    assert_eq!(plane.get(&sync).await.data()["lease"], "held");
    let unknown = JobRef { job_id: JobId::new("no-such-job").expect("an id"), generation: 3 };
    line.send(&Up::Renew { jobs: vec![unknown, JobRef { generation: 9, ..job.job_ref() }] }).await;
    for generation in [3, 9] {
        line.until(|down| {
            matches!(&down, Down::LeaseLost { generation: lost, .. } if *lost == generation).then_some(())
        })
        .await;
    }
    // A cancellation goes to the agent, and its outcome ends the sync.
    plane.post(&format!("{sync}/cancel"), json!({})).await.check(200, "Success");
    line.until(|down| matches!(down, Down::Cancel { .. }).then_some(())).await;
    line.send(&outcome(&job, 2, OutcomeResult::Cancelled)).await;
    acked(&mut line, 2).await;
    assert_eq!(plane.get(&sync).await.data()["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agents_job_moves_on_under_the_next_generation() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let (mut first, mut second) = (Host::enrolled(&plane, &group).await, Host::enrolled(&plane, &group).await);
    let mut line = first.online(&plane, Vec::new()).await;
    let (_, sync) = requested(&plane, &group, &package, json!([])).await;
    let job = offered(&mut line).await;
    accept(&mut line, &job, 1).await;
    let mut other = second.online(&plane, Vec::new()).await;
    plane.call("DELETE", &format!("/v1/hybrid-deployment-agents/{}", first.agent_id), None).await.check(200, "Success");
    let moved = offered(&mut other).await;
    assert_eq!((&moved.job_id, moved.generation), (&job.job_id, 2));
    accept(&mut other, &moved, 1).await;
    // An outcome of the old generation is stored, acknowledged and without effect.
    other.send(&outcome(&job, 2, OutcomeResult::Succeeded)).await;
    acked(&mut other, 2).await;
    assert_eq!(plane.get(&sync).await.data()["status"], "running");
    other.send(&outcome(&moved, 3, OutcomeResult::Succeeded)).await;
    acked(&mut other, 3).await;
    let ended = plane.get(&format!("{sync}?wait=5s")).await.data();
    assert_eq!((&ended["status"], &ended["generation"]), (&json!("succeeded"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_a_forgotten_generation_fenced_goes_on_above_it() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let (_, sync) = requested(&plane, &group, &package, json!([])).await;
    let fenced = |job: &JobSpec, seq, head| {
        let Up::Outcome(outcome) = outcome(job, seq, OutcomeResult::Fenced) else { unreachable!("an outcome") };
        Up::Outcome(Box::new(Outcome { head_generation: head, ..*outcome }))
    };
    let job = offered(&mut line).await;
    accept(&mut line, &job, 1).await;
    line.send(&fenced(&job, 2, Some(700))).await;
    acked(&mut line, 2).await;
    let again = offered(&mut line).await;
    assert_eq!((&again.job_id, again.generation), (&job.job_id, 701));
    accept(&mut line, &again, 3).await;
    // Further than agents accept, or not ahead of us: the sync ends as fenced.
    line.send(&fenced(&again, 4, Some(701 + (1 << 20)))).await;
    acked(&mut line, 4).await;
    let ended = plane.get(&format!("{sync}?wait=5s")).await.data();
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("rescheduled"), &json!("DST-009")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_goes_elsewhere_or_waits() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let (_, sync) = requested(&plane, &group, &package, json!([])).await;
    let refuse = |job: &JobSpec, seq, reason| Up::Refused {
        outbox_seq: seq,
        job_id: job.job_id.clone(),
        generation: job.generation,
        reason,
        retry_after_ms: Some(100),
    };
    let job = offered(&mut line).await;
    line.send(&refuse(&job, 1, inshore_protocol::RefusalReason::Capacity)).await;
    acked(&mut line, 1).await;
    let again = offered(&mut line).await;
    assert_eq!(again.generation, 2);
    line.send(&refuse(&again, 2, inshore_protocol::RefusalReason::Sandbox)).await;
    acked(&mut line, 2).await;
    let ended = plane.get(&format!("{sync}?wait=10s")).await.data();
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("POL-003")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_person_can_change_fails_by_its_own_code_and_is_not_repeated() {
    use inshore_protocol::RefusalReason;
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(&plane, &group).await;
    let mut line = host.online(&plane, Vec::new()).await;
    let (path, mut sync) = requested(&plane, &group, &package, json!([])).await;
    let reasons = [
        (RefusalReason::DestinationNotListed, "POL-001"),
        (RefusalReason::ConnectorNotListed, "POL-002"),
        (RefusalReason::Sandbox, "POL-003"),
        (RefusalReason::Approval, "POL-004"),
        (RefusalReason::Policy, "CFG-005"),
        (RefusalReason::Unsupported, "CHN-005"),
    ];
    for (outbox_seq, (reason, code)) in (1..).zip(reasons) {
        let job = offered(&mut line).await;
        let (job_id, generation) = (job.job_id, job.generation);
        line.send(&Up::Refused { outbox_seq, job_id, generation, reason, retry_after_ms: None }).await;
        acked(&mut line, outbox_seq).await;
        let ended = plane.get(&format!("{sync}?wait=10s")).await.data();
        assert_eq!(
            (&ended["status"], &ended["error"]["code"], &ended["error"]["class"], &ended["rescheduled_for"]),
            (&json!("failed"), &json!(code), &json!("Fix"), &Value::Null)
        );
        let again = plane.post(&format!("{path}/sync"), json!({})).await.data();
        sync = format!("{path}/syncs/{}", again["sync_id"].as_str().expect("an id"));
    }
}
