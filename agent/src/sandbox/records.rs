//! SRV and TXT records, asked of the host's own name servers: where a cluster's address is one name, and its members are
//! found through it. The room asks for names; which of them may be asked for is decided in `relay`.
//!
//! Answers come from the network: what does not fit the form of an answer to this very question is no answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
const SERVERS_MAX: usize = 3;
const ROUNDS: usize = 2;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// What a server may send in one datagram; more comes by TCP.
const DATAGRAM_BYTES_MAX: u16 = 1232;
const RECORDS_MAX: usize = 256;
/// Links of one compressed name.
const JUMPS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Srv,
    Txt,
}

impl Kind {
    /// Its number in questions and answers.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::Srv => 33,
            Self::Txt => 16,
        }
    }

    /// As the room spells it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [(Self::Srv, "srv"), (Self::Txt, "txt")].into_iter().find(|(_, word)| *word == text).map(|(kind, _)| kind)
    }
}

/// One record, its names written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    ttl: u32,
    data: Vec<u8>,
    /// Of a service: where it is.
    pub(super) target: Option<(String, u16)>,
}

impl Record {
    /// As a line for the room: seconds, and the data in hexadecimal.
    pub(super) fn line(&self) -> String {
        format!("{} {}\n", self.ttl, hex::encode(&self.data))
    }
}

/// The records of a name; none where it has none.
pub(super) async fn lookup(name: &str, kind: Kind) -> io::Result<Vec<Record>> {
    let servers = servers(&tokio::fs::read_to_string(RESOLV_CONF).await?);
    let mut last = io::Error::other("this host names no name server");
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match tokio::time::timeout(ANSWER_TIME_MAX, ask(*server, name, kind)).await {
            Ok(Ok(records)) => return Ok(records),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.take(SERVERS_MAX).map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

async fn ask(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Vec<Record>> {
    let id = fastrand::u16(..).to_be_bytes();
    let question = question(id, name, kind)?;
    let own: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut datagram = vec![0; usize::from(DATAGRAM_BYTES_MAX)];
    loop {
        let count = socket.recv(&mut datagram).await?;
        let answer = datagram.get(..count).unwrap_or_default();
        if answer.get(..2) != Some(&id) {
            continue;
        }
        // The bit that says: this is not all.
        if answer.get(2).is_some_and(|flags| flags & 2 != 0) {
            return by_stream(server, &question, id, kind).await;
        }
        return parse(answer, id, kind).ok_or_else(malformed)?;
    }
}

async fn by_stream(server: SocketAddr, question: &[u8], id: [u8; 2], kind: Kind) -> io::Result<Vec<Record>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    parse(&answer, id, kind).ok_or_else(malformed)?
}

fn malformed() -> io::Error {
    io::Error::other("the name server's answer is malformed")
}

/// With a note that datagrams may be larger than 512 bytes.
fn question(id: [u8; 2], name: &str, kind: Kind) -> io::Result<Vec<u8>> {
    let mut bytes = id.to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    bytes.extend(spelt(name)?);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend([0, 1, 0, 0, 41]);
    bytes.extend(DATAGRAM_BYTES_MAX.to_be_bytes());
    bytes.extend([0; 6]);
    Ok(bytes)
}

fn spelt(name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        bytes.push(length.ok_or_else(|| io::Error::other("a name of another form"))?);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    Ok(bytes)
}

/// `None` for what is no answer; an error for one that says that the server failed.
fn parse(answer: &[u8], id: [u8; 2], kind: Kind) -> Option<io::Result<Vec<Record>>> {
    let header: [u8; 12] = answer.get(..12)?.try_into().ok()?;
    let [id0, id1, flags, code, 0, 1, count0, count1, ..] = header else { return None };
    if [id0, id1] != id || flags & 0x80 == 0 {
        return None;
    }
    match code & 15 {
        0 => {}
        3 => return Some(Ok(Vec::new())),
        code => return Some(Err(io::Error::other(format!("the name server failed with code {code}")))),
    }
    let (_, mut at) = name(answer, 12)?;
    at += 4;
    let mut records = Vec::new();
    for _ in 0..usize::from(u16::from_be_bytes([count0, count1])).min(RECORDS_MAX) {
        let (_, head) = name(answer, at)?;
        let fields: [u8; 10] = answer.get(head..head + 10)?.try_into().ok()?;
        let [kind0, kind1, _, _, ttl0, ttl1, ttl2, ttl3, length0, length1] = fields;
        let (start, length) = (head + 10, usize::from(u16::from_be_bytes([length0, length1])));
        at = start + length;
        answer.get(start..at)?;
        if u16::from_be_bytes([kind0, kind1]) == kind.number() {
            records.push(record(answer, start, at, kind, u32::from_be_bytes([ttl0, ttl1, ttl2, ttl3]))?);
        }
    }
    Some(Ok(records))
}

fn record(answer: &[u8], start: usize, end: usize, kind: Kind, ttl: u32) -> Option<Record> {
    let raw = answer.get(start..end)?;
    if kind == Kind::Txt {
        return Some(Record { ttl, data: raw.to_vec(), target: None });
    }
    let fixed = raw.get(..6)?;
    let (target, after) = name(answer, start + 6)?;
    let port = u16::from_be_bytes([*fixed.get(4)?, *fixed.get(5)?]);
    if after > end {
        return None;
    }
    // A lone dot: the service is not there.
    let written = if target.is_empty() { vec![0] } else { spelt(&target).ok()? };
    Some(Record { ttl, data: [fixed, written.as_slice()].concat(), target: Some((target, port)) })
}

/// The name that begins at `at`, links followed, and where it ends.
fn name(answer: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    for _ in 0..JUMPS_MAX + 128 {
        let length = usize::from(*answer.get(at)?);
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            1..64 => {
                let label = answer.get(at + 1..at + 1 + length)?;
                let plain = label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                labels.push(std::str::from_utf8(label).ok().filter(|_| plain)?.to_ascii_lowercase());
                at += 1 + length;
            }
            192.. => {
                end = end.or(Some(at + 2));
                at = (length & 63) << 8 | usize::from(*answer.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 2] = [7, 9];

    /// An answer of one record, whose data ends in a link to the question's name.
    fn answered(kind: Kind, data: &[u8]) -> Vec<u8> {
        let mut bytes = question(ID, "_kafka._tcp.late.example", kind).expect("a question");
        bytes.truncate(bytes.len() - 11);
        bytes[2] = 0x81;
        bytes[7] = 1;
        bytes[11] = 0;
        bytes.extend([0xc0, 12]);
        bytes.extend(kind.number().to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn services_are_read_with_their_names_written_out() {
        // Priority 1, weight 2, port 9092; `b1` and the question's name from its third label on.
        let answer = answered(Kind::Srv, &[0, 1, 0, 2, 0x23, 0x84, 2, b'b', b'1', 0xc0, 24]);
        let records = parse(&answer, ID, Kind::Srv).expect("an answer").expect("records");
        assert_eq!(records[0].target, Some(("b1.late.example".to_owned(), 9092)));
        assert_eq!(records[0].line(), "60 000100022384026231046c617465076578616d706c6500\n");
        for length in 0..answer.len() {
            assert!(parse(&answer[..length], ID, Kind::Srv).is_none(), "{length}");
        }
        assert!(parse(&answer, [7, 8], Kind::Srv).is_none(), "somebody else's");
        let looped = answered(Kind::Srv, &[0, 1, 0, 2, 0x23, 0x84, 0xc0, 60]);
        assert!(parse(&looped, ID, Kind::Srv).is_none());
    }

    #[test]
    fn texts_are_passed_on_as_they_are_and_failures_told() {
        let mut answer = answered(Kind::Txt, b"\x03a=b");
        let records = parse(&answer, ID, Kind::Txt).expect("an answer").expect("records");
        assert_eq!((records[0].line().as_str(), &records[0].target), ("60 03613d62\n", &None));
        assert_eq!(parse(&answer, ID, Kind::Srv).expect("an answer").expect("none"), []);
        answer[3] = 3;
        assert_eq!(parse(&answer, ID, Kind::Txt).expect("an answer").expect("no such name"), []);
        answer[3] = 2;
        assert!(parse(&answer, ID, Kind::Txt).expect("an answer").is_err());
    }

    #[test]
    fn name_servers_are_those_of_the_host() {
        let text = "# x\nnameserver 10.0.0.1\nsearch a\nnameserver fd00::1\nnameserver no\n";
        assert_eq!(servers(text), ["10.0.0.1:53".parse().expect("one"), "[fd00::1]:53".parse().expect("one")]);
    }
}
