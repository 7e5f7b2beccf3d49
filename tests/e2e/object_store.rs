//! A sync into an object store: a real control plane, agent and job, and a server that speaks S3. And what
//! `inshore destination test` says about it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inshore_tests::stack::{SCHEMA, Stack};
use inshore_tests::{agent, oracle, shop, stage, wait};
use serde_json::{Value, json};

/// moto with an empty bucket `lake`; ends when dropped.
struct Store {
    address: SocketAddr,
    child: Child,
}

impl Store {
    fn start() -> Store {
        let (_, home) = std::env::vars_os()
            .find(|(name, _)| name == "INSHORE_TEST_STORES")
            .expect("INSHORE_TEST_STORES names the object stores' test servers: run ./dev test");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let child = Command::new(Path::new(&home).join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts");
        let store = Store { address, child };
        wait::until("the S3 server to answer", Duration::from_secs(60), || TcpStream::connect(address).ok());
        ureq::put(format!("http://{address}/lake")).send_empty().expect("a bucket");
        store
    }

    fn text(&self, path: &str) -> String {
        let mut answer = ureq::get(format!("http://{}/lake{path}", self.address)).call().expect("an answer");
        answer.body_mut().read_to_string().expect("text")
    }

    /// The objects below a prefix, as files of a folder, for readers that know nothing of this store.
    fn copy(&self, prefix: &str, folder: &Path) {
        let listing = self.text(&format!("?list-type=2&prefix={prefix}/"));
        assert!(listing.contains("<IsTruncated>false</IsTruncated>"), "more objects than one page");
        for key in listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            // The server wants a signature and does not look at it.
            let signed =
                "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
            let request = ureq::get(format!("http://{}/lake/{key}", self.address)).header("authorization", signed);
            let mut answer = request.call().expect("an object");
            let bytes = answer.body_mut().with_config().limit(1 << 30).read_to_vec().expect("its bytes");
            let path = folder.join(key.strip_prefix(prefix).unwrap_or(key).trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("a file");
        }
    }

    /// A host's policy for this store; `secret` is a file that holds one.
    fn policy(&self, stack: &Stack, more: &str) -> String {
        let secret = stack.agent.dir.join("s3-secret");
        agent::write_secret(&secret, "a-secret-of-the-store-4711\n");
        let reference = format!("\"${{file:{}}}\"", secret.display());
        format!(
            "mode = \"managed\"\nconnectors = \"any\"\nsandbox = {{ read_only = [\"{}\"] }}\n\
             [[destinations]]\nkind = \"inshore_files\"\nuri = \"s3://lake/team\"\n[destinations.s3]\n\
             endpoint = \"http://{}\"\naccess_key_id = {reference}\nsecret_access_key = {reference}\n\
             server_side_encryption = \"AES256\"\n{more}",
            agent::source(&stack.agent.dir).display(),
            self.address
        )
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn test_destination(stack: &Stack, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(stage().join("usr/bin/inshore"))
        .args(["destination", "test"])
        .args(arguments)
        .arg("--policy")
        .arg(stack.agent.dir.join("policy.toml"))
        .output()
        .expect("inshore runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn a_sync_into_an_object_store_arrives_exactly_once() {
    let store = Store::start();
    let mut stack = Stack::enrolled();
    std::fs::write(stack.agent.dir.join("policy.toml"), store.policy(&stack, "")).expect("a policy");
    let (code, text, _) = test_destination(&stack, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("s3://lake/team\n  pass  an object is written\n"), "{text}");
    assert!(text.ends_with("  delivery is exactly-once\n"), "{text}");

    let path = format!("/v1/destinations/{}", stack.group);
    let moved = stack.rest.patch(&path, &json!({"config": {"uri": "s3://lake/team/shop"}}));
    assert_eq!(moved.status, 200, "{}", moved.body);
    let rest = stack.rest.clone();
    stack.agent.start(&rest);
    let (connection, database) = stack.shop(2_000, 7);
    stack.sync(&connection);
    shop::change(&database, 8);
    stack.sync(&connection);
    let copied = stack.dir.path().join("copied");
    store.copy("team/shop", &copied);
    oracle::assert_exact(&copied, SCHEMA, &database, "two syncs into an object store");
    let log = stack.agent.output();
    assert!(!log.contains("a-secret-of-the-store-4711"), "a secret is in the agent's log");
}

#[test]
fn a_destinations_test_says_what_is_wrong_and_what_to_do() {
    let store = Store::start();
    let stack = Stack::enrolled();
    let policy = stack.agent.dir.join("policy.toml");
    std::fs::write(&policy, store.policy(&stack, "")).expect("a policy");
    let (code, text, error) = test_destination(&stack, &["s3://lake/other"]);
    assert_eq!((code, text.as_str()), (1, ""), "{error}");
    assert!(error.contains("POL-001"), "{error}");

    let missing = store.policy(&stack, "").replace("s3://lake/team", "s3://no-such-bucket/team");
    std::fs::write(&policy, missing).expect("a policy");
    let (code, text, error) = test_destination(&stack, &["--output", "json"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &report["error"]["code"], &report["delivery"]), (1, &json!("DST-013"), &Value::Null), "{report}");
    assert!(error.contains("DST-013"), "{error}");

    std::fs::remove_file(stack.agent.dir.join("s3-secret")).expect("there");
    let (code, text, error) = test_destination(&stack, &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("renew the credentials"), "{text}");
    assert!(error.contains("DST-012") && error.contains("access_key_id"), "{error}");
}
