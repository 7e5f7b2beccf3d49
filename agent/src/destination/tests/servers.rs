//! Real servers that speak like object stores, one process each, with an empty bucket `lake`. `INSHORE_TEST_STORES` names
//! the folder they are installed in (`./dev test` sets it); without it these tests fail by name.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inshore_config::{Policy, StoreOptions};
use url::Url;

use crate::destination::store::Store;

/// Azurite's account and key, the same everywhere.
pub(super) const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Which store a server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Azure,
    Gcs,
}

/// A running server, and the host's files that lead to it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    pub(super) folder: tempfile::TempDir,
    child: Child,
}

impl Server {
    pub(super) fn start(kind: Kind) -> Server {
        let home = PathBuf::from(
            std::env::vars_os()
                .find(|(name, _)| name == "INSHORE_TEST_STORES")
                .expect("INSHORE_TEST_STORES names the object stores' test servers: run ./dev test")
                .1,
        );
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let port = address.port().to_string();
        let mut command = match kind {
            Kind::S3 => {
                let mut command = Command::new(home.join("bin/moto_server"));
                command.args(["-H", "127.0.0.1", "-p", &port]);
                command
            }
            Kind::Azure => {
                let mut command = Command::new("node");
                command.arg(home.join("azurite/node_modules/azurite/dist/src/blob/main.js"));
                command.args(["--blobHost", "127.0.0.1", "--blobPort", &port, "--inMemoryPersistence", "--silent"]);
                command.args(["--skipApiVersionCheck", "--disableTelemetry"]);
                command
            }
            Kind::Gcs => {
                let mut command = Command::new(home.join("bin/python"));
                let script = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/stores/gcs.py");
                command.arg(script).args(["--port", &port, "--bucket", "lake"]);
                command
            }
        };
        let child = command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{kind:?}'s test server {command:?}: {error}"));
        let server = Server { kind, address, folder, child };
        server.wait();
        server.make_bucket();
        server
    }

    fn wait(&self) {
        let deadline = std::time::SystemTime::now() + Duration::from_secs(60);
        while TcpStream::connect(self.address).is_err() {
            assert!(std::time::SystemTime::now() < deadline, "{:?}'s test server does not answer", self.kind);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn make_bucket(&self) {
        let request = match self.kind {
            Kind::Gcs => return,
            Kind::S3 => http::Request::put(format!("http://{}/lake", self.address)),
            Kind::Azure => http::Request::put(format!("http://{}/{ACCOUNT}/lake?restype=container", self.address)),
        };
        let mut request = request.body(object_store::client::HttpRequestBody::empty()).expect("a request");
        if self.kind == Kind::Azure {
            let key = object_store::azure::AzureAccessKey::try_new(ACCOUNT_KEY).expect("a key");
            let credential = object_store::azure::AzureCredential::AccessKey(key);
            object_store::azure::AzureAuthorizer::new(&credential, ACCOUNT)
                .try_authorize(&mut request)
                .expect("signed");
        }
        let (parts, _) = request.into_parts();
        let mut text =
            format!("PUT {} HTTP/1.1\r\nhost: {}\r\n", parts.uri.path_and_query().expect("a path"), self.address);
        text.push_str("content-length: 0\r\nconnection: close\r\n");
        for (name, value) in &parts.headers {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
        }
        text.push_str("\r\n");
        let mut stream = TcpStream::connect(self.address).expect("the server");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// The address of a folder of the bucket.
    pub(super) fn url(&self, prefix: &str) -> Url {
        let scheme = match self.kind {
            Kind::S3 => "s3",
            Kind::Azure => "az",
            Kind::Gcs => "gs",
        };
        Url::parse(&format!("{scheme}://lake/{prefix}")).expect("an address")
    }

    /// What a host's policy would say, asked at `address`: the server's own, or that of a proxy before it.
    pub(super) fn options_at(&self, address: SocketAddr, more: &str) -> StoreOptions {
        let secret = |name: &str, value: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, value).expect("a file");
            format!("\"${{file:{}}}\"", path.display())
        };
        let table = match self.kind {
            Kind::S3 => format!(
                "[destinations.s3]\nendpoint = \"http://{address}\"\naccess_key_id = {}\nsecret_access_key = {}\n",
                secret("id", "test-key"),
                secret("secret", "test-secret")
            ),
            Kind::Azure => format!(
                "[destinations.azure]\naccount = \"{ACCOUNT}\"\nendpoint = \"http://{address}/{ACCOUNT}\"\naccount_key = {}\n",
                secret("key", ACCOUNT_KEY)
            ),
            Kind::Gcs => format!(
                "[destinations.gcs]\nendpoint = \"http://{address}\"\nservice_account = {}\n",
                secret("account", r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#)
            ),
        };
        let uri = self.url("");
        let text = format!("[[destinations]]\nkind = \"inshore_files\"\nuri = \"{uri}\"\n{table}{more}");
        let policy = Policy::parse(FilePath::new("policy.toml"), &text).expect("a policy");
        policy.destination("inshore_files", uri.as_str()).expect("listed").options.clone()
    }

    pub(super) fn options(&self) -> StoreOptions {
        self.options_at(self.address, "")
    }

    pub(super) fn store(&self, prefix: &str) -> Store {
        Store::open_with(&self.url(prefix), &self.options(), true).expect("a store")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
