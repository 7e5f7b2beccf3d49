//! REST: envelope, statuses, codes, aliases, trailing slashes, paging, secrets.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_may_call() {
    let plane = Plane::start().await;
    for path in ["/livez", "/readyz", "/livez/"] {
        plane.raw(&format!("GET {path} HTTP/1.1\r\n"), b"").await.check(200, "Success");
    }
    for path in ["/v1/groups", "/v1/nothing", "/", "/syncs/x"] {
        let answer = plane.raw(&format!("GET {path} HTTP/1.1\r\n"), b"").await;
        if path != "/v1/nothing" {
            answer.check(401, "Unauthorized");
            assert!(answer.head.contains("www-authenticate: basic"), "{}", answer.head);
        }
    }
    let wrong = format!("Basic {}", STANDARD.encode(format!("{}x", plane.key)));
    for header in [wrong.as_str(), "Basic !!", "Bearer nonsense", "Digest x", "Basic"] {
        let answer = plane.raw(&format!("GET /v1/groups HTTP/1.1\r\nAuthorization: {header}\r\n"), b"").await;
        answer.check(401, "Unauthorized");
    }
    let bearer = format!("GET /v1/account/info HTTP/1.1\r\nAuthorization: Bearer {}\r\n", plane.key);
    let info = plane.raw(&bearer, b"").await.data();
    assert_eq!(info["system_key_id"].as_str(), plane.key.split_once(':').map(|(id, _)| id));
    let foreign =
        format!("POST /v1/groups HTTP/1.1\r\nAuthorization: {}\r\nSec-Fetch-Site: cross-site\r\n", plane.basic());
    plane.raw(&foreign, b"{\"name\":\"x\"}").await.check(403, "Forbidden");
    assert!(
        !plane.state_holds(plane.key.split_once(':').expect("a pair").1.as_bytes()) || {
            // Only the key file itself may hold it.
            std::fs::remove_file(plane.dir.join("state/api_key")).expect("the key file");
            !plane.state_holds(plane.key.split_once(':').expect("a pair").1.as_bytes())
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_json_too() {
    let plane = Plane::start().await;
    plane.get("/v1/nothing").await.check(404, "NotFound");
    plane.get("/nothing").await.check(404, "NotFound");
    plane.call("DELETE", "/v1/groups", None).await.check(405, "MethodNotAllowed");
    plane.call("PUT", "/v1/connections/x", None).await.check(405, "MethodNotAllowed");
    plane.get("/v1/agent/channel").await.check(404, "NotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_destinations() {
    let plane = Plane::start().await;
    let created = plane.post("/v1/groups/", json!({"name": "Main", "ignored": 1})).await;
    assert_eq!(created.status, 201);
    let id = created.data()["id"].as_str().expect("an id").to_owned();
    assert!(created.data()["created_at"].as_str().is_some_and(|at| at.len() == 27 && at.ends_with('Z')));
    plane.post("/v1/groups", json!({"name": "Main"})).await.check(409, "Conflict");
    plane.post("/v1/groups", json!({})).await.check(400, "InvalidInput");
    plane
        .raw(&format!("POST /v1/groups HTTP/1.1\r\nAuthorization: {}\r\n", plane.basic()), b"{no")
        .await
        .check(400, "BadRequest");
    plane
        .raw(&format!("POST /v1/groups HTTP/1.1\r\nAuthorization: {}\r\n", plane.basic()), b"[]")
        .await
        .check(400, "BadRequest");
    let renamed = plane.call("PATCH", &format!("/v1/groups/{id}"), Some(json!({"name": "Second"}))).await;
    assert_eq!(renamed.data()["name"], "Second");
    plane.get("/v1/groups/none").await.check(404, "NotFound_Group");
    plane.get("/v1/groups/none/connectors").await.check(404, "NotFound_Group");

    let body = |service: &str, uri: &str| json!({"group_id": id, "service": service, "config": {"uri": uri}});
    plane.post("/v1/destinations", body("snowflake", "file:///x")).await.check(400, "InvalidInput");
    for uri in ["s3://", "s3://key:secret@bucket", "file://host/x", "/x", "file:///"] {
        plane.post("/v1/destinations", body("inshore_files", uri)).await.check(400, "InvalidInput");
    }
    let destination = plane.post("/v1/destinations", body("inshore_files", "file:///data")).await;
    assert_eq!((destination.status, &destination.data()["id"]), (201, &json!(id)));
    plane.post("/v1/destinations", body("inshore_files", "file:///data")).await.check(409, "Conflict");
    plane.get("/v1/destinations/none").await.check(404, "NotFound_Destination");
    let path = format!("/v1/destinations/{id}");
    let patched = plane.call("PATCH", &path, Some(json!({"config": {"uri": "file:///other"}}))).await;
    assert_eq!(patched.data()["config"]["uri"], "file:///other");
    let defaults = json!({"table_formats": ["delta", "iceberg"], "merge": "auto",
        "snapshot_retention_period": "ONE_WEEK", "uri": "file:///other"});
    assert_eq!(patched.data()["config"], defaults);
    for (config, field) in [
        (json!({"table_formats": []}), "table_formats"),
        (json!({"table_formats": ["delta", "hudi"]}), "table_formats"),
        (json!({"table_formats": "delta"}), "table_formats"),
        (json!({"merge": "deletion_vectors"}), "merge"),
        (json!({"merge": "position_deletes"}), "merge"),
        (json!({"snapshot_retention_period": "ONE_YEAR"}), "snapshot_retention_period"),
    ] {
        let refused = plane.call("PATCH", &path, Some(json!({"config": config}))).await;
        let told = refused.check(400, "InvalidInput");
        assert!(told["message"].as_str().expect("a message").contains(field), "{config}");
    }
    let marks = json!({"table_formats": ["iceberg"], "merge": "position_deletes",
        "snapshot_retention_period": "RETAIN_ALL_SNAPSHOTS"});
    plane.call("PATCH", &path, Some(json!({"config": marks}))).await.check(200, "Success");
    let kept = plane.get(&path).await.data()["config"].clone();
    assert_eq!((&kept["merge"], &kept["table_formats"]), (&marks["merge"], &marks["table_formats"]));
    assert_eq!(kept["snapshot_retention_period"], "RETAIN_ALL_SNAPSHOTS");
    plane.call("DELETE", &format!("/v1/groups/{id}"), None).await.check(409, "Conflict");
    plane.call("DELETE", &path, None).await.check(200, "Success");
    plane.call("DELETE", &format!("/v1/groups/{id}/"), None).await.check(200, "Success");
    assert_eq!(plane.get("/v1/groups").await.data()["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let plane = Plane::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(plane.group().await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = plane.get(&format!("/v1/groups?limit=2&cursor={cursor}")).await.data();
        seen.extend(
            page["items"].as_array().expect("items").iter().map(|item| item["id"].as_str().expect("an id").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, made);
    plane.get("/v1/groups?cursor=wrong").await.check(400, "InvalidInput");
    assert_eq!(plane.get("/v1/groups?limit=nonsense").await.data()["items"].as_array().map(Vec::len), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_checked() {
    let plane = Plane::start().await;
    let path = "/v1/connector-sdk/packages";
    for (zip, code) in [
        (b"no zip at all".to_vec(), "PKG-001"),
        (zip_of(&["connector.py", "../evil.py"]), "PKG-002"),
        (zip_of(&["connector.py", "/etc/evil"]), "PKG-002"),
        (zip_of(&["sub/connector.py"]), "PKG-003"),
        (zip_of(&["connector.py", "configuration.json"]), "PKG-014"),
        (zip_of(&["connector.py", "files/state.json"]), "PKG-014"),
        (zip_of(&[]), "PKG-003"),
    ] {
        let refused = plane.upload("POST", path, &zip).await.check(400, "InvalidInput");
        assert!(refused["message"].as_str().is_some_and(|message| message.starts_with(code)), "{refused} {code}");
    }
    plane.post(path, json!({})).await;
    let zip = zip_of(&["connector.py", "requirements.txt"]);
    let created = plane.upload("POST", path, &zip).await;
    assert_eq!(created.status, 201);
    let (id, hash) = (created.data()["id"].clone(), created.data()["file_sha256_hash"].clone());
    assert_eq!(hash, hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&zip)));
    let one = format!("{path}/{}", id.as_str().expect("an id"));
    assert_eq!(plane.get(&format!("{one}/download")).await.body, zip);
    let other = zip_of(&["connector.py"]);
    assert_ne!(plane.upload("PATCH", &one, &other).await.data()["file_sha256_hash"], hash);
    plane.get(&format!("{path}/none")).await.check(404, "NotFound_ConnectorSdkPackage");
    plane.call("DELETE", &one, None).await.check(200, "Success");
    plane.get(&one).await.check(404, "NotFound_ConnectorSdkPackage");
    let left = std::fs::read_dir(plane.dir.join("state/packages")).expect("packages").count();
    assert_eq!(left, 1, "the replaced content stays until its package is collected; refused uploads leave nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_merge_and_hide() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let secrets = json!([{"key": "password", "value": "${file:/run/secrets/db}"}]);
    let created = plane.connection(&group, &package, secrets).await;
    assert_eq!(created.status, 201, "{}", created.json());
    let id = created.data()["id"].as_str().expect("an id").to_owned();
    let data = created.data();
    for (field, expected) in [
        ("schema", json!("shop")),
        ("sync_frequency", json!(360)),
        ("paused", json!(false)),
        ("succeeded_at", Value::Null),
        ("failed_at", Value::Null),
        ("destination_schema_names", json!("FIVETRAN_NAMING")),
        ("setup_tests", json!([])),
        ("schedule_type", json!("manual")),
        ("schedule", Value::Null),
    ] {
        assert_eq!(data[field], expected, "{field}");
    }
    assert_eq!(data["config"]["python_version"], "3.13");
    assert_eq!(data["status"]["sync_state"], "scheduled");
    assert_eq!(data["status"]["rescheduled_for"], Value::Null);
    plane.connection(&group, &package, json!([])).await.check(409, "Conflict");
    let literal = json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "b", "secrets_list": [{"key": "k", "value": "canary-secret"}]}});
    let refused = plane.post("/v1/connections", literal).await.check(400, "SECRET_NOT_SEALED");
    assert!(
        refused["message"].as_str().is_some_and(|message| message.contains("CPL-001") && !message.contains("canary"))
    );
    for bad in [
        json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "No"}}),
        json!({"group_id": group, "service": "postgres", "config": {"schema": "b"}}),
        json!({"group_id": group, "service": "connector_sdk", "config": {}}),
        json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "b"}, "sync_frequency": "7"}),
        json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "b", "python_version": "latest"}}),
        json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "b", "secrets_list": [{"key": "k"}]}}),
        json!({"group_id": group, "service": "connector_sdk", "config": {"schema": "b", "secrets_list": [{"key": "k", "value": "******"}]}}),
        json!({"service": "connector_sdk", "config": {"schema": "b"}}),
    ] {
        plane.post("/v1/connectors", bad).await.check(400, "InvalidInput");
    }
    for path in ["/v1/connections/none", "/v1/connectors/none/"] {
        plane.get(path).await.check(404, "NotFound_Connector");
    }
    let path = format!("/v1/connectors/{id}");
    let patched = plane.call("PATCH", &path, Some(json!({"sync_frequency": "60", "paused": true}))).await.data();
    assert_eq!((&patched["sync_frequency"], &patched["paused"]), (&json!(60), &json!(true)));
    assert_eq!(patched["schedule"], Value::Null, "an interval alone starts nothing");
    let automatic = plane.call("PATCH", &path, Some(json!({"schedule_type": "auto"}))).await.data();
    assert_eq!(automatic["schedule"], json!({"schedule_type": "INTERVAL", "interval": 60}));
    assert_eq!(patched["config"]["secrets_list"], json!([{"key": "password", "value": "${file:/run/secrets/db}"}]));
    assert_eq!(patched["status"]["sync_state"], "paused");
    plane.post(&format!("{path}/sync"), json!({})).await.check(409, "Conflict");
    let listed = plane.get(&format!("/v1/groups/{group}/connectors?schema=shop&limit=1000")).await.data();
    assert_eq!(listed["items"][0]["id"], json!(id));
    assert_eq!(plane.get("/v1/connections?schema=other").await.data()["items"], json!([]));
    plane.call("DELETE", &format!("/v1/connector-sdk/packages/{package}"), None).await.check(403, "Forbidden");
    plane.call("DELETE", &format!("/v1/destinations/{group}"), None).await.check(409, "Conflict");
    plane.call("DELETE", &path, None).await.check(200, "Success");
    plane.get(&path).await.check(404, "NotFound_Connector");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connector_may_reach_and_use_is_a_setting_of_its_connection() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let created = plane.connection(&group, &package, json!([])).await.data();
    let none = json!({"memory_bytes": null, "cpu_percent": null, "scratch_bytes": null});
    assert_eq!((&created["config"]["egress"], &created["config"]["resources"]), (&Value::Null, &none));
    let path = format!("/v1/connections/{}", created["id"].as_str().expect("an id"));
    let rules = json!(["db.example:5432", "*.kafka.example:9092-9095"]);
    let asked = json!({"egress": rules, "resources": {"memory_bytes": 1_073_741_824, "cpu_percent": 150}});
    plane.patch(&path, json!({"config": asked})).await.check(200, "Success");
    let merged = json!({"resources": {"scratch_bytes": "2147483648", "cpu_percent": null}});
    let config = plane.patch(&path, json!({"config": merged})).await.data()["config"].clone();
    let expected = json!({"memory_bytes": 1_073_741_824, "cpu_percent": null, "scratch_bytes": 2_147_483_648_i64});
    assert_eq!((&config["egress"], &config["resources"]), (&rules, &expected), "what is absent is kept");
    for (bad, says) in [
        (json!({"egress": "db.example:5432"}), "must be a list"),
        (json!({"egress": [5432]}), "must be a list"),
        (json!({"egress": ["db.example"]}), "`db.example` is not an egress rule: it has no port"),
        (json!({"egress": vec!["a:1"; 1001]}), "at most 1000"),
        (json!({"resources": {"memory_bytes": 1024}}), "must be from 67108864"),
        (json!({"resources": {"cpu_percent": "fast"}}), "whole number"),
        (json!({"resources": {"memory": 1}}), "there are memory_bytes"),
        (json!({"resources": []}), "must be an object"),
    ] {
        let refused = plane.patch(&path, json!({"config": bad})).await.check(400, "InvalidInput");
        assert!(refused["message"].as_str().is_some_and(|message| message.contains(says)), "{bad}: {refused}");
    }
    let cleared =
        plane.patch(&path, json!({"config": {"egress": null, "resources": null}})).await.data()["config"].clone();
    assert_eq!((&cleared["egress"], &cleared["resources"]), (&Value::Null, &none));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_waits_for_an_agent_and_can_be_cancelled() {
    let plane = Plane::start().await;
    let (group, package) = plane.ground().await;
    let id = plane.connection(&group, &package, json!([])).await.data()["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/connections/{id}");
    let first = plane.post(&format!("{path}/sync"), json!({})).await.data()["sync_id"].clone();
    assert_eq!(plane.get(&path).await.data()["status"]["sync_state"], "syncing");
    // Both spellings mean the one that is queued.
    assert_eq!(plane.post(&format!("/v1/connectors/{id}/force/"), json!({})).await.data()["sync_id"], first);
    let one = format!("{path}/syncs/{}", first.as_str().expect("an id"));
    assert_eq!(plane.get(&format!("{one}?wait=1s")).await.data()["status"], "queued");
    plane.get(&format!("{one}?wait=soon")).await.check(400, "InvalidInput");
    plane.get(&format!("{path}/syncs/none")).await.check(404, "NotFound_Sync");
    let page = plane.get(&format!("/syncs/{}", first.as_str().expect("an id"))).await;
    assert!(page.status == 200 && page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    let plane = plane.restart().await;
    plane.post(&format!("{one}/cancel"), json!({})).await.check(200, "Success");
    let ended = plane.get(&format!("{one}?wait=10s")).await.data();
    assert_eq!(ended["status"], "cancelled");
    let connection = plane.get(&path).await.data();
    assert!(connection["failed_at"].is_string() && connection["succeeded_at"].is_null(), "{connection}");
    let events = plane.get(&format!("/v1/syncs/{}/events", first.as_str().expect("an id"))).await;
    assert!(String::from_utf8_lossy(&events.body).starts_with("event: end\ndata: {"));
    assert_eq!(plane.get("/").await.status, 200);
}
