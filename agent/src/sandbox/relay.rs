//! The one way out of a room: a Unix socket on which the room's first process asks, one line per stream, and this side
//! decides. It checks the list, resolves the name, refuses addresses that a pattern must not reach, and dials.
//!
//! Whoever is inside can speak here; nothing more comes of that than what the list allows. Asked names are data: they are
//! counted for the connection's journal and logged nowhere else.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inshore_config::Allowed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::bubblewrap::RELAY;
use super::group::Group;
use super::lists::{Lists, RefusedBy, Tally, target};
use super::records::{self, Kind, Record};
use super::upstream::Upstream;
use crate::tasks;

/// A question is one line, a name of 253 bytes and some words.
const LINE_BYTES_MAX: usize = 512;
/// Streams of one connector at one time; more wait.
const STREAMS_MAX: usize = 512;
/// Names looked up at one time: they share their threads with the job.
const LOOKUPS_MAX: usize = 2;
const ASK_TIME_MAX: Duration = Duration::from_secs(10);
const DIAL_TIME_MAX: Duration = Duration::from_secs(30);
/// Servers that answer with a host's own secrets, beside the link-local ones.
const METADATA: [&str; 3] = ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"];

/// The listening side. Dropped, it ends with every stream.
#[derive(Debug)]
pub(super) struct Relay {
    links: mpsc::Receiver<UnixStream>,
    accepting: JoinHandle<()>,
}

/// Where a room leads.
#[derive(Debug, Default)]
pub(super) struct Reach {
    pub(super) lists: Lists,
    pub(super) upstream: Upstream,
    pub(super) tally: Tally,
    /// What the connector's host is put into before it starts.
    pub(super) group: Arc<Option<Group>>,
}

/// What every stream shares.
#[derive(Debug)]
struct Gate {
    lists: Lists,
    upstream: Upstream,
    ports: String,
    links: mpsc::Sender<UnixStream>,
    tally: Tally,
    group: Arc<Option<Group>>,
    streams: Arc<Semaphore>,
    lookups: Semaphore,
}

impl Relay {
    pub(super) fn start(folder: &Path, reach: Reach, ports: &BTreeSet<u16>) -> io::Result<Self> {
        let Reach { lists, upstream, tally, group } = reach;
        let listener = listen(folder)?;
        let (links, received) = mpsc::channel(1);
        let gate = Arc::new(Gate {
            ports: lists.ports(ports),
            lists,
            upstream,
            links,
            tally,
            group,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            lookups: Semaphore::new(LOOKUPS_MAX),
        });
        Ok(Self { links: received, accepting: tasks::spawn("sandbox-relay", accept(listener, gate)) })
    }

    /// The first stream that asked to be the job's link; there is one.
    pub(super) async fn link(&mut self) -> Option<UnixStream> {
        let link = self.links.recv().await;
        self.links.close();
        link
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A socket's address holds 107 bytes, the folder's may be longer: it is named by its descriptor.
fn listen(folder: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;
    let opened = std::fs::File::open(folder)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{RELAY}", opened.as_raw_fd()))?;
    std::fs::set_permissions(folder.join(RELAY), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Streams end with this task.
async fn accept(listener: UnixListener, gate: Arc<Gate>) {
    let mut streams = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&gate.streams).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let gate = Arc::clone(&gate);
                streams.spawn(async move {
                    if let Err(error) = serve(stream, &gate).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a stream of the sandbox ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the sandbox's relay cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while streams.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: UnixStream, gate: &Gate) -> io::Result<()> {
    let line = tokio::time::timeout(ASK_TIME_MAX, line(&mut stream)).await??;
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["ports"] => stream.write_all(format!("{}\n", gate.ports).as_bytes()).await,
        ["link"] => {
            gate.take_in(&stream);
            stream.write_all(b"ok\n").await?;
            gate.links.try_send(stream).map_err(|_| io::Error::other("a second link was asked for"))
        }
        ["name", name] => {
            let refused = gate.lists.allows_name(name).inspect_err(|by| gate.tally.refuse(name, *by)).is_err();
            stream.write_all(if refused { b"no\n" } else { b"ok\n" }).await
        }
        ["records", kind, name] => {
            let kind = Kind::parse(kind).ok_or_else(|| io::Error::other("a kind of record that nobody asks for"))?;
            stream.write_all(&gate.records(kind, name).await).await
        }
        [how @ ("raw" | "http"), host, port] => {
            let port = port.parse().map_err(|_| io::Error::other("no port"))?;
            match gate.dial(host, port, *how == "http").await {
                Ok(mut target) => {
                    gate.tally.reach(host, port);
                    stream.write_all(b"ok\n").await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut target).await.map(|_| ())
                }
                Err(Closed::Refused) => stream.write_all(b"no\n").await,
                Err(Closed::Failed) => stream.write_all(b"failed\n").await,
            }
        }
        _ => Err(io::Error::other("a question that nobody asks")),
    }
}

/// Bytewise: what follows the line belongs to whoever the stream is handed to.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            byte if line.len() < LINE_BYTES_MAX => line.push(byte),
            _ => return Err(io::Error::other("a question that is too long")),
        }
    }
}

/// Why a target is not reached: not allowed, or nobody there.
enum Closed {
    Refused,
    Failed,
}

impl Gate {
    /// The asker is the room's first process, which starts the connector once it is answered.
    fn take_in(&self, asker: &UnixStream) {
        let Some(group) = self.group.as_ref() else { return };
        let pid = asker.peer_cred().map(|peer| peer.pid().unwrap_or(0));
        if let Err(error) = pid.and_then(|pid| group.take_in(pid)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a connector is outside its control group");
        }
    }

    /// The answer to a question for records. Services at places that are not listed are left out, and counted.
    async fn records(&self, kind: Kind, name: &str) -> Vec<u8> {
        if let Err(by) = self.lists.allows_records(name) {
            self.tally.refuse(name, by);
            return b"no\n".to_vec();
        }
        let found = {
            let Ok(_permit) = self.lookups.acquire().await else { return b"failed\n".to_vec() };
            records::lookup(name, kind).await
        };
        let Ok(found) = found else { return b"failed\n".to_vec() };
        let listed = found.iter().filter(|record| {
            let refused = record.target.as_ref().and_then(|(host, port)| {
                let refused = (!host.is_empty()).then(|| self.lists.allows(host, *port).err()).flatten()?;
                self.tally.refuse(&target(host, *port), refused);
                Some(refused)
            });
            refused.is_none()
        });
        let lines: String = listed.map(Record::line).collect();
        format!("ok\n{lines}").into_bytes()
    }

    async fn dial(&self, host: &str, port: u16, through_proxy: bool) -> Result<TcpStream, Closed> {
        let allowed = self.allowed(host, port)?;
        if through_proxy && host.parse::<IpAddr>().is_err() && !is_this_host(host) {
            let at = match self.upstream.declared_for(host) {
                Some((name, port)) => self.reachable(&name, port, self.allowed(&name, port)?).await?,
                None => Vec::new(),
            };
            let dialled = tokio::time::timeout(DIAL_TIME_MAX, self.upstream.dial(host, port, &at)).await;
            if let Some(dialled) = dialled.map_err(|_| Closed::Failed)? {
                return dialled.map_err(|_| Closed::Failed);
            }
        }
        let open = self.reachable(host, port, allowed).await?;
        let dialled = tokio::time::timeout(DIAL_TIME_MAX, TcpStream::connect(open.as_slice())).await;
        dialled.map_err(|_| Closed::Failed)?.map_err(|_| Closed::Failed)
    }

    fn allowed(&self, host: &str, port: u16) -> Result<Allowed, Closed> {
        self.lists.allows(host, port).map_err(|by| self.refused(host, port, by))
    }

    fn refused(&self, host: &str, port: u16, by: RefusedBy) -> Closed {
        self.tally.refuse(&target(host, port), by);
        Closed::Refused
    }

    /// The addresses of a name that the connector may reach; never none.
    async fn reachable(&self, host: &str, port: u16, allowed: Allowed) -> Result<Vec<SocketAddr>, Closed> {
        let found = {
            let Ok(_permit) = self.lookups.acquire().await else { return Err(Closed::Failed) };
            tokio::net::lookup_host((host, port)).await.map_err(|_| Closed::Failed)?.collect::<Vec<SocketAddr>>()
        };
        let open: Vec<SocketAddr> = found.iter().copied().filter(|at| may_reach(at.ip(), host, allowed)).collect();
        if open.is_empty() {
            return Err(if found.is_empty() { Closed::Failed } else { self.refused(host, port, RefusedBy::Policy) });
        }
        Ok(open)
    }
}

/// A name may lead anywhere: only a rule that says this host, or this very address, reaches what is the host's own.
fn may_reach(address: IpAddr, host: &str, allowed: Allowed) -> bool {
    let address = address.to_canonical();
    let own = match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    let metadata = METADATA.iter().any(|known| known.parse() == Ok(address));
    let named = host.parse::<IpAddr>().is_ok_and(|literal| literal.to_canonical() == address);
    let this_host = is_this_host(host) && address.is_loopback();
    !(own || metadata) || (allowed == Allowed::ByName && (named || this_host))
}

fn is_this_host(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use inshore_config::Egress;

    use super::*;

    #[test]
    fn patterns_and_names_do_not_lead_to_what_is_the_hosts_own() {
        use Allowed::{ByName, ByPattern};
        for (address, host, allowed, expected) in [
            ("93.184.216.34", "a.example", ByPattern, true),
            ("10.1.2.3", "db.corp", ByPattern, true),
            ("127.0.0.1", "a.example", ByPattern, false),
            ("127.0.0.1", "a.example", ByName, false),
            ("127.0.0.1", "localhost", ByPattern, false),
            ("127.0.0.1", "localhost", ByName, true),
            ("::1", "localhost", ByName, true),
            ("169.254.169.254", "169.254.169.254", ByPattern, false),
            ("169.254.169.254", "metadata.example", ByName, false),
            ("169.254.169.254", "169.254.169.254", ByName, true),
            ("::ffff:169.254.169.254", "a.example", ByName, false),
            ("fd00:ec2::254", "a.example", ByName, false),
            ("0.0.0.0", "a.example", ByName, false),
            ("fe80::1", "a.example", ByPattern, false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(may_reach(address, host, allowed), expected, "{address} as {host} {allowed:?}");
        }
    }

    async fn asked(folder: &Path, question: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(folder.join(RELAY)).await?;
        stream.write_all(format!("{question}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn ask(folder: &Path, question: &str) -> String {
        asked(folder, question).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_listed_target_is_dialled_and_every_other_is_counted_by_name() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = server.local_addr().expect("its address").port();
        let serving = tasks::spawn("server", async move {
            let (mut stream, _) = server.accept().await.expect("a client");
            stream.write_all(b"hello").await.expect("written");
        });
        let folder = tempfile::tempdir().expect("a folder");
        let policy = Egress::parse([format!("localhost:{port}").as_str(), "asked.example:443"]).expect("rules");
        let connection = Some(Egress::parse([format!("localhost:{port}").as_str()]).expect("rules"));
        let reach = Reach { lists: Lists { policy, connection, every_port: false }, ..Reach::default() };
        let tally = reach.tally.clone();
        let _relay = Relay::start(folder.path(), reach, &BTreeSet::new()).expect("starts");
        assert_eq!(ask(folder.path(), &format!("raw localhost {port}")).await, "ok\nhello");
        serving.await.expect("joins");
        assert_eq!(ask(folder.path(), "ports").await, format!("443 {port}\n"));
        for _ in 0..2 {
            assert_eq!(ask(folder.path(), "http other.example 443").await, "no\n");
        }
        assert_eq!(ask(folder.path(), "name other.example").await, "no\n");
        // Hung up on in the middle of the question, which the asker may see as a reset.
        let long = asked(folder.path(), &"x".repeat(LINE_BYTES_MAX + 2)).await;
        let unanswered =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        assert!(long.as_ref().map_or_else(unanswered, String::is_empty), "{long:?}");
        assert_eq!(ask(folder.path(), "raw asked.example 443").await, "no\n");
        let expected = [
            ("asked.example:443".to_owned(), RefusedBy::Connection, 1),
            ("other.example".to_owned(), RefusedBy::Policy, 1),
            ("other.example:443".to_owned(), RefusedBy::Policy, 2),
        ];
        assert_eq!(tally.refused(), expected);
        assert_eq!(tally.reached(), [format!("localhost:{port}")]);
    }
}
