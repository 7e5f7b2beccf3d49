//! Re-syncs at REST: what is noted, what is queued, what the offer carries, when it is forgotten.

use inshore_protocol::{JobSpec, OutcomeResult};

use super::agent::{Host, Line};
use super::syncs::{accept, acked, offered, outcome};
use super::*;

async fn finish(line: &mut Line, job: &JobSpec, seq: &mut u64, result: OutcomeResult) {
    *seq += 1;
    accept(line, job, *seq).await;
    *seq += 1;
    line.send(&outcome(job, *seq, result)).await;
    acked(line, *seq).await;
}

fn scope(job: &JobSpec) -> Value {
    json!({"resync": job.resync, "tables": job.resync_scope.as_ref().map(|scope| serde_json::to_value(&scope.tables).expect("JSON"))})
}

async fn connection(plane: &Plane) -> (String, Line) {
    let (group, package) = plane.ground().await;
    let mut host = Host::enrolled(plane, &group).await;
    let line = host.online(plane, Vec::new()).await;
    let created = plane.connection(&group, &package, json!([])).await;
    (format!("/v1/connections/{}", created.data()["id"].as_str().expect("an id")), line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_is_carried_until_a_sync_of_it_succeeds() {
    let plane = Plane::start().await;
    let (path, mut line) = Box::pin(connection(&plane)).await;
    let mut seq = 0;
    assert_eq!(plane.post(&format!("{path}/sync"), json!({})).await.status, 200);
    let job = offered(&mut line).await;
    assert_eq!(scope(&job), json!({"resync": false, "tables": null}));
    finish(&mut line, &job, &mut seq, OutcomeResult::Succeeded).await;
    assert_eq!(plane.get(&path).await.data()["status"]["is_historical_sync"], false);

    let asked = plane.post(&format!("{path}/schemas/shop/tables/orders/resync"), json!({})).await.data();
    let sync = format!("{path}/syncs/{}", asked["sync_id"].as_str().expect("an id"));
    assert_eq!(plane.get(&sync).await.data()["trigger"], "resync");
    let job = offered(&mut line).await;
    assert_eq!(scope(&job), json!({"resync": true, "tables": [{"schema": "shop", "table": "orders"}]}));
    // What is asked for meanwhile waits for the next one, and is not forgotten with this one.
    let again = plane.post(&format!("{path}/schemas/tables/resync"), json!({"shop": ["people"]})).await.data();
    assert_ne!(again["sync_id"], asked["sync_id"]);
    finish(&mut line, &job, &mut seq, OutcomeResult::Succeeded).await;
    let job = offered(&mut line).await;
    assert_eq!(scope(&job)["tables"].as_array().map(Vec::len), Some(2), "{job:?}");
    finish(&mut line, &job, &mut seq, OutcomeResult::Cancelled).await;

    // It was cancelled: the next sync, whatever asks for it, carries it again.
    assert_eq!(plane.post(&format!("{path}/sync"), json!({})).await.status, 200);
    let job = offered(&mut line).await;
    assert_eq!(scope(&job)["resync"], true);
    finish(&mut line, &job, &mut seq, OutcomeResult::Succeeded).await;
    assert_eq!(plane.post(&format!("{path}/sync"), json!({})).await.status, 200);
    let job = offered(&mut line).await;
    assert_eq!(scope(&job)["resync"], false);
    finish(&mut line, &job, &mut seq, OutcomeResult::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_resync_takes_single_tables_in_and_waits_while_paused() {
    let plane = Plane::start().await;
    let (path, mut line) = Box::pin(connection(&plane)).await;
    let legacy = path.replace("connections", "connectors");
    assert_eq!(plane.patch(&path, json!({"paused": true})).await.status, 200);
    let noted = plane.post(&format!("{legacy}/resync"), json!({"scope": {"shop": ["orders"]}})).await;
    assert_eq!((noted.status, &noted.data()["sync_id"]), (200, &Value::Null));
    let patched = plane.patch(&legacy, json!({"is_historical_sync": true})).await.data();
    assert_eq!(patched["status"]["is_historical_sync"], true);
    assert_eq!(plane.get(&format!("{path}/syncs")).await.data()["items"], json!([]));
    assert_eq!(plane.patch(&path, json!({"paused": false})).await.status, 200);
    let one = plane.post(&format!("{path}/resync/"), json!({})).await.data();
    let two = plane.post(&format!("{path}/resync"), json!({})).await.data();
    assert_eq!(one["sync_id"], two["sync_id"], "the same is not queued twice");
    let job = offered(&mut line).await;
    assert_eq!(scope(&job), json!({"resync": true, "tables": null}));
    let sync = format!("{path}/syncs/{}", one["sync_id"].as_str().expect("an id"));
    assert_eq!(plane.get(&sync).await.data()["type"], "historical");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_names_nothing_is_refused() {
    let plane = Plane::start().await;
    let (path, _line) = Box::pin(connection(&plane)).await;
    plane.post("/v1/connections/nothing/resync", json!({})).await.check(404, "NotFound_Connector");
    for body in [
        json!({"scope": {}}),
        json!({"scope": []}),
        json!({"scope": {"shop": []}}),
        json!({"scope": {"shop": "orders"}}),
    ] {
        plane.post(&format!("{path}/resync"), body).await.check(400, "InvalidInput");
    }
    for body in [json!({}), json!({"shop": []}), json!({"shop": [7]}), json!({"shop": [""]})] {
        plane.post(&format!("{path}/schemas/tables/resync"), body).await.check(400, "InvalidInput");
    }
    assert_eq!(plane.get(&format!("{path}/syncs")).await.data()["items"], json!([]));
    assert_eq!(plane.get(&path).await.data()["status"]["is_historical_sync"], true, "of its first sync");
}
