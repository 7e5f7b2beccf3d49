//! Answers that get lost, come late or are cut, over real stores; and refusals, each with its code.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::servers::{Kind, Server};
use super::wire::{Proxy, Wire, refusing};
use super::*;

/// The two forms a commit takes: one that only adds, and one that rewrites.
async fn two_commits(store: &Store, prefix: &str) {
    let name = table("orders");
    let mut lake = open(store, 1).await.expect("opened");
    commit(&mut lake, &notes(&name), &upserts(&[(1, "a"), (2, "b"), (3, "c")]), 1000, "{\"n\":1}").await.expect(prefix);
    lake.apply().await.expect("applied");
    commit(&mut lake, &notes(&name), &upserts(&[(2, "B"), (4, "d")]), 2000, "{\"n\":2}").await.expect(prefix);
    lake.apply().await.expect("applied");
}

async fn faults(kind: Kind) {
    let server = Server::start(kind);
    let proxy = Proxy::before(server.address).await;
    let writes = [
        "chain/00000000000000000001.json",
        "chain/00000000000000000002.json",
        "data/con_1/",
        "00000000000000000001.json",
    ];
    let wires = [
        Wire::BadGateway,
        Wire::Reset,
        Wire::Late(Duration::from_millis(150)),
        Wire::Status(409, "ConditionalRequestConflict"),
        Wire::Status(412, "PreconditionFailed"),
        Wire::Status(429, "TooManyRequests"),
        Wire::Status(500, "InternalError"),
        Wire::Status(503, "SlowDown"),
    ];
    for (number, wire) in wires.into_iter().enumerate() {
        // Each fault at a different pair of writes; over all runs every write meets every kind of fault.
        let prefix = format!("fault/{number}");
        let options = server.options_at(proxy.address, "");
        let store = Store::open_with(&server.url(&prefix), &options, true).expect("a store");
        for write in [writes[number % 4], writes[(number + 2) % 4]] {
            proxy.plan(write, wire);
        }
        two_commits(&store, &prefix).await;
        assert_eq!(proxy.unused(), [], "{kind:?} {wire:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let name = table("orders");
        let exact = want(&[(1, "a"), (2, "B"), (3, "c"), (4, "d")]);
        assert_eq!(live_notes(&store, &name).await, exact, "{kind:?} {wire:?}");
        let mut next = open(&store, 2).await.expect("opened");
        assert_eq!(next.state(), "{\"n\":2}", "{kind:?} {wire:?}");
        next.apply().await.expect("applied");
        next.collect_garbage().await.expect("collected");
        assert_eq!(live_notes(&store, &name).await, exact, "{kind:?} {wire:?}, read by the next writer");
    }
    truncated_reads(&server, &proxy).await;
}

async fn truncated_reads(server: &Server, proxy: &Proxy) {
    let store = Store::open_with(&server.url("cut"), &server.options_at(proxy.address, ""), true).expect("a store");
    let content = Bytes::from((0..200_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    store.put_file(&Path::from("x"), &content).await.expect("stored");
    for _ in 0..3 {
        proxy.plan("GET /", Wire::Truncated);
    }
    assert_eq!(store.get(&Path::from("x")).await.expect("read"), Some(content.clone()));
    proxy.plan("GET /", Wire::Truncated);
    let ranges = store.ranges(&Path::from("x"), &[5..100_000, 150_000..200_000]).await.expect("read").expect("there");
    assert_eq!(ranges, [content.slice(5..100_000), content.slice(150_000..200_000)]);
    // Azure's client deletes by a batch.
    let delete = if server.kind == Kind::Azure { "comp=batch" } else { "DELETE /" };
    for (line, path) in [("PUT /", "hint"), (delete, "x")] {
        for (status, code) in [(409, "OperationAborted"), (412, "PreconditionFailed"), (429, "TooManyRequests")] {
            proxy.plan(line, Wire::Status(status, code));
        }
        match path {
            "hint" => store.overwrite(&Path::from(path), content.clone()).await.expect("written"),
            _ => store.delete(&Path::from(path)).await.expect("deleted"),
        }
    }
    assert_eq!((store.get(&Path::from("x")).await.expect("read"), proxy.unused()), (None, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_late_and_cut_answers_leave_tables_exact_over_s3() {
    faults(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_late_and_cut_answers_leave_tables_exact_over_azure() {
    faults(Kind::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_late_and_cut_answers_leave_tables_exact_over_google_cloud_storage() {
    faults(Kind::Gcs).await;
}

/// Commits in a row through a proxy that disturbs every fifth write. `./dev prove` makes a thousand of each store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_through_a_proxy_that_loses_answers_are_each_there_once() {
    let commits = std::env::vars_os().find(|(name, _)| name == "INSHORE_PROVE").map_or(20, |_| 1000_i64);
    for kind in [Kind::S3, Kind::Azure, Kind::Gcs] {
        let server = Server::start(kind);
        let proxy = Proxy::before(server.address).await;
        let store =
            Store::open_with(&server.url("many"), &server.options_at(proxy.address, ""), true).expect("a store");
        let name = table("orders");
        let seed = fastrand::u64(..);
        println!("{kind:?} seed {seed}");
        let mut lake = open(&store, 1).await.expect("opened");
        proxy.throw_dice(Some(seed));
        for number in 0..commits {
            let window = upserts(&[(number, "own"), (-1, "shared")]);
            commit(&mut lake, &notes(&name), &window, 1000 + number, &format!("{{\"n\":{number}}}"))
                .await
                .expect("committed");
            if number % 8 == 7 {
                lake.apply().await.expect("applied");
            }
            if number % 50 == 49 {
                lake.collect_garbage().await.expect("collected");
            }
        }
        lake.apply().await.expect("applied");
        proxy.throw_dice(None);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut next = open(&store, 2).await.expect("opened");
        assert_eq!(next.state(), format!("{{\"n\":{}}}", commits - 1), "{kind:?} seed {seed}");
        next.apply().await.expect("applied");
        next.collect_garbage().await.expect("collected");
        let keys: BTreeSet<i64> = live_notes(&store, &name).await.into_keys().collect();
        assert_eq!(keys, (-1..commits).collect(), "{kind:?} seed {seed}");
    }
}

#[tokio::test]
async fn refusals_carry_their_code_and_do_not_wait() {
    let server = Server::start(Kind::Gcs);
    let cases = [
        (Wire::Status(403, "AccessDenied"), "DST-001"),
        (Wire::Status(507, "XMinioStorageFull"), "DST-002"),
        (Wire::Status(400, "InvalidRequest"), "DST-003"),
        (Wire::Status(501, "NotImplemented"), "DST-003"),
        (Wire::Status(403, "InvalidAccessKeyId"), "DST-012"),
        (Wire::Status(400, "ExpiredToken"), "DST-012"),
        (Wire::Status(401, ""), "DST-012"),
        (Wire::Status(404, "NoSuchBucket"), "DST-013"),
        (Wire::Status(301, "PermanentRedirect"), "DST-013"),
        (Wire::Status(400, "AuthorizationHeaderMalformed"), "DST-013"),
        (Wire::Status(403, "RequestTimeTooSkewed"), "DST-014"),
        (Wire::Skewed, "DST-014"),
    ];
    for (wire, code) in cases {
        let proxy = refusing(wire).await;
        let store = Store::open_with(&server.url("x"), &server.options_at(proxy.address, ""), true).expect("a store");
        let began = tokio::time::Instant::now();
        let written = store.put_file(&Path::from("x"), &Bytes::from_static(b"1")).await.expect_err("refused");
        let read = store.get(&Path::from("x")).await.expect_err("refused");
        let opened = open(&store, 1).await.expect_err("refused");
        assert_eq!([written.code(), read.code(), opened.code()], [code; 3], "{wire:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{wire:?} was asked again");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted_until_the_host_says_so() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let accepting = crate::tasks::spawn("tls server", async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            drop(stream.read(&mut head).await);
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(stream.write_all(answer).await);
            drop(stream.shutdown().await);
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, account) = (folder.path().join("ca.pem"), folder.path().join("account"));
    std::fs::write(&ca, key.cert.pem()).expect("a file");
    let text = r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#;
    std::fs::write(&account, text).expect("a file");
    let open = |network: &str| {
        let policy = format!(
            "[[destinations]]\nkind = \"inshore_files\"\nuri = \"gs://lake\"\n[destinations.gcs]\n\
             endpoint = \"https://localhost:{port}\"\nservice_account = \"${{file:{}}}\"\n{network}",
            account.display()
        );
        let policy = inshore_config::Policy::parse(std::path::Path::new("policy.toml"), &policy).expect("a policy");
        let options = policy.destination("inshore_files", "gs://lake").expect("listed").options.clone();
        Store::open_with(&url::Url::parse("gs://lake/x").expect("an address"), &options, true)
    };
    let strange = open("").expect("a store").get(&Path::from("x")).await.expect_err("not trusted");
    assert_eq!(strange.code(), "DST-015", "{}", crate::context::chain(&strange));
    let trusted = open(&format!("[destinations.network]\nca_file = \"{}\"\n", ca.display())).expect("a store");
    assert_eq!(trusted.get(&Path::from("x")).await.expect("asked"), None);
    let missing = open("[destinations.network]\nca_file = \"/no/such/file\"\n").expect_err("no file");
    assert_eq!(missing.code(), "DST-012", "{}", crate::context::chain(&missing));
    accepting.abort();
}

/// Keys below a role, a profile, a checksum and encryption, over a server that hands out roles; and a role that is refused.
#[tokio::test]
async fn s3_logins_lead_to_the_store_or_say_why_not() {
    let server = Server::start(Kind::S3);
    let profile = server.folder.path().join("credentials");
    std::fs::write(&profile, "[lake]\naws_access_key_id = k\naws_secret_access_key = s\n").expect("a file");
    let role = |sts: SocketAddr| {
        format!(
            "region = \"us-east-1\"\nassume_role_arn = \"arn:aws:iam::123456789012:role/lake\"\n\
             assume_role_external_id = \"shop\"\nsts_endpoint = \"http://{sts}\"\n"
        )
    };
    let write = async |more: &str| {
        let options = server.options_at(server.address, more);
        let store = Store::open_with(&server.url("login"), &options, true).expect("a store");
        let path = Path::from(fastrand::u64(..).to_string());
        store.put_file(&path, &Bytes::from_static(b"1")).await.map(|()| drop(path))
    };
    let encrypted = "server_side_encryption = \"aws:kms\"\nkms_key_id = \"key-1\"\nrequest_checksum = \"sha256\"\n";
    for more in ["", encrypted, role(server.address).as_str()] {
        write(more).await.unwrap_or_else(|error| panic!("{more}: {}", crate::context::chain(&error)));
    }
    let sts = Proxy::before(server.address).await;
    sts.plan("Action=AssumeRole", Wire::Status(403, "AccessDenied"));
    assert_eq!(write(&role(sts.address)).await.expect_err("refused").code(), "DST-012");
    for wire in [Wire::Status(503, "SlowDown"), Wire::Reset, Wire::Truncated] {
        sts.plan("Action=AssumeRole", wire);
    }
    write(&role(sts.address)).await.expect("a busy service is asked again");
    assert_eq!(sts.unused(), []);

    let text = format!(
        "[[destinations]]\nkind = \"inshore_files\"\nuri = \"s3://lake\"\n[destinations.s3]\nendpoint = \"http://{}\"\n\
         profile = \"lake\"\nprofile_file = \"{}\"\n",
        server.address,
        profile.display()
    );
    let policy = inshore_config::Policy::parse(std::path::Path::new("policy.toml"), &text).expect("a policy");
    let options = &policy.destination("inshore_files", "s3://lake").expect("listed").options;
    let store = Store::open_with(&server.url("profile"), options, true).expect("a store");
    store.put_file(&Path::from("x"), &Bytes::from_static(b"1")).await.expect("stored");
    std::fs::write(&profile, "[other]\n").expect("a file");
    let store = Store::open_with(&server.url("profile"), options, true).expect("a store");
    assert_eq!(store.get(&Path::from("x")).await.expect_err("no section").code(), "DST-012");
}

#[tokio::test]
async fn a_store_that_does_not_know_put_if_absent_is_found_by_the_probe() {
    use crate::destination::chain::probe::{Effort, Label, probe_stores};
    for kind in [Kind::S3, Kind::Gcs] {
        let server = Server::start(kind);
        let proxy = Proxy::before(server.address).await;
        (0..1000).for_each(|_| proxy.plan("PUT /", Wire::Unconditional));
        let options = server.options_at(proxy.address, "");
        let open = || Store::open_with(&server.url("lie"), &options, true).expect("a store");
        let label = probe_stores(&open(), &open(), Effort { rounds: 1, reads: 2 }, &mut |_| {}).await.expect("usable");
        assert_eq!(label, Label::AtLeastOnce { failed_check: "one winner among concurrent creators" }, "{kind:?}");
        let label = probe_stores(&open(), &open(), Effort { rounds: 0, reads: 2 }, &mut |_| {}).await.expect("usable");
        assert_eq!(label, Label::AtLeastOnce { failed_check: "create over an existing key is refused" }, "{kind:?}");
    }
}
