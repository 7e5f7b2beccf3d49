//! The schema of a connection: captured with outcomes, configured by REST, told with the next offer.

use inshore_protocol::{ChangeHandling, JobSpec, OutcomeResult, SchemaConfig, Up};

use super::agent::{Host, Line};
use super::syncs::{accept, acked, offered, outcome};
use super::*;

/// A table with `id` as its key, as an agent tells it.
fn table(name: &str, enabled: bool, columns: &[&str]) -> Value {
    let columns = columns.iter().map(|column| json!({"column": column, "enabled": true, "key": *column == "id"}));
    json!({"schema": "shop", "table": name, "enabled": enabled, "columns": columns.collect::<Vec<_>>()})
}

struct Connected {
    plane: Plane,
    line: Line,
    path: String,
    seq: u64,
}

impl Connected {
    async fn start() -> Self {
        let plane = Plane::start().await;
        let (group, package) = plane.ground().await;
        let mut host = Host::enrolled(&plane, &group).await;
        let line = host.online(&plane, Vec::new()).await;
        let created = plane.connection(&group, &package, json!([])).await;
        assert_eq!(created.status, 201, "{}", created.json());
        let path = format!("/v1/connections/{}", created.data()["id"].as_str().expect("an id"));
        Self { plane, line, path, seq: 0 }
    }

    /// One sync that saw these tables; what its offer said of them.
    async fn sync(&mut self, tables: &[Value]) -> JobSpec {
        self.told(json!({"tables": tables})).await
    }

    async fn told(&mut self, captured: Value) -> JobSpec {
        assert_eq!(self.plane.post(&format!("{}/sync", self.path), json!({})).await.status, 200);
        let job = offered(&mut self.line).await;
        self.seq += 1;
        accept(&mut self.line, &job, self.seq).await;
        self.seq += 1;
        let Up::Outcome(mut outcome) = outcome(&job, self.seq, OutcomeResult::Succeeded) else { panic!("no outcome") };
        outcome.schema = Some(serde_json::from_value(captured).expect("a schema"));
        self.line.send(&Up::Outcome(outcome)).await;
        acked(&mut self.line, self.seq).await;
        job
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/schemas{rest}", self.path)
    }

    async fn schema(&self) -> Value {
        self.plane.get(&self.at("")).await.data()
    }

    async fn patch(&self, rest: &str, body: Value) -> Value {
        let answer = self.plane.patch(&self.at(rest), body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }
}

fn config(job: &JobSpec) -> &SchemaConfig {
    job.schema.as_ref().expect("a configuration")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sync_saw_is_shown_as_clients_read_it() {
    let mut connected = Box::pin(Connected::start()).await;
    for rest in ["", "/", "/reload"] {
        let method = if rest == "/reload" { "POST" } else { "GET" };
        connected.plane.call(method, &connected.at(rest), None).await.check(404, "NotFound_SchemaConfig");
    }
    connected.plane.patch(&connected.at(""), json!({})).await.check(404, "NotFound_SchemaConfig");
    connected.plane.get("/v1/connections/none/schemas").await.check(404, "NotFound_Connector");
    let job = connected.sync(&[table("orders", true, &["id", "email"]), table("audit", false, &["at"])]).await;
    assert!(job.schema.is_none(), "nothing was decided");
    let legacy = connected.at("").replace("connections", "connectors");
    let expected = json!({
        "schema_change_handling": "ALLOW_ALL", "enable_new_by_default": true, "is_type_locked": false,
        "schemas": {"shop": {"name_in_destination": "shop", "enabled": true, "tables": {
            "audit": {"name_in_destination": "audit", "enabled": false, "supports_columns_config": true,
                "supports_history_mode": false, "enabled_patch_settings": {"allowed": true}, "columns": {}},
            "orders": {"name_in_destination": "orders", "enabled": true, "supports_columns_config": true,
                "supports_history_mode": false, "enabled_patch_settings": {"allowed": true}, "columns": {}},
        }}},
    });
    for path in [connected.at(""), connected.at("/"), legacy] {
        assert_eq!(connected.plane.get(&path).await.data(), expected, "{path}");
    }
    let columns = connected.plane.get(&connected.at("/shop/tables/orders/columns")).await.data();
    assert_eq!(columns["columns"]["id"]["is_primary_key"], true);
    assert_eq!(columns["columns"]["id"]["enabled_patch_settings"]["allowed"], false);
    let email = json!({"name_in_destination": "email", "enabled": true, "hashed": false, "is_primary_key": false,
        "enabled_patch_settings": {"allowed": true}});
    assert_eq!(columns["columns"]["email"], email);
    connected.plane.get(&connected.at("/shop/tables/none/columns")).await.check(404, "NotFound_Table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_from_the_next_offer_on() {
    let mut connected = Box::pin(Connected::start()).await;
    let tables = [table("orders", true, &["id", "email", "phone"]), table("audit", true, &["at"])];
    connected.sync(&tables).await;
    let bulk = json!({"schema_change_handling": "ALLOW_COLUMNS", "is_type_locked": true, "later": 1, "schemas": {"shop": {"tables": {
        "orders": {"columns": {"email": {"hashed": true}, "id": {"hashed": true}}}, "audit": {"enabled": false},
    }}}});
    let answer = connected.patch("", bulk).await;
    assert_eq!(answer["message"], "Schema configuration is stored; it counts from the next sync on");
    assert_eq!(answer["data"]["schemas"]["shop"]["tables"]["audit"]["enabled"], false);
    assert_eq!(answer["data"]["schemas"]["shop"]["tables"]["orders"]["columns"]["email"]["hashed"], true);
    let answer = connected.patch("/shop/tables/orders/columns/phone", json!({"enabled": false})).await;
    assert_eq!(answer["data"], connected.schema().await);
    assert_eq!(connected.plane.get(&connected.path).await.data()["config"]["is_type_locked"], true);

    // A table that appears and was not let in stays out when the handling lets all in again.
    let job = connected.sync(&[table("fresh", false, &["id"]), table("orders", true, &["id"])]).await;
    assert!(job.type_locked && config(&job).handling == ChangeHandling::AllowColumns);
    let told = serde_json::to_value(&config(&job).schemas).expect("JSON");
    let expected = json!([{"schema": "shop", "tables": [
        {"table": "audit", "enabled": false},
        {"table": "orders", "columns": [{"column": "email", "enabled": true, "hashed": true},
            {"column": "id", "enabled": true, "hashed": true}, {"column": "phone", "enabled": false}]},
    ]}]);
    assert_eq!(told, expected);
    connected.patch("", json!({"schema_change_handling": "ALLOW_ALL"})).await;
    let job = connected.sync(&[]).await;
    let told = serde_json::to_value(&config(&job).schemas).expect("JSON");
    assert_eq!(told[0]["tables"][1], json!({"table": "fresh", "enabled": false}));

    let answer = connected.patch("/shop/tables/fresh", json!({"enabled": true})).await;
    assert!(answer["message"].as_str().is_some_and(|message| message.contains("re-sync")), "{answer}");
    connected.patch("/shop", json!({"enabled": false})).await;
    assert_eq!(connected.schema().await["schemas"]["shop"]["enabled"], false);
    let restarted = connected.schema().await;
    connected.plane = connected.plane.restart().await;
    assert_eq!(connected.schema().await, restarted, "it is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_change_is_one_transaction_and_bad_input_says_what_is_wrong() {
    let mut connected = Box::pin(Connected::start()).await;
    connected.sync(&[table("orders", true, &["id", "email"])]).await;
    let before = connected.schema().await;
    let columns = |columns: Value| json!({"schemas": {"shop": {"tables": {"orders": {"columns": columns}}}}});
    for (body, part) in [
        (
            columns(json!({"email": {"enabled": false}, "id": {"enabled": false}})),
            "`id` is a key column of `shop.orders`",
        ),
        (columns(json!({"email": {"enabled": "no"}})), "`enabled` must be true or false"),
        (columns(json!({"email": true})), "`columns.email` must be an object"),
        (columns(json!({"": {"enabled": false}})), "with a name"),
        (columns(json!({"a\u{7}": {"enabled": false}})), "control characters"),
        (columns(json!({"x".repeat(256): {"enabled": false}})), "1 to 255 bytes"),
        (json!({"schema_change_handling": "SOME"}), "must be one of ALLOW_ALL, ALLOW_COLUMNS, BLOCK_ALL"),
        (json!({"schemas": []}), "`schemas` must be an object"),
        (json!({"schemas": {"shop": {"tables": {"orders": {"hashed": true}}}}}), "only columns are hashed"),
        (json!({"schemas": {"shop": {"tables": {"orders": {"sync_mode": "LIVE"}}}}}), "`sync_mode` of `orders`"),
    ] {
        let refused = connected.plane.patch(&connected.at(""), body).await.check(400, "InvalidInput");
        assert!(refused["message"].as_str().is_some_and(|message| message.contains(part)), "{part}: {refused}");
    }
    connected.plane.post(&connected.at("/reload"), json!({"exclude_mode": "ALL"})).await.check(400, "InvalidInput");
    assert_eq!(connected.schema().await, before, "nothing of a refused change is kept");
    let many: Map = (0..20_000).map(|number| (format!("c{number}"), json!({"enabled": false}))).collect();
    let refused = connected.plane.patch(&connected.at(""), columns(json!(many))).await.check(400, "InvalidInput");
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("block whole tables")), "{refused}");
    assert_eq!(connected.schema().await, before);
}

type Map = serde_json::Map<String, Value>;

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_may_come_before_the_first_sync_and_be_replaced() {
    let mut connected = Box::pin(Connected::start()).await;
    let body = json!({"schema_change_handling": "BLOCK_ALL", "schemas": {"shop": {"tables": {"orders": {"enabled": true,
        "columns": {"email": {"enabled": false}}}}}}});
    let answer = connected.plane.post(&connected.at(""), body).await;
    assert_eq!((answer.status, answer.data()), (200, connected.schema().await));
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.ends_with("No sync has told 2 of the names: they count once they appear"), "{message}");
    let job = connected.sync(&[table("orders", true, &["id"]), table("other", false, &["id"])]).await;
    assert_eq!(config(&job).handling, ChangeHandling::BlockAll);
    let told = serde_json::to_value(&config(&job).schemas).expect("JSON");
    let orders = json!({"table": "orders", "enabled": true, "columns": [{"column": "email", "enabled": false}]});
    assert_eq!(told, json!([{"schema": "shop", "tables": [orders]}]));
    let shown = connected.schema().await;
    assert_eq!(shown["enable_new_by_default"], false);
    assert_eq!(shown["schemas"]["shop"]["tables"]["other"]["enabled"], false);
    let reloaded = connected.plane.post(&connected.at("/reload"), json!({})).await.data();
    assert_eq!(reloaded, shown, "PRESERVE is the default");
    connected.plane.post(&connected.at("/reload"), json!({"exclude_mode": "INCLUDE"})).await.check(200, "Success");
    assert_eq!(connected.schema().await["schemas"]["shop"]["tables"]["other"]["enabled"], true);
    connected.plane.post(&connected.at(""), json!({})).await.check(200, "Success");
    let shown = connected.schema().await;
    assert_eq!(
        (&shown["schema_change_handling"], &shown["schemas"]["shop"]["tables"]["orders"]["columns"]),
        (&json!("ALLOW_ALL"), &json!({}))
    );
    assert!(connected.sync(&[]).await.schema.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_names_are_kept_with_the_key_they_were_made_with() {
    let mut connected = Box::pin(Connected::start()).await;
    let key = "0a".repeat(16);
    let hashed =
        json!({"schema": "a1", "table": "b2", "enabled": true, "columns": [{"column": "c3", "enabled": true}]});
    connected.told(json!({"label_key": key, "tables": [hashed]})).await;
    connected.patch("/a1/tables/b2/columns/c3", json!({"enabled": false})).await;
    let job = connected.sync(&[]).await;
    assert_eq!(serde_json::to_value(&config(&job).label_keys).expect("JSON"), json!([key]));
    connected.plane.call("DELETE", &connected.path, None).await.check(200, "Success");
}

impl Connected {
    /// A form as a browser sends it.
    async fn form(&self, fields: &[(&str, &str)]) -> Answer {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let fields = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let body = fields.collect::<Vec<_>>().join("&");
        let head = format!(
            "POST {}/schema HTTP/1.1\r\nAuthorization: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            self.page(),
            self.plane.basic()
        );
        self.plane.raw(&head, body.as_bytes()).await
    }

    fn page(&self) -> String {
        self.path.replace("/v1", "")
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_schema_says_what_a_change_does_and_stores_it() {
    let mut connected = Box::pin(Connected::start()).await;
    let page = format!("{}/schema", connected.page());
    assert!(text(&connected.plane.get(&page).await).contains("No sync has told its tables yet"));
    assert_eq!(connected.plane.get("/connections/none/schema").await.status, 404);
    connected.sync(&[table("orders", true, &["id", "email"]), table("audit", true, &["at"])]).await;
    let shown = text(&connected.plane.get(&page).await);
    assert!(["shop.orders", "shop.audit", "email", "ALLOW_COLUMNS"].iter().all(|part| shown.contains(part)), "{shown}");
    let searched = text(&connected.plane.get(&format!("{page}?q=EMAIL")).await);
    assert!(searched.contains("shop.orders") && !searched.contains("shop.audit"), "{searched}");
    let email = r#"["shop","orders","email"]"#;
    let same = connected.form(&[("handling", "ALLOW_ALL"), (email, "in")]).await;
    assert!(same.status == 200 && !text(&same).contains("What this changes"), "nothing changes");

    let preview = connected.form(&[("handling", "BLOCK_ALL"), (email, "out")]).await;
    let preview = text(&preview);
    assert!(preview.contains("shop.orders.email: in becomes out") && preview.contains("have NULL"), "{preview}");
    assert_eq!(connected.schema().await["schema_change_handling"], "ALLOW_ALL", "a preview stores nothing");
    let change = preview.split("name=\"change\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let change = change.expect("the change").replace("&#34;", "\"");
    let stored = connected.form(&[("change", &change)]).await;
    assert!(stored.status == 303 && stored.head.contains(&format!("location: {page}?saved=1")), "{}", stored.head);
    assert!(text(&connected.plane.get(&format!("{page}?saved=1")).await).contains("only filled in by a re-sync"));
    let schema = connected.schema().await;
    assert_eq!(schema["schema_change_handling"], "BLOCK_ALL");
    assert_eq!(schema["schemas"]["shop"]["tables"]["orders"]["columns"]["email"]["enabled"], false);

    let key = r#"{"handling":null,"items":[[["shop","orders","id"],"out"]]}"#;
    assert!(text(&connected.form(&[("change", key)]).await).contains("is a key column"), "the refusal is shown");
    assert_eq!(connected.form(&[("change", "no JSON")]).await.status, 400);
    assert_eq!(connected.schema().await, schema);
    let foreign =
        format!("POST {page} HTTP/1.1\r\nAuthorization: {}\r\nSec-Fetch-Site: cross-site\r\n", connected.plane.basic());
    connected.plane.raw(&foreign, b"handling=ALLOW_ALL").await.check(403, "Forbidden");
}
