//! The listeners of a room, opened while this process may still open them: raw TCP at every address and many ports, the
//! resolver, the HTTP proxy. Each stream becomes one of the relay's, towards the name or address it was meant for.
//!
//! Every address is local in a room (a route says so), so a connection to any of them arrives here, at the port it was
//! meant for, and its own local address says where it was going. What the relay refuses is reset.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};

use super::names::{Names, Question, parse_records};
use super::{Error, proxy, relay};
use crate::tasks;

/// Where HTTP libraries find the room's proxy, above the ports that outgoing connections use.
pub(crate) const PROXY_PORT: u16 = 61_080;
const DNS_PORT: u16 = 53;
/// Of the open files of this process, what listeners leave to streams: two each.
const STREAM_FILES: usize = 2048;
/// Questions to the resolver are far smaller.
const DATAGRAM_BYTES_MAX: usize = 1500;

pub(super) struct Doors {
    listeners: Vec<StdListener>,
    resolver: StdUdpSocket,
    proxy: StdListener,
}

impl Doors {
    pub(super) fn open(ports: impl Iterator<Item = u16>) -> Result<Self, Error> {
        let files = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
        raised.map_err(|errno| Error::Confine { what: "open files", cause: errno.to_string() })?;
        let listen = |port: u16, source| Error::Listen { port, source };
        let loopback = Ipv4Addr::LOCALHOST;
        let proxy = StdListener::bind((loopback, PROXY_PORT)).map_err(|error| listen(PROXY_PORT, error))?;
        let resolver = StdUdpSocket::bind((loopback, DNS_PORT)).map_err(|error| listen(DNS_PORT, error))?;
        let most = files.maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let most = most.saturating_sub(STREAM_FILES);
        let ports = ports.filter(|port| *port != PROXY_PORT).take(most);
        let listeners = ports.map(|port| everywhere(port).map_err(|error| listen(port, error)));
        Ok(Self { listeners: listeners.collect::<Result<_, _>>()?, resolver, proxy })
    }

    /// Serves until the room ends.
    pub(super) fn serve(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.and_then(|runtime| runtime.block_on(self.run()));
        if let Err(error) = served {
            tell(&format!("the sandbox's network ended: {error}"));
        }
    }

    async fn run(self) -> io::Result<()> {
        let names = Arc::new(Names::default());
        for listener in self.listeners {
            let (listener, names) = (nonblocking(listener)?, Arc::clone(&names));
            drop(tasks::spawn("raw", accept(listener, move |stream| raw(stream, Arc::clone(&names)))));
        }
        drop(tasks::spawn("http", accept(nonblocking(self.proxy)?, proxy::serve)));
        self.resolver.set_nonblocking(true)?;
        resolve(UdpSocket::from_std(self.resolver)?, names).await
    }
}

/// IPv6 and IPv4 in one where the host has both.
fn everywhere(port: u16) -> io::Result<StdListener> {
    StdListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| StdListener::bind((Ipv4Addr::UNSPECIFIED, port)))
}

fn nonblocking(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[expect(clippy::print_stderr, reason = "stderr is the connector's, and so is this line")]
fn tell(text: &str) {
    eprintln!("{text}");
}

async fn accept<F: Future<Output = ()> + Send + 'static>(listener: TcpListener, serve: impl Fn(TcpStream) -> F) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tasks::spawn("stream", serve(stream))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A connection that knows nothing of the relay.
async fn raw(mut stream: TcpStream, names: Arc<Names>) {
    let Ok(meant) = stream.local_addr() else { return };
    let host = target(meant, &names);
    let Ok(Answer::Open(mut outside)) = ask(&format!("raw {host} {}", meant.port())).await else {
        if sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).is_err() {
            return;
        }
        return;
    };
    drop(tokio::io::copy_bidirectional(&mut stream, &mut outside).await);
}

/// The name that stands behind an address of the resolver's, else the address itself.
fn target(meant: SocketAddr, names: &Names) -> String {
    match meant.ip().to_canonical() {
        IpAddr::V4(address) => names
            .name(address)
            .unwrap_or_else(|| if address.is_loopback() { "localhost".to_owned() } else { address.to_string() }),
        IpAddr::V6(address) if address.is_loopback() => "localhost".to_owned(),
        IpAddr::V6(address) => address.to_string(),
    }
}

/// What the relay says to a stream.
pub(super) enum Answer {
    Open(UnixStream),
    Refused,
    Failed,
}

pub(super) async fn ask(question: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(relay()).await?;
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    Ok(match line.as_slice() {
        b"ok" => Answer::Open(stream),
        b"no" => Answer::Refused,
        _ => Answer::Failed,
    })
}

async fn resolve(socket: UdpSocket, names: Arc<Names>) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (count, from) = socket.recv_from(&mut datagram).await?;
        let question = datagram.get(..count).unwrap_or_default().to_vec();
        let (socket, names) = (Arc::clone(&socket), Arc::clone(&names));
        drop(tasks::spawn("question", async move {
            let Some(question) = Question::parse(&question) else { return };
            if let Some(kind) = question.records() {
                drop(socket.send_to(&records(&question, kind).await, from).await);
                return;
            }
            let allowed = matches!(ask(&format!("name {}", question.name)).await, Ok(Answer::Open(_)));
            let address = if allowed { names.address(&question.name) } else { None };
            drop(socket.send_to(&question.answer(allowed, address), from).await);
        }));
    }
}

/// Records as the relay finds them; what it sends is as long as the answer of one name server.
async fn records(question: &Question, kind: &str) -> Vec<u8> {
    match ask(&format!("records {kind} {}", question.name)).await {
        Ok(Answer::Open(mut stream)) => {
            let mut lines = String::new();
            match stream.read_to_string(&mut lines).await {
                Ok(_) => question.answer_records(&parse_records(&lines)),
                Err(_) => question.failed(),
            }
        }
        Ok(Answer::Refused) => question.answer(false, None),
        Ok(Answer::Failed) | Err(_) => question.failed(),
    }
}

/// Makes every address of both families one of the room's own.
pub(super) fn claim_addresses() -> io::Result<()> {
    route(2)?;
    // A host without IPv6 has nothing to claim.
    drop(route(10));
    Ok(())
}

/// `ip route add local default dev lo`, for one address family.
fn route(family: u8) -> io::Result<()> {
    const LOOPBACK: u32 = 1;
    // RTM_NEWROUTE; request, acknowledge, create, replace.
    let mut message = Vec::new();
    message.extend(36_u32.to_ne_bytes());
    message.extend(24_u16.to_ne_bytes());
    message.extend(0x505_u16.to_ne_bytes());
    message.extend([1_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat());
    // Any destination, any source; table `local`, set by hand, scope host, type local.
    message.extend([family, 0, 0, 0, 255, 3, 254, 2]);
    message.extend(0_u32.to_ne_bytes());
    // RTA_OIF.
    message.extend([8_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat());
    message.extend(LOOPBACK.to_ne_bytes());
    // Without a protocol it is the one for routes.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 256];
    let (count, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let code =
        answer.get(16..20).filter(|_| count >= 20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is too short")),
    }
}
